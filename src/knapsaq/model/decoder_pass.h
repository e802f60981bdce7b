#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "knapsaq/base/error.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/model/decoder_weights.h"
#include "knapsaq/model/kv_cache.h"

namespace knapsaq {

/// How the rows of a pass belong together: windows of equal length, further tokens of the sequences in a
/// cache, or segments of any lengths.
struct RowLayout {
  std::int64_t windows = 0;
  std::int64_t length = 0;
  KeyValueCache* past = nullptr;  ///< what the windows continue; null for nothing
  std::span<const Segment> segments =
      {};  ///< not empty: the rows are these segments, and windows of one token except in attention
  std::int64_t reach = 0;  ///< how many tokens the text may have in the end, for rotation.h; 0: length
  std::int64_t rows() const { return windows * length; }
  std::int64_t text() const { return reach > 0 ? reach : length; }
};

/// Rows [first, first + count).
struct RowRun {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// The arithmetic of a pass, stage by stage, on weights that are loaded elsewhere. Keeps memory for
/// activations and rotations from one call to the next.
class DecoderPass {
 public:
  explicit DecoderPass(const DecoderWeights& weights) : weights_(weights) {}

  /// Cosines and sines of this many positions, if the model has rotary ones; `text`: how many tokens the text
  /// may reach (rotation.h).
  void prepare_rotation(std::int64_t length, std::int64_t text);
  void check_tokens(std::span<const std::int32_t> tokens) const;

  /// The beginning of the residual stream: tokens at the positions position_of(row).
  void embed(std::span<const std::int32_t> tokens,
             const std::function<std::int64_t(std::int64_t)>& position_of, Array& state) const;
  /// One stage of a block, on rows in this layout.
  void run(std::int64_t index, Stage stage, PartialPass& pass, const RowLayout& layout,
           const InputObserver& observer = {});
  /// What the matrices of a block's stage multiply; valid until the next call.
  Array input(std::int64_t index, Stage stage, const PartialPass& pass, std::int64_t rows);
  void block(std::int64_t index, Hidden& hidden, const RowLayout& layout, const InputObserver& observer = {});
  /// The halves of a block without norm and residual stream; see Decoder.
  Array attention_output(std::int64_t index, const Array& x, const RowLayout& layout);
  Array mlp_output(std::int64_t index, const Array& x, std::int64_t rows);

  /// The output head's input: the normed and projected end of the residual stream.
  void head_input(const Hidden& hidden, Array& out);
  Array head_input(const Hidden& hidden);
  /// logits = input head^T, for the first `rows` rows of head_input()'s result.
  void multiply_by_head(const Array& input, std::int64_t rows, Array& logits) const;
  /// What attention needs of a block; its pointers live as long as the pass, until more positions are needed.
  AttentionShape attention_shape(std::int64_t index, const RowLayout& layout) const;
  // The same of a block whose mixer is no attention.
  ShortConvolution convolution(std::int64_t index) const;
  DeltaShape delta_shape(std::int64_t index) const;

  /// Some rows of an array, in a new one.
  Array gather(const Array& from, std::span<const RowRun> runs, std::int64_t rows) const;

  /// See Decoder::look_for_not_finite().
  bool looking = false;
  /// Logits of all rows that the head multiplies, checked piece by piece.
  void look_at_logits(const Array& input, std::int64_t rows) const;
  /// Runs `pass`, which computes `results`; if one of these is not finite, runs it again with checks.
  template <class Pass>
  void finite_pass(std::span<const float> results, const Pass& pass) {
    pass();
    if (looking || !first_not_finite(results)) return;
    struct Looking {
      bool& on;
      explicit Looking(bool& flag) : on(flag) { on = true; }
      ~Looking() { on = false; }
      Looking(const Looking&) = delete;
      Looking& operator=(const Looking&) = delete;
    };
    {
      const Looking now(looking);
      pass();
    }
    fail_without_a_place();
  }

  /// Bytes that are kept from one pass to the next.
  std::uint64_t bytes() const;

 private:
  /// Memory of a block besides the residual stream, all `working`.
  struct Workspace {
    std::int64_t rows = 0;
    Array x;               ///< [rows, H]: normed input of a half block
    Array q, k, v;         ///< projections
    Array attention_gate;  ///< [rows, heads * D] where the model has one
    Array attended;        ///< [rows, mixed width]
    // Where the model has mixers that are no attention.
    Array mixer_in;   ///< [rows, mixer width]
    Array convolved;  ///< [rows, channels]
    Array z;          ///< [rows, value width]: the delta rule's gate
    Array a, b;       ///< [rows, value heads], full
    Array mlp_input;  ///< [rows, H] in parallel blocks
    Array mlp;        ///< [rows, ffn]
    Mixture mixture;
    Array gathered;        ///< of experts' rows, [.., H]
    Array expert_results;  ///< the same, full
    Array branch;          ///< [rows, H], full: a branch's result where it is not added as it is
  };

  /// Rotary tables of one kind of layer.
  struct Rotation {
    Array cosines;  ///< for as many positions as were needed so far
    Array sines;
    std::int64_t text = 0;  ///< rotation_text() of these
  };

  void prepare_work(std::int64_t rows);
  void provide(Array& array, std::int64_t rows, std::int64_t cols, Element element = Element::working) const;
  /// `attended` = the result of q, k, v and attention for x.
  void attend(std::int64_t index, const Array& x, const RowLayout& layout, Array& attended,
              const InputObserver& observer);
  /// The same where the mixer is no attention.
  void recur(std::int64_t index, const Array& x, const RowLayout& layout, Array& mixed,
             const InputObserver& observer);
  /// `mlp` = the result of the first half of the MLP for x.
  void activate(std::int64_t index, const Array& x, std::int64_t rows, Array& mlp,
                const InputObserver& observer);
  /// The same for a layer of experts: `mixture`, and `mlp` of the expert that all tokens meet.
  void activate_mixture(std::int64_t index, const Array& x, std::int64_t rows, Mixture& mixture, Array& mlp,
                        const InputObserver& observer);
  /// sum += what the experts, and the one that all tokens meet, make of activate_mixture()'s results.
  void add_mixture(std::int64_t index, std::int64_t rows, const Mixture& mixture, const Array& mlp,
                   Array& sum, const InputObserver& observer);
  /// The MLP's last products and the end of its branch.
  void add_mlp(std::int64_t index, std::int64_t rows, const PartialPass& pass, Array& residual,
               const InputObserver& observer);
  /// Writes the input of a half block to work_.x.
  void norm_before(const NormWeights& norm, const Array& residual, std::int64_t rows);
  void norm_after(const NormWeights& norm, Array& residual, std::int64_t rows) const;
  /// The end of a branch: its last product is added to the residual stream, with what the model has between.
  void add_branch(const Array& in, std::int64_t rows, const Weight& weight, const NormWeights& behind,
                  Array& residual);
  void add_result(Array& branch, std::int64_t rows, const NormWeights& behind, Array& residual);
  void add_product(const Array& in, std::int64_t rows, const Weight& weight, bool accumulate,
                   Array& out) const;
  void check_half_input(const Array& x, std::int64_t rows) const;

  /// Throws NotFiniteError if one of the first rows contains a number that is not finite; `layer()` names the
  /// layer of the output. Does nothing unless `looking`.
  template <class Layer>
  void look(const Array& array, std::int64_t rows, const Layer& layer) const {
    if (!looking || array.cols() == 0) return;
    if (const auto bad = find_not_finite(array, rows)) fail(*bad, layer());
  }
  std::optional<float> find_not_finite(const Array& array, std::int64_t rows) const;
  /// The term that add_product() adds to the residual stream.
  void look_at_product(const Array& in, std::int64_t rows, const Weight& weight, Role role,
                       std::int64_t index) const;
  [[noreturn]] void fail(float value, const std::string& layer) const;
  [[noreturn]] void fail_without_a_place() const;

  const DecoderWeights& weights_;
  std::vector<Rotation> rotations_;  ///< of config.ropes
  Array query_scales_;               ///< [positions, 1]; empty for models without
  Workspace work_;
};

}  // namespace knapsaq
