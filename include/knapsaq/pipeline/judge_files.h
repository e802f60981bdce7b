#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "knapsaq/eval/kl_statistics.h"
#include "knapsaq/eval/windows.h"
#include "knapsaq/pipeline/environment.h"

namespace knapsaq {

/// Files of one model, whoever made them, judged on one text by the full-precision model.
struct JudgeFilesOptions {
  std::vector<std::string> files;  ///< GGUF files and folders
  std::string reference;           ///< the full-precision model: a folder or a GGUF file
  std::string text;                ///< file (UTF-8), or C4's documents as .jsonl
  std::string protocol = "gptq";   ///< "gptq" or "llama"
  WindowOptions windows;
  /// Arithmetic of all forward passes: "bf16", "fp32", or "int8": fp32, but what a matrix in a GGML type
  /// multiplies is rounded to int8 in blocks first, as llama.cpp does on processors.
  std::string precision = "bf16";
  std::string output;  ///< CSV with a row for every file; empty: none
  std::string page;    ///< HTML page with table and plot; empty: none
};

/// Mean over tokens of KL(reference || a) - KL(reference || b), and its standard error from the spread
/// between windows: the difference of two files on the same tokens, of which most of the noise cancels.
struct KlDifference {
  double mean = 0;
  double standard_error = 0;
};

/// One file.
struct JudgedFile {
  std::string path;         ///< as it was given
  std::string name;         ///< the last part of it, or all where two files would share one
  std::uint64_t bytes = 0;  ///< of its file or files
  double bits = 0;          ///< 8 bytes / weights of the model
  // NaN for a model that computes no finite numbers.
  KlStatistics kl;        ///< nats per token
  double flips = 0;       ///< share of tokens whose most likely next token is not the reference's
  double perplexity = 0;  ///< of the text
  double loss = 0;        ///< its logarithm: nats per token
  double loss_standard_error = 0;
  /// The closest to the reference of the other files that are at most as large, as an index into
  /// JudgeFilesResult::files; none if there is no such file. `difference` is this file's KL minus that one's:
  /// above 0 this file is not worth its bytes.
  std::optional<std::size_t> rival;
  KlDifference difference;
  std::string broken;  ///< why there are no numbers; for people
};

struct JudgeFilesResult {
  std::vector<JudgedFile> files;  ///< ascending by bytes
  /// differences[a][b] of files a and b; NaN for one without numbers.
  std::vector<std::vector<KlDifference>> differences;
  std::uint64_t reference_bytes = 0;
  double reference_perplexity = 0;
  WindowOptions how;  ///< with what was left open filled in
  std::int64_t windows = 0;
  std::int64_t tokens = 0;             ///< scored ones
  std::uint64_t prediction_bytes = 0;  ///< memory that the reference's predictions took
};

/// Hears of every file as soon as it has been judged, in the order in which they were given; rivals are known
/// at the end only.
using JudgedFileSink = std::function<void(const JudgedFile& one)>;

/// A comparison that was stopped goes on where it was if it has an output: what was measured of a file is
/// kept in the folder `output`.work. Throws UsageError and InputError before any work, for what cannot be
/// compared: other vocabularies, a file given twice, a CSV of another comparison; Cancelled.
JudgeFilesResult judge_files(Environment& environment, const JudgeFilesOptions& options,
                             const JudgedFileSink& sink = {});

}  // namespace knapsaq
