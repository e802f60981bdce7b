#include "knapsaq/quant/ggml/kernels.h"

#include <vector>

#include "knapsaq/base/instruction_set.h"

namespace knapsaq {

extern const GgmlKernels kGgmlKernelsPortable;
#ifdef KNAPSAQ_X86
extern const GgmlKernels kGgmlKernelsAvx2;
extern const GgmlKernels kGgmlKernelsAvx512;
#endif

std::span<const GgmlKernels* const> all_ggml_kernels() {
  static const std::vector<const GgmlKernels*> tables = [] {
    std::vector<const GgmlKernels*> usable;
#ifdef KNAPSAQ_X86
    if (allowed(InstructionSet::avx512) && __builtin_cpu_supports("avx512f"))
      usable.push_back(&kGgmlKernelsAvx512);
    if (allowed(InstructionSet::avx2) && __builtin_cpu_supports("avx2")) usable.push_back(&kGgmlKernelsAvx2);
#endif
    usable.push_back(&kGgmlKernelsPortable);
    return usable;
  }();
  return tables;
}

const GgmlKernels& ggml_kernels() {
  static const GgmlKernels& best = *all_ggml_kernels().front();
  return best;
}

}  // namespace knapsaq
