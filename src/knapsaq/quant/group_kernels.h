#pragma once

#include <cstdint>
#include <span>

namespace knapsaq {

/// Sixteen ways to quantize one group, w ~ scale * u + bias: how well each does with its nearest codes u, and
/// what a better scale and bias for those codes are computed from. Sums over the group, weighted with h, of
/// the residuals r = w - (scale * u + bias) and the codes.
struct WeightedSums {
  float h[16];    ///< sum of h
  float hu[16];   ///< sum of h u
  float huu[16];  ///< sum of h u^2
  float hr[16];   ///< sum of h r
  float hru[16];  ///< sum of h r u
  float hrr[16];  ///< sum of h r^2: the weighted squared error
};

/// The arithmetic that quantizing one group of weights consists of: one table of functions per instruction
/// set.
///
/// All tables return the same bits: they are one algorithm on 16 lanes (group_kernels_simd.cpp) with the same
/// operations, the same order of sums and no fused multiply-adds, so a result depends neither on the
/// processor nor on who computed its neighbours. Weights are finite; n >= 1.
struct GroupKernels {
  const char* name;  ///< "avx512", "avx2", "portable"

  /// Smallest and largest of w[0..n).
  void (*range)(const float* w, std::int64_t n, float* low, float* high);

  /// Half-quadratic refinement of the zero point z of w ~ scale * (u - z), u in 0..largest, from the starting
  /// value `zero`; low and high are the group's range, scale > 0. See hqq.cpp for the algorithm.
  float (*hqq_zero)(const float* w, std::int64_t n, float low, float high, float scale, float zero,
                    float largest);

  /// The nearest codes for w ~ scale * u + bias; scale >= 0. A scale of 0 gives codes of 0.
  void (*encode)(const float* w, std::int64_t n, float scale, float bias, float largest, std::uint8_t* codes);

  /// Sum over w of (w - (scale * u + bias))^2 with the codes that encode() chooses; differences in fp32 as
  /// dequantization rounds, squares and sums in double.
  double (*squared_error)(const float* w, std::int64_t n, float scale, float bias, float largest);

  /// Tries sixteen scales (>= 0) and biases on one group with weights h >= 0.
  void (*weighted_sums)(const float* w, const float* h, std::int64_t n, const float* scales,
                        const float* biases, float largest, WeightedSums* out);

  /// out = x^-0.3 for x in [0.1, 1e6], relative error at most 1e-6: what hqq_zero() shrinks with; n a
  /// multiple of 16. In the table so that its error can be tested.
  void (*inverse_power)(const float* x, std::int64_t n, float* out);
};

/// The fastest table that this processor can run and KNAPSAQ_ISA allows.
const GroupKernels& group_kernels();
/// Every table that this processor can run and KNAPSAQ_ISA allows, the fastest first.
std::span<const GroupKernels* const> all_group_kernels();

}  // namespace knapsaq
