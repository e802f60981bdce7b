#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "knapsaq/base/float16.h"
#include "knapsaq/export/integer_zeros.h"
#include "knapsaq/quant/groupwise.h"
#include "knapsaq/tune/tunable_forms.h"

namespace knapsaq {
namespace {

/// W = scale * u + bias in every group. Sums: of gradient * u and of the gradient, for every group.
class TunableAffine : public TunableMatrix {
 public:
  std::size_t sums() const override { return 2 * groups(); }

  void add_sums(std::int64_t row, std::span<const float> gradient, std::span<float> sums) const override {
    const PackedMatrix& matrix = packed();
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(matrix.cols));
    unpack_codes(std::span(matrix.codes)
                     .subspan(static_cast<std::size_t>(row * matrix.words_per_row()),
                              static_cast<std::size_t>(matrix.words_per_row())),
                 matrix.bits, codes);
    float* sum = sums.data() + 2 * row * matrix.groups();
    for (std::int64_t first = 0; first < matrix.cols; first += matrix.group, sum += 2) {
      float with_code = 0;
      float alone = 0;
      for (std::int64_t k = first; k < std::min<std::int64_t>(first + matrix.group, matrix.cols); ++k) {
        const float g = gradient[static_cast<std::size_t>(k)];
        with_code += g * static_cast<float>(codes[static_cast<std::size_t>(k)]);
        alone += g;
      }
      sum[0] += with_code;
      sum[1] += alone;
    }
  }

 protected:
  explicit TunableAffine(PackedMatrix matrix) : TunableMatrix(std::move(matrix)) {}
  const PackedMatrix& packed() const { return std::get<PackedMatrix>(matrix_); }
  PackedMatrix& packed() { return std::get<PackedMatrix>(matrix_); }
  std::size_t groups() const { return static_cast<std::size_t>(packed().rows * packed().groups()); }
};

/// Parameters: of all scales, then of all biases.
class RealZeros final : public TunableAffine {
 public:
  explicit RealZeros(PackedMatrix matrix) : TunableAffine(std::move(matrix)) {
    const PackedMatrix& m = packed();
    for (const auto* halves : {&m.scales, &m.biases})
      for (std::size_t i = 0; i < groups(); ++i)
        add(half_to_float((*halves)[i]), tuning_unit(half_to_float(m.scales[i]), m.bits));
  }

  void gradient(std::span<const float> sums, std::span<float> out) const override {
    const std::size_t count = groups();
    for (std::size_t i = 0; i < count; ++i) {
      out[i] = unit_[i] * (sums[2 * i] - middle() * sums[2 * i + 1]);
      out[count + i] = unit_[count + i] * sums[2 * i + 1];
    }
  }

  void set(std::span<const float> parameters) override {
    const std::size_t count = groups();
    for (std::size_t i = 0; i < count; ++i) {
      packed().scales[i] = nearest_half(value(i, parameters));
      // What the scale has moved by is taken off in the middle of the codes.
      const float turned = unit_[i] * parameters[i] * middle();
      packed().biases[i] = nearest_half(value(count + i, parameters) - turned);
    }
  }

 private:
  /// A scale moves the weights of a group around that of the middle code, not around that of code 0, where it
  /// would move them all to one side: so the two parameters of a group hardly depend on each other, which
  /// suits an optimizer that knows nothing about pairs.
  float middle() const { return static_cast<float>((1 << packed().bits) - 1) / 2; }
};

/// Parameters: of all scales.
class WholeZeros final : public TunableAffine {
 public:
  WholeZeros(PackedMatrix matrix, IntegerZeros zeros)
      : TunableAffine(std::move(matrix)), zeros_(std::move(zeros)) {
    for (const std::uint16_t half : packed().scales)
      add(half_to_float(half), tuning_unit(half_to_float(half), packed().bits));
  }

  void gradient(std::span<const float> sums, std::span<float> out) const override {
    for (std::size_t i = 0; i < groups(); ++i)
      out[i] = unit_[i] * (sums[2 * i] - static_cast<float>(zeros_.zeros[i]) * sums[2 * i + 1]);
  }

  void set(std::span<const float> parameters) override {
    for (std::size_t i = 0; i < groups(); ++i) {
      const auto zero = static_cast<float>(zeros_.zeros[i]);
      const float wanted = value(i, parameters);
      std::uint16_t scale = nearest_half(wanted);
      // Zero points that are no power of two leave the scale less than all of its bits.
      if (!holds_product(scale, zero))
        scale = nearest_half(std::copysign(integer_zero_scale(std::fabs(wanted), packed().bits), wanted));
      if (scale == packed().scales[i]) continue;
      packed().scales[i] = scale;
      packed().biases[i] = float_to_half(0.0f - half_to_float(scale) * zero);
    }
  }

 private:
  static bool holds_product(std::uint16_t scale, float zero) {
    const float product = half_to_float(scale) * zero;
    return half_to_float(float_to_half(product)) == product;
  }

  IntegerZeros zeros_;
};

/// scale = min + step * code, bias = -scale * zero; see PackedMatrix. Parameters: of all minima, all steps,
/// all codes of scales, all codes of zero points.
class AffineTwice final : public TunableAffine {
 public:
  explicit AffineTwice(PackedMatrix matrix) : TunableAffine(std::move(matrix)) {
    const PackedMatrix& m = packed();
    pairs_ = static_cast<std::size_t>(m.meta_groups());
    std::vector<float> mean(pairs_);
    std::vector<float> members(pairs_);
    for (std::size_t i = 0; i < groups(); ++i) {
      mean[pair(i)] += std::fabs(scale(i));
      members[pair(i)] += 1;
    }
    for (std::size_t j = 0; j < pairs_; ++j) mean[j] /= members[j];
    for (std::size_t j = 0; j < pairs_; ++j)
      add(half_to_float(m.scale_mins[j]), tuning_unit(mean[j], m.bits));
    for (std::size_t j = 0; j < pairs_; ++j)
      add(half_to_float(m.scale_steps[j]), tuning_unit(mean[j] / 255, m.bits));
    for (std::size_t i = 0; i < groups(); ++i) {
      const float step = half_to_float(m.scale_steps[pair(i)]);
      add(static_cast<float>(m.scale_codes[i]), step == 0 ? 0 : tuning_unit(scale(i) / step, m.bits));
    }
    for (std::size_t i = 0; i < groups(); ++i)
      add(static_cast<float>(m.zero_codes[i]), tuning_unit(1 / zero_step(), m.bits));
  }

  void gradient(std::span<const float> sums, std::span<float> out) const override {
    const PackedMatrix& m = packed();
    std::ranges::fill(out.first(2 * pairs_), 0.0f);
    float* const of_codes = out.data() + 2 * pairs_;
    float* const of_zeros = of_codes + groups();
    for (std::size_t i = 0; i < groups(); ++i) {
      const std::size_t j = pair(i);
      const float zero = static_cast<float>(m.zero_codes[i]) * zero_step();
      const float by_scale = sums[2 * i] - zero * sums[2 * i + 1];
      out[j] += by_scale;
      out[pairs_ + j] += by_scale * static_cast<float>(m.scale_codes[i]);
      of_codes[i] = by_scale * half_to_float(m.scale_steps[j]);
      of_zeros[i] = -scale(i) * zero_step() * sums[2 * i + 1];
    }
    for (std::size_t i = 0; i < out.size(); ++i) out[i] *= unit_[i];
  }

  void set(std::span<const float> parameters) override {
    PackedMatrix& m = packed();
    const auto code = [&](std::size_t i) {
      return static_cast<std::uint8_t>(std::nearbyint(std::clamp(value(i, parameters), 0.0f, 255.0f)));
    };
    for (std::size_t j = 0; j < pairs_; ++j) {
      m.scale_mins[j] = nearest_half(value(j, parameters));
      m.scale_steps[j] = nearest_half(value(pairs_ + j, parameters));
    }
    for (std::size_t i = 0; i < groups(); ++i) {
      m.scale_codes[i] = code(2 * pairs_ + i);
      m.zero_codes[i] = code(2 * pairs_ + groups() + i);
    }
  }

 private:
  std::size_t pair(std::size_t group) const { return group / static_cast<std::size_t>(packed().meta_group); }
  float scale(std::size_t group) const {
    const auto per_row = static_cast<std::size_t>(packed().groups());
    return packed()
        .affine(static_cast<std::int64_t>(group / per_row), static_cast<std::int64_t>(group % per_row))
        .scale;
  }
  /// Of the zero point, for one code.
  float zero_step() const { return static_cast<float>((1 << packed().bits) - 1) / 255; }

  std::size_t pairs_ = 0;
};

}  // namespace

std::unique_ptr<TunableMatrix> tunable_affine(PackedMatrix matrix) {
  IntegerZerosResult whole = integer_zeros(matrix);
  if (whole.obstacle.empty()) return std::make_unique<WholeZeros>(std::move(matrix), std::move(whole.zeros));
  return std::make_unique<RealZeros>(std::move(matrix));
}

std::unique_ptr<TunableMatrix> tunable_affine_twice(PackedMatrix matrix) {
  return std::make_unique<AffineTwice>(std::move(matrix));
}

}  // namespace knapsaq
