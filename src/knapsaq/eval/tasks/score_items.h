#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "knapsaq/base/progress.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/eval/tasks/encode_items.h"

namespace knapsaq {

/// out[i] = -log p(targets[i] | everything that row i sees), 0 if targets[i] is negative.
/// Decoder::segment_losses is one.
using SegmentLossFunction =
    std::function<void(std::span<const std::int32_t> tokens, std::span<const Segment> segments,
                       std::span<const std::int32_t> targets, std::span<float> out)>;

/// Log-likelihoods [item][answer] of continuations, in nats. The common first tokens of an item's answers are
/// computed once. Batches have about `batch_rows` tokens, in the order of the items: nothing is padded, so
/// sorting by length would gain nothing. Items' results do not depend on the rest of their batch, except for
/// the order of sums in matrix products. Throws Cancelled between batches.
std::vector<std::vector<double>> score_items(std::span<const EncodedItem> items,
                                             const SegmentLossFunction& losses, std::int64_t batch_rows,
                                             Progress& progress = Progress::none());

}  // namespace knapsaq
