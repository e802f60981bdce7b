#include "knapsaq/pipeline/text_model.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>
#include <unistd.h>

#include "arrays.h"
#include "bindings.h"
#include "job.h"
#include "knapsaq/base/error.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/family/config.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/text/tokenizer.h"

namespace nb = nanobind;

namespace knapsaq::python {
namespace {

/// A model that stays loaded from one call to the next, with the threads it works on.
struct Model {
  Model(const std::shared_ptr<Port>& port_, int threads, const std::string& path,
        const RuntimeOptions& options)
      : port(port_),
        environment({threads, port.get(), &port->cancellation()}),
        text(environment, path, options) {}

  std::shared_ptr<Port> port;
  Environment environment;
  TextModel text;
  std::atomic<bool> busy{false};
};

/// What Python holds.
class LoadedModel {
 public:
  explicit LoadedModel(std::unique_ptr<Model> model) : process_(::getpid()), model_(std::move(model)) {}
  ~LoadedModel() {
    // The threads of the model are not there in a child of a fork, so nobody could end them.
    if (model_ != nullptr && !is_this_process(process_)) new std::shared_ptr<Model>(std::move(model_));
  }
  LoadedModel(LoadedModel&&) = default;

  const std::shared_ptr<Model>& get() const {
    if (!is_this_process(process_))
      throw UsageError(
          "this model was loaded before a fork, and its threads are not in this process; load it here");
    return model_;
  }

  /// Starts work(Model&), which gives a Job::Result.
  template <class Function>
  std::unique_ptr<Job> start(bool listens, Function work) const {
    std::shared_ptr<Model> model = get();
    if (model->busy.exchange(true))
      throw UsageError(
          "this model is at work already: wait for the end of the other call, or load it once more");
    return std::make_unique<Job>(model->port, listens, [model, work = std::move(work)] {
      struct Rest {
        std::atomic<bool>& busy;
        ~Rest() { busy = false; }
      } rest{model->busy};
      return work(*model);
    });
  }

 private:
  pid_t process_;
  std::shared_ptr<Model> model_;
};

std::unique_ptr<Job> load(const Host& host, const std::string& path, const RuntimeOptions& options) {
  auto port = std::make_shared<Port>(host.listens);
  return std::make_unique<Job>(
      port, host.listens, [port, threads = host.threads, path, options]() -> Job::Result {
        auto model =
            std::make_shared<std::unique_ptr<Model>>(std::make_unique<Model>(port, threads, path, options));
        return [model] { return nb::cast(LoadedModel(std::move(*model)), nb::rv_policy::move); };
      });
}

std::unique_ptr<Job> generate(const LoadedModel& model, std::string prompt, const GenerateOptions& options,
                              bool listens) {
  return model.start(listens, [prompt = std::move(prompt), options](Model& on) {
    return python_result(
        on.text.generate(prompt, options, [&](const std::string& piece) { on.port->add_text(piece); }));
  });
}

std::unique_ptr<Job> chat(const LoadedModel& model,
                          const std::vector<std::pair<std::string, std::string>>& messages,
                          const GenerateOptions& options, bool listens) {
  std::vector<ChatTurn> turns;
  for (const auto& [role, content] : messages) turns.push_back({role, content});
  return model.start(listens, [turns = std::move(turns), options](Model& on) {
    return python_result(
        on.text.chat(turns, options, [&](const std::string& piece) { on.port->add_text(piece); }));
  });
}

Precision precision_of(const std::string& name) {
  if (name == "fp32") return Precision::fp32;
  if (name == "bf16") return Precision::bf16;
  throw UsageError("precision has to be \"bf16\" or \"fp32\"");
}

// The arrays of the two below live as long as the call that waits for the job.

std::unique_ptr<Job> logits(const LoadedModel& model, const Input<std::int32_t, 1>& tokens,
                            std::int64_t first, const std::string& precision, bool listens) {
  const std::span<const std::int32_t> ids(tokens.data(), tokens.size());
  if (first < 0 || first >= std::ssize(ids))
    throw UsageError("first has to be the place of one of the tokens");
  return model.start(listens, [ids, first, exact = precision_of(precision)](Model& on) -> Job::Result {
    const ExecutionScope scope(on.environment.execution());
    auto found = std::make_shared<std::vector<float>>(on.text.session().decoder(exact).logits(ids, first));
    const std::size_t rows = ids.size() - static_cast<std::size_t>(first);
    return [found, rows] { return numpy_array(std::move(*found), {rows, found->size() / rows}); };
  });
}

std::unique_ptr<Job> losses(const LoadedModel& model, const Input<std::int32_t, 2>& tokens,
                            const std::string& precision, bool listens) {
  const std::span<const std::int32_t> ids(tokens.data(), tokens.size());
  const std::size_t windows = tokens.shape(0);
  const std::size_t length = tokens.shape(1);
  if (windows == 0 || length < 2) throw UsageError("tokens has to be windows of two tokens at least");
  return model.start(
      listens, [ids, windows, length, exact = precision_of(precision)](Model& on) -> Job::Result {
        const ExecutionScope scope(on.environment.execution());
        auto found = std::make_shared<std::vector<float>>(windows * (length - 1));
        on.text.session().decoder(exact).losses(ids, static_cast<std::int64_t>(windows),
                                                static_cast<std::int64_t>(length), *found);
        return [found, windows, length] { return numpy_array(std::move(*found), {windows, length - 1}); };
      });
}

nb::object encode(const LoadedModel& model, const std::string& text, bool add_special) {
  std::vector<std::int32_t> ids = model.get()->text.session().tokenizer().encode(text, add_special);
  const std::size_t count = ids.size();
  return numpy_array(std::move(ids), {count});
}

nb::object decode(const LoadedModel& model, const Input<std::int32_t, 1>& ids, bool skip_special) {
  const std::string text =
      model.get()->text.session().tokenizer().decode(std::span(ids.data(), ids.size()), skip_special);
  return nb::steal(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
}

}  // namespace

void bind_text_model(nb::module_& module) {
  nb::class_<GeneratedText>(module, "GeneratedText")
      .def_prop_ro("text",
                   [](const GeneratedText& one) {
                     return nb::steal(PyUnicode_DecodeUTF8(
                         one.text.data(), static_cast<Py_ssize_t>(one.text.size()), "replace"));
                   })
      .def_ro("tokens", &GeneratedText::tokens)
      .def_ro("reason", &GeneratedText::reason)
      .def_ro("prompt_tokens", &GeneratedText::prompt_tokens)
      .def_ro("reused_tokens", &GeneratedText::reused_tokens)
      .def_ro("prompt_tokens_per_second", &GeneratedText::prompt_tokens_per_second)
      .def_ro("generation_tokens_per_second", &GeneratedText::generation_tokens_per_second)
      .def_ro("first_token_seconds", &GeneratedText::first_token_seconds);
  nb::class_<LoadedModel>(module, "LoadedModel", "A model that stays loaded.")
      .def("generate", &generate, nb::arg("prompt"), nb::arg("options"), nb::arg("listens"))
      .def("chat", &chat, nb::arg("messages"), nb::arg("options"), nb::arg("listens"))
      .def("logits", &logits, nb::arg("tokens").noconvert(), nb::arg("first"), nb::arg("precision"),
           nb::arg("listens"))
      .def("losses", &losses, nb::arg("tokens").noconvert(), nb::arg("precision"), nb::arg("listens"))
      .def("encode", &encode, nb::arg("text"), nb::arg("add_special"))
      .def("decode", &decode, nb::arg("ids").noconvert(), nb::arg("skip_special"))
      .def_prop_ro("path", [](const LoadedModel& one) { return one.get()->text.session().path().string(); })
      .def_prop_ro("context_limit", [](const LoadedModel& one) { return one.get()->text.context_limit(); })
      .def_prop_ro("context", [](const LoadedModel& one) { return one.get()->text.context(); })
      .def_prop_ro("vocabulary_size",
                   [](const LoadedModel& one) { return one.get()->text.session().config().vocab; });
  module.def("load", &load, nb::arg("host"), nb::arg("model"), nb::arg("options"));
}

}  // namespace knapsaq::python
