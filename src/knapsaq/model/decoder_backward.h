#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "knapsaq/model/decoder.h"
#include "knapsaq/model/decoder_pass.h"
#include "knapsaq/model/decoder_weights.h"

namespace knapsaq {

/// The backward pass, part by part; Decoder says what the functions do. Keeps memory for the activations and
/// gradients of a block, and the transposed matrices of the last block, from one call to the next.
class DecoderBackward {
 public:
  DecoderBackward(const DecoderWeights& weights, DecoderPass& pass) : weights_(weights), pass_(pass) {}

  Array head(const Hidden& hidden, const LossTargets& targets, std::span<float> losses,
             const GradientObserver& observer);
  void block(std::int64_t index, const Hidden& before, Array& gradient, const GradientObserver& observer);
  void embed(const Array& gradient, std::int64_t rows, const GradientObserver& observer);

 private:
  /// What the forward pass of a block computes and its backward pass reads, and gradients; all of them have
  /// room for `rows` rows.
  struct Workspace {
    std::int64_t rows = 0;
    // The forward pass.
    Array attention_sum;               ///< [rows, H] full: the residual stream after attention
    Array mlp_sum;                     ///< [rows, H] full: after the MLP; of models with norms behind it
    Array attention_input, mlp_input;  ///< [rows, H] working
    Array middle;                      ///< [rows, H] full: what the MLP is added to
    Array q, k, v, attended;           ///< working
    Array gate, up;                    ///< [rows, ffn] working: before the activation
    // Gradients.
    Array of_output;    ///< [rows, H] working: by what o or down adds to the residual stream
    Array of_input;     ///< [rows, H] full: by the input of a half block
    Array mlp;          ///< [rows, ffn] working: the activation, for the observer
    Array of_mlp;       ///< [rows, ffn] working, then by `up`
    Array of_gate;      ///< [rows, ffn] working
    Array of_attended;  ///< like attended
    Array of_q, of_k, of_v;
  };
  /// W^T of the weight that `of` points to.
  struct Transposed {
    std::shared_ptr<const Weight> of;
    std::unique_ptr<Weight> weight;
  };

  void prepare_work(std::int64_t rows);
  const Weight& transposed(Transposed& place, const std::shared_ptr<const Weight>& weight) const;
  void forward(std::int64_t index, const Hidden& before, const RowLayout& layout);
  void mlp_backward(std::int64_t index, std::int64_t rows, Array& gradient, const GradientObserver& observer);
  void attention_backward(std::int64_t index, const Hidden& before, const RowLayout& layout, Array& gradient,
                          const GradientObserver& observer);
  /// gradient = the one by `in`, given that by norm(in) (in `from`); the residual stream's own is added to it
  /// where the norm stands before a half block.
  void norm_backward(const Array& in, const NormWeights& norm, const std::string& name, std::int64_t rows,
                     const Array& from, Array& gradient, const GradientObserver& observer) const;
  /// The same where the norm stands behind a half block: `gradient` becomes that by `in`, in other memory.
  void norm_behind(const Array& in, const NormWeights& norm, const std::string& name, std::int64_t rows,
                   Array& gradient, const GradientObserver& observer) const;
  void multiply(const Array& in, std::int64_t rows, const Weight& weight, bool accumulate, Array& out) const;
  void tell(const GradientObserver& observer, Role role, std::int64_t index, const Array& x,
            const Array& gradient, std::int64_t rows) const;

  const DecoderWeights& weights_;
  DecoderPass& pass_;
  Workspace work_;
  Array of_logits_;                     ///< [some rows, V] working
  std::array<Transposed, 7> of_block_;  ///< q, k, v, o, gate, up, down
  Transposed of_head_;
};

}  // namespace knapsaq
