#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "knapsaq/pipeline/allocation.h"
#include "knapsaq/pipeline/memory_use.h"

namespace knapsaq {

/// A model that was judged on held-out text, unseen by any search.
struct JudgedModel {
  std::uint64_t bytes = 0;  ///< of the files that would be written
  double bits = 0;          ///< average per quantized weight, metadata included
  double kl = 0;            ///< KL divergence from the full model, nats per token
  double perplexity = 0;
  double perplexity_standard_error = 0;
  double agreement = 0;  ///< share of tokens whose most likely next token is the full model's
};

/// A step on the way from the search's codes to the written ones, judged like the models.
struct WritingStep {
  std::string name;  ///< "bank": the codes that were searched on; "corrected"; "tuned"
  JudgedModel judged;
  double divergence = 0;  ///< what the choice was made by, nats per token
  double divergence_standard_error = 0;
};

/// A model that a run has chosen and written, and why.
struct WrittenModel {
  std::filesystem::path path;  ///< of the folder or file
  std::uint64_t bytes = 0;     ///< of its weight files
  double bits = 0;             ///< average per quantized weight, metadata included
  bool is_uniform = false;     ///< on held-out text the best uniform model was better than the searched one
  JudgedModel chosen;
  /// The one that lost: the best uniform model within the budget, or the searched one; missing if only one
  /// fits, or both are the same.
  std::optional<JudgedModel> other;
  std::string divergence;  ///< what the choice was made by: "kl" or "jsd"
  double difference = 0;   ///< divergence of `chosen` minus that of `other`, token by token
  double difference_standard_error = 0;
  std::int64_t heldout_tokens = 0;
  double reference_perplexity = 0;  ///< of the full model on the held-out text
  std::vector<NamedScheme> allocation;
  std::vector<SchemeCount> counts;
  std::string codes;  ///< the other bank that the codes are from; empty: the run's
  /// What the effort after the search made of it, the written model last; empty: the bank's codes are
  /// written.
  std::vector<WritingStep> steps;
  std::optional<MemoryUse> memory;  ///< where the budget was for a context
  std::vector<std::string> notes;   ///< what the engine's readers do otherwise; lines for people
};

}  // namespace knapsaq
