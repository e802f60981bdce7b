#include "knapsaq/model/decoder.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/model/rotation.h"

namespace knapsaq {
namespace {

// OPT's table of positions starts with two rows that padding used.
constexpr std::int64_t kPositionOffset = 2;

// Rows that losses() wants in a batch: sixteen tiles of the CPU backend keep several threads busy, and the
// activations of a block (13 MB per 1000 rows of a model with 1024 hidden) stay near the shared cache.
constexpr std::int64_t kBatchRows = 2048;

/// Embedding and head are no part of any fold point.
const Folding kUnfolded;

/// The weights of one block. OPT's fc1 and fc2 are `up` and `down`.
struct Block {
  NormWeights attention_norm;
  NormWeights mlp_norm;
  Array q_norm;  ///< empty unless config.qk_norm
  Array k_norm;
  std::shared_ptr<const Weight> q, k, v, o;
  std::shared_ptr<const Weight> gate;  ///< null unless config.gated_mlp
  std::shared_ptr<const Weight> up, down;
};

/// What block() needs beside the residual stream; kept between calls, all `working`.
struct Workspace {
  std::int64_t rows = 0;
  Array x;         ///< [rows, H]: normed input of a half block
  Array q, k, v;   ///< projections
  Array attended;  ///< [rows, heads * D]
  Array mlp;       ///< [rows, ffn]
};

/// What next() keeps from one call to the next.
struct NextState {
  Hidden hidden;                     ///< of a chunk
  std::vector<std::int32_t> tokens;  ///< of a chunk of several sequences
  Array input;                       ///< of the head, [>= sequences, head->in()]
  Array logits;                      ///< [>= sequences, V]
};

/// Rows [first, first + count).
struct RowRun {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// Reads tensors of a checkpoint, with scales folded in, and refuses what is not finite.
class Reader {
 public:
  Reader(const Checkpoint& checkpoint, const Folding& folding) : checkpoint_(checkpoint), folding_(folding) {}

  /// A tensor whose values have been looked at.
  TensorView tensor(const std::string& name) const {
    const TensorView view = checkpoint_.tensor(name);
    check_finite(view, checkpoint_.folder().string(), name);
    return view;
  }
  std::vector<float> vector(const std::string& name) const {
    std::vector<float> values = read_floats(tensor(name));
    if (folding_.touches(name)) fold(name, values);
    return values;
  }
  std::unique_ptr<Table> table(Backend& backend, const std::string& module) const {
    if (checkpoint_.packing(module)) return backend.prepare_table(checkpoint_.stored(module));
    std::unique_ptr<Table> table = backend.prepare_table(tensor(module + ".weight"));
    checkpoint_.release(module + ".weight");
    return table;
  }

  std::unique_ptr<Weight> weight(Backend& backend, const std::string& module, bool bias) const {
    const std::vector<float> biases = bias ? vector(module + ".bias") : std::vector<float>();
    const std::string name = module + ".weight";
    if (checkpoint_.packing(module)) {
      if (folding_.touches(name))
        throw InputError(fmt::format("{}: '{}' is quantized already; scales cannot be folded into it",
                                     checkpoint_.folder().string(), module));
      return backend.prepare(checkpoint_.stored(module), biases);
    }
    const TensorView dense = tensor(name);
    std::unique_ptr<Weight> weight;
    if (folding_.touches(name)) {
      const std::vector<float> values = vector(name);
      weight = backend.prepare({DType::F32, dense.shape, std::as_bytes(std::span(values))}, biases);
    } else {
      weight = backend.prepare(dense, biases);
    }
    checkpoint_.release(name);
    return weight;
  }

  static void check_finite(const TensorView& view, const std::string& where, const std::string& name) {
    // Pieces small enough for a cache, large enough for the loop over them to cost nothing.
    constexpr std::int64_t kPiece = 1 << 16;
    const std::int64_t elements = view.elements();
    parallel_for(static_cast<std::size_t>((elements + kPiece - 1) / kPiece), [&](std::size_t index) {
      const std::int64_t first = static_cast<std::int64_t>(index) * kPiece;
      std::vector<float> values(static_cast<std::size_t>(std::min(kPiece, elements - first)));
      read_floats(view, first, values);
      if (const auto bad = first_not_finite(values))
        fail(where, name, values[*bad], first + static_cast<std::int64_t>(*bad));
    });
  }

 private:
  [[noreturn]] static void fail(const std::string& where, const std::string& name, float value,
                                std::int64_t index) {
    throw InputError(fmt::format("{}: tensor '{}' holds {} at index {}; the model cannot be used", where,
                                 name, std::isnan(value) ? "NaN" : "an infinity", index));
  }

  /// As the folded tensor is written: in the type that it has in the checkpoint.
  void fold(const std::string& name, std::vector<float>& values) const {
    folding_.apply(name, values);
    const DType type = checkpoint_.tensor(name).type;
    if (type == DType::F32) return;
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = type == DType::F16 ? half_to_float(float_to_half(values[i]))
                                     : bfloat16_to_float(float_to_bfloat16(values[i]));
      if (!std::isfinite(values[i]))
        fail(checkpoint_.folder().string(), name + " with scales folded in", values[i],
             static_cast<std::int64_t>(i));
    }
  }

  const Checkpoint& checkpoint_;
  const Folding& folding_;
};

}  // namespace

struct Decoder::Impl {
  ModelConfig config;
  Backend* backend = nullptr;
  std::vector<Block> blocks;
  std::vector<Matrix> matrices;  ///< knapsaq::matrices(config)
  std::size_t per_block = 0;     ///< linears in a block
  std::shared_ptr<const Table> embedding;
  std::unique_ptr<Table> positions;  ///< learned ones, else null
  std::shared_ptr<const Weight> head;
  std::unique_ptr<Weight> project_in;  ///< null unless the embedding is narrower than the model
  std::unique_ptr<Weight> project_out;
  NormWeights final_norm;
  Array cosines;  ///< of as many positions as were needed so far
  Array sines;
  Workspace work;
  KeyValueCache* past = nullptr;  ///< while next() runs: the tokens before
  NextState next;
  /// While segment_losses() runs: what the rows are, in the place of windows of equal length.
  std::span<const Segment> segments;
  std::string where;     ///< of the checkpoint, for messages
  bool looking = false;  ///< see look_for_not_finite()

  NormWeights read_norm(const Reader& reader, const std::string& module) const {
    NormWeights norm{.kind = config.norm, .eps = config.norm_eps, .scale = {}, .shift = {}};
    if (!config.norm_affine) return norm;
    norm.scale = row(reader.vector(module + ".weight"));
    if (config.norm == Norm::layer) norm.shift = row(reader.vector(module + ".bias"));
    return norm;
  }
  Array row(const std::vector<float>& values) const {
    return backend->upload(values, 1, static_cast<std::int64_t>(values.size()));
  }

  /// The slot of a matrix that is multiplied.
  std::shared_ptr<const Weight>& slot(const Matrix& matrix) {
    if (!matrix.in_block()) return head;
    Block& block = blocks[static_cast<std::size_t>(matrix.block)];
    switch (matrix.role) {
      case Role::q:
        return block.q;
      case Role::k:
        return block.k;
      case Role::v:
        return block.v;
      case Role::o:
        return block.o;
      case Role::gate:
        return block.gate;
      case Role::up:
        return block.up;
      case Role::down:
        return block.down;
      default:
        throw std::logic_error("no place for " + matrix.name);
    }
  }

  void read_block(const Reader& reader, std::int64_t index) {
    Block& block = blocks[static_cast<std::size_t>(index)];
    const bool is_opt = config.positions == Positions::learned;
    const std::string prefix = block_prefix(config, index);
    block.attention_norm = read_norm(reader, prefix + (is_opt ? "self_attn_layer_norm" : "input_layernorm"));
    block.mlp_norm = read_norm(reader, prefix + (is_opt ? "final_layer_norm" : "post_attention_layernorm"));
    if (config.qk_norm) {
      block.q_norm = row(reader.vector(prefix + "self_attn.q_norm.weight"));
      block.k_norm = row(reader.vector(prefix + "self_attn.k_norm.weight"));
    }
    for (const Matrix& linear : of_block(index))
      slot(linear) = reader.weight(*backend, linear.name, linear.bias);
  }

  /// The linears of one block, in the order of the forward pass.
  std::span<const Matrix> of_block(std::int64_t index) const {
    // The embedding comes first.
    return std::span(matrices).subspan(1 + static_cast<std::size_t>(index) * per_block, per_block);
  }
  const Matrix& in_block(Role role, std::int64_t index) const {
    return *std::ranges::find(of_block(index), role, &Matrix::role);
  }
  /// The first one of a stage, whose input the others share.
  const Matrix& first_of(Stage stage, std::int64_t index) const {
    return *std::ranges::find_if(of_block(index),
                                 [&](const Matrix& matrix) { return stage_of(matrix.role) == stage; });
  }

  std::string prefix() const { return std::string(module_prefix(config)); }

  void read_embedding(const Reader& reader) {
    embedding = reader.table(*backend, matrices.front().name);
    if (config.positions == Positions::learned)
      positions = backend->prepare_table(reader.tensor(prefix() + "embed_positions.weight"));
    if (config.embedding != config.hidden)
      project_in = reader.weight(*backend, prefix() + "project_in", false);
  }

  void read_head(const Reader& reader) {
    const bool is_opt = config.positions == Positions::learned;
    head = reader.weight(*backend, config.tied ? matrices.front().name : matrices.back().name, false);
    if (config.embedding != config.hidden)
      project_out = reader.weight(*backend, prefix() + "project_out", false);
    if (config.final_norm) final_norm = read_norm(reader, prefix() + (is_opt ? "final_layer_norm" : "norm"));
  }

  /// The block, whose weights have to be there.
  const Block& loaded(std::int64_t index) const {
    const Block& block = blocks.at(static_cast<std::size_t>(index));
    if (block.down == nullptr) throw std::logic_error(fmt::format("block {} is not loaded", index));
    return block;
  }

  void prepare_work(std::int64_t rows) {
    if (rows <= work.rows) return;
    const std::int64_t kv = config.kv_heads * config.head_dim;
    const std::int64_t width = config.heads * config.head_dim;
    const auto make = [&](std::int64_t cols) { return backend->allocate(rows, cols, Element::working); };
    work = {.rows = rows,
            .x = make(config.hidden),
            .q = make(width),
            .k = make(kv),
            .v = make(kv),
            .attended = make(width),
            .mlp = make(config.ffn)};
  }

  void prepare_rotation(std::int64_t length) {
    if (config.positions != Positions::rotary || length <= cosines.rows()) return;
    const RotationTables tables = rotation_tables(config, length);
    cosines = backend->upload(tables.cosines, length, config.head_dim / 2);
    sines = backend->upload(tables.sines, length, config.head_dim / 2);
  }

  void check_tokens(std::span<const std::int32_t> tokens) const {
    const auto bad = std::find_if(tokens.begin(), tokens.end(),
                                  [&](std::int32_t id) { return id < 0 || id >= config.vocab; });
    if (bad == tokens.end()) return;
    throw InputError(
        fmt::format("token id {} at index {} is outside the model's vocabulary of {}; was the text "
                    "encoded with this model's tokenizer?",
                    *bad, bad - tokens.begin(), config.vocab));
  }

  /// The start of the residual stream: tokens at the positions position_of(row).
  template <class PositionOf>
  void embed_rows(std::span<const std::int32_t> tokens, const PositionOf& position_of, Array& state) const {
    const auto rows = static_cast<std::int64_t>(tokens.size());
    if (project_in) {
      Array narrow = backend->allocate(rows, config.embedding, Element::full);
      Array input = backend->allocate(rows, config.embedding, Element::working);
      backend->embed(*embedding, tokens, false, narrow);
      backend->convert(narrow, rows, input);
      const Product product{project_in.get(), &state, false};
      backend->multiply(input, rows, {&product, 1});
    } else {
      backend->embed(*embedding, tokens, false, state);
    }
    look(state, rows, [&] { return matrices.front().name + ".weight"; });
    if (!positions) return;
    std::vector<std::int32_t> of_rows(tokens.size());
    for (std::int64_t i = 0; i < rows; ++i)
      of_rows[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(position_of(i) + kPositionOffset);
    backend->embed(*positions, of_rows, true, state);
    look(state, rows, [&] { return prefix() + "embed_positions.weight"; });
  }

  /// Throws NotFiniteError if one of the first rows holds what is no number; `layer()` is whose output they
  /// are. Nothing unless `looking`.
  template <class Layer>
  void look(const Array& array, std::int64_t rows, const Layer& layer) const {
    if (!looking || array.cols() == 0) return;
    // Some MiB at a time: logits are wide.
    const std::int64_t some = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / array.cols());
    std::vector<float> values;
    for (std::int64_t first = 0; first < rows; first += some) {
      values.resize(static_cast<std::size_t>(std::min(some, rows - first) * array.cols()));
      backend->download(array, first, values);
      if (const auto bad = first_not_finite(values)) fail(values[*bad], layer());
    }
  }
  [[noreturn]] void fail(float value, const std::string& layer) const {
    throw NotFiniteError(fmt::format(
        "{}: the model computes no finite numbers on this text: the first output with {} is that of "
        "{}; a weight there or before it is broken or too large",
        where, std::isnan(value) ? "NaN" : "an infinity", layer));
  }
  std::string in_block(std::string_view what, std::int64_t index) const {
    return fmt::format("{} in block {}", what, index);
  }
  std::string named_in_block(Role role, std::int64_t index) const {
    return in_block(in_block(role, index).name, index);
  }

  /// Runs `pass`, which computes `results`, and once more, looking, if one of these is not finite.
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
    throw NotFiniteError(where +
                         ": the model computes no finite numbers on this text, and all of them the second "
                         "time: memory or processor are unreliable");
  }

  /// Logits of all rows that the head multiplies, looked at piece by piece.
  void look_at_logits(const Array& input, std::int64_t rows) {
    if (!looking) return;
    const std::int64_t some = std::max<std::int64_t>(1, (std::int64_t{1} << 22) / config.vocab);
    for (std::int64_t first = 0; first < rows; first += some) {
      const std::int64_t count = std::min(some, rows - first);
      Array logits = backend->allocate(count, config.vocab, Element::full);
      add_product(backend->view(input, first, count), count, *head, false, logits);
      look(logits, count, [] { return std::string("the output head"); });
    }
  }

  /// Some rows of an array, in a new one.
  Array gather(const Array& from, std::span<const RowRun> runs, std::int64_t rows) const {
    Array to = backend->allocate(rows, from.cols(), from.element());
    std::int64_t row = 0;
    for (const auto& [first, count] : runs) {
      Array part = backend->view(to, row, count);
      backend->copy(backend->view(from, first, count), count, part);
      row += count;
    }
    return to;
  }

  /// `attended` = what q, k, v and attention make of x.
  void attend(std::int64_t index, const Array& x, std::int64_t windows, std::int64_t length, Array& attended,
              const InputObserver& observer) {
    const Block& block = loaded(index);
    const bool slides = config.sliding_window > 0 && index >= config.sliding_from_layer;
    const bool rotary = config.positions == Positions::rotary;
    const AttentionShape shape{.windows = windows,
                               .length = length,
                               .past = past == nullptr ? 0 : past->length(),
                               .heads = config.heads,
                               .kv_heads = config.kv_heads,
                               .head_dim = config.head_dim,
                               .sliding_window = slides ? config.sliding_window : 0,
                               .cosines = rotary ? &cosines : nullptr,
                               .sines = rotary ? &sines : nullptr,
                               .q_norm = config.qk_norm ? &block.q_norm : nullptr,
                               .k_norm = config.qk_norm ? &block.k_norm : nullptr,
                               .norm_eps = config.norm_eps};
    const std::array projections = {Product{block.q.get(), &work.q, false},
                                    Product{block.k.get(), &work.k, false},
                                    Product{block.v.get(), &work.v, false}};
    if (observer) observer(first_of(Stage::attend, index), x, windows * length);
    const std::int64_t rows = windows * length;
    backend->multiply(x, rows, projections);
    for (const auto& [role, array] : {std::pair{Role::q, &work.q}, {Role::k, &work.k}, {Role::v, &work.v}})
      look(*array, rows, [this, of = role, index] { return named_in_block(of, index); });
    if (!segments.empty()) {
      backend->attend(shape, segments, work.q, work.k, work.v, attended);
    } else if (past == nullptr) {
      backend->attend(shape, work.q, work.k, work.v, attended);
    } else {
      backend->extend(shape, work.q, work.k, work.v, past->block(index), attended);
    }
    look(attended, rows, [&] { return in_block("attention", index); });
  }

  /// `mlp` = what the first half of the MLP makes of x.
  void activate(std::int64_t index, const Array& x, std::int64_t rows, Array& mlp,
                const InputObserver& observer) {
    const Block& block = loaded(index);
    if (observer) observer(first_of(Stage::activate, index), x, rows);
    backend->activate(x, rows, block.gate.get(), *block.up, config.activation, mlp);
    if (!looking) return;
    // What goes into the activation is nowhere kept.
    Array before = backend->allocate(rows, config.ffn, Element::working);
    for (const auto& [role, weight] :
         {std::pair{Role::gate, block.gate.get()}, {Role::up, block.up.get()}}) {
      if (weight == nullptr) continue;
      add_product(x, rows, *weight, false, before);
      look(before, rows, [this, of = role, index] { return named_in_block(of, index); });
    }
    look(mlp, rows, [&] { return in_block("the activation", index); });
  }

  void run(std::int64_t index, Stage stage, PartialPass& pass, const InputObserver& observer) {
    const Block& block = loaded(index);
    Array& residual = pass.hidden.state;
    const std::int64_t rows = pass.hidden.tokens();
    prepare_work(rows);
    switch (stage) {
      case Stage::attend:
        prepare_rotation(pass.hidden.length);
        provide(pass.attended, rows, config.heads * config.head_dim);
        norm_before(block.attention_norm, residual, rows);
        look(work.x, rows, [&] { return in_block("the norm before attention", index); });
        return attend(index, work.x, pass.hidden.windows, pass.hidden.length, pass.attended, observer);
      case Stage::attention_output:
        if (observer) observer(first_of(stage, index), pass.attended, rows);
        look_at_product(pass.attended, rows, *block.o, Role::o, index);
        add_product(pass.attended, rows, *block.o, true, residual);
        norm_after(block.attention_norm, residual, rows);
        return look(residual, rows, [&] { return in_block("the residual stream after attention", index); });
      case Stage::activate:
        provide(pass.mlp, rows, config.ffn);
        norm_before(block.mlp_norm, residual, rows);
        look(work.x, rows, [&] { return in_block("the norm before the MLP", index); });
        return activate(index, work.x, rows, pass.mlp, observer);
      case Stage::mlp_output:
        if (observer) observer(first_of(stage, index), pass.mlp, rows);
        look_at_product(pass.mlp, rows, *block.down, Role::down, index);
        add_product(pass.mlp, rows, *block.down, true, residual);
        norm_after(block.mlp_norm, residual, rows);
        return look(residual, rows, [&] { return in_block("the residual stream after the MLP", index); });
      case Stage::embed:
      case Stage::head:
        break;
    }
    throw std::invalid_argument("run: no stage of a block");
  }

  /// What a half block multiplies, to work.x.
  void norm_before(const NormWeights& weights, const Array& residual, std::int64_t rows) {
    if (config.norm_before) {
      backend->norm(residual, weights, rows, work.x);
    } else {
      backend->convert(residual, rows, work.x);
    }
  }
  void norm_after(const NormWeights& weights, Array& residual, std::int64_t rows) {
    if (!config.norm_before) backend->norm(residual, weights, rows, residual);
  }
  void provide(Array& array, std::int64_t rows, std::int64_t cols) const {
    if (array.rows() < rows || array.cols() != cols) array = backend->allocate(rows, cols, Element::working);
  }

  void add_product(const Array& in, std::int64_t rows, const Weight& weight, bool accumulate, Array& out) {
    const Product product{&weight, &out, accumulate};
    backend->multiply(in, rows, {&product, 1});
  }

  /// What add_product() adds to the residual stream, alone.
  void look_at_product(const Array& in, std::int64_t rows, const Weight& weight, Role role,
                       std::int64_t index) {
    if (!looking) return;
    Array product = backend->allocate(rows, weight.out(), Element::full);
    add_product(in, rows, weight, false, product);
    look(product, rows, [&] { return named_in_block(role, index); });
  }

  void check_half_input(const Array& x, std::int64_t rows) const {
    if (x.element() != Element::working || x.cols() != config.hidden || rows < 0 || rows > x.rows())
      throw std::invalid_argument("half of a block: input of another shape");
  }

  /// What the output head multiplies: the normed and projected end of the residual stream.
  void head_input(const Hidden& hidden, Array& out) {
    const std::int64_t rows = hidden.tokens();
    Array normed = out;
    if (project_out) {
      prepare_work(rows);
      normed = work.x;
    }
    if (config.final_norm) {
      backend->norm(hidden.state, final_norm, rows, normed);
    } else {
      backend->convert(hidden.state, rows, normed);
    }
    look(normed, rows, [] { return std::string("the norm before the output head"); });
    if (!project_out) return;
    add_product(normed, rows, *project_out, false, out);
    look(out, rows, [&] { return prefix() + "project_out"; });
  }
  Array head_input(const Hidden& hidden) {
    if (!head) throw std::logic_error("the head is not loaded");
    Array out = backend->allocate(hidden.tokens(), config.embedding, Element::working);
    head_input(hidden, out);
    return out;
  }

  /// Logits [rows, V] of what head_input() made.
  void head_logits(const Array& input, std::int64_t rows, std::span<float> out) {
    Array logits = backend->allocate(rows, config.vocab, Element::full);
    add_product(input, rows, *head, false, logits);
    look(logits, rows, [] { return std::string("the output head"); });
    backend->download(logits, 0, out);
  }

  /// Logits of the last token of every sequence in next.hidden.
  void last_logits(std::int64_t sequences, std::span<float> logits) {
    const std::int64_t length = next.hidden.length;
    Hidden last{.state = next.hidden.state, .windows = sequences, .length = 1};
    if (length > 1 && sequences == 1) {
      last.state = backend->view(next.hidden.state, length - 1, 1);
    } else if (length > 1) {
      last.state = backend->allocate(sequences, config.hidden, Element::full);
      for (std::int64_t s = 0; s < sequences; ++s) {
        Array to = backend->view(last.state, s, 1);
        backend->copy(backend->view(next.hidden.state, s * length + length - 1, 1), 1, to);
      }
    }
    provide(next.input, sequences, config.embedding);
    head_input(last, next.input);
    if (next.logits.rows() < sequences)
      next.logits = backend->allocate(sequences, config.vocab, Element::full);
    add_product(next.input, sequences, *head, false, next.logits);
    look(next.logits, sequences, [] { return std::string("the output head"); });
    backend->download(next.logits, 0, logits);
  }

  std::size_t number_of(std::string_view name) const {
    const auto matrix = std::ranges::find(matrices, name, &Matrix::name);
    if (matrix == matrices.end()) throw UsageError(fmt::format("the model has no matrix '{}'", name));
    return matrix->number;
  }

  /// Throws std::logic_error for a matrix that is not loaded.
  void require_loaded(const Matrix& matrix) {
    if (matrix.is_looked_up() && !embedding) throw std::logic_error("the embedding is not loaded");
    if (!matrix.is_multiplied() || slot(matrix)) return;
    throw std::logic_error(matrix.in_block() ? fmt::format("block {} is not loaded", matrix.block)
                                             : std::string("the head is not loaded"));
  }

  template <class Source>
  PreparedMatrix prepare(std::size_t number, const Source& source, std::int64_t out, std::int64_t in) {
    const Matrix& matrix = matrices.at(number);
    if (out != matrix.out || in != matrix.in) throw std::invalid_argument("replacement: another shape");
    require_loaded(matrix);
    PreparedMatrix prepared;
    if (matrix.is_multiplied()) prepared.weight = backend->prepare(source, slot(matrix)->bias());
    if (matrix.is_looked_up()) prepared.table = backend->prepare_table(source);
    return prepared;
  }
};

Decoder::Decoder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;
Decoder::~Decoder() = default;

Decoder Decoder::open(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend) {
  check_shapes(checkpoint, config);
  auto impl = std::make_unique<Impl>();
  impl->where = checkpoint.folder().string();
  impl->config = config;
  impl->backend = &backend;
  impl->blocks.resize(static_cast<std::size_t>(config.layers));
  impl->matrices = matrices(config);
  if (config.layers > 0) impl->per_block = linears(config).size() / impl->blocks.size();
  return Decoder(std::move(impl));
}

void Decoder::load_embedding(const Checkpoint& checkpoint) {
  impl_->read_embedding(Reader(checkpoint, kUnfolded));
}

void Decoder::unload_embedding() {
  impl_->embedding.reset();
  impl_->positions.reset();
  impl_->project_in.reset();
}

void Decoder::load_head(const Checkpoint& checkpoint) { impl_->read_head(Reader(checkpoint, kUnfolded)); }

void Decoder::unload_head() {
  impl_->head.reset();
  impl_->project_out.reset();
  impl_->final_norm = {};
}

void Decoder::load_block(const Checkpoint& checkpoint, std::int64_t index, const Folding& folding) {
  unload_block(index);  // not the old and the new one at once
  impl_->read_block(Reader(checkpoint, folding), index);
}
void Decoder::load_block(const Checkpoint& checkpoint, std::int64_t index) {
  load_block(checkpoint, index, kUnfolded);
}

void Decoder::unload_block(std::int64_t index) { impl_->blocks.at(static_cast<std::size_t>(index)) = {}; }

Decoder Decoder::load(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                      Progress& progress) {
  return load(checkpoint, config, backend, kUnfolded, progress);
}

Decoder Decoder::load(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                      const Folding& folding, Progress& progress) {
  Decoder decoder = open(checkpoint, config, backend);
  ProgressScope scope(progress, "loading", static_cast<std::uint64_t>(config.layers) + 1, "blocks");
  decoder.load_embedding(checkpoint);
  decoder.load_head(checkpoint);
  scope.advance();
  for (std::int64_t i = 0; i < config.layers; ++i) {
    check_cancelled();
    decoder.load_block(checkpoint, i, folding);
    scope.advance();
  }
  return decoder;
}

const ModelConfig& Decoder::config() const { return impl_->config; }
Backend& Decoder::backend() const { return *impl_->backend; }

void Decoder::check_length(std::int64_t length) const {
  const ModelConfig& config = impl_->config;
  if (config.positions == Positions::learned && length > config.max_positions)
    throw InputError(
        fmt::format("a window of {} tokens is longer than the {} positions that the model knows; use "
                    "a shorter window",
                    length, config.max_positions));
}

std::int64_t Decoder::windows_per_batch(std::int64_t length) {
  return std::max<std::int64_t>(1, kBatchRows / std::max<std::int64_t>(1, length));
}

Hidden Decoder::embed(std::span<const std::int32_t> tokens, std::int64_t windows, std::int64_t length) {
  Hidden hidden;
  embed(tokens, windows, length, hidden);
  return hidden;
}

void Decoder::embed(std::span<const std::int32_t> tokens, std::int64_t windows, std::int64_t length,
                    Hidden& hidden) {
  Impl& self = *impl_;
  if (windows < 0 || length < 1 || static_cast<std::int64_t>(tokens.size()) != windows * length)
    throw std::invalid_argument("embed: tokens are not windows x length");
  if (!self.embedding) throw std::logic_error("the embedding is not loaded");
  check_length(length);
  self.check_tokens(tokens);
  self.prepare_rotation(length);
  const std::int64_t rows = windows * length;
  if (hidden.state.rows() != rows || hidden.state.cols() != self.config.hidden)
    hidden.state = self.backend->allocate(rows, self.config.hidden, Element::full);
  hidden.windows = windows;
  hidden.length = length;
  const std::int64_t before = self.past == nullptr ? 0 : self.past->length();
  self.embed_rows(
      tokens, [&](std::int64_t row) { return before + row % length; }, hidden.state);
}

void Decoder::block(std::int64_t index, Hidden& hidden, const InputObserver& observer) {
  impl_->prepare_work(hidden.tokens());
  PartialPass pass{hidden, impl_->work.attended, impl_->work.mlp};
  for (const Stage stage : kStages) impl_->run(index, stage, pass, observer);
}

void Decoder::run(std::int64_t index, Stage stage, PartialPass& pass) { impl_->run(index, stage, pass, {}); }

Array Decoder::attention_output(std::int64_t index, const Array& x, std::int64_t windows,
                                std::int64_t length) {
  Impl& self = *impl_;
  self.check_half_input(x, windows * length);
  self.prepare_work(windows * length);
  self.prepare_rotation(length);
  Array out = self.backend->allocate(windows * length, self.config.hidden, Element::full);
  self.attend(index, x, windows, length, self.work.attended, {});
  self.add_product(self.work.attended, windows * length, *self.loaded(index).o, false, out);
  return out;
}

Array Decoder::mlp_output(std::int64_t index, const Array& x, std::int64_t rows) {
  Impl& self = *impl_;
  self.check_half_input(x, rows);
  self.prepare_work(rows);
  Array out = self.backend->allocate(rows, self.config.hidden, Element::full);
  self.activate(index, x, rows, self.work.mlp, {});
  self.add_product(self.work.mlp, rows, *self.loaded(index).down, false, out);
  return out;
}

void Decoder::head_losses(const Hidden& hidden, std::span<const std::int32_t> tokens, std::span<float> out) {
  const std::int64_t length = hidden.length;
  if (static_cast<std::int64_t>(tokens.size()) != hidden.tokens() ||
      static_cast<std::int64_t>(out.size()) != hidden.windows * (length - 1))
    throw std::invalid_argument("head_losses: sizes do not fit the hidden state");
  impl_->check_tokens(tokens);
  std::vector<std::int32_t> targets(tokens.size());
  for (std::size_t i = 0; i < targets.size(); ++i)
    targets[i] = (i + 1) % static_cast<std::size_t>(length) == 0 ? -1 : tokens[i + 1];
  std::vector<float> losses(tokens.size());
  const Array input = impl_->head_input(hidden);  // also notices a head that is not loaded
  impl_->look_at_logits(input, hidden.tokens());
  impl_->backend->losses(input, *impl_->head, targets, losses);
  for (std::int64_t w = 0; w < hidden.windows; ++w)
    std::copy_n(losses.begin() + w * length, length - 1, out.begin() + w * (length - 1));
}

void Decoder::losses(std::span<const std::int32_t> tokens, std::int64_t windows, std::int64_t length,
                     std::span<float> out) {
  if (windows < 0 || length < 1 || static_cast<std::int64_t>(tokens.size()) != windows * length ||
      static_cast<std::int64_t>(out.size()) != windows * (length - 1))
    throw std::invalid_argument("losses: sizes do not fit windows x length");
  check_length(length);
  impl_->check_tokens(tokens);
  const std::int64_t batch = windows_per_batch(length);
  for (std::int64_t first = 0; first < windows; first += batch) {
    const std::int64_t count = std::min(batch, windows - first);
    const auto some =
        tokens.subspan(static_cast<std::size_t>(first * length), static_cast<std::size_t>(count * length));
    const auto of_some = out.subspan(static_cast<std::size_t>(first * (length - 1)),
                                     static_cast<std::size_t>(count * (length - 1)));
    impl_->finite_pass(of_some, [&] {
      Hidden hidden = embed(some, count, length);
      for (std::int64_t i = 0; i < impl_->config.layers; ++i) {
        check_cancelled();
        block(i, hidden);
      }
      head_losses(hidden, some, of_some);
    });
  }
}

std::vector<float> Decoder::logits(std::span<const std::int32_t> tokens, std::int64_t first) {
  const auto length = static_cast<std::int64_t>(tokens.size());
  if (first < 0 || first >= length) throw std::invalid_argument("logits: no such position");
  const std::int64_t rows = length - first;
  std::vector<float> result(static_cast<std::size_t>(rows * impl_->config.vocab));
  impl_->finite_pass(result, [&] {
    Hidden hidden = embed(tokens, 1, length);
    for (std::int64_t i = 0; i < impl_->config.layers; ++i) block(i, hidden);
    impl_->head_logits(impl_->backend->view(impl_->head_input(hidden), first, rows), rows, result);
  });
  return result;
}

std::vector<float> Decoder::next(std::span<const std::int32_t> tokens, KeyValueCache& cache) {
  std::vector<float> logits(static_cast<std::size_t>(cache.sequences() * impl_->config.vocab));
  next(tokens, cache, logits);
  return logits;
}

void Decoder::next(std::span<const std::int32_t> tokens, KeyValueCache& cache, std::span<float> logits) {
  Impl& self = *impl_;
  const std::int64_t sequences = cache.sequences();
  const std::int64_t count = sequences > 0 ? std::ssize(tokens) / sequences : 0;
  if (count < 1 || count * sequences != std::ssize(tokens))
    throw std::invalid_argument("next: not as many tokens for every sequence");
  if (std::ssize(logits) != sequences * self.config.vocab)
    throw std::invalid_argument("next: logits of another shape");
  const std::int64_t before = cache.length();
  if (count > cache.capacity() - before) throw std::invalid_argument("next: the cache is full");
  if (!self.head) throw std::logic_error("the head is not loaded");
  check_length(before + count);
  self.check_tokens(tokens);
  // Tables that double grow a few times on the way to a long context, and short ones do not pay for it.
  const auto known = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(before + count)));
  self.prepare_rotation(std::min(known, cache.capacity()));

  struct Step {
    Impl& impl;
    KeyValueCache& cache;
    std::int64_t kept;  ///< tokens that the cache has afterwards
    Step(Impl& in, KeyValueCache& past) : impl(in), cache(past), kept(past.length()) { impl.past = &past; }
    ~Step() {
      impl.past = nullptr;
      cache.shorten(kept);
    }
    Step(const Step&) = delete;
    Step& operator=(const Step&) = delete;
  };
  Step step(self, cache);
  NextState& state = self.next;
  const std::int64_t chunk = windows_per_batch(sequences);  // as many rows, the other way round
  self.finite_pass(logits, [&] {
    cache.shorten(before);
    for (std::int64_t first = 0; first < count; first += chunk) {
      const std::int64_t some = std::min(chunk, count - first);
      std::span<const std::int32_t> of_chunk = tokens;
      if (some < count) {
        state.tokens.resize(static_cast<std::size_t>(sequences * some));
        for (std::int64_t s = 0; s < sequences; ++s)
          std::copy_n(tokens.begin() + s * count + first, some, state.tokens.begin() + s * some);
        of_chunk = state.tokens;
      }
      embed(of_chunk, sequences, some, state.hidden);
      for (std::int64_t i = 0; i < self.config.layers; ++i) {
        check_cancelled();
        block(i, state.hidden);
      }
      cache.advance(some);
    }
    self.last_logits(sequences, logits);
  });
  step.kept = before + count;
}

void Decoder::segment_losses(std::span<const std::int32_t> tokens, std::span<const Segment> segments,
                             std::span<const std::int32_t> targets, std::span<float> out) {
  Impl& self = *impl_;
  if (targets.size() != tokens.size() || out.size() != tokens.size())
    throw std::invalid_argument("segment_losses: not a target and a loss for every token");
  if (!self.embedding) throw std::logic_error("the embedding is not loaded");
  self.check_tokens(tokens);
  if (const auto bad = std::ranges::find_if(targets, [&](auto id) { return id >= self.config.vocab; });
      bad != targets.end())
    throw std::invalid_argument("segment_losses: no such target");

  std::vector<std::int64_t> positions;
  positions.reserve(tokens.size());
  std::int64_t longest = 0;
  for (const Segment& segment : segments) {
    if (segment.length < 0 || segment.parent >= &segment - segments.data())
      throw std::invalid_argument("segment_losses: no such segment");
    const std::int64_t before =
        segment.parent < 0 ? 0 : segments[static_cast<std::size_t>(segment.parent)].length;
    if (segment.length > std::ssize(tokens) - std::ssize(positions))
      throw std::invalid_argument("segment_losses: segments of more tokens than there are");
    for (std::int64_t i = 0; i < segment.length; ++i) positions.push_back(before + i);
    longest = std::max(longest, before + segment.length);
  }
  if (positions.size() != tokens.size())
    throw std::invalid_argument("segment_losses: segments of fewer tokens than there are");
  check_length(longest);

  std::ranges::fill(out, 0.0f);
  std::vector<RowRun> runs;
  std::vector<std::int32_t> asked;
  for (std::int64_t i = 0; i < std::ssize(targets); ++i) {
    const std::int32_t target = targets[static_cast<std::size_t>(i)];
    if (target < 0) continue;
    asked.push_back(target);
    if (runs.empty() || runs.back().first + runs.back().count != i) runs.push_back({i, 0});
    ++runs.back().count;
  }
  if (asked.empty()) return;

  struct Rows {
    Impl& impl;
    Rows(Impl& in, std::span<const Segment> segments) : impl(in) { impl.segments = segments; }
    ~Rows() { impl.segments = {}; }
    Rows(const Rows&) = delete;
    Rows& operator=(const Rows&) = delete;
  };
  const Rows of_segments(self, segments);
  self.prepare_rotation(longest);
  const auto rows = static_cast<std::int64_t>(tokens.size());
  const auto scored = static_cast<std::int64_t>(asked.size());
  std::vector<float> losses(asked.size());
  self.finite_pass(losses, [&] {
    // To everything but embedding and attention these rows are windows of one token.
    PartialPass pass;
    pass.hidden = {.state = self.backend->allocate(rows, self.config.hidden, Element::full),
                   .windows = rows,
                   .length = 1};
    self.embed_rows(
        tokens, [&](std::int64_t row) { return positions[static_cast<std::size_t>(row)]; },
        pass.hidden.state);
    for (std::int64_t i = 0; i < self.config.layers; ++i) {
      check_cancelled();
      for (const Stage stage : kStages) {
        // Behind the last attention nobody looks at rows without a target.
        if (i + 1 == self.config.layers && stage == Stage::attention_output) {
          pass.hidden = {
              .state = self.gather(pass.hidden.state, runs, scored), .windows = scored, .length = 1};
          pass.attended = self.gather(pass.attended, runs, scored);
        }
        self.run(i, stage, pass, {});
      }
    }
    if (self.config.layers == 0)
      pass.hidden = {.state = self.gather(pass.hidden.state, runs, scored), .windows = scored, .length = 1};
    const Array input = self.head_input(pass.hidden);
    self.look_at_logits(input, scored);
    self.backend->losses(input, *self.head, asked, losses);
  });
  std::size_t next = 0;
  for (std::size_t i = 0; i < targets.size(); ++i)
    if (targets[i] >= 0) out[i] = losses[next++];
}

void Decoder::head_input(const Hidden& hidden, Array& out) { impl_->head_input(hidden, out); }

void Decoder::look_for_not_finite(bool on) { impl_->looking = on; }

void Decoder::require_finite(std::span<const std::int32_t> tokens, std::int64_t windows,
                             std::int64_t length) {
  std::vector<float> found(static_cast<std::size_t>(windows * (length - 1)));
  const bool before = std::exchange(impl_->looking, true);
  try {
    losses(tokens, windows, length, found);
  } catch (...) {
    impl_->looking = before;
    throw;
  }
  impl_->looking = before;
}

std::shared_ptr<const Weight> Decoder::head() const {
  if (!impl_->head) throw std::logic_error("the head is not loaded");
  return impl_->head;
}

DecoderMemory Decoder::memory() const {
  const Impl& self = *impl_;
  const auto of_weight = [](const Weight* weight) -> std::uint64_t {
    return weight == nullptr ? 0 : weight->bytes() + weight->bias().size_bytes();
  };
  const auto of_array = [&](const Array& array) {
    return static_cast<std::uint64_t>(array.rows() * array.cols()) * self.backend->size_of(array.element());
  };
  const auto of_norm = [&](const NormWeights& norm) { return of_array(norm.scale) + of_array(norm.shift); };
  DecoderMemory memory;
  for (const Block& block : self.blocks) {
    for (const auto* weight : {&block.q, &block.k, &block.v, &block.o, &block.gate, &block.up, &block.down})
      memory.weights += of_weight(weight->get());
    memory.weights += of_norm(block.attention_norm) + of_norm(block.mlp_norm) + of_array(block.q_norm) +
                      of_array(block.k_norm);
  }
  memory.head = of_weight(self.head.get()) + of_weight(self.project_out.get()) + of_norm(self.final_norm);
  for (const Table* table : std::initializer_list<const Table*>{self.embedding.get(), self.positions.get()})
    if (table != nullptr) memory.embedding += table->bytes();
  memory.embedding += of_weight(self.project_in.get());
  const Workspace& work = self.work;
  for (const Array* array :
       {&work.x, &work.q, &work.k, &work.v, &work.attended, &work.mlp, &self.cosines, &self.sines})
    memory.work += of_array(*array);
  return memory;
}

PreparedMatrix Decoder::prepare(std::size_t number, const StoredMatrix& matrix) {
  check(matrix);
  return impl_->prepare(number, matrix, rows_of(matrix), cols_of(matrix));
}

void Decoder::place(std::size_t number, PreparedMatrix matrix) {
  const Matrix& place = impl_->matrices.at(number);
  impl_->require_loaded(place);
  if ((matrix.weight != nullptr) != place.is_multiplied() || (matrix.table != nullptr) != place.is_looked_up())
    throw std::invalid_argument("place: prepared for another matrix");
  if (matrix.weight && (matrix.weight->out() != place.out || matrix.weight->in() != place.in))
    throw std::invalid_argument("place: another shape");
  if (matrix.weight) impl_->slot(place) = std::move(matrix.weight);
  if (matrix.table) impl_->embedding = std::move(matrix.table);
}

PreparedMatrix Decoder::placed(std::size_t number) const {
  const Matrix& place = impl_->matrices.at(number);
  impl_->require_loaded(place);
  PreparedMatrix matrix;
  if (place.is_multiplied()) matrix.weight = impl_->slot(place);
  if (place.is_looked_up()) matrix.table = impl_->embedding;
  return matrix;
}

void Decoder::replace(std::string_view name, const TensorView& weight) {
  if (weight.shape.size() != 2) throw std::invalid_argument("replace: not a matrix");
  Reader::check_finite(weight, "replacement", std::string(name));
  const std::size_t number = impl_->number_of(name);
  place(number, impl_->prepare(number, weight, weight.shape[0], weight.shape[1]));
}

void Decoder::replace(std::string_view name, const StoredMatrix& weight) {
  const std::size_t number = impl_->number_of(name);
  place(number, prepare(number, weight));
}

}  // namespace knapsaq
