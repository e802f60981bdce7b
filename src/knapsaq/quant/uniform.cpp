// The plain uniform quantization of the metaheuristic paper: 2^bits levels, spread evenly from the smallest
// to the largest weight of the whole matrix. It is written `uniform:b<bits>row`. The layout has a scale and a
// bias for every row, which are all equal here. (The paper only simulates storage and does not count these 4
// bytes per row.)

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/quant/groupwise.h"
#include "knapsaq/quant/methods.h"

namespace knapsaq {

namespace {

class Uniform final : public GroupwiseQuantizer {
 public:
  std::string_view name() const override { return "uniform"; }
  void check(const Scheme& scheme) const override {
    if (scheme.group != 0 || scheme.zero != ZeroPoint::real || scheme.meta_bits != 16) {
      throw UsageError(fmt::format("{}: uniform has one range for the whole matrix; write uniform:b{}row",
                                   to_string(scheme), scheme.bits));
    }
  }

 protected:
  WeightRange range(std::span<const float> /*weights*/, const WeightRange& whole) const override {
    return whole;
  }
};

}  // namespace

const Quantizer& uniform_quantizer() {
  static const Uniform instance;
  return instance;
}

}  // namespace knapsaq
