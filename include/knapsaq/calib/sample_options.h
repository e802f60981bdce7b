#pragma once

#include <cstdint>

namespace knapsaq {

/// The part of a text that a calibration uses.
struct SampleOptions {
  /// The papers' 128 windows of 2048 tokens: sixty times as many tokens as the second moments of a width of
  /// 4096 need for full rank.
  std::int64_t samples = 128;
  std::int64_t window = 0;  ///< tokens; 0: 2048, or the model's positions if these are fewer
  std::uint64_t seed = 0;
  /// Tokens at the end of the text that are held back for uses that must not see calibration text; if not 0,
  /// at least a quarter of the text.
  std::int64_t held_back = 0;

  bool operator==(const SampleOptions&) const = default;
};

}  // namespace knapsaq
