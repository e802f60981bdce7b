#pragma once

#include <cstdint>

#include "knapsaq/calib/samples.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {

/// The tokens on which a search measures, and those on which its result is judged: windows of equal length
/// without a common token. In both, the first N windows are a fair sample of all, so cheap measurements can
/// use a part.
struct SearchText {
  Samples search;
  Samples heldout;
};

/// From the part of a text that search.held_back leaves: `heldout` windows from its end (its last quarter, or
/// more if needed) and `search.samples` windows from front_of() with as much held back; places as drawn by
/// place_windows(), in random order. `search` is resolved, `heldout` at least 1 (else UsageError). Throws
/// InputError for a text that is too short.
SearchText search_windows(const CalibrationText& text, const Tokenizer& tokenizer,
                          const SampleOptions& search, std::int64_t heldout);

}  // namespace knapsaq
