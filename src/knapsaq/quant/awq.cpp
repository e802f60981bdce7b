// The clipping search of AWQ (Lin et al. 2023, appendix; auto_clip of llm-awq). Every group is clipped at
// fractions of its largest magnitude, 1, 0.95, .. 0.55. The kept one has the codes with the smallest squared
// error of the group's contribution to the output, mean over tokens (sum_k dw_k x_k)^2 = dw H dw^T with the
// group's diagonal block H of the second moments. llm-awq takes the mean over 512 tokens; with H it covers
// all tokens, and the time does not depend on their number.
//
// The other half of AWQ, scales folded into the preceding modules, concerns several linears at once and is in
// bank/find_folding.h; the weights here are already folded. llm-awq does not clip q and k; here they are
// clipped too, because it helps with the error over all tokens (docs/benchmarks.md).
//
// Codes are then the nearest. Scales and zero points are those of round-to-nearest for the clipped range.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/quant/blas.h"
#include "knapsaq/quant/groupwise.h"
#include "knapsaq/quant/lattice.h"
#include "knapsaq/quant/methods.h"

namespace knapsaq {

namespace {

// llm-awq's: twenty steps for the whole range, the first half of them.
constexpr int kSteps = 10;
constexpr float kStep = 0.05f;

/// Round-to-nearest with given ranges for its groups.
class GivenRanges final : public GroupwiseQuantizer {
 public:
  /// `ranges`: of all groups of `rows`.
  GivenRanges(const MatrixView& rows, std::int64_t group, std::span<const WeightRange> ranges)
      : first_(rows.values.data()),
        cols_(rows.cols),
        group_(group),
        groups_((rows.cols + group - 1) / group),
        ranges_(ranges) {}
  std::string_view name() const override { return "awq"; }
  void check(const Scheme& scheme) const override { check_affine(scheme); }

 protected:
  WeightRange range(std::span<const float> weights, const WeightRange& /*whole*/) const override {
    const std::int64_t at = weights.data() - first_;
    return ranges_[static_cast<std::size_t>(at / cols_ * groups_ + at % cols_ / group_)];
  }

 private:
  const float* first_;
  std::int64_t cols_;
  std::int64_t group_;
  std::int64_t groups_;
  std::span<const WeightRange> ranges_;
};

/// The range that remains after clipping at a fraction of the largest magnitude.
WeightRange clipped(const WeightRange& range, float part) {
  const float most = part * std::max(std::fabs(range.low), std::fabs(range.high));
  // A range that does not contain 0 is not moved.
  return {std::clamp(range.low, -most, most), std::clamp(range.high, -most, most)};
}

class ClippingSearch {
 public:
  ClippingSearch(const MatrixView& rows, const Scheme& scheme, std::span<const float> moment)
      : rows_(rows),
        scheme_(scheme),
        moment_(moment),
        group_(group_of(scheme, rows.cols)),
        groups_((rows.cols + group_ - 1) / group_) {}

  void run(GroupMetadata& best) {
    const auto count = static_cast<std::size_t>(rows_.rows * groups_);
    std::vector<WeightRange> whole(count);
    for_groups(rows_, group_, [&](std::size_t i, std::int64_t, std::span<const float> weights) {
      group_kernels().range(weights.data(), static_cast<std::int64_t>(weights.size()), &whole[i].low,
                            &whole[i].high);
    });
    solve(whole, best);
    const std::vector<float> unclipped = errors(best);
    std::vector<float> least = unclipped;
    std::vector<WeightRange> chosen = whole;
    std::vector<WeightRange> tried(count);
    GroupMetadata m;
    for (int step = 1; step < kSteps; ++step) {
      for (std::size_t i = 0; i < count; ++i)
        tried[i] = clipped(whole[i], 1.0f - kStep * static_cast<float>(step));
      solve(tried, m);
      const std::vector<float> now = errors(m);
      for (std::size_t i = 0; i < count; ++i) {
        if (!(now[i] < least[i])) continue;
        least[i] = now[i];
        chosen[i] = tried[i];
      }
    }
    solve(chosen, m);
    if (scheme_.meta_bits == 8) return keep_better(errors(m), unclipped, m, best);
    best = std::move(m);
  }

 private:
  void solve(std::span<const WeightRange> ranges, GroupMetadata& m) const {
    GivenRanges(rows_, group_, ranges).solve(rows_, scheme_, {}, m);
  }

  /// dw H dw^T of every group, with its nearest codes.
  std::vector<float> errors(const GroupMetadata& m) {
    const float largest = static_cast<float>((1 << scheme_.bits) - 1);
    differences_.resize(rows_.values.size());
    codes_.resize(static_cast<std::size_t>(group_));
    for_groups(rows_, group_, [&](std::size_t i, std::int64_t, std::span<const float> weights) {
      group_kernels().encode(weights.data(), static_cast<std::int64_t>(weights.size()), m.scales[i],
                             m.biases[i], largest, codes_.data());
      float* const out = differences_.data() + (weights.data() - rows_.values.data());
      for (std::size_t k = 0; k < weights.size(); ++k)
        out[k] = weights[k] - (m.scales[i] * static_cast<float>(codes_[k]) + m.biases[i]);
    });
    std::vector<float> out(static_cast<std::size_t>(rows_.rows * groups_));
    for (std::int64_t g = 0; g < groups_; ++g) {
      const std::int64_t first = g * group_;
      const std::int64_t width = std::min(group_, rows_.cols - first);
      product_.assign(static_cast<std::size_t>(rows_.rows * width), 0.0f);
      blas::add_product(rows_.rows, width, width, 1.0f, differences_.data() + first, rows_.cols,
                        moment_.data() + first * rows_.cols + first, rows_.cols, product_.data(), width);
      for (std::int64_t r = 0; r < rows_.rows; ++r) {
        const float* const a = differences_.data() + r * rows_.cols + first;
        const float* const b = product_.data() + r * width;
        double sum = 0;
        for (std::int64_t k = 0; k < width; ++k) sum += static_cast<double>(a[k]) * static_cast<double>(b[k]);
        out[static_cast<std::size_t>(r * groups_ + g)] = static_cast<float>(sum);
      }
    }
    return out;
  }

  /// Groups that share a step and a minimum are clipped together or not at all: their scales were chosen
  /// beside other scales than those with which they now share.
  void keep_better(std::span<const float> clipped_errors, std::span<const float> unclipped,
                   const GroupMetadata& m, GroupMetadata& best) const {
    const auto meta_group = static_cast<std::size_t>(scheme_.meta_group);
    for (std::size_t j = 0; j < best.scale_steps.size(); ++j) {
      const std::size_t first = j * meta_group;
      const std::size_t end = std::min(first + meta_group, unclipped.size());
      double gained = 0;
      for (std::size_t i = first; i < end; ++i)
        gained += static_cast<double>(unclipped[i]) - static_cast<double>(clipped_errors[i]);
      if (!(gained > 0)) continue;
      best.scale_steps[j] = m.scale_steps[j];
      best.scale_mins[j] = m.scale_mins[j];
      for (std::size_t i = first; i < end; ++i) {
        best.scale_codes[i] = m.scale_codes[i];
        best.zero_codes[i] = m.zero_codes[i];
        best.scales[i] = m.scales[i];
        best.biases[i] = m.biases[i];
      }
    }
  }

  const MatrixView& rows_;
  const Scheme& scheme_;
  std::span<const float> moment_;  ///< [cols, cols]
  std::int64_t group_;
  std::int64_t groups_;
  std::vector<float> differences_;
  std::vector<float> product_;
  std::vector<std::uint8_t> codes_;
};

class ActivationAware final : public Quantizer {
 public:
  std::string_view name() const override { return "awq"; }
  void check(const Scheme& scheme) const override { check_affine(scheme); }
  Needs needs() const override { return Needs::second_moments; }

  StoredMatrix quantize(const MatrixView& weights, const Scheme& scheme,
                        const InputStatistics* inputs) const override {
    check(scheme);
    const std::span<const float> moment = checked(inputs, weights.cols, group_of(scheme, weights.cols));
    if (auto held = on_lattice(weights, scheme)) return std::move(*held);
    return quantize_groups(
        weights, scheme,
        [&](const MatrixView& rows, GroupMetadata& m) { ClippingSearch(rows, scheme, moment).run(m); },
        Codes::nearest);
  }

 private:
  /// The second moments, whose diagonal blocks of groups are finite.
  static std::span<const float> checked(const InputStatistics* inputs, std::int64_t cols,
                                        std::int64_t group) {
    if (inputs == nullptr || inputs->second_moment.empty())
      throw UsageError(fmt::format("awq needs second moments of the inputs{}; calibrate the model on text",
                                   inputs == nullptr ? "" : " of " + inputs->name));
    const std::span<const float> moment = inputs->second_moment;
    if (inputs->width != cols || moment.size() != static_cast<std::uint64_t>(cols * cols))
      throw InputError(
          fmt::format("{}: statistics of {} inputs for a linear with {}", inputs->name, inputs->width, cols));
    for (std::int64_t row = 0; row < cols; ++row) {
      const std::int64_t first = row / group * group;
      const auto block = moment.subspan(row * cols + first, std::min(group, cols - first));
      const auto bad = std::ranges::find_if_not(block, [](float x) { return std::isfinite(x); });
      if (bad != block.end())
        throw InputError(fmt::format("{}: the second moment at [{}, {}] of its inputs is {}; calibrate again",
                                     inputs->name, row, first + (bad - block.begin()), *bad));
    }
    return moment;
  }
};

}  // namespace

const Quantizer& awq_quantizer() {
  static const ActivationAware instance;
  return instance;
}

}  // namespace knapsaq
