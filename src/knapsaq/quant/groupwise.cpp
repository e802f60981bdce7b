#include "knapsaq/quant/groupwise.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/quant/half_rounding.h"
#include "knapsaq/quant/lattice.h"

namespace knapsaq {

namespace {

// Enough weights that distributing a chunk costs nothing, few enough (256 KiB) that they stay in the L2 cache
// from finding their ranges to choosing their codes, and that a small matrix still occupies all threads.
constexpr std::int64_t kChunkWeights = 65536;

constexpr float kLargestHalf = 65504.0f;

/// How a scale is stored: rounded to nearest, except among the few subnormals, where the nearest may be so
/// much smaller that the ends of the group would be cut off.
std::uint16_t half_scale(float scale) {
  return scale < kSmallestNormalHalf ? half_above(scale) : float_to_half(scale);
}

float ideal_scale(const WeightRange& range, const Scheme& scheme, float largest) {
  if (scheme.zero != ZeroPoint::symmetric) return (range.high - range.low) / largest;
  // Levels -2^(bits-1) .. 2^(bits-1)-1: with this step the larger side ends at most half a step beyond them.
  return 2.0f * std::max(std::fabs(range.low), std::fabs(range.high)) / largest;
}

constexpr float kLargestMetaCode = 255.0f;

// If rounding moves the ends of a group by less than this many steps, it changes the error by about 0.1 % (4
// bits, embedded Llama). Beyond it, as always with 6 and 8 bits and usually with 5, adjacent codes are tried:
// at b5g32 this reduces the error by 1.4 %, where 4 bits would hardly gain.
constexpr float kNoticeable = 0.1f;

// With 8 bits, an integer zero point moves the ends of a group off the grid; a slightly larger scale makes
// room for both. Three codes reduce the loss against fp16 metadata from 10 % to 2 % at b8g32; a fourth gains
// little.
constexpr float kLargerScales = 4.0f;

}  // namespace

void check_affine(const Scheme& scheme) {
  if (scheme.zero != ZeroPoint::real && scheme.meta_bits != 16) {
    throw UsageError(fmt::format(
        "{}: a scheme with integer or symmetric zero points keeps its scales in fp16", to_string(scheme)));
  }
  if (scheme.zero == ZeroPoint::integer && scheme.bits == 8) {
    throw UsageError(fmt::format("{}: 8 bits leave a scale in fp16 no room for integer zero points; use s",
                                 to_string(scheme)));
  }
}

std::int64_t group_of(const Scheme& scheme, std::int64_t cols) {
  return scheme.group == 0 ? cols : std::min<std::int64_t>(scheme.group, cols);
}

float integer_zero_scale(float scale, int bits) {
  // Significant bits of an fp16 number, minus those of the zero point.
  constexpr int kSignificant = 11;
  constexpr float kSmallestHalf = 0x1p-24f;
  if (!(scale > 0)) return 0;
  // The spacing of numbers with this many bits, except for the smallest, which cannot have as many.
  const float spacing =
      std::max(std::ldexp(1.0f, std::ilogb(scale) + 1 - (kSignificant - bits)), kSmallestHalf);
  return std::max(std::nearbyint(scale / spacing), 1.0f) * spacing;
}

void store_scales_twice(const Scheme& scheme, GroupMetadata& m) {
  const std::size_t count = m.scales.size();
  const auto meta_group = static_cast<std::size_t>(scheme.meta_group);
  m.scale_codes.resize(count);
  m.scale_steps.clear();
  m.scale_mins.clear();
  for (std::size_t first = 0; first < count; first += meta_group) {
    const std::span<const float> scales =
        std::span(m.scales).subspan(first, std::min(meta_group, count - first));
    const auto [least, most] = std::ranges::minmax(scales);
    const std::uint16_t half_min = half_below(least);
    const float minimum = half_to_float(half_min);
    const std::uint16_t half_step = half_above((most - minimum) / kLargestMetaCode);
    const float step = half_to_float(half_step);
    m.scale_mins.push_back(half_min);
    m.scale_steps.push_back(half_step);
    for (std::size_t i = 0; i < scales.size(); ++i) {
      const float code =
          step > 0 ? std::min(std::nearbyint((scales[i] - minimum) / step), kLargestMetaCode) : 0.0f;
      m.scale_codes[first + i] = static_cast<std::uint8_t>(code);
    }
  }
}

std::int64_t rows_per_unit(const Scheme& scheme, std::int64_t cols) {
  if (scheme.meta_bits == 16) return 1;
  const std::int64_t group = group_of(scheme, cols);
  const std::int64_t groups = (cols + group - 1) / group;
  std::int64_t a = groups;
  std::int64_t b = scheme.meta_group;
  while (b != 0) a = std::exchange(b, a % b);
  return scheme.meta_group / a;
}

WeightRange GroupwiseQuantizer::range(std::span<const float> weights, const WeightRange& /*whole*/) const {
  WeightRange range;
  group_kernels().range(weights.data(), static_cast<std::int64_t>(weights.size()), &range.low, &range.high);
  return range;
}

float GroupwiseQuantizer::refine_zero(std::span<const float> /*weights*/, const WeightRange& /*range*/,
                                      float /*scale*/, float start, float /*largest*/) const {
  return start;
}

std::uint16_t GroupwiseQuantizer::round_bias(std::span<const float> /*weights*/, float /*scale*/, float bias,
                                             float /*largest*/) const {
  return float_to_half(bias);
}

void GroupwiseQuantizer::store_zero_twice(std::span<const float> weights, const Scheme& scheme, std::size_t i,
                                          GroupMetadata& m) const {
  const float largest = static_cast<float>((1 << scheme.bits) - 1);
  const WeightRange range = {m.lows[i], m.highs[i]};
  const float minimum = half_to_float(m.scale_mins[i / static_cast<std::size_t>(scheme.meta_group)]);
  const float step = half_to_float(m.scale_steps[i / static_cast<std::size_t>(scheme.meta_group)]);
  const float nearest = m.scale_codes[i];
  // As in PackedMatrix::affine().
  const auto scale_of = [&](float code) { return minimum + step * code; };
  const auto bias_of = [&](float scale, float code) {
    return -(scale * (code * largest / kLargestMetaCode));
  };

  float zero = 0;
  if (const float exact = m.scales[i]; exact > 0) {
    zero = refine_zero(weights, range, exact, -range.low / exact, largest);
    zero = std::clamp(zero, 0.0f, largest) * kLargestMetaCode / largest;
  }
  float best_scale = nearest;
  float best_zero = std::nearbyint(zero);
  const float scale = scale_of(nearest);
  // By how many steps of the weights' codes the rounding of scale and zero moves the ends of the group.
  const float moved =
      0.5f * largest / kLargestMetaCode + (scale > 0 ? 0.5f * step * largest / scale : largest);
  if (moved >= kNoticeable) {
    float least = std::numeric_limits<float>::infinity();
    for (float code = nearest; code <= std::min(nearest + kLargerScales, kLargestMetaCode); ++code) {
      const float s = scale_of(code);
      for (const float z : {std::floor(zero), std::ceil(zero)}) {
        const auto loss = static_cast<float>(group_kernels().squared_error(
            weights.data(), static_cast<std::int64_t>(weights.size()), s, bias_of(s, z), largest));
        if (loss < least) {
          least = loss;
          best_scale = code;
          best_zero = z;
        }
      }
    }
  }
  m.scale_codes[i] = static_cast<std::uint8_t>(best_scale);
  m.zero_codes[i] = static_cast<std::uint8_t>(best_zero);
  m.scales[i] = scale_of(best_scale);
  m.biases[i] = bias_of(m.scales[i], best_zero);
}

void GroupwiseQuantizer::solve(const MatrixView& rows, const Scheme& scheme, const WeightRange& whole,
                               GroupMetadata& m) const {
  const std::int64_t group = group_of(scheme, rows.cols);
  const auto count = static_cast<std::size_t>(rows.rows * ((rows.cols + group - 1) / group));
  const float largest = static_cast<float>((1 << scheme.bits) - 1);
  const bool twice = scheme.meta_bits == 8;
  m.lows.resize(count);
  m.highs.resize(count);
  m.scales.resize(count);
  m.biases.resize(count);

  for_groups(rows, group, [&](std::size_t i, std::int64_t, std::span<const float> weights) {
    WeightRange r = range(weights, whole);
    if (r.low < -kLargestWeight || r.high > kLargestWeight) {
      throw LargeWeightError(r.high > kLargestWeight ? r.high : r.low);
    }
    if (twice || scheme.zero == ZeroPoint::integer) r = {std::min(r.low, 0.0f), std::max(r.high, 0.0f)};
    m.lows[i] = r.low;
    m.highs[i] = r.high;
    m.scales[i] = ideal_scale(r, scheme, largest);
  });

  if (twice) {
    store_scales_twice(scheme, m);
    m.zero_codes.resize(count);
    for_groups(rows, group, [&](std::size_t i, std::int64_t, std::span<const float> weights) {
      store_zero_twice(weights, scheme, i, m);
    });
    return;
  }

  m.half_scales.resize(count);
  m.half_biases.resize(count);
  for_groups(rows, group, [&](std::size_t i, std::int64_t, std::span<const float> weights) {
    const WeightRange r = {m.lows[i], m.highs[i]};
    std::uint16_t half = half_scale(m.scales[i]);
    float scale = half_to_float(half);
    std::uint16_t half_bias;
    const float size = std::max(std::fabs(r.low), std::fabs(r.high));
    if (scheme.zero == ZeroPoint::symmetric) {
      // A power of two times an fp16 number: exact.
      half_bias = float_to_half(0.0f - scale * static_cast<float>(1 << (scheme.bits - 1)));
    } else if (scheme.zero == ZeroPoint::integer) {
      scale = integer_zero_scale(m.scales[i], scheme.bits);
      half = float_to_half(scale);
      const float zero = scale > 0 ? std::clamp(std::nearbyint(-r.low / scale), 0.0f, largest) : 0.0f;
      half_bias = float_to_half(0.0f - scale * zero);
    } else if (half_spacing(size) > 0.5f * scale) {
      // The bias may be off by a quarter of a step or more: keep the ends inside instead.
      half_bias = half_below(r.low);
      const float rest = r.high - half_to_float(half_bias);
      // A constant is bias + scale, all codes 1.
      half = r.low == r.high ? float_to_half(rest) : half_scale(rest / largest);
      scale = half_to_float(half);
    } else {
      // The scale is off by at most 2^-12, too little for the zero point to compensate; the solver uses the
      // exact one.
      const float zero = refine_zero(weights, r, m.scales[i], -r.low / m.scales[i], largest);
      half_bias =
          round_bias(weights, scale, std::clamp(0.0f - scale * zero, -kLargestHalf, kLargestHalf), largest);
    }
    m.half_scales[i] = half;
    m.half_biases[i] = half_bias;
    m.scales[i] = scale;
    m.biases[i] = half_to_float(half_bias);
  });
}

double GroupwiseQuantizer::squared_error(const MatrixView& rows, const Scheme& scheme,
                                         const WeightRange& whole) const {
  check(scheme);
  // Reused by the next call on this thread: a table calls this once per scheme and chunk.
  thread_local GroupMetadata m;
  solve(rows, scheme, whole, m);
  const float largest = static_cast<float>((1 << scheme.bits) - 1);
  double total = 0;
  for_groups(
      rows, group_of(scheme, rows.cols), [&](std::size_t i, std::int64_t, std::span<const float> weights) {
        total += group_kernels().squared_error(weights.data(), static_cast<std::int64_t>(weights.size()),
                                               m.scales[i], m.biases[i], largest);
      });
  return total;
}

StoredMatrix GroupwiseQuantizer::quantize(const MatrixView& weights, const Scheme& scheme,
                                          const InputStatistics* /*inputs*/) const {
  check(scheme);
  if (auto held = on_lattice(weights, scheme)) return std::move(*held);
  const WeightRange whole = range_of(weights);
  return quantize_groups(
      weights, scheme, [&](const MatrixView& rows, GroupMetadata& m) { solve(rows, scheme, whole, m); },
      Codes::nearest);
}

PackedMatrix quantize_groups(const MatrixView& weights, const Scheme& scheme, const SolveGroups& solve,
                             Codes codes_wanted) {
  PackedMatrix packed;
  packed.rows = weights.rows;
  packed.cols = weights.cols;
  packed.bits = scheme.bits;
  packed.group = static_cast<int>(group_of(scheme, weights.cols));
  packed.meta_bits = scheme.meta_bits;
  packed.meta_group = scheme.meta_group;
  const std::int64_t groups = packed.groups();
  packed.codes.resize(static_cast<std::size_t>(packed.rows * packed.words_per_row()));
  const auto count = static_cast<std::size_t>(packed.rows * groups);
  if (scheme.meta_bits == 16) {
    packed.scales.resize(count);
    packed.biases.resize(count);
  } else {
    packed.scale_codes.resize(count);
    packed.zero_codes.resize(count);
    packed.scale_steps.resize(static_cast<std::size_t>(packed.meta_groups()));
    packed.scale_mins.resize(static_cast<std::size_t>(packed.meta_groups()));
  }

  const std::int64_t unit = rows_per_unit(scheme, weights.cols);
  const std::int64_t chunk = std::max<std::int64_t>(kChunkWeights / (unit * weights.cols), 1) * unit;
  const auto chunks = static_cast<std::size_t>((weights.rows + chunk - 1) / chunk);
  parallel_for(chunks, [&](std::size_t index) {
    const std::int64_t first = static_cast<std::int64_t>(index) * chunk;
    const std::int64_t rows = std::min(chunk, weights.rows - first);
    const MatrixView part = {rows, weights.cols,
                             weights.values.subspan(first * weights.cols, rows * weights.cols)};
    GroupMetadata m;
    solve(part, m);

    const auto copy = [](const auto& from, auto& to, std::int64_t at) {
      std::ranges::copy(from, to.begin() + at);
    };
    if (scheme.meta_bits == 16) {
      copy(m.half_scales, packed.scales, first * groups);
      copy(m.half_biases, packed.biases, first * groups);
    } else {
      copy(m.scale_codes, packed.scale_codes, first * groups);
      copy(m.zero_codes, packed.zero_codes, first * groups);
      copy(m.scale_steps, packed.scale_steps, first * groups / scheme.meta_group);
      copy(m.scale_mins, packed.scale_mins, first * groups / scheme.meta_group);
    }

    if (codes_wanted == Codes::none) return;
    const float largest = static_cast<float>((1 << scheme.bits) - 1);
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(weights.cols));
    std::size_t in_row = 0;
    std::int64_t row = first;
    const auto words = static_cast<std::size_t>(packed.words_per_row());
    for_groups(part, packed.group, [&](std::size_t i, std::int64_t, std::span<const float> group) {
      group_kernels().encode(group.data(), static_cast<std::int64_t>(group.size()), m.scales[i], m.biases[i],
                             largest, codes.data() + in_row);
      in_row += group.size();
      if (in_row < codes.size()) return;
      pack_codes(codes, scheme.bits,
                 std::span(packed.codes).subspan(static_cast<std::size_t>(row) * words, words));
      in_row = 0;
      ++row;
    });
  });
  return packed;
}

}  // namespace knapsaq
