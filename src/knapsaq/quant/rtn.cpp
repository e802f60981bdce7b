// Round to nearest: the codes spread evenly over the range of the group. Asymmetric: the smallest weight is
// code 0 and the largest is the last code. Symmetric: the zero point is 2^(bits-1), and the step is that of a
// range from -max|w| to max|w|.

#include "knapsaq/quant/groupwise.h"
#include "knapsaq/quant/methods.h"

namespace knapsaq {

namespace {

class RoundToNearest final : public GroupwiseQuantizer {
 public:
  std::string_view name() const override { return "rtn"; }
  void check(const Scheme& scheme) const override { check_affine(scheme); }
};

}  // namespace

const Quantizer& rtn_quantizer() {
  static const RoundToNearest instance;
  return instance;
}

}  // namespace knapsaq
