// Scoring segments: a batch contains contexts that several continuations share once.

#include <algorithm>
#include <stdexcept>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/model/decoder_impl.h"

namespace knapsaq {

void Decoder::segment_losses(std::span<const std::int32_t> tokens, std::span<const Segment> segments,
                             std::span<const std::int32_t> targets, std::span<float> out) {
  const DecoderWeights& weights = impl_->weights;
  DecoderPass& pass = impl_->pass;
  if (targets.size() != tokens.size() || out.size() != tokens.size())
    throw std::invalid_argument("segment_losses: not a target and a loss for every token");
  pass.check_tokens(tokens);
  if (const auto bad = std::ranges::find_if(targets, [&](auto id) { return id >= weights.config.vocab; });
      bad != targets.end())
    throw std::invalid_argument("segment_losses: no such target");

  std::vector<std::int64_t> positions;
  positions.reserve(tokens.size());
  std::int64_t longest = 0;
  for (const Segment& segment : segments) {
    if (segment.length < 0 || segment.parent >= &segment - segments.data())
      throw std::invalid_argument("segment_losses: no such segment");
    const std::int64_t before =
        segment.parent < 0 ? 0 : segments[static_cast<std::size_t>(segment.parent)].length;
    if (segment.length > std::ssize(tokens) - std::ssize(positions))
      throw std::invalid_argument("segment_losses: segments of more tokens than there are");
    for (std::int64_t i = 0; i < segment.length; ++i) positions.push_back(before + i);
    longest = std::max(longest, before + segment.length);
  }
  if (positions.size() != tokens.size())
    throw std::invalid_argument("segment_losses: segments of fewer tokens than there are");
  check_length(longest);

  std::ranges::fill(out, 0.0f);
  std::vector<RowRun> runs;
  std::vector<std::int32_t> asked;
  for (std::int64_t i = 0; i < std::ssize(targets); ++i) {
    const std::int32_t target = targets[static_cast<std::size_t>(i)];
    if (target < 0) continue;
    asked.push_back(target);
    if (runs.empty() || runs.back().first + runs.back().count != i) runs.push_back({i, 0});
    ++runs.back().count;
  }
  if (asked.empty()) return;

  pass.prepare_rotation(longest, longest);
  const auto rows = static_cast<std::int64_t>(tokens.size());
  const auto scored = static_cast<std::int64_t>(asked.size());
  std::vector<float> losses(asked.size());
  Backend& backend = *weights.backend;
  pass.finite_pass(losses, [&] {
    // Except in embedding and attention, these rows are windows of one token.
    RowLayout layout{.windows = rows, .length = 1, .segments = segments, .reach = longest};
    PartialPass partial;
    partial.hidden = {
        .state = backend.allocate(rows, weights.config.hidden, Element::full), .windows = rows, .length = 1};
    pass.embed(
        tokens, [&](std::int64_t row) { return positions[static_cast<std::size_t>(row)]; },
        partial.hidden.state);
    const auto leave_scored = [&] {
      partial.hidden = {
          .state = pass.gather(partial.hidden.state, runs, scored), .windows = scored, .length = 1};
      layout.windows = scored;
    };
    for (std::int64_t i = 0; i < weights.config.layers; ++i) {
      check_cancelled();
      for (const Stage stage : kStages) {
        // After the last attention, rows without a target are not used.
        if (i + 1 == weights.config.layers && stage == Stage::attention_output) {
          leave_scored();
          partial.attended = pass.gather(partial.attended, runs, scored);
          if (!partial.mlp_input.empty()) partial.mlp_input = pass.gather(partial.mlp_input, runs, scored);
        }
        pass.run(i, stage, partial, layout);
      }
    }
    if (weights.config.layers == 0) leave_scored();
    const Array input = pass.head_input(partial.hidden);
    pass.look_at_logits(input, scored);
    backend.losses(input, {weights.head.get(), weights.config.logit_softcap}, asked, losses);
  });
  std::size_t next = 0;
  for (std::size_t i = 0; i < targets.size(); ++i)
    if (targets[i] >= 0) out[i] = losses[next++];
}

}  // namespace knapsaq
