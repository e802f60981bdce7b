// Half-quadratic quantization (Badri and Shaji, 2023): scales from the range of each group, as in
// round-to-nearest, and zero points that minimise the lp norm (p = 0.7) of the error, which is less sensitive
// to outliers than a square. With W_e a proxy of the error, each update is
//   u   = clamp(round(w / s + z))
//   W_e = shrink(w - s (u - z)),  shrink(e) = sign(e) max(|e| - |e|^(p-1) / beta, 0)
//   z   = mean over the group of u - (w - W_e) / s
// with beta = 10, 20 updates: the hqq library's default solver. Three remarks:
// - The shrinkage is 0 for every error up to 0.17. Weights of language models are smaller than that, so for
//   them HQQ is alternating least squares for z, and the power is needed only for unusually large weights.
// - The library stops early when the mean error of the whole tensor has stopped falling, that is, when almost
//   no zero point moves any more. Here each group stops when its own zero point has converged. This gives the
//   same error (0.001 % apart on normal and heavy-tailed weights) and makes groups independent.
// - The library limits 1 / s to 2e4, and uses 1 if a range is below 1e-4. Here small scales are kept, with as
//   many bits as fp16 has for them: the errors are smaller.

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/quant/groupwise.h"
#include "knapsaq/quant/half_rounding.h"
#include "knapsaq/quant/methods.h"

namespace knapsaq {

namespace {

class HalfQuadratic final : public GroupwiseQuantizer {
 public:
  std::string_view name() const override { return "hqq"; }
  void check(const Scheme& scheme) const override {
    check_affine(scheme);
    if (scheme.zero != ZeroPoint::real) {
      throw UsageError(fmt::format(
          "{}: hqq finds zero points, which this scheme has none of or only integers; use rtn or gptq",
          to_string(scheme)));
    }
  }

 protected:
  float refine_zero(std::span<const float> weights, const WeightRange& range, float scale, float start,
                    float largest) const override {
    return group_kernels().hqq_zero(weights.data(), static_cast<std::int64_t>(weights.size()), range.low,
                                    range.high, scale, start, largest);
  }

  // With 8 bits, or in a group far from zero, adjacent biases are a good part of a step apart, and the choice
  // between the two changes the codes. The better one compensates for the rounding (0.4 % of the error at
  // b8g32). Elsewhere it does not matter.
  std::uint16_t round_bias(std::span<const float> weights, float scale, float bias,
                           float largest) const override {
    if (half_spacing(bias) < scale / 64) return float_to_half(bias);
    const auto loss = [&](std::uint16_t half) {
      return group_kernels().squared_error(weights.data(), static_cast<std::int64_t>(weights.size()), scale,
                                           half_to_float(half), largest);
    };
    const std::uint16_t below = half_below(bias);
    const std::uint16_t above = half_above(bias);
    return loss(above) < loss(below) ? above : below;
  }
};

}  // namespace

const Quantizer& hqq_quantizer() {
  static const HalfQuadratic instance;
  return instance;
}

}  // namespace knapsaq
