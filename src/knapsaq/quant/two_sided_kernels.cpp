#include "knapsaq/quant/two_sided_kernels.h"

#include "knapsaq/base/simd/tables.h"

namespace knapsaq {

#define KNAPSAQ_SET(set)                         \
  namespace set {                                \
  extern const TwoSidedKernels kTwoSidedKernels; \
  }
KNAPSAQ_SETS
#undef KNAPSAQ_SET

const TwoSidedKernels& two_sided_kernels() {
#define KNAPSAQ_SET(set) {#set, &set::kTwoSidedKernels},
  static const TwoSidedKernels& best = *simd::usable_tables<const TwoSidedKernels*>({KNAPSAQ_SETS}).front();
#undef KNAPSAQ_SET
  return best;
}

}  // namespace knapsaq
