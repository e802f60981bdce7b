#include "knapsaq/quant/ggml/kernels.h"

#include <vector>

#include "knapsaq/base/simd/tables.h"

namespace knapsaq {

#define KNAPSAQ_SET(set)                 \
  namespace set {                        \
  extern const GgmlKernels kGgmlKernels; \
  }
KNAPSAQ_SETS
#undef KNAPSAQ_SET

std::span<const GgmlKernels* const> all_ggml_kernels() {
#define KNAPSAQ_SET(set) {#set, &set::kGgmlKernels},
  static const auto tables = simd::usable_tables<const GgmlKernels*>({KNAPSAQ_SETS});
#undef KNAPSAQ_SET
  return tables;
}

const GgmlKernels& ggml_kernels() {
  static const GgmlKernels& best = *all_ggml_kernels().front();
  return best;
}

}  // namespace knapsaq
