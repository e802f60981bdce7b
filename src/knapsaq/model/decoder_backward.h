#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

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
    Array attention_branch,
        mlp_branch;  ///< [rows, H] full: the inputs of norms behind, or of norms after the sum
    Array attention_input, mlp_input;  ///< [rows, H] working
    Array middle;                      ///< [rows, H] full: what the MLP is added to
    Array q, k, v, attended;           ///< working
    Array attention_gate,
        gated;  ///< like attended, where the model has a gate: gated = attended * its sigmoid
    // Where the mixer is no attention: its products, the convolution's result and the delta rule's, of which
    // `gated` is the gated norm.
    Array mixer_in, z, convolved, ruled;  ///< working
    Array a, b;                           ///< [rows, value heads] full
    Array gate, up;                       ///< [rows, ffn] working: before the activation
    // Gradients.
    Array of_attention_branch;  ///< [rows, H] full: by what a branch adds to the residual stream
    Array of_mlp_branch;
    Array of_output;    ///< [rows, H] working: by the result of o or down
    Array of_input;     ///< [rows, H] full: by the input of a half block
    Array mlp;          ///< [rows, ffn] working: the activation, for the observer
    Array of_mlp;       ///< [rows, ffn] working, then by `up`
    Array of_gate;      ///< [rows, ffn] working
    Array of_attended;  ///< like attended
    Array of_q, of_k, of_v;
    Array of_mixer_in, of_z, of_convolved, of_a, of_b;  ///< working
  };
  /// W^T of the weight that `of` points to.
  struct Transposed {
    std::shared_ptr<const Weight> of;
    std::unique_ptr<Weight> weight;
  };

  /// The same for the experts of a block; arrays are of experts' rows where nothing else is said.
  struct MixtureWork {
    Array logits;  ///< [rows, experts] full
    ExpertRows rows;
    Array gathered;             ///< [.., H] working
    Array gate, up, activated;  ///< [.., width of an expert] working
    Array results;              ///< [.., H] full
    Array shared_logits;        ///< [rows, 1] full: of the expert that all tokens meet
    ExpertRows shared;
    Array shared_result;  ///< [rows, H] full
    // Gradients.
    Array of_result;  ///< [.., H] working
    Array of_gate, of_activated;
    Array of_gathered;  ///< [.., H] full
  };

  void prepare_work(std::int64_t rows);
  const Weight& transposed(Transposed& place, const std::shared_ptr<const Weight>& weight) const;
  /// Of a matrix of this block.
  const Weight& transposed(std::int64_t index, Role role, std::int64_t expert = 0);
  /// Of all experts; null where one has no rows.
  std::vector<const Weight*> transposed_experts(std::int64_t index, Role role, const ExpertRows& rows);
  void forward(std::int64_t index, const Hidden& before, const RowLayout& layout);
  /// Adds to `gradient`, the one by the block's end, what reaches the branch's input; `from` is the one by
  /// what the branch adds.
  void mlp_backward(std::int64_t index, const Array& input, std::int64_t rows, Array& from, Array& gradient,
                    const GradientObserver& observer);
  /// What the mixer's last product reads, of work_.attention_input.
  const Array& mix(std::int64_t index, const RowLayout& layout);
  // From the gradient by that to those by the products, of attention and of other mixers.
  void attend_backward(std::int64_t index, const RowLayout& layout, const GradientObserver& observer);
  void recur_backward(std::int64_t index, const RowLayout& layout, const GradientObserver& observer);
  void attention_backward(std::int64_t index, const Hidden& before, const RowLayout& layout, Array& from,
                          Array& gradient, const GradientObserver& observer);
  /// Writes the gradient by the product at a branch's end to work_.of_output.
  void branch_backward(const Array& branch, const NormWeights& behind, const std::string& name,
                       std::int64_t rows, Array& from, const GradientObserver& observer);
  /// The gradient, `full`, by what a branch has in the end: `from` itself or other memory.
  Array result_backward(const Array& branch, const NormWeights& behind, const std::string& name,
                        std::int64_t rows, const Array& from, const GradientObserver& observer) const;
  /// From work_.of_output through down, activation, up and gate of the dense MLP, or of the expert that all
  /// tokens meet.
  void linears_backward(std::int64_t index, std::int64_t rows, bool accumulate, Array& of_input,
                        const GradientObserver& observer);
  /// Router and experts of work_.mlp_input; what the expert that all tokens meet has before its activation.
  void mixture_forward(std::int64_t index, std::int64_t rows);
  /// sum += the mixture's result.
  void add_mixture(std::int64_t index, std::int64_t rows, Array& sum) const;
  /// `of_sum`: by the mixture's result, `full`.
  void mixture_backward(std::int64_t index, std::int64_t rows, const Array& of_sum, bool accumulate,
                        Array& of_input, const GradientObserver& observer);
  void router_backward(std::int64_t rows, const Array& logits, const RouterRule& rule,
                       const ExpertRows& routed, std::span<const float> of_weights, const Weight& back,
                       bool accumulate, Array& of_input) const;
  /// out = the branch's result that is added to the residual stream, from the product at its end.
  void add_branch(const Array& branch, const NormWeights& behind, std::int64_t rows, Array& sum);
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
  MixtureWork mixture_;
  Transposed of_router_, of_shared_gate_;
  Array of_logits_;                   ///< [some rows, V] working
  std::vector<Transposed> of_block_;  ///< as BlockWeights::matrices
  Transposed of_head_;
  Transposed of_a_, of_b_;  ///< the delta rule's
};

}  // namespace knapsaq
