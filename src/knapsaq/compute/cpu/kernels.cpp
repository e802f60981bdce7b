#include <algorithm>
#include <stdexcept>
#include <vector>

#include "knapsaq/base/simd/tables.h"
#include "knapsaq/compute/cpu/cpu_kernels.h"

namespace knapsaq::cpu {

#define KNAPSAQ_SET(set)                            \
  namespace set {                                   \
  extern const Kernels<float>* const kFloatKernels; \
  extern const Kernels<Bf16>* const kBf16Kernels;   \
  extern const PackedKernels kPackedKernels;        \
  }
KNAPSAQ_SETS
#undef KNAPSAQ_SET

std::span<const CpuKernels> all_kernels() {
#define KNAPSAQ_SET(set) {#set, {#set, set::kFloatKernels, set::kBf16Kernels, &set::kPackedKernels}},
  static const auto tables = simd::usable_tables<CpuKernels>({KNAPSAQ_SETS});
#undef KNAPSAQ_SET
  return tables;
}

const CpuKernels& kernels_of(std::string_view set) {
  const auto all = all_kernels();
  if (set.empty()) return all.front();
  const auto found = std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.set == set; });
  if (found == all.end()) throw std::invalid_argument("this processor has no such instructions");
  return *found;
}

}  // namespace knapsaq::cpu
