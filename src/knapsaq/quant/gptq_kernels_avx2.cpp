// Compiled for AVX2 and FMA and called only where they exist; products and sums are fused.

#include <cstdint>

#include "knapsaq/quant/gptq_kernels.h"

namespace knapsaq {

namespace {

constexpr int kBytes = 32;
// Sums in half of the 16 registers.
constexpr int kTogether = 8;

#include "knapsaq/quant/gptq_kernels.inc"

}  // namespace

void gptq_block_avx2(const GptqBlock& b);
void gptq_block_avx2(const GptqBlock& b) { block(b); }

}  // namespace knapsaq
