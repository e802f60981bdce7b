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

StoredMatrix quantize(const MatrixView& weights, const Scheme& scheme, const InputStatistics* inputs) {
  return quantizer(scheme.method).quantize(weights, scheme, inputs);
}

}  // namespace knapsaq
