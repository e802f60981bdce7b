#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/compute/backend.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/model/weight_reader.h"

namespace knapsaq {

/// The weights of one block. Norms and vectors that the model does not have are empty, weights null.
struct BlockWeights {
  BlockWeights() { first.fill(-1); }

  NormWeights attention_norm;
  NormWeights attention_norm_behind;
  NormWeights mlp_norm;
  NormWeights mlp_norm_behind;
  Array q_norm;
  Array k_norm;
  Array sinks;
  Array convolution;  ///< [taps, channels] of a short convolution, and its bias
  Array convolution_bias;
  // Of the delta rule.
  Array rates;
  Array dt_bias;
  NormWeights mixer_norm;  ///< for every value head
  std::shared_ptr<const Weight> a, b;
  std::shared_ptr<const Weight> router;
  std::shared_ptr<const Weight> shared_gate;
  /// Its matrices, in the order of DecoderWeights::of_block().
  std::vector<std::shared_ptr<const Weight>> matrices;
  /// Where the first matrix of each role is in `matrices`; negative: there is none.
  std::array<int, kRoles> first;

  /// The weight of a role; null if the block has none. Of a mixture, that of expert `expert`.
  const std::shared_ptr<const Weight>& of(Role role, std::int64_t expert = 0) const;
  /// Its index in `matrices`; negative if the block has none.
  std::int64_t index_of(Role role, std::int64_t expert = 0) const;
};

/// The loaded weights of a decoder, in a backend's memory, and their names.
class DecoderWeights {
 public:
  DecoderWeights(const ModelConfig& model, Backend& in, std::string of);

  void read_embedding(const WeightReader& reader);
  void read_head(const WeightReader& reader);
  void read_block(const WeightReader& reader, std::int64_t index);

  /// The block, whose weights must be loaded: otherwise std::logic_error.
  const BlockWeights& block(std::int64_t index) const;
  /// The linears of one block, in the order of the forward pass.
  std::span<const Matrix> of_block(std::int64_t index) const;
  /// The matrix of a role (of a mixture, of one expert); throws std::logic_error if the block has none.
  const Matrix& matrix_of(Role role, std::int64_t index, std::int64_t expert = -1) const;
  /// The first matrix of a stage, whose input the others of a dense block share.
  const Matrix& first_of(Stage stage, std::int64_t index) const;
  /// For messages: "model.layers.3.mlp.up_proj in block 3".
  std::string name_of(Role role, std::int64_t index, std::int64_t expert = -1) const;
  std::string prefix() const { return std::string(module_prefix(config)); }
  // Modules of the norms, as in the checkpoint.
  std::string attention_norm_name(std::int64_t index) const;
  std::string attention_norm_behind_name(std::int64_t index) const;
  std::string mlp_norm_name(std::int64_t index) const;
  std::string mlp_norm_behind_name(std::int64_t index) const;
  std::string q_norm_name(std::int64_t index) const;
  std::string k_norm_name(std::int64_t index) const;
  std::string mixer_norm_name(std::int64_t index) const;
  std::string final_norm_name() const;

  /// Of matrices(config). Throws UsageError for an unknown name.
  std::size_t number_of(std::string_view name) const;
  /// Throws std::logic_error for a matrix that is not loaded.
  void require_loaded(const Matrix& matrix) const;
  /// A replacement made of a TensorView or a StoredMatrix of this shape.
  template <class Source>
  PreparedMatrix prepare(std::size_t number, const Source& source, std::int64_t out, std::int64_t in) const {
    const Matrix& matrix = matrices.at(number);
    require_loaded(matrix);
    return prepare(number, source, out, in,
                   matrix.is_multiplied() ? (*slot(matrix))->bias() : std::span<const float>());
  }
  /// The same with this bias.
  template <class Source>
  PreparedMatrix prepare(std::size_t number, const Source& source, std::int64_t out, std::int64_t in,
                         std::span<const float> bias) const {
    const Matrix& matrix = matrices.at(number);
    if (out != matrix.out || in != matrix.in) throw std::invalid_argument("replacement: another shape");
    if (std::ssize(bias) != (matrix.bias ? out : 0)) throw std::invalid_argument("replacement: another bias");
    require_loaded(matrix);
    PreparedMatrix prepared;
    if (matrix.is_multiplied()) prepared.weight = backend->prepare(source, bias);
    if (matrix.is_looked_up()) prepared.table = backend->prepare_table(source);
    return prepared;
  }
  void place(std::size_t number, PreparedMatrix matrix);
  PreparedMatrix placed(std::size_t number) const;

  /// See Decoder.
  void set_norm(std::string_view tensor, std::span<const float> values);

  /// Of all of them; `work` stays 0.
  DecoderMemory memory() const;

  ModelConfig config;
  Backend* backend;
  std::string where;             ///< of the checkpoint, for messages
  std::vector<Matrix> matrices;  ///< knapsaq::matrices(config)
  std::vector<BlockWeights> blocks;
  std::shared_ptr<const Table> embedding;
  std::unique_ptr<Table> positions;  ///< learned ones, else null
  std::shared_ptr<const Weight> head;
  std::unique_ptr<Weight> project_in;  ///< null unless the embedding is narrower than the model
  std::unique_ptr<Weight> project_out;
  NormWeights final_norm;

 private:
  /// What a layer has for its mixer beside matrices.
  void read_mixer(const WeightReader& reader, std::int64_t index);
  NormWeights read_norm(const WeightReader& reader, const std::string& module) const;
  /// A norm's weight, plus the model's offset.
  std::vector<float> read_scale(const WeightReader& reader, const std::string& module) const;
  Array row(const std::vector<float>& values) const;
  /// Where a matrix that is multiplied is kept; null if its block is not loaded.
  std::shared_ptr<const Weight>* slot(const Matrix& matrix);
  const std::shared_ptr<const Weight>* slot(const Matrix& matrix) const;
  /// Where the vector of a norm is kept; null for other names.
  Array* norm_vector(std::string_view tensor);

  std::vector<std::size_t> begin_;  ///< of every block in `matrices`, and the end of the last
};

}  // namespace knapsaq
