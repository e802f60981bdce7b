#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "knapsaq/pipeline/session.h"

namespace knapsaq {

/// Tuning of a quantized model by the full-precision one.
struct TuneOptions {
  std::string output;  ///< folder
  /// Files to tune on (UTF-8, or JSONL with a field "text"), of whose end the held-out windows are; kSelf
  /// alone or nothing: text that the full-precision model samples.
  std::vector<std::string> text;
  std::int64_t held_back = 0;  ///< tokens at the end of these files that are not looked at (SampleOptions)
  std::string foreign;         ///< a file that is only measured, before and after; empty: none
  std::int64_t steps = 100;
  std::int64_t batch = 4;          ///< windows of a step
  std::int64_t window = 0;         ///< tokens; 0: 512, or what the model can see if that is less
  std::int64_t heldout = 8192;     ///< tokens that decide which step was the best
  double rate = 16e-3;             ///< of Adam at the first step (TuneSchedule)
  std::uint64_t seed = 0;          ///< of the text
  std::string precision = "bf16";  ///< arithmetic of the passes: "bf16" or "fp32"
  bool force = false;              ///< replace the output
};

/// What a text says about a model.
struct TuneMeasurement {
  double kl = 0;  ///< KL(full || quantized), nats per token
  double perplexity = 0;
  double agreement = 0;  ///< share of tokens whose most likely next token is the full model's
};

struct TuneResult {
  struct Text {
    std::int64_t tokens = 0;  ///< scored ones
    TuneMeasurement before;
    TuneMeasurement after;
  };
  std::filesystem::path path;
  std::uint64_t bytes = 0;       ///< of all weight files: what they were before
  std::uint64_t parameters = 0;  ///< numbers that were tuned
  std::int64_t steps = 0;        ///< made
  std::int64_t best_step = 0;    ///< the one that was written; 0: none was better than the untuned model
  Text train;                    ///< of the first windows that were tuned on
  Text heldout;
  std::optional<Text> foreign;
  double seconds_per_step = 0;  ///< of the steps that this call made; 0 if it made none
  double seconds = 0;
  std::uint64_t peak_resident_bytes = 0;  ///< of the process
};

/// Tunes the numbers that `quantized`, a folder of ours, keeps beside its codes, and its norms, and writes a
/// folder of the same bytes and schemes. `full` is the model that it was made from. What is done is kept in
/// OUTPUT.tuning until the output is there: after a kill the same call goes on. Throws UsageError for what
/// cannot be, before any work; Cancelled.
TuneResult tune(Session& quantized, Session& full, const TuneOptions& options);

}  // namespace knapsaq
