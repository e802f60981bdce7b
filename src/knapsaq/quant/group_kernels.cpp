#include "knapsaq/quant/group_kernels.h"

#include <vector>

#include "knapsaq/base/instruction_set.h"

namespace knapsaq {

extern const GroupKernels kGroupKernelsPortable;
#ifdef KNAPSAQ_X86
extern const GroupKernels kGroupKernelsAvx2;
extern const GroupKernels kGroupKernelsAvx512;
#endif

std::span<const GroupKernels* const> all_group_kernels() {
  static const std::vector<const GroupKernels*> tables = [] {
    std::vector<const GroupKernels*> usable;
#ifdef KNAPSAQ_X86
    if (allowed(InstructionSet::avx512) && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      usable.push_back(&kGroupKernelsAvx512);
    }
    if (allowed(InstructionSet::avx2) && __builtin_cpu_supports("avx2")) usable.push_back(&kGroupKernelsAvx2);
#endif
    usable.push_back(&kGroupKernelsPortable);
    return usable;
  }();
  return tables;
}

const GroupKernels& group_kernels() {
  static const GroupKernels& best = *all_group_kernels().front();
  return best;
}

}  // namespace knapsaq
