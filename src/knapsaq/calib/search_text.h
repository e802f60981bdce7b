#pragma once

#include <cstdint>

#include "knapsaq/calib/samples.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {

/// What a search measures on, and what its choice is judged on: windows of equal length without a common
/// token. In both, the first N windows are a fair sample of all, so that cheap measurements look at a part.
struct SearchText {
  Samples search;
  Samples heldout;
};

/// From a text: `heldout` windows from its end (its last quarter, or more where they need more) and
/// `search.samples` windows from what front_of() leaves with as much held back; places as place_windows()
/// draws them, in random order. `search` is resolved, `heldout` at least 1 (else UsageError). Throws
/// InputError for a text that is too short.
SearchText search_windows(const CalibrationText& text, const Tokenizer& tokenizer,
                          const SampleOptions& search, std::int64_t heldout);

}  // namespace knapsaq
