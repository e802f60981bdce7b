#pragma once

#include "knapsaq/quant/quantizer.h"

// The methods, for registry.cpp; everybody else asks quantizer(name).

namespace knapsaq {

const Quantizer& awq_quantizer();
const Quantizer& gptq_quantizer();
const Quantizer& hqq_diag_quantizer();
const Quantizer& nf4_quantizer();
const Quantizer& rtn_quantizer();
const Quantizer& rtn_diag_quantizer();
const Quantizer& hqq_quantizer();
const Quantizer& uniform_quantizer();
/// One for each GGML type, named as the type.
std::span<const Quantizer* const> ggml_quantizers();

}  // namespace knapsaq
