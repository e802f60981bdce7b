// Compiled for AVX-512 F, BW and VL and called only where they exist; products and sums are fused.

#include <cstdint>

#include "knapsaq/quant/gptq_kernels.h"

namespace knapsaq {

namespace {

constexpr int kBytes = 64;
// Sums in half of the 32 registers.
constexpr int kTogether = 16;

#include "knapsaq/quant/gptq_kernels.inc"

}  // namespace

void gptq_block_avx512(const GptqBlock& b);
void gptq_block_avx512(const GptqBlock& b) { block(b); }

}  // namespace knapsaq
