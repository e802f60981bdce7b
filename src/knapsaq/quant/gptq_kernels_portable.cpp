// Vectors of 16 bytes, which every processor of today has.

#include <cstdint>

#include "knapsaq/quant/gptq_kernels.h"

namespace knapsaq {

namespace {

constexpr int kBytes = 16;
// Sums in half of 16 registers.
constexpr int kTogether = 8;

#include "knapsaq/quant/gptq_kernels.inc"

}  // namespace

void gptq_block_portable(const GptqBlock& b);
void gptq_block_portable(const GptqBlock& b) { block(b); }

}  // namespace knapsaq
