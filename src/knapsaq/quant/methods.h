#pragma once

#include "knapsaq/quant/quantizer.h"

// The methods, for registry.cpp; everybody else asks quantizer(name).

namespace knapsaq {

const Quantizer& nf4_quantizer();
const Quantizer& rtn_quantizer();
const Quantizer& hqq_quantizer();
/// One for each GGML type, named as the type.
std::span<const Quantizer* const> ggml_quantizers();
const Quantizer& uniform_quantizer();

}  // namespace knapsaq
