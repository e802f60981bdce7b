#pragma once

#include <cstdint>
#include <vector>

#include "knapsaq/family/config.h"

namespace knapsaq {

/// Cosines and sines of the rotary angles, [length, rotated / 2] each.
struct RotationTables {
  std::vector<float> cosines;
  std::vector<float> sines;
};

/// Angle of position p and pair i: p * frequency(i), with frequency(i) = theta^(-2i / rotated) by the rule of
/// `scaling`, `rotated` the numbers of a head that are rotated. Formulas are those of Transformers
/// (modeling_rope_utils.py):
///   linear             frequency / factor
///   llama3             frequencies whose wavelength exceeds original / low_freq_factor are divided by
///                      factor, those below original / high_freq_factor stay, a linear blend between
///   frequency_factors  frequency / frequency_factors[i]
///   yarn               the same blend, from the pair that makes beta_fast turns in the original length to
///                      the one that makes beta_slow turns
///   dynamic            theta is larger for texts beyond the original length, so that the slowest pair turns
///                      as far as if positions were divided by factor * text / original - (factor - 1)
///   longrope           frequency / short_factor[i], or / long_factor[i] for texts beyond the original length
///   proportional       frequency / factor for the first `proportion` of the pairs, 0 for the others
/// Frequencies and angles are rounded to fp32 as in Transformers: at position 10^4, this rounding changes the
/// angle by 10^-3.
///
/// `text` is the length of the text that dynamic and longrope go by. Both change the angles of all positions
/// when a text grows beyond the original length. Transformers then computes a text anew; keys in a cache
/// would have to be computed again, too. Here `text` is the number of tokens that a pass may reach: a
/// window's length for scoring, the capacity of the cache for generation, as in llama.cpp (whose n_ctx it
/// is). So all keys of a text are rotated alike, and a text's results do not change while it grows.
std::vector<float> rotary_frequencies(const RopeScaling& scaling, float theta, std::int64_t rotated,
                                      std::int64_t text);
/// What cosines and sines are multiplied by: attention_factor, or what follows from the factor:
///   yarn      1 + 0.1 ln(factor), or DeepSeek's ratio of that with mscale and mscale_all_dim as weights of
///             the logarithm
///   longrope  sqrt(1 + ln(factor) / ln(original length))
float rotary_attention_factor(const RopeScaling& scaling);
/// Texts of equal rotation_text() have the same frequencies.
std::int64_t rotation_text(const RopeScaling& scaling, std::int64_t text);
RotationTables rotation_tables(const RopeScaling& scaling, float theta, std::int64_t rotated,
                               std::int64_t length, std::int64_t text);

/// What q is multiplied by at positions [0, length).
std::vector<float> query_scales(const QueryScaling& scaling, std::int64_t length);

}  // namespace knapsaq
