#pragma once

#include <cstdint>
#include <vector>

#include "knapsaq/base/progress.h"
#include "knapsaq/eval/referenced_windows.h"
#include "knapsaq/model/decoder.h"

namespace knapsaq {

/// A model beside the full-precision one, means over the scored tokens of windows.
struct WindowsComparison {
  std::int64_t tokens = 0;
  double kl = 0;         ///< KL(full || model), nats per token
  double loss = 0;       ///< negative log-likelihood of the text's own next tokens, nats
  double agreement = 0;  ///< share of tokens whose most likely next token is the full model's
  double perplexity() const;
};

/// Every scored token of the first `windows` windows of `reference`, window after window, as `decoder`
/// predicts it; it uses the same backend. What is not finite stays so. Cancelled between batches.
std::vector<RowComparison> compare_rows(Decoder& decoder, const ReferencedWindows& reference,
                                        std::int64_t windows, bool jsd,
                                        Progress& progress = Progress::none());

/// The reference as it predicts these tokens itself: kl 0, its loss, and agreement. No pass is run: `backend`
/// is that of the decoder that made `reference`.
std::vector<RowComparison> reference_rows(Backend& backend, const ReferencedWindows& reference,
                                          Progress& progress = Progress::none());

/// Runs the first `windows` windows of `reference` through `decoder`, which uses the same backend. Throws
/// NotFiniteError for a model that computes no finite numbers; Cancelled between batches.
WindowsComparison compare_windows(Decoder& decoder, const ReferencedWindows& reference, std::int64_t windows,
                                  Progress& progress = Progress::none());

}  // namespace knapsaq
