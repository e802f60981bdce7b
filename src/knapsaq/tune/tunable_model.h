#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/eval/referenced_windows.h"
#include "knapsaq/export/rewrite_quantized.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/tune/tunable_matrix.h"
#include "knapsaq/tune/tunable_vector.h"

namespace knapsaq {

/// A quantized model as a function of the numbers that its files hold beside the codes: the parameters of its
/// quantized matrices (TunableMatrix), of the biases of these, and of its norms, one after another. Matrices
/// that are not quantized stay.
///
/// In memory, beside the decoder: the matrices as they are stored, two floats for every parameter (what it
/// starts from, and its unit) and one or two for every group, and one matrix's gradient in fp32 at a time.
class TunableModel {
 public:
  /// `decoder` is the model of `checkpoint`; only this may exchange its weights, and both must outlive it.
  /// Throws as require_quantized().
  TunableModel(const Checkpoint& checkpoint, Decoder& decoder);
  ~TunableModel();

  std::size_t parameters() const { return parameters_; }
  Decoder& decoder() { return decoder_; }

  /// The decoder computes with the numbers of these parameters from now on.
  void set(std::span<const float> parameters);

  /// Adds the gradient of the sum over all tokens of windows [first, last) of KL(full || model), nats, to
  /// what take_gradient() gives. Returns that sum. The windows go through the decoder at once.
  double add_gradient(const ReferencedWindows& reference, std::int64_t first, std::int64_t last);
  /// The gradient by the parameters of what was added since the last call, times `factor`.
  void take_gradient(float factor, std::span<float> out);

  /// What set() set last, for writing; valid until the next set().
  Replacements replacements() const;

 private:
  struct Part;
  struct NormPart;
  void add_weight_gradient(Part& part, const Array& x, const Array& gradient, std::int64_t first,
                           std::int64_t rows, std::int64_t all_rows);
  void add_lookup_gradient(Part& part, const Array& gradient, std::span<const std::int32_t> tokens);

  Decoder& decoder_;
  std::vector<Part> parts_;
  std::vector<NormPart> norms_;
  std::size_t parameters_ = 0;
};

/// Throws UsageError if no matrix of the checkpoint is quantized.
void require_quantized(const Checkpoint& checkpoint, const ModelConfig& config);

}  // namespace knapsaq
