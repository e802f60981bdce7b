#include <string>
#include <tuple>
#include <vector>

#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include "bindings.h"
#include "job.h"
#include "knapsaq/pipeline/allocate.h"
#include "knapsaq/pipeline/bench.h"
#include "knapsaq/pipeline/compare.h"
#include "knapsaq/pipeline/export_model.h"
#include "knapsaq/pipeline/find_model.h"
#include "knapsaq/pipeline/fit.h"
#include "knapsaq/pipeline/front.h"
#include "knapsaq/pipeline/info.h"
#include "knapsaq/pipeline/judge_files.h"
#include "knapsaq/pipeline/make_bank.h"
#include "knapsaq/pipeline/pick.h"
#include "knapsaq/pipeline/quantize.h"
#include "knapsaq/pipeline/report.h"
#include "knapsaq/pipeline/study.h"
#include "knapsaq/pipeline/tables.h"
#include "knapsaq/pipeline/tune.h"
#include "knapsaq/search/strategy.h"

namespace nb = nanobind;

namespace knapsaq::python {
namespace {

/// A verb that works on a model: name(host, model, options).
template <class Options, class Function>
void def_model_verb(nb::module_& module, const char* name, Session::Weights weights, Function verb) {
  module.def(
      name,
      [weights, verb](const Host& host, std::string model, Options options) {
        return start(host, [=](Environment& environment) {
          Session session(environment, model, weights);
          return verb(session, options);
        });
      },
      nb::arg("host"), nb::arg("model"), nb::arg("options"));
}

/// A verb without one: name(host, options).
template <class Options, class Function>
void def_verb(nb::module_& module, const char* name, Function verb) {
  module.def(
      name,
      [verb](const Host& host, Options options) {
        return start(host, [=](Environment& environment) { return verb(environment, options); });
      },
      nb::arg("host"), nb::arg("options"));
}

/// Name, summary, and (name, default, help) of every constant.
using StrategyFacts =
    std::tuple<std::string, std::string, std::vector<std::tuple<std::string, std::string, std::string>>>;

std::vector<StrategyFacts> all_strategies() {
  std::vector<StrategyFacts> all;
  for (const StrategyInfo& info : strategies()) {
    StrategyFacts& facts = all.emplace_back(info.name, info.summary,
                                            std::vector<std::tuple<std::string, std::string, std::string>>());
    for (const StrategyOption& option : info.options)
      std::get<2>(facts).emplace_back(option.name, option.value, option.help);
  }
  return all;
}

}  // namespace

void bind_verbs(nb::module_& module) {
  constexpr auto kStored = Session::Weights::as_stored;
  constexpr auto kDecoded = Session::Weights::decoded;
  def_model_verb<FitOptions>(module, "fit", kDecoded,
                             [](Session& s, const FitOptions& o) { return fit(s, o); });
  def_model_verb<SearchOptions>(module, "search", kDecoded,
                                [](Session& s, const SearchOptions& o) { return search(s, o); });
  def_model_verb<StudyOptions>(module, "study", kDecoded,
                               [](Session& s, const StudyOptions& o) { return study(s, o).run; });
  def_model_verb<QuantizeOptions>(module, "quantize", kDecoded,
                                  [](Session& s, const QuantizeOptions& o) { return quantize(s, o); });
  module.def(
      "export",
      [](const Host& host, std::string model, ExportModelOptions options) {
        return start(host, [=](Environment& environment) {
          Session session(environment, model);
          return export_model(session, options);
        });
      },
      nb::arg("host"), nb::arg("model"), nb::arg("options"));
  def_model_verb<CompareOptions>(module, "compare", kDecoded,
                                 [](Session& s, const CompareOptions& o) { return compare(s, o); });
  def_model_verb<CalibrateOptions>(module, "calibrate", kDecoded,
                                   [](Session& s, const CalibrateOptions& o) { return calibrate(s, o); });
  def_model_verb<EvaluateOptions>(module, "evaluate", kStored,
                                  [](Session& s, const EvaluateOptions& o) { return evaluate(s, o); });
  def_model_verb<BenchOptions>(module, "bench", kStored,
                               [](Session& s, const BenchOptions& o) { return bench(s, o); });
  def_verb<JudgeFilesOptions>(module, "compare_files",
                              [](Environment& e, const JudgeFilesOptions& o) { return judge_files(e, o); });
  def_verb<FrontOptions>(module, "front", [](Environment& e, const FrontOptions& o) { return front(e, o); });
  def_verb<PickOptions>(module, "pick", [](Environment& e, const PickOptions& o) { return pick(e, o); });
  def_verb<ReportOptions>(module, "report",
                          [](Environment& e, const ReportOptions& o) { return report(e, o); });
  def_verb<TablesOptions>(module, "tables",
                          [](Environment& e, const TablesOptions& o) { return tables(e, o); });
  def_verb<AllocateOptions>(module, "allocate",
                            [](Environment& e, const AllocateOptions& o) { return allocate(e, o); });
  module.def(
      "bank",
      [](const Host& host, std::string model, BankOptions options, std::string output) {
        return start(host, [=](Environment& environment) {
          Session session(environment, model, kDecoded);
          return make_bank(session, options, output);
        });
      },
      nb::arg("host"), nb::arg("model"), nb::arg("options"), nb::arg("output"));
  module.def(
      "tune",
      [](const Host& host, std::string quantized, std::string model, TuneOptions options) {
        return start(host, [=](Environment& environment) {
          Session own(environment, quantized);
          Session full(environment, model, kDecoded);
          return tune(own, full, options);
        });
      },
      nb::arg("host"), nb::arg("quantized"), nb::arg("model"), nb::arg("options"));
  module.def(
      "info",
      [](const Host& host, std::string model, InfoOptions options) {
        return start(host,
                     [=](Environment& environment) { return info(Session(environment, model), options); });
      },
      nb::arg("host"), nb::arg("model"), nb::arg("options"));
  module.def("strategies", &all_strategies, "Name, summary and (name, default, help) of every constant.");
  module.def("find_model", &find_model, nb::arg("name"));
}

}  // namespace knapsaq::python
