#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/quant/methods.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

namespace {

constexpr std::array kMethods = {&awq_quantizer, &gptq_quantizer, &hqq_quantizer,      &hqq_diag_quantizer,
                                 &nf4_quantizer, &rtn_quantizer,  &rtn_diag_quantizer, &uniform_quantizer};

/// Methods that programs add to those above.
class AddedQuantizers {
 public:
  void add(std::unique_ptr<const Quantizer> method) {
    const std::lock_guard lock(mutex_);
    methods_.push_back(std::move(method));
  }
  /// Null where there is none; then all names are added to `known`.
  const Quantizer* find(std::string_view name, std::string& known) const {
    const std::lock_guard lock(mutex_);
    for (const auto& method : methods_) {
      if (method->name() == name) return method.get();
      known += fmt::format(", {}", method->name());
    }
    return nullptr;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<const Quantizer>> methods_;
};

AddedQuantizers& added() {
  static AddedQuantizers methods;
  return methods;
}

/// The method, or null, and all names to `known`.
const Quantizer* find(std::string_view method, std::string& known) {
  for (const auto& instance : kMethods) {
    const Quantizer& candidate = instance();
    if (candidate.name() == method) return &candidate;
    known += (known.empty() ? "" : ", ") + std::string(candidate.name());
  }
  for (const Quantizer* candidate : ggml_quantizers()) {
    if (candidate->name() == method) return candidate;
    known += ", " + std::string(candidate->name());
  }
  return added().find(method, known);
}

}  // namespace

const Quantizer& quantizer(std::string_view method) {
  std::string known;
  if (const Quantizer* found = find(method, known)) return *found;
  throw UsageError(fmt::format("there is no method {}; the methods are {}", in_quotes(method), known));
}

void register_quantizer(std::unique_ptr<const Quantizer> method) {
  std::string known;
  if (find(method->name(), known) != nullptr)
    throw UsageError(fmt::format("there is a method {} already", in_quotes(method->name())));
  added().add(std::move(method));
}

LargeWeightError::LargeWeightError(float weight)
    : InputError(fmt::format(
          "a weight of {} is beyond {}, the largest that any scheme stores (scales are kept in fp16); those "
          "of "
          "trained models are far smaller: get the checkpoint anew, or set this weight right in it",
          weight, kLargestWeight)) {}

StoredMatrix quantize(std::string_view linear, const MatrixView& weights, const Scheme& scheme,
                      const InputStatistics* inputs, const OutputStatistics* outputs) {
  try {
    if (outputs == nullptr) return quantize(weights, scheme, inputs);
    const Quantizer& method = quantizer(scheme.method);
    return method.quantize_for_outputs(weights, scheme, inputs, nullptr,
                                       method.prepare_outputs(outputs).get());
  } catch (const LargeWeightError& error) {
    throw InputError(fmt::format("{}: {}", linear, error.what()));
  }
}

StoredMatrix quantize(const MatrixView& weights, const Scheme& scheme, const InputStatistics* inputs) {
  return quantizer(scheme.method).quantize(weights, scheme, inputs);
}

}  // namespace knapsaq
