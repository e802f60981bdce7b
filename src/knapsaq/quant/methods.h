#pragma once

#include "knapsaq/quant/quantizer.h"

// The methods, for registry.cpp; all other code calls quantizer(name).

namespace knapsaq {

const Quantizer& awq_quantizer();
const Quantizer& gptq_quantizer();
const Quantizer& hqq_diag_quantizer();
const Quantizer& nf4_quantizer();
const Quantizer& rtn_quantizer();
const Quantizer& rtn_diag_quantizer();
const Quantizer& hqq_quantizer();
const Quantizer& uniform_quantizer();
/// One for each GGML type, with the type's name.
std::span<const Quantizer* const> ggml_quantizers();

}  // namespace knapsaq
