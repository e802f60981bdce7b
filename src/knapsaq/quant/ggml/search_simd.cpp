// The search for the numbers of GGML blocks, on sixteen lanes.
//
// A lane is a sub-block (weights that share a scale), so that sixteen of them try a candidate at a time and
// no sum goes across lanes but those over a block. What is minimised is always the error of the codes that
// would be stored, sum w (x - (a q - b))^2 with q the nearest code, or a bound that it keeps: nothing is
// chosen by an estimate that the codes could belie. The search has three parts:
//   1. for every sub-block real factors: a grid of ranges, for each the closed-form least-squares step for
//      its codes; then alternating least squares (codes for factors, factors for codes) from the best;
//   2. for types with sub-blocks: candidates for the block's fp16 d (and dmin), for each of them the
//      integers around the real factors, all by their exact error;
//   3. least squares for d (and dmin) given integers and codes, rounded to fp16, and the neighbours of
//      the integers again, a few times; what is best by then is kept.

#include <cstdint>

#include "knapsaq/quant/ggml/grid_search.h"
#include "knapsaq/quant/ggml/lanes_simd.h"

namespace knapsaq::KNAPSAQ_SET {
namespace {

/// The lanes' smallest and largest weights and the sum of w.
struct Extent {
  Floats16 low;
  Floats16 high;
  Floats16 weight;
};
template <int kSize>
Extent extent(const Tile<kSize>& tile) {
  Extent out{load16(tile.x), load16(tile.x), zero()};
  for (int j = 0; j < kSize; ++j) {
    const Floats16 x = load16(tile.x + j * kParts);
    out.low = vmin(x, out.low);
    out.high = vmax(x, out.high);
    out.weight = out.weight + load16(tile.w + j * kParts);
  }
  return out;
}

// Codes with a scale alone: x ~ a q. ----------------------------------------------------------------------

struct LineSums {
  Floats16 error;  ///< sum w r^2, r = x - a q
  Floats16 slope;  ///< sum w r q
  Floats16 curve;  ///< sum w q^2
};

/// The codes kLow .. kHigh.
template <int kLow, int kHigh>
struct Even {
  /// The code of the larger size.
  static constexpr float kReach = -kLow > kHigh ? -kLow : kHigh;
  static Floats16 nearest_code(Floats16 x) { return nearest(clamped(x, kLow, kHigh)); }
};

/// The sixteen codes of IQ4_NL and IQ4_XS.
struct Uneven {
  static constexpr float kReach = 127;
  alignas(64) static constexpr float kCodes[17] = {-127, -104, -83, -65, -49, -35, -22, -10, 1,
                                                   13,   25,   38,  53,  69,  89,  113, 113};

  static Floats16 nearest_code(Floats16 x) {
    // A curve along which the midpoints between codes, from -115.5 to 101, lie at 0 to 14, each in a step of
    // its own with the codes on both sides.
    const Floats16 inner = clamped(x, -116.0f, 102.0f);
    const Floats16 along = inner * (splat16(0.0862f) - splat16(0.00018f) * magnitude(inner));
    const Floats16 step = nearest(along + splat16(7.25f));
    const Floats16 low = lookup(step, kCodes);
    const Floats16 high = lookup(step, kCodes + 1);
    return if_less(inner + inner, low + high, low, high);
  }
};

/// Sub-blocks of kSize with such codes.
template <int kSize, class Levels>
struct Line {
  static constexpr float kReach = Levels::kReach;

  static Floats16 code(Floats16 x, Floats16 inverse_a) { return Levels::nearest_code(x * inverse_a); }

  static Floats16 error(const Tile<kSize>& tile, Floats16 a) {
    const Floats16 inverse_a = inverse(a);
    Floats16 sum = zero();
    for (int j = 0; j < kSize; ++j) {
      const Floats16 x = load16(tile.x + j * kParts);
      const Floats16 r = x - a * code(x, inverse_a);
      sum = sum + load16(tile.w + j * kParts) * r * r;
    }
    return sum;
  }

  static LineSums sums(const Tile<kSize>& tile, Floats16 a) {
    const Floats16 inverse_a = inverse(a);
    LineSums out{zero(), zero(), zero()};
    for (int j = 0; j < kSize; ++j) {
      const Floats16 x = load16(tile.x + j * kParts);
      const Floats16 w = load16(tile.w + j * kParts);
      const Floats16 q = code(x, inverse_a);
      const Floats16 r = x - a * q;
      const Floats16 wr = w * r;
      out.error = out.error + wr * r;
      out.slope = out.slope + wr * q;
      out.curve = out.curve + w * q * q;
    }
    return out;
  }

  /// Part 1. The grid has `steps` magnitudes of a from `first` to `last` times max|x| / kReach, in both
  /// signs.
  static Floats16 real_scale(const Tile<kSize>& tile, float first, float last, int steps) {
    const Extent of = extent(tile);
    const Floats16 unit = vmax(of.high, zero() - of.low) * splat16(1.0f / kReach);
    Floats16 best_error = splat16(__builtin_inff());
    Floats16 best = zero();
    for (int step = 0; step < steps; ++step) {
      const float size = first + (last - first) * static_cast<float>(step) / static_cast<float>(steps - 1);
      for (const float share : {size, -size}) {
        const Floats16 a = unit * splat16(share);
        const LineSums found = sums(tile, a);
        const Floats16 move = quotient(found.slope, found.curve, zero());
        const Floats16 reached = found.error - move * found.slope;
        best = if_less(reached, best_error, a + move, best);
        best_error = vmin(reached, best_error);
      }
    }
    constexpr int kAlternations = 3;  // the error hardly falls after that
    best_error = splat16(__builtin_inff());
    Floats16 a = best;
    for (int i = 0; i <= kAlternations; ++i) {
      const LineSums found = sums(tile, a);
      best = if_less(found.error, best_error, a, best);
      best_error = vmin(found.error, best_error);
      a = a + quotient(found.slope, found.curve, zero());
    }
    return best;
  }

  /// The codes for what is stored, as code_lanes[j * 16 + lane].
  static void codes(const Tile<kSize>& tile, Floats16 a, float* code_lanes) {
    const Floats16 inverse_a = inverse(a);
    for (int j = 0; j < kSize; ++j)
      store(code_lanes + j * kParts, code(load16(tile.x + j * kParts), inverse_a));
  }
};

// Codes with a scale and a minimum: x ~ a q - b. -----------------------------------------------------------

struct PlaneSums {
  Floats16 error;   ///< sum w r^2, r = x - (a q - b)
  Floats16 slope;   ///< sum w r q
  Floats16 offset;  ///< sum w r
  Floats16 linear;  ///< sum w q
  Floats16 curve;   ///< sum w q^2
};

/// A lane's real factors and the mean of its codes there.
struct Plane {
  Floats16 a;
  Floats16 b;
  Floats16 mean_code;
};

/// The codes 0 .. kHigh of sub-blocks of kSize; kSigned: b may be negative.
template <int kSize, int kHigh, bool kSigned>
struct Area {
  static constexpr float kHighest = kHigh;

  static Floats16 code(Floats16 x, Floats16 inverse_a, Floats16 b) {
    return nearest(clamped((x + b) * inverse_a, 0.0f, kHighest));
  }

  static Floats16 error(const Tile<kSize>& tile, Floats16 a, Floats16 b) {
    const Floats16 inverse_a = inverse(a);
    Floats16 sum = zero();
    for (int j = 0; j < kSize; ++j) {
      const Floats16 x = load16(tile.x + j * kParts);
      const Floats16 r = x - (a * code(x, inverse_a, b) - b);
      sum = sum + load16(tile.w + j * kParts) * r * r;
    }
    return sum;
  }

  static PlaneSums sums(const Tile<kSize>& tile, Floats16 a, Floats16 b) {
    const Floats16 inverse_a = inverse(a);
    PlaneSums out{zero(), zero(), zero(), zero(), zero()};
    for (int j = 0; j < kSize; ++j) {
      const Floats16 x = load16(tile.x + j * kParts);
      const Floats16 w = load16(tile.w + j * kParts);
      const Floats16 q = code(x, inverse_a, b);
      const Floats16 r = x - (a * q - b);
      const Floats16 wr = w * r;
      const Floats16 wq = w * q;
      out.error = out.error + wr * r;
      out.slope = out.slope + wr * q;
      out.offset = out.offset + wr;
      out.linear = out.linear + wq;
      out.curve = out.curve + wq * q;
    }
    return out;
  }

  /// The least-squares factors for the codes that (a, b) give, and the error they reach with these codes.
  struct Step {
    Floats16 a;
    Floats16 b;
    Floats16 reached;
  };
  static Step step(const PlaneSums& s, Floats16 a, Floats16 b, Floats16 weight) {
    // Where the codes are (nearly) all alike their scale is not determined, and only b moves.
    constexpr float kDetermined = 1e-5f;
    const Floats16 product = s.curve * weight;
    const Floats16 determinant = product - s.linear * s.linear;
    const Floats16 floor = product * splat16(kDetermined);
    Floats16 move_a = quotient(s.slope * weight - s.linear * s.offset, determinant, floor);
    Floats16 move_b =
        if_less(floor, determinant, quotient(s.linear * s.slope - s.curve * s.offset, determinant, floor),
                zero() - s.offset / weight);
    if constexpr (!kSigned) {
      // The best a for b = 0 where b would become negative.
      const Floats16 below = b + move_b;
      const Floats16 alone = quotient(s.slope + s.linear * b, s.curve, zero());
      move_a = if_less(below, zero(), alone, move_a);
      move_b = if_less(below, zero(), zero() - b, move_b);
    }
    // r becomes r - move_a q + move_b.
    const Floats16 gain = splat16(2.0f) * (move_b * s.offset - move_a * s.slope) + move_a * move_a * s.curve -
                          splat16(2.0f) * move_a * move_b * s.linear + move_b * move_b * weight;
    return {a + move_a, b + move_b, s.error + gain};
  }

  /// Part 1. The grid shortens the range of x by `first` .. `last` of itself at each end, in `steps` steps.
  static Plane real_factors(const Tile<kSize>& tile, float first, float last, int steps) {
    const Extent of = extent(tile);
    const Floats16 low = kSigned ? of.low : vmin(of.low, zero());
    const Floats16 high = kSigned ? of.high : vmax(of.high, zero());
    const Floats16 range = high - low;
    const auto share = [&](int i) {
      return first + (last - first) * static_cast<float>(i) / static_cast<float>(steps - 1);
    };
    Floats16 best_error = splat16(__builtin_inff());
    Floats16 best_a = zero();
    Floats16 best_b = zero();
    for (int below = 0; below < steps; ++below) {
      for (int above = 0; above < steps; ++above) {
        const Floats16 a = range * splat16((1.0f - share(below) - share(above)) / kHighest);
        const Floats16 start = low + range * splat16(share(below));
        const Floats16 b = kSigned ? zero() - start : vmax(zero() - start, zero());
        const Step found = step(sums(tile, a, b), a, b, of.weight);
        best_a = if_less(found.reached, best_error, found.a, best_a);
        best_b = if_less(found.reached, best_error, found.b, best_b);
        best_error = vmin(found.reached, best_error);
      }
    }
    constexpr int kAlternations = 3;  // the error hardly falls after that
    best_error = splat16(__builtin_inff());
    Plane best{best_a, best_b, zero()};
    Floats16 a = best_a;
    Floats16 b = best_b;
    for (int i = 0; i <= kAlternations; ++i) {
      const PlaneSums found = sums(tile, a, b);
      best.a = if_less(found.error, best_error, a, best.a);
      best.b = if_less(found.error, best_error, b, best.b);
      best.mean_code = if_less(found.error, best_error, found.linear / of.weight, best.mean_code);
      best_error = vmin(found.error, best_error);
      const Step next = step(found, a, b, of.weight);
      // A scale below zero would turn the codes round, which the stored integers cannot say.
      a = vmax(next.a, zero());
      b = next.b;
    }
    return best;
  }

  static void codes(const Tile<kSize>& tile, Floats16 a, Floats16 b, float* code_lanes) {
    const Floats16 inverse_a = inverse(a);
    for (int j = 0; j < kSize; ++j)
      store(code_lanes + j * kParts, code(load16(tile.x + j * kParts), inverse_a, b));
  }
};

/// What is known of sixteen sub-blocks when the search ends.
struct Found {
  Floats16 d;
  Floats16 m;
  Floats16 scale;
  Floats16 min;
};

// Blocks without sub-blocks: a lane is a block. ------------------------------------------------------------

/// How far, in units of 2^-11 of it, d is tried around its best real value.
constexpr float kHalfSteps[] = {0.0f, -1.0f, 1.0f, -2.0f, 2.0f};

template <class Codes, int kSize>
Found single_scale(const Tile<kSize>& tile, float first, float last, int steps) {
  const Floats16 a = Codes::real_scale(tile, first, last, steps);
  Floats16 best_error = splat16(__builtin_inff());
  Floats16 best = zero();
  for (const float step : kHalfSteps) {
    const Floats16 d = factor(a + a * splat16(step * 0x1p-11f));
    const Floats16 error = Codes::error(tile, d);
    best = if_less(error, best_error, d, best);
    best_error = vmin(error, best_error);
  }
  return {best, zero(), splat16(1.0f), zero()};
}

template <class Codes, int kSize>
Found scale_and_offset(const Tile<kSize>& tile, float first, float last, int steps) {
  const Plane real = Codes::real_factors(tile, first, last, steps);
  const Floats16 weight = extent(tile).weight;
  Floats16 best_error = splat16(__builtin_inff());
  Floats16 best_d = zero();
  Floats16 best_b = zero();
  for (const float step : kHalfSteps) {
    const Floats16 d = factor(real.a + real.a * splat16(step * 0x1p-11f));
    // The best offset for this d and its codes, then its neighbours.
    const Floats16 b = real.b - Codes::sums(tile, d, real.b).offset / weight;
    for (const float b_step : kHalfSteps) {
      const Floats16 stored = half(b + b * splat16(b_step * 0x1p-11f));
      const Floats16 error = Codes::error(tile, d, stored);
      best_d = if_less(error, best_error, d, best_d);
      best_b = if_less(error, best_error, stored, best_b);
      best_error = vmin(error, best_error);
    }
  }
  return {best_d, zero() - best_b, splat16(1.0f), zero()};
}

// Blocks with sub-blocks: kRun lanes are a block. -----------------------------------------------------------

/// Factors that put the largest sub-block's integer at `top` / factor: a smaller d resolves the others better
/// and clips the largest one, a larger d leaves room.
constexpr float kTops[] = {1.0f, 0.97f, 1.03f, 0.94f, 1.06f, 0.9f, 1.1f, 0.85f, 1.16f};

template <class Codes, int kSize, int kRun, int kLowScale, int kHighScale>
Found scaled_scales(const Tile<kSize>& tile, float first, float last, int steps) {
  const Floats16 real = Codes::real_scale(tile, first, last, steps);
  // The sub-block with the largest scale gets the integer of the largest size, which is negative.
  const Floats16 high = highest<kRun>(real);
  const Floats16 low = lowest<kRun>(real);
  const Floats16 extreme = if_less(high, zero() - low, low, high);

  Floats16 best_total = splat16(__builtin_inff());
  Floats16 best_d = zero();
  Floats16 best_scale = zero();
  const auto attempt = [&](Floats16 d, Floats16 a) {
    const Floats16 middle = nearest(clamped(a * inverse(d), kLowScale, kHighScale));
    Floats16 error = splat16(__builtin_inff());
    Floats16 scale = zero();
    for (const float step : {0.0f, -1.0f, 1.0f}) {
      const Floats16 candidate = clamped(middle + splat16(step), kLowScale, kHighScale);
      const Floats16 reached = Codes::error(tile, d * candidate);
      scale = if_less(reached, error, candidate, scale);
      error = vmin(reached, error);
    }
    const Floats16 sum = total<kRun>(error);
    best_d = if_less(sum, best_total, d, best_d);
    best_scale = if_less(sum, best_total, scale, best_scale);
    best_total = vmin(sum, best_total);
  };
  for (const float top : kTops) attempt(factor(extreme * splat16(top / kLowScale)), real);
  constexpr int kRefinements = 3;
  for (int i = 0; i < kRefinements; ++i) {
    const LineSums at = Codes::sums(tile, best_d * best_scale);
    const Floats16 slope = total<kRun>(best_scale * at.slope);
    const Floats16 curve = total<kRun>(best_scale * best_scale * at.curve);
    attempt(half(best_d + quotient(slope, curve, zero())), best_d * best_scale);
  }
  return {best_d, zero(), best_scale, zero()};
}

template <class Codes, int kSize, int kRun, int kHighScale>
Found scaled_scales_and_mins(const Tile<kSize>& tile, float first, float last, int steps) {
  const Plane real = Codes::real_factors(tile, first, last, steps);
  const Floats16 weight = extent(tile).weight;
  const Floats16 d_unit = highest<kRun>(real.a) * splat16(1.0f / kHighScale);
  const Floats16 m_unit = highest<kRun>(real.b) * splat16(1.0f / kHighScale);

  Floats16 best_total = splat16(__builtin_inff());
  Found best{zero(), zero(), zero(), zero()};
  // `widths`: how many integers beside the best one are tried for the minimum.
  const auto attempt = [&](Floats16 d, Floats16 m, const Plane& at, int width) {
    const Floats16 inverse_m = inverse(m);
    const Floats16 middle = nearest(clamped(at.a * inverse(d), 0, kHighScale));
    Floats16 error = splat16(__builtin_inff());
    Floats16 scale = zero();
    Floats16 min = zero();
    for (const float step : {0.0f, -1.0f, 1.0f}) {
      const Floats16 s = clamped(middle + splat16(step), 0, kHighScale);
      const Floats16 a = d * s;
      // A steeper line through the same mean of the weights starts lower.
      const Floats16 b = at.b + (a - at.a) * at.mean_code;
      const Floats16 nearest_min = nearest(clamped(b * inverse_m, 0, kHighScale));
      for (int shift = -width; shift <= width; ++shift) {
        const Floats16 n = clamped(nearest_min + splat16(static_cast<float>(shift)), 0, kHighScale);
        const Floats16 reached = Codes::error(tile, a, m * n);
        scale = if_less(reached, error, s, scale);
        min = if_less(reached, error, n, min);
        error = vmin(reached, error);
      }
    }
    const Floats16 sum = total<kRun>(error);
    best.d = if_less(sum, best_total, d, best.d);
    best.m = if_less(sum, best_total, m, best.m);
    best.scale = if_less(sum, best_total, scale, best.scale);
    best.min = if_less(sum, best_total, min, best.min);
    best_total = vmin(sum, best_total);
  };
  for (const float top : kTops) attempt(factor(d_unit * splat16(top)), factor(m_unit), real, 0);
  for (const float top : kTops) attempt(best.d, factor(m_unit * splat16(top)), real, 0);
  constexpr int kRefinements = 3;
  for (int i = 0; i < kRefinements; ++i) {
    const Floats16 a = best.d * best.scale;
    const Floats16 b = best.m * best.min;
    const PlaneSums at = Codes::sums(tile, a, b);
    // Least squares for (d, m) in x ~ d (scale q) - m min, from what r leaves.
    const Floats16 dd = total<kRun>(best.scale * best.scale * at.curve);
    const Floats16 dm = total<kRun>(best.scale * best.min * at.linear);
    const Floats16 mm = total<kRun>(best.min * best.min * weight);
    const Floats16 d_slope = total<kRun>(best.scale * at.slope);
    const Floats16 m_slope = zero() - total<kRun>(best.min * at.offset);
    const Floats16 determinant = dd * mm - dm * dm;
    const Floats16 floor = dd * mm * splat16(1e-5f);
    Floats16 move_d = quotient(d_slope * mm + m_slope * dm, determinant, floor);
    const Floats16 move_m = quotient(m_slope * dd + d_slope * dm, determinant, floor);
    move_d = if_less(floor, determinant, move_d, quotient(d_slope, dd, zero()));
    const Plane current{a, b, at.linear / weight};
    attempt(half(vmax(best.d + move_d, zero())), half(vmax(best.m + move_m, zero())), current, 1);
  }
  return best;
}

// Types. ----------------------------------------------------------------------------------------------------

/// Searches `present` sub-blocks of a tile; `kRun` of them are a block.
template <int kSize, int kRun, class Search, class Encode>
void search_tiles(const float* x, const float* w, std::int64_t count, FoundBlock* out, Search&& look,
                  Encode&& encode) {
  constexpr std::int64_t kBlocks = kParts / kRun;
  Tile<kSize> tile;
  alignas(64) float codes[kSize * kParts];
  alignas(64) float lanes[4][kParts];
  for (std::int64_t first = 0; first < count; first += kBlocks) {
    const std::int64_t blocks = count - first < kBlocks ? count - first : kBlocks;
    fill(tile, x + first * kRun * kSize, w + first * kRun * kSize, static_cast<int>(blocks) * kRun);
    const Found found = look(tile);
    encode(tile, found, codes);
    store(lanes[0], found.d);
    store(lanes[1], found.m);
    store(lanes[2], found.scale);
    store(lanes[3], found.min);
    for (int lane = 0; lane < static_cast<int>(blocks) * kRun; ++lane) {
      FoundBlock& block = out[first + lane / kRun];
      const int sub = lane % kRun;
      block.d = lanes[0][lane];
      block.m = lanes[1][lane];
      block.scales[sub] = static_cast<std::int8_t>(lanes[2][lane]);
      block.mins[sub] = static_cast<std::int8_t>(lanes[3][lane]);
      for (int j = 0; j < kSize; ++j)
        block.codes[sub * kSize + j] = static_cast<std::int8_t>(codes[j * kParts + lane]);
    }
  }
}

/// Types whose codes have a scale alone; kLowScale == 1: no sub-blocks, kRun is 1.
template <int kSize, class Levels, int kRun, int kLowScale, int kHighScale>
void search_lines(const float* x, const float* w, std::int64_t count, FoundBlock* out, float first,
                  float last, int steps) {
  using Codes = Line<kSize, Levels>;
  search_tiles<kSize, kRun>(
      x, w, count, out,
      [&](const Tile<kSize>& tile) {
        if constexpr (kLowScale == 1) {
          return single_scale<Codes, kSize>(tile, first, last, steps);
        } else {
          return scaled_scales<Codes, kSize, kRun, kLowScale, kHighScale>(tile, first, last, steps);
        }
      },
      [](const Tile<kSize>& tile, const Found& found, float* codes) {
        Codes::codes(tile, found.d * found.scale, codes);
      });
}

/// Types whose codes have a scale and a minimum; kHighScale == 1: no sub-blocks.
template <int kSize, int kHigh, int kRun, int kHighScale>
void search_areas(const float* x, const float* w, std::int64_t count, FoundBlock* out, float first,
                  float last, int steps) {
  constexpr bool kSigned = kHighScale == 1;
  using Codes = Area<kSize, kHigh, kSigned>;
  search_tiles<kSize, kRun>(
      x, w, count, out,
      [&](const Tile<kSize>& tile) {
        if constexpr (kSigned) {
          return scale_and_offset<Codes, kSize>(tile, first, last, steps);
        } else {
          return scaled_scales_and_mins<Codes, kSize, kRun, kHighScale>(tile, first, last, steps);
        }
      },
      [](const Tile<kSize>& tile, const Found& found, float* codes) {
        const Floats16 b = kSigned ? zero() - found.m : found.m * found.min;
        Codes::codes(tile, found.d * found.scale, b, codes);
      });
}

// The fewer the codes, the further the best range may lie from that of the weights, so the grids below widen
// with falling bits; their density is where a denser one stopped lowering the error by more than one percent.
void search(GgmlType type, const float* x, const float* w, std::int64_t count, FoundBlock* out) {
  switch (type) {
    case GgmlType::Q2_0:
      return search_lines<64, Even<-1, 2>, 1, 1, 1>(x, w, count, out, 0.3f, 1.3f, 16);
    case GgmlType::Q4_0:
      return search_lines<32, Even<-8, 7>, 1, 1, 1>(x, w, count, out, 0.6f, 1.15f, 16);
    case GgmlType::Q5_0:
      return search_lines<32, Even<-16, 15>, 1, 1, 1>(x, w, count, out, 0.75f, 1.1f, 16);
    case GgmlType::Q8_0:
      return search_lines<32, Even<-128, 127>, 1, 1, 1>(x, w, count, out, 0.97f, 1.02f, 16);
    case GgmlType::IQ4_NL:
      return search_lines<32, Uneven, 1, 1, 1>(x, w, count, out, 0.65f, 1.45f, 16);
    case GgmlType::Q3_K:
      return search_lines<16, Even<-4, 3>, 16, -32, 31>(x, w, count, out, 0.5f, 1.3f, 12);
    case GgmlType::Q6_K:
      return search_lines<16, Even<-32, 31>, 16, -128, 127>(x, w, count, out, 0.85f, 1.06f, 12);
    case GgmlType::IQ4_XS:
      return search_lines<32, Uneven, 8, -32, 31>(x, w, count, out, 0.65f, 1.45f, 16);
    case GgmlType::Q4_1:
      return search_areas<32, 15, 1, 1>(x, w, count, out, -0.04f, 0.16f, 8);
    case GgmlType::Q5_1:
      return search_areas<32, 31, 1, 1>(x, w, count, out, -0.02f, 0.08f, 8);
    case GgmlType::Q2_K:
      return search_areas<16, 3, 16, 15>(x, w, count, out, -0.1f, 0.4f, 6);
    case GgmlType::Q4_K:
      return search_areas<32, 15, 8, 63>(x, w, count, out, -0.04f, 0.16f, 8);
    case GgmlType::Q5_K:
      return search_areas<32, 31, 8, 63>(x, w, count, out, -0.02f, 0.08f, 8);
    case GgmlType::IQ1_S:
    case GgmlType::IQ1_M:
    case GgmlType::IQ2_XXS:
    case GgmlType::IQ2_XS:
    case GgmlType::IQ2_S:
    case GgmlType::IQ3_XXS:
    case GgmlType::IQ3_S:
      return search_grid(type, x, w, count, out);
  }
}

}  // namespace

extern const GgmlKernels kGgmlKernels;
constexpr GgmlKernels kGgmlKernels = {kFamily, search, nearest_points};

}  // namespace knapsaq::KNAPSAQ_SET
