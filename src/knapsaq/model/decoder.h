#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "knapsaq/base/progress.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/folding.h"
#include "knapsaq/model/kv_cache.h"

namespace knapsaq {

/// The residual stream between two blocks: `windows` windows of `length` tokens, window after window.
struct Hidden {
  Array state;  ///< [windows * length, H], full
  std::int64_t windows = 0;
  std::int64_t length = 0;
  std::int64_t tokens() const { return windows * length; }
};

/// The stages of a block.
inline constexpr std::array kStages = {Stage::attend, Stage::attention_output, Stage::activate,
                                       Stage::mlp_output};

/// What a layer of experts has between the two stages of its MLP.
struct Mixture {
  ExpertRows rows;  ///< which tokens meet which experts
  Array activated;  ///< [rows.size(), width of an expert], working: of experts' rows
  /// All tokens, weighted by the gate of the expert that all of them meet; empty without one.
  ExpertRows shared;
};

/// A pass between two stages: all that later stages read. attention_output reads `attended`, mlp_output reads
/// `mlp` and `mixture`; arrays that the next stage does not read may be empty. Copies share memory of arrays.
/// Only the two output stages change `hidden`; the two others replace or overwrite `attended`, `mlp` and
/// `mixture`.
struct PartialPass {
  Hidden hidden;
  Array attended = {};  ///< [tokens, heads * D], working
  Array mlp_input =
      {};  ///< [tokens, H], working: in parallel blocks, whose MLP reads the block's input; else empty
  Array mlp = {};  ///< [tokens, ffn], working; of a mixture: of the expert that all tokens meet
  Mixture mixture = {};
};

/// Receives the inputs of linears while a block runs: `x` (`working`, [>= rows, first.in]) is the input of
/// `first` and of all matrices that share it (input_owners()). Valid only during the call; one call per
/// distinct input, in the order of the forward pass.
/// The experts of a mixture have an input each, whose rows are those of their own tokens, none for some.
using InputObserver = std::function<void(const Matrix& first, const Array& x, std::int64_t rows)>;

/// Receives gradients while a backward pass runs; every call is valid during the call only. A gradient is
/// that of the loss summed over rows. Functions may be empty.
struct GradientObserver {
  /// x [>= rows, in] is the matrix's input, `gradient` [>= rows, out] the gradient by its output, both
  /// `working`: the gradient by the matrix is gradient^T x. A head comes in slices of rows, of which `first`
  /// is the first row. An embedding that is looked up comes with an empty x, after everything else; a tied
  /// one comes as both.
  std::function<void(const Matrix& matrix, const Array& x, const Array& gradient, std::int64_t first,
                     std::int64_t rows)>
      matrix;
  /// The gradients by a norm's vectors, summed over rows; `shift` is empty for a norm without one. `module`
  /// is as in the checkpoint: "model.layers.0.input_layernorm".
  std::function<void(std::string_view module, std::span<const float> scale, std::span<const float> shift)>
      norm;
};

/// A matrix as a pass uses it: multiplied, looked up, or both (a tied embedding).
struct PreparedMatrix {
  std::shared_ptr<const Weight> weight;
  std::shared_ptr<const Table> table;
  std::uint64_t bytes() const { return (weight ? weight->bytes() : 0) + (table ? table->bytes() : 0); }
};

/// Bytes of a decoder in memory.
struct DecoderMemory {
  std::uint64_t weights = 0;    ///< linears, and the norms between them
  std::uint64_t head = 0;       ///< the output head with its norm and projection
  std::uint64_t embedding = 0;  ///< tables of which a token reads a row, and their projection
  std::uint64_t work = 0;       ///< kept from one pass to the next: activations, rotations
  /// The bytes that every generated token reads.
  std::uint64_t read_per_token() const { return weights + head; }
};

/// A decoder-only transformer of any architecture that ModelConfig describes, with its weights in a backend's
/// memory. Prefill of independent windows of tokens; every window starts at position 0.
///
/// Passes that end in losses or logits throw NotFiniteError if one of these is NaN or infinite. The error
/// names the first layer whose output is not finite. A second pass finds it, so the first pass has no extra
/// cost.
///
/// A Decoder is used by one thread at a time; the work inside is parallel. The Backend must outlive it.
class Decoder {
 public:
  /// Reads every tensor that `config` implies: F32, F16, BF16, or linears quantized as stated by
  /// Checkpoint::packing(). If the file of a tied model holds only one of embedding and head, it serves as
  /// both. Throws InputError, naming the tensor that is missing, has another shape, or contains a NaN or an
  /// infinity.
  static Decoder load(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                      Progress& progress = Progress::none());
  /// The same with scales folded into norms, biases and linears, rounded as in a written file: the rest of a
  /// model whose linears are quantized with this folding. Throws InputError for a folding into a checkpoint
  /// with quantized linears.
  static Decoder load(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                      const Folding& folding, Progress& progress = Progress::none());
  /// A decoder without weights, for models larger than memory: the caller loads what the next step needs and
  /// unloads the rest. Shapes are checked here. Steps without their weights throw std::logic_error.
  static Decoder open(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend);
  /// Embedding, positions and their projection: what embed() needs. Throws like load().
  void load_embedding(const Checkpoint& checkpoint);
  void unload_embedding();
  /// The end of the model: what head_losses() and logits() need.
  void load_head(const Checkpoint& checkpoint);
  void unload_head();
  /// What block(index) and the related functions need.
  void load_block(const Checkpoint& checkpoint, std::int64_t index);
  void load_block(const Checkpoint& checkpoint, std::int64_t index, const Folding& folding);
  void unload_block(std::int64_t index);

  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;
  ~Decoder();

  const ModelConfig& config() const;
  Backend& backend() const;

  /// out[w * (length - 1) + t] = -log p(token t+1 of window w | its tokens 0..t), in nats, for tokens.size()
  /// == windows * length and out.size() == windows * (length - 1). Runs batches of windows, so memory does
  /// not grow with their number. Throws InputError for an id outside the vocabulary and for windows longer
  /// than check_length() allows; Cancelled between batches.
  void losses(std::span<const std::int32_t> tokens, std::int64_t windows, std::int64_t length,
              std::span<float> out);

  /// Logits [n - first, V] after tokens first..n-1 of one window of n tokens. Same errors as losses().
  std::vector<float> logits(std::span<const std::int32_t> tokens, std::int64_t first);

  /// Logits [cache.sequences(), V] after n further tokens of each sequence in the cache, which are added to
  /// the cache. They equal logits() of the sequence's last token, up to the order of sums and the cache's
  /// rounding. `tokens` are n of the first sequence, then n of the second, ..; n = tokens.size() /
  /// cache.sequences() >= 1. Many tokens are computed in chunks, so memory does not grow with them. Throws
  /// the same errors as losses(), and Cancelled between blocks; all of them leave the cache unchanged. A full
  /// cache is std::invalid_argument.
  std::vector<float> next(std::span<const std::int32_t> tokens, KeyValueCache& cache);
  /// The same into the caller's memory, logits.size() == cache.sequences() * V: nothing is allocated between
  /// tokens.
  void next(std::span<const std::int32_t> tokens, KeyValueCache& cache, std::span<float> logits);

  /// Losses of a batch of segments (see Segment), whose tokens follow each other in `tokens`: out[i] is the
  /// negative log-likelihood of targets[i] after tokens[i] and everything that it sees; 0 if targets[i] is
  /// negative. Only rows with a target are multiplied by the head. All tokens are computed at once, so the
  /// caller keeps a batch near windows_per_batch(1). Same errors as losses().
  void segment_losses(std::span<const std::int32_t> tokens, std::span<const Segment> segments,
                      std::span<const std::int32_t> targets, std::span<float> out);

  /// Throws InputError if a window of `length` tokens is longer than the model's learned positions; rotary
  /// positions have no limit, as in Transformers.
  void check_length(std::int64_t length) const;

  // The same pass step by step, for callers that observe or exchange values between blocks: losses(tokens) =
  // head_losses(block(L-1, ... block(0, embed(tokens)))).

  /// Number of windows that losses() runs at once: Backend::batch_rows() or one.
  std::int64_t windows_per_batch(std::int64_t length) const;
  Hidden embed(std::span<const std::int32_t> tokens, std::int64_t windows, std::int64_t length);
  /// The same into the memory of `hidden` if it has the right size.
  void embed(std::span<const std::int32_t> tokens, std::int64_t windows, std::int64_t length, Hidden& hidden);
  /// hidden = block(hidden), in place; 0 <= index < config().layers.
  void block(std::int64_t index, Hidden& hidden, const InputObserver& observer = {});
  /// One stage of a block; block() runs kStages one after the other. Throws std::invalid_argument for a pass
  /// without the stage's input.
  void run(std::int64_t index, Stage stage, PartialPass& pass);
  /// What the matrices of a block's stage multiply in this pass, [>= tokens, in] `working`. Valid until the
  /// next call. Throws like run().
  Array stage_input(std::int64_t index, Stage stage, const PartialPass& pass);
  /// The two halves of block(index) between norm and residual stream, for given inputs and the current
  /// weights. Here q, k, v, attention and o of `x`, [windows * length, H] `working`; returns `full`, same
  /// shape.
  Array attention_output(std::int64_t index, const Array& x, std::int64_t windows, std::int64_t length);
  /// The same for the MLP, for the first `rows` rows of `x`.
  Array mlp_output(std::int64_t index, const Array& x, std::int64_t rows);
  /// Losses of `hidden` after the last block against the tokens it was computed from; layout as in losses().
  void head_losses(const Hidden& hidden, std::span<const std::int32_t> tokens, std::span<float> out);

  // The backward pass, of decoders with dense weights (Packed::off). The caller keeps the hidden states
  // before the blocks; everything else is computed again, so that memory is that of one block. A backward
  // pass with its recomputation costs two forward passes, head included.

  /// The gradient [tokens, H] `full` by hidden.state after the last block. losses[i] is that of row i. A null
  /// targets.reference_head means this decoder's head. Throws NotFiniteError for losses that are not finite.
  Array head_backward(const Hidden& hidden, const LossTargets& targets, std::span<float> losses,
                      const GradientObserver& observer = {});
  /// The gradient by the output of block(index) becomes that by its input `before`; `gradient` may get other
  /// memory.
  void block_backward(std::int64_t index, const Hidden& before, Array& gradient,
                      const GradientObserver& observer = {});
  /// Tells the observer about the embedding, of the first `rows` rows of the gradient by embed()'s result.
  void embed_backward(const Array& gradient, std::int64_t rows, const GradientObserver& observer);
  /// All of it for one batch of windows, forward pass included; losses.size() == tokens.size(). Returns their
  /// sum. Keeps the hidden states before all blocks meanwhile. Throws like losses().
  double backward(std::span<const std::int32_t> tokens, std::int64_t windows, std::int64_t length,
                  const LossTargets& targets, std::span<float> losses, const GradientObserver& observer = {});

  /// Writes the head's input at the end of `hidden` to the first rows of `out`, [>= tokens, head().in()]
  /// `working`.
  void head_input(const Hidden& hidden, Array& out);
  std::shared_ptr<const Weight> head() const;

  /// While this is on, every step checks everything that it computes and throws NotFiniteError, which names
  /// the layer, at the first number that is not finite. This is slow; it is for callers that found such a
  /// number in a result.
  void look_for_not_finite(bool on);
  /// Runs a pass over these windows with these checks. Returns if every number is finite.
  void require_finite(std::span<const std::int32_t> tokens, std::int64_t windows, std::int64_t length);

  /// Of everything that is loaded.
  DecoderMemory memory() const;

  /// A replacement for matrix `number` of matrices(config), with that matrix's bias. Same errors as
  /// replace().
  PreparedMatrix prepare(std::size_t number, const StoredMatrix& matrix);
  /// The same with another bias, one value for each output; the matrix has a bias.
  PreparedMatrix prepare(std::size_t number, const StoredMatrix& matrix, std::span<const float> bias);
  /// Exchanges the matrix for a prepared one; this only exchanges a pointer.
  void place(std::size_t number, PreparedMatrix matrix);
  /// The matrix that is currently in place: the last one given to place(), or the loaded one.
  PreparedMatrix placed(std::size_t number) const;

  /// Exchanges the matrix `name` (as in matrices()) for another one; its bias stays. Throws InputError for
  /// values that are not finite or inconsistent sizes, UsageError for an unknown name, std::invalid_argument
  /// for another shape.
  void replace(std::string_view name, const TensorView& weight);
  void replace(std::string_view name, const StoredMatrix& weight);

  /// Exchanges a vector of a loaded norm; `tensor` is its name in the checkpoint
  /// ("model.layers.0.input_layernorm.weight"). Throws std::invalid_argument for a name that is no norm's,
  /// and for another size.
  void set_norm(std::string_view tensor, std::span<const float> values);

 private:
  struct Impl;
  explicit Decoder(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace knapsaq
