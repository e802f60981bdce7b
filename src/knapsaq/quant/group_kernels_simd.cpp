// The algorithms of GroupKernels on sixteen lanes.

#include <cstdint>

#include "knapsaq/base/simd/simd.h"
#include "knapsaq/quant/group_kernels.h"

namespace knapsaq::KNAPSAQ_SET {
namespace {

using namespace simd::KNAPSAQ_SET;

constexpr int kWays = 16;

// Lanes add up fp32 terms of one block only; blocks are summed in double. 128 is the largest group, so the
// usual group is one block; a whole row keeps the precision of short sums.
constexpr std::int64_t kBlock = 128;

/// Calls fn(lanes, count) for all weights, 16 at a time; the last may have count < 16 and `fill` beyond it.
template <class Function>
inline __attribute__((always_inline)) void for_lanes(const float* w, std::int64_t n, float fill,
                                                     Function&& fn) {
  std::int64_t k = 0;
  for (; k + kWays <= n; k += kWays) fn(load16(w + k), kWays);
  const int rest = static_cast<int>(n - k);
  if (rest > 0) fn(load_part16(w + k, rest, fill), rest);
}

void range(const float* w, std::int64_t n, float* low, float* high) {
  Floats16 least = splat16(w[0]);
  Floats16 most = least;
  for_lanes(w, n, w[0], [&](Floats16 x, int) {
    least = vmin(x, least);
    most = vmax(x, most);
  });
  *low = smallest_of(least);
  *high = largest_of(most);
}

/// x = mantissa * 2^exponent with the mantissa in [sqrt(1/2), sqrt(2)); x > 0 and normal.
inline Floats16 exponent_of(Floats16 x) {
  // 0x3F3504F3 is sqrt(1/2): subtracting it first puts the mantissa between sqrt(1/2) and sqrt(2).
  return each([](Floats v) { return to_floats((bits_of(v) - 0x3F3504F3) >> 23); }, x);
}
inline Floats16 mantissa_of(Floats16 x) {
  return each([](Floats v) { return floats_of(bits_of(v) - ((bits_of(v) - 0x3F3504F3) >> 23 << 23)); }, x);
}
/// x * 2^whole.
inline Floats16 times_power_of_two(Floats16 x, Floats16 whole) {
  return x * each([](Floats v) { return floats_of((to_ints(v) + 127) << 23); }, whole);
}

// x^-0.3 = 2^(-0.3 * log2 x).
Floats16 power(Floats16 x) {
  // log2 of the mantissa by the series of artanh in f = (m - 1) / (m + 1), |f| <= 0.1716: with f^9 the last
  // term, what is left out is below 2 / ln 2 * f^11 / 11 = 1e-9.
  const Floats16 exponent = exponent_of(x);
  const Floats16 mantissa = mantissa_of(x);
  const Floats16 f = (mantissa - splat16(1.0f)) / (mantissa + splat16(1.0f));
  const Floats16 f2 = f * f;
  constexpr float kTwoOverLn2 = 2.88539008f;
  Floats16 series = splat16(kTwoOverLn2 / 9);
  series = series * f2 + splat16(kTwoOverLn2 / 7);
  series = series * f2 + splat16(kTwoOverLn2 / 5);
  series = series * f2 + splat16(kTwoOverLn2 / 3);
  series = series * f2 + splat16(kTwoOverLn2);
  // x = 1e6 has log2 x = 20, known to 1e-6; times 0.3 ln 2 = 0.21 that is the relative error of the result.
  const Floats16 y = splat16(-0.3f) * (exponent + series * f);
  // 2^r for |r| <= 1/2 by its Taylor series: the term after r^7 is below (0.35)^8 / 8! = 6e-9.
  const Floats16 whole = nearest(y);
  const Floats16 r = (y - whole) * splat16(0.693147181f);
  Floats16 power_of_two = splat16(1.0f / 5040);
  power_of_two = power_of_two * r + splat16(1.0f / 720);
  power_of_two = power_of_two * r + splat16(1.0f / 120);
  power_of_two = power_of_two * r + splat16(1.0f / 24);
  power_of_two = power_of_two * r + splat16(1.0f / 6);
  power_of_two = power_of_two * r + splat16(1.0f / 2);
  power_of_two = power_of_two * r + splat16(1.0f);
  power_of_two = power_of_two * r + splat16(1.0f);
  return times_power_of_two(power_of_two, whole);
}

void inverse_power(const float* x, std::int64_t n, float* out) {
  for (std::int64_t k = 0; k < n; k += kWays) store(out + k, power(load16(x + k)));
}

// HQQ's constants: 20 updates, 1 / beta = 1 / 10, lp norm 0.7.
constexpr int kUpdates = 20;
constexpr float kInverseBeta = 0.1f;
// shrink(e) = sign(e) * max(|e| - |e|^-0.3 / beta, 0) is 0 up to |e| = 0.1^(1 / 1.3) = 0.17012...
constexpr float kShrinkFree = 0.17f;

/// What one update has to reckon with; each case includes the ones before it.
enum class Update {
  kInside,     ///< no code is clamped
  kClamped,    ///< some are
  kShrinking,  ///< and some errors are large enough for the shrinkage not to swallow them
};

/// Mean over the group of what moves the zero point: -(x - u) + shrink(w - scale * (u - z)) / scale with
/// x = w / scale + z.
template <Update kCase>
float movement(const float* w, std::int64_t n, float inverse, float scale, float zero, float largest) {
  double total = 0;
  for (std::int64_t first = 0; first < n; first += kBlock) {
    Floats16 sums = splat16(0.0f);
    const std::int64_t size = n - first < kBlock ? n - first : kBlock;
    for_lanes(w + first, size, 0.0f, [&](Floats16 lanes, int count) {
      const Floats16 x = lanes * splat16(inverse) + splat16(zero);
      Floats16 residual;
      if constexpr (kCase == Update::kInside) {
        residual = from_nearest(x);
      } else {
        residual = x - nearest(vmin(vmax(x, splat16(0.0f)), splat16(largest)));
      }
      if constexpr (kCase == Update::kShrinking) {
        const Floats16 error = residual * splat16(scale);
        const Floats16 size_of_error = magnitude(error);
        // Below 0.1 the shrunk value is 0 anyway, and the power is not asked for what it cannot do.
        const Floats16 shrunk = vmax(
            size_of_error - splat16(kInverseBeta) * power(vmax(size_of_error, splat16(0.1f))), splat16(0.0f));
        residual = residual - with_sign(shrunk, error) * splat16(inverse);
      }
      sums = sums - (count == kWays ? residual : keep_first(residual, count));
    });
    total += static_cast<double>(tree_sum(sums));
  }
  return static_cast<float>(total / static_cast<double>(n));
}

float hqq_zero(const float* w, std::int64_t n, float low, float high, float scale, float zero,
               float largest) {
  const float inverse = 1.0f / scale;
  // Codes are known to an ulp of the largest one; smaller movements are noise of the sums.
  const float settled = largest * 0x1p-23f;
  for (int update = 0; update < kUpdates; ++update) {
    // By how many steps the ends of the range miss the codes; inside them rounding is off by half a step.
    const float below = -(low * inverse + zero);
    const float above = high * inverse + zero - largest;
    float miss = 0.5f;
    if (below > miss) miss = below;
    if (above > miss) miss = above;
    float moved;
    if (miss * scale > kShrinkFree) {
      moved = movement<Update::kShrinking>(w, n, inverse, scale, zero, largest);
    } else if (miss > 0.5f) {
      moved = movement<Update::kClamped>(w, n, inverse, scale, zero, largest);
    } else {
      moved = movement<Update::kInside>(w, n, inverse, scale, zero, largest);
    }
    zero += moved;
    if (moved <= settled && moved >= -settled) break;
  }
  return zero;
}

float inverse_of(float scale) { return scale > 0.0f ? 1.0f / scale : 0.0f; }

void encode(const float* w, std::int64_t n, float scale, float bias, float largest, std::uint8_t* codes) {
  const Floats16 inverse = splat16(inverse_of(scale));
  for_lanes(w, n, 0.0f, [&](Floats16 lanes, int count) {
    const Floats16 x = (lanes - splat16(bias)) * inverse;
    store_codes(codes, nearest(vmin(vmax(x, splat16(0.0f)), splat16(largest))), count);
    codes += count;
  });
}

double squared_error(const float* w, std::int64_t n, float scale, float bias, float largest) {
  const Floats16 inverse = splat16(inverse_of(scale));
  Doubles16 sums{};
  for_lanes(w, n, 0.0f, [&](Floats16 lanes, int count) {
    const Floats16 x = (lanes - splat16(bias)) * inverse;
    const Floats16 code = nearest(vmin(vmax(x, splat16(0.0f)), splat16(largest)));
    const Floats16 error = lanes - (splat16(scale) * code + splat16(bias));
    sums = with_squares(sums, count == kWays ? error : keep_first(error, count));
  });
  return tree_sum(sums);
}

// Here a lane is one way to quantize the group, not one of its weights: nothing has to be added up across
// lanes.
void weighted_sums(const float* w, const float* h, std::int64_t n, const float* scales, const float* biases,
                   float largest, WeightedSums* out) {
  float inverses[kWays];
  for (std::int64_t i = 0; i < kWays; ++i) inverses[i] = inverse_of(scales[i]);
  const Floats16 scale = load16(scales);
  const Floats16 bias = load16(biases);
  const Floats16 inverse = load16(inverses);
  const Floats16 zero = splat16(0.0f);
  Floats16 total_h = zero;
  Floats16 total_hu = zero;
  Floats16 total_huu = zero;
  Floats16 total_hr = zero;
  Floats16 total_hru = zero;
  Floats16 total_hrr = zero;
  for (std::int64_t first = 0; first < n; first += kBlock) {
    Floats16 sum_h = zero;
    Floats16 sum_hu = zero;
    Floats16 sum_huu = zero;
    Floats16 sum_hr = zero;
    Floats16 sum_hru = zero;
    Floats16 sum_hrr = zero;
    const std::int64_t end = n - first < kBlock ? n : first + kBlock;
    for (std::int64_t k = first; k < end; ++k) {
      const Floats16 weight = splat16(w[k]);
      const Floats16 importance = splat16(h[k]);
      const Floats16 x = (weight - bias) * inverse;
      const Floats16 u = nearest(vmin(vmax(x, zero), splat16(largest)));
      const Floats16 r = weight - (scale * u + bias);
      const Floats16 hu = importance * u;
      const Floats16 hr = importance * r;
      sum_h = sum_h + importance;
      sum_hu = sum_hu + hu;
      sum_huu = sum_huu + hu * u;
      sum_hr = sum_hr + hr;
      sum_hru = sum_hru + hr * u;
      sum_hrr = sum_hrr + hr * r;
    }
    total_h = total_h + sum_h;
    total_hu = total_hu + sum_hu;
    total_huu = total_huu + sum_huu;
    total_hr = total_hr + sum_hr;
    total_hru = total_hru + sum_hru;
    total_hrr = total_hrr + sum_hrr;
  }
  store(out->h, total_h);
  store(out->hu, total_hu);
  store(out->huu, total_huu);
  store(out->hr, total_hr);
  store(out->hru, total_hru);
  store(out->hrr, total_hrr);
}

}  // namespace

extern const GroupKernels kGroupKernels;
constexpr GroupKernels kGroupKernels = {kFamily,       range,         hqq_zero,     encode,
                                        squared_error, weighted_sums, inverse_power};

}  // namespace knapsaq::KNAPSAQ_SET
