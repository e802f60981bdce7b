#pragma once

#include <cstdint>

namespace knapsaq {

/// Which part of a text a calibration looks at.
struct SampleOptions {
  /// The papers' 128 windows of 2048 tokens: enough that the second moments of a width of 4096 have full rank
  /// sixty times over.
  std::int64_t samples = 128;
  std::int64_t window = 0;  ///< tokens; 0: 2048, or what the model can see if that is less
  std::uint64_t seed = 0;
  /// Tokens at the end of the text that are left to others who must see what was not seen here; not 0: a
  /// quarter of the text if that is more.
  std::int64_t held_back = 0;

  bool operator==(const SampleOptions&) const = default;
};

}  // namespace knapsaq
