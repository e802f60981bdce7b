#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "knapsaq/compute/backend.h"
#include "knapsaq/eval/referenced_windows.h"
#include "knapsaq/eval/windows.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/pipeline/session.h"
#include "knapsaq/search/measurement.h"

namespace knapsaq {

/// The backend for a precision of evaluation: "bf16", "fp32", or "int8" for fp32 with inputs as llama.cpp's
/// kernels round them (Inputs::as_llama_cpp). Throws UsageError for others.
std::unique_ptr<Backend> make_judging_backend(const std::string& precision);

/// A text, and what the full-precision model predicts of it: by this, files that were made of the model are
/// judged one after another. The model itself is in memory only while it predicts; then one file's is.
///
/// What is kept of the predictions is what the head multiplies: 2 bytes (bf16; 4 in fp32) for each token and
/// each of the model's hidden dimensions, and the head. With 4096 dimensions and a vocabulary of 128,000 that
/// is 8 KiB a token and 1 GiB, where the logits would be 256 KiB a token.
class TextJudge {
 public:
  /// `reference` is the full-precision model. Throws UsageError for protocols with overlapping windows, whose
  /// tokens cannot be compared window by window, and like read_evaluation_text() and plan_windows().
  /// `precision` as in JudgeFilesOptions.
  TextJudge(Session& reference, const std::filesystem::path& text, const WindowOptions& requested,
            const std::string& precision);

  /// Throws InputError unless the file can be judged: of the reference's vocabulary (the tokens of the text
  /// mean the same there) and width, and with room for a window. Nothing is loaded for it. The reference's
  /// tokens are used, also where the file's own tokenizer would split the text in another way.
  void check(Session& file) const;

  /// The reference predicts; measure() needs it. Throws InputError if its predictions do not fit into the
  /// memory that is free, NotFiniteError, Cancelled.
  void predict();
  bool predicted() const { return backend_ != nullptr; }
  /// The file's decoder, beside which nothing else is in memory.
  std::unique_ptr<Decoder> load(Session& file) const;
  /// Every scored token: KL(reference || file), and the file's loss. Throws NotFiniteError for a file that
  /// computes no finite numbers; Cancelled.
  Measurement measure(Decoder& file) const;

  /// The reference's own loss on the text, after predict().
  const Measurement& reference() const { return reference_measurement_; }
  const WindowOptions& windows() const { return windows_; }  ///< resolved
  std::int64_t window_count() const { return count_; }
  std::int64_t targets() const { return windows_.window - first_target_; }  ///< scored tokens of a window
  std::uint64_t prediction_bytes() const;  ///< memory that the predictions take
  /// Tells what is measured from what would be measured with another reference, text or protocol: 16 digits.
  /// Reads the reference whole.
  std::string identity() const;

 private:
  Session& session_;
  std::string precision_;
  WindowOptions windows_;
  std::string text_hash_;
  std::vector<std::int32_t> text_tokens_;  ///< as the tokenizer has them
  std::int64_t count_ = 0;
  std::int64_t first_target_ = 1;
  std::shared_ptr<Backend> backend_;
  ReferencedWindows reference_;
  Measurement reference_measurement_;
};

}  // namespace knapsaq
