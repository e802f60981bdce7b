#include "knapsaq/quant/gptq_kernels.h"

#include "knapsaq/base/instruction_set.h"

namespace knapsaq {

void gptq_block_portable(const GptqBlock& block);
#ifdef KNAPSAQ_X86
void gptq_block_avx2(const GptqBlock& block);
void gptq_block_avx512(const GptqBlock& block);
#endif

void quantize_gptq_block(const GptqBlock& block) {
  static const auto best = [] {
#ifdef KNAPSAQ_X86
    if (allowed(InstructionSet::avx512) && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
      return &gptq_block_avx512;
    }
    if (allowed(InstructionSet::avx2) && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
      return &gptq_block_avx2;
#endif
    return &gptq_block_portable;
  }();
  best(block);
}

}  // namespace knapsaq
