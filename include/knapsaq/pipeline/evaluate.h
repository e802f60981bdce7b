#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "knapsaq/eval/kl_statistics.h"
#include "knapsaq/eval/windows.h"
#include "knapsaq/pipeline/session.h"
#include "knapsaq/pipeline/task_options.h"

namespace knapsaq {

/// How a model is judged: by a text, by tasks, or both.
struct EvaluateOptions {
  std::string text;               ///< file (UTF-8), or C4's documents as .jsonl; empty: none
  std::string reference;          ///< the full-precision model, by which `text` judges; empty: none
  std::string protocol = "gptq";  ///< "gptq", "stride" or "llama" (eval/windows.h); for `windows`
  WindowOptions windows;          ///< length, stride and number; 0: the protocol's
  std::string precision =
      "bf16";  ///< arithmetic of the forward pass: "bf16", "fp32" or "int8" (judge_files.h)
  TaskOptions tasks;
  std::string items;  ///< JSONL file that gets a line for every item of the tasks; empty: none
  std::string run;    ///< folder of a run whose report is to show what the tasks found; empty: none
};

/// Bytes of a model in memory.
struct ModelMemory {
  std::uint64_t linears = 0;
  std::uint64_t head = 0;
  std::uint64_t embedding = 0;
  std::uint64_t workspace = 0;
};

struct EvaluateResult {
  struct Text {
    double perplexity = 0;
    double nll = 0;             ///< weighted mean of the negative log-likelihood, nats per token
    double standard_error = 0;  ///< of nll
    std::int64_t tokens = 0;    ///< scored ones
    std::int64_t windows = 0;
    WindowOptions how;  ///< with what was left open filled in
    double seconds = 0;
    /// Beside the full-precision model.
    struct Reference {
      KlStatistics kl;        ///< KL(reference || model)
      double flips = 0;       ///< share of tokens whose most likely next token is not the reference's
      double perplexity = 0;  ///< the reference's own
    };
    std::optional<Reference> reference;
  };
  struct Tasks {
    std::vector<TaskScore> scores;
    TaskAccuracy average;  ///< of acc_norm where there is one, else acc
    std::int64_t items = 0;
    double seconds = 0;
  };
  std::optional<Text> text;
  std::optional<Tasks> tasks;
  ModelMemory memory;
  std::uint64_t peak_resident_bytes = 0;  ///< of the process
};

/// Throws UsageError for what cannot be, before the model is loaded; NotFiniteError for a model that computes
/// no finite numbers; Cancelled.
EvaluateResult evaluate(Session& session, const EvaluateOptions& options);

}  // namespace knapsaq
