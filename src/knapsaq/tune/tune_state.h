#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/tune/adam.h"

namespace knapsaq {

/// Where a tuning is. From here it goes on as if it had never been interrupted, to the byte.
struct TuneState {
  explicit TuneState(std::size_t count) : parameters(count), adam(count), best(count) {}

  std::vector<float> parameters;
  Adam adam;                ///< adam.steps are the steps that are made
  std::vector<float> best;  ///< the parameters with the least divergence on held-out tokens so far
  std::int64_t best_step = 0;
  double best_kl = 0;
  std::int64_t looked_step = 0;  ///< the step after which the held-out tokens were looked at last
  std::int64_t looks_without_gain = 0;
  double train_kl = 0;  ///< sum over the steps since that look
};

/// Writes the file whole or not at all. `key` names everything that the state depends on.
void save_tune_state(const TuneState& state, std::string_view key, const std::filesystem::path& file);
/// Replaces `state` by that of the file. False, and `state` stays, if there is no file, or one of another
/// key, one that is damaged, or one of more than `most_steps`.
bool load_tune_state(TuneState& state, std::string_view key, std::int64_t most_steps,
                     const std::filesystem::path& file);

}  // namespace knapsaq
