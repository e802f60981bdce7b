#include <array>
#include <string>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/quant/methods.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

namespace {

constexpr std::array kMethods = {&awq_quantizer, &gptq_quantizer, &hqq_quantizer,      &hqq_diag_quantizer,
                                 &nf4_quantizer, &rtn_quantizer,  &rtn_diag_quantizer, &uniform_quantizer};

}  // namespace

const Quantizer& quantizer(std::string_view method) {
  std::string known;
  for (const auto& instance : kMethods) {
    const Quantizer& candidate = instance();
    if (candidate.name() == method) return candidate;
    known += (known.empty() ? "" : ", ") + std::string(candidate.name());
  }
  for (const Quantizer* candidate : ggml_quantizers()) {
    if (candidate->name() == method) return *candidate;
    known += ", " + std::string(candidate->name());
  }
  throw UsageError(fmt::format("there is no method {}; the methods are {}", in_quotes(method), known));
}

LargeWeightError::LargeWeightError(float weight)
    : InputError(fmt::format(
          "a weight of {} is beyond {}, the largest that any scheme stores (scales are kept in fp16); those "
          "of "
          "trained models are far smaller: get the checkpoint anew, or set this weight right in it",
          weight, kLargestWeight)) {}

StoredMatrix quantize(std::string_view linear, const MatrixView& weights, const Scheme& scheme,
                      const InputStatistics* inputs) {
  try {
    return quantize(weights, scheme, inputs);
  } catch (const LargeWeightError& error) {
    throw InputError(fmt::format("{}: {}", linear, error.what()));
  }
}

StoredMatrix quantize(const MatrixView& weights, const Scheme& scheme, const InputStatistics* inputs) {
  return quantizer(scheme.method).quantize(weights, scheme, inputs);
}

}  // namespace knapsaq
