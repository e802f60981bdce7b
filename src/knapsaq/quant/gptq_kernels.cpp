#include "knapsaq/quant/gptq_kernels.h"

#include "knapsaq/base/simd/tables.h"

namespace knapsaq {

#define KNAPSAQ_SET(set)                 \
  namespace set {                        \
  extern const GptqKernels kGptqKernels; \
  }
KNAPSAQ_SETS
#undef KNAPSAQ_SET

const GptqKernels& gptq_kernels() {
#define KNAPSAQ_SET(set) {#set, &set::kGptqKernels},
  static const GptqKernels& best = *simd::usable_tables<const GptqKernels*>({KNAPSAQ_SETS}).front();
#undef KNAPSAQ_SET
  return best;
}

}  // namespace knapsaq
