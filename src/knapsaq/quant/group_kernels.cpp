#include "knapsaq/quant/group_kernels.h"

#include <vector>

#include "knapsaq/base/simd/tables.h"

namespace knapsaq {

#define KNAPSAQ_SET(set)                   \
  namespace set {                          \
  extern const GroupKernels kGroupKernels; \
  }
KNAPSAQ_SETS
#undef KNAPSAQ_SET

std::span<const GroupKernels* const> all_group_kernels() {
#define KNAPSAQ_SET(set) {#set, &set::kGroupKernels},
  static const auto tables = simd::usable_tables<const GroupKernels*>({KNAPSAQ_SETS});
#undef KNAPSAQ_SET
  return tables;
}

const GroupKernels& group_kernels() {
  static const GroupKernels& best = *all_group_kernels().front();
  return best;
}

}  // namespace knapsaq
