#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "knapsaq/compute/functions.h"
#include "knapsaq/compute/input_sums.h"
#include "knapsaq/compute/stored_matrix.h"
#include "knapsaq/compute/tensor.h"

namespace knapsaq {

/// Arithmetic of a forward pass. fp32: everything. bf16: weights and the inputs of matrix products are
/// bfloat16, sums, norms, softmax, residual stream and losses are fp32.
enum class Precision : std::uint8_t { fp32, bf16 };

/// What an Array holds: `full` is fp32 (the residual stream), `working` what matrix products read (fp32 or
/// bf16, as the backend decides by its precision).
enum class Element : std::uint8_t { full, working };

/// rows x cols numbers, row-major, in a backend's memory; made by Backend::allocate() or upload().
class Array {
 public:
  Array() = default;
  Array(std::shared_ptr<void> data, std::int64_t rows, std::int64_t cols, Element element)
      : data_(std::move(data)), rows_(rows), cols_(cols), element_(element) {}

  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  Element element() const { return element_; }
  bool empty() const { return data_ == nullptr; }
  /// The backend's own address: nothing that other code may follow.
  void* data() const { return data_.get(); }
  /// The same memory as rows of `cols` numbers, at most cols(): what layers of several widths share.
  Array narrowed(std::int64_t cols) const { return {data_, rows_, cols, element_}; }
  /// For backends: `rows` rows from `start` on, an address inside this array's memory.
  Array view(void* start, std::int64_t rows) const {
    return {std::shared_ptr<void>(data_, start), rows, cols_, element_};
  }

 private:
  std::shared_ptr<void> data_;
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
  Element element_ = Element::full;
};

/// A matrix W [out, in] in whatever layout a backend multiplies fastest, with its bias if it has one. Belongs
/// to the backend that prepared it.
class Weight {
 public:
  virtual ~Weight() = default;
  std::int64_t out() const { return out_; }
  std::int64_t in() const { return in_; }
  std::span<const float> bias() const { return bias_; }  ///< `out` values or none
  virtual std::uint64_t bytes() const = 0;               ///< of memory that the prepared matrix takes

 protected:
  Weight(std::int64_t out, std::int64_t in, std::vector<float> bias)
      : out_(out), in_(in), bias_(std::move(bias)) {}

 private:
  std::int64_t out_;
  std::int64_t in_;
  std::vector<float> bias_;
};

/// Rows to look up: an embedding, in the precision of its file. Belongs to the backend that prepared it.
class Table {
 public:
  virtual ~Table() = default;
  virtual std::uint64_t bytes() const = 0;  ///< of memory
};

/// One product of several that share their input: out = in W^T + bias, or out += that.
struct Product {
  const Weight* weight;
  Array* out;       ///< [rows, weight->out()]; `full` if accumulate is set
  bool accumulate;  ///< add to what `out` holds: the residual stream
};

/// A norm with its learned vectors; both may be missing (empty).
struct NormWeights {
  Norm kind = Norm::rms;
  float eps = 1e-5f;
  Array scale;  ///< [1, n]
  Array shift;  ///< [1, n]
};

/// Causal attention of `windows` windows of `length` tokens each, which lie one after another in the rows of
/// q, k and v. Query head h reads key head h / (heads / kv_heads).
struct AttentionShape {
  std::int64_t windows = 0;
  std::int64_t length = 0;
  std::int64_t past = 0;  ///< tokens of every window before these, in a cache (Backend::extend() alone)
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t sliding_window =
      0;              ///< a token sees itself and sliding_window - 1 before it; 0: all before it
  float scale = 0;    ///< of scores; 0: head_dim^-0.5
  float softcap = 0;  ///< scaled scores become softcap * tanh(score / softcap) (Gemma 2); 0: they stay
  /// Rotation of q and k, pairs (i, i + r) of the first 2 r numbers of a head, the others stay: cosines and
  /// sines, `full`, [>= past + length, r] each, 2 r <= head_dim; null for none.
  const Array* cosines = nullptr;
  const Array* sines = nullptr;
  /// RMS norm of every head of q and of k before the rotation, [1, head_dim]; or of all heads together (OLMo
  /// 2), [1, heads * head_dim] and [1, kv_heads * head_dim]; null for none.
  const Array* q_norm = nullptr;
  const Array* k_norm = nullptr;
  bool v_norm = false;  ///< RMS norm of every head of v, without weights (Gemma 4)
  float norm_eps = 1e-6f;
  /// One more logit in the softmax of each head, of no token (gpt-oss): [1, heads], `full`; null for none.
  const Array* sinks = nullptr;
  /// q at a position is multiplied by it (Ministral 3, Llama 4): [>= past + length, 1], `full`; null for
  /// none.
  const Array* query_scales = nullptr;
};

/// How the next-token distribution q of a candidate in one row differs from the reference's p; natural
/// logarithms.
struct RowComparison {
  float kl = 0;  ///< KL(p || q) = sum p log(p / q); never below 0
  /// (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2, the Jensen-Shannon divergence (AMQ's loss.py,
  /// without its half precision and its clamp of m); NaN unless asked for.
  float jsd = std::numeric_limits<float>::quiet_NaN();
  float loss = 0;       ///< -log q[target]
  bool agrees = false;  ///< p and q have the same most likely token (of equal ones the first)
};

/// What makes logits of the last norm's output: x W^T + bias, and with a soft cap c of them c tanh(. / c),
/// which keeps them within c of 0 (Gemma 2, arXiv 2408.00118, section 2).
struct OutputHead {
  const Weight* weight = nullptr;
  float softcap = 0;  ///< 0: none
};

/// A candidate of Backend::compare().
struct Compared {
  const Array* in = nullptr;     ///< what its head multiplies: [>= rows, head.in()], `working`
  std::span<RowComparison> out;  ///< one for each row
  /// Of as many outputs as the reference's, and with its soft cap; null: that one.
  const Weight* head = nullptr;
};

/// The loss of a backward pass, summed over rows, in nats. One of the three is set.
struct LossTargets {
  /// Cross entropy with one token for each row; a row with a negative one has no loss.
  std::span<const std::int32_t> tokens = {};
  /// Cross entropy with tokens that are drawn from the model's own distribution by inversion, with one number
  /// of [0, 1) for each row: then the gradients' second moments are the Fisher information.
  std::span<const double> draws = {};
  /// KL(p || q) with p of reference_head's logits of it: [>= rows, reference_head->in()], `working`.
  const Array* reference = nullptr;
  /// Of as many outputs as the head, and with its soft cap.
  const Weight* reference_head = nullptr;
};

/// Gradients by the vectors of a norm, summed over rows: [n] each, in double.
struct NormGradient {
  std::vector<double> scale;
  std::vector<double> shift;
};

/// Gradients by what attend() reads.
struct AttentionGradient {
  Array q, k, v;  ///< like attend()'s, `working`
  /// Summed over rows (and heads), as long as the norms; empty where they are not wanted.
  std::vector<double> q_norm, k_norm;
  std::vector<double> sinks;  ///< [heads]; empty where they are not wanted
};

/// Some rows of a batch: `length` tokens that follow each other. They see themselves and, if `parent` is not
/// negative, all tokens of that segment, which lies before this one and has no parent itself; their positions
/// go on where its positions end. So a context that several continuations share is in the batch once.
struct Segment {
  std::int64_t length = 0;
  std::int32_t parent = -1;
};

/// How the logits of a router become experts and weights. The scores of a row are softmax(logits) over all
/// experts, or sigmoid(logits) of each. Those of the highest scores are chosen; of equal ones the first, and
/// NaN is above all numbers. A chosen one's weight is its score, times `scale`.
struct RouterRule {
  enum class Score : std::uint8_t { softmax, sigmoid };
  std::int64_t chosen = 0;  ///< experts of a row
  Score score = Score::softmax;
  /// Scores are divided by the sum of the chosen ones and `epsilon`. With softmax this is the softmax of the
  /// chosen logits (gpt-oss).
  bool renormalise = false;
  float epsilon = 0;  ///< DeepSeek-V3: 1e-20, LFM2: 1e-6
  float scale = 1;
  /// [1, experts]: added to the scores where experts are chosen, not to weights (DeepSeek-V3); null: none.
  const Array* bias = nullptr;
};

/// Which rows of a batch meet which experts: the rows of all experts, expert after expert, in ascending
/// order within each; those of expert e are [begin[e], begin[e + 1]). An array "of experts' rows" has a row
/// for each of them, in this order.
struct ExpertRows {
  std::vector<std::int32_t> rows;
  std::vector<float> weights;       ///< what the expert's result for that row is multiplied by
  std::vector<std::int64_t> begin;  ///< experts + 1
  std::int64_t batch = 0;           ///< rows of the batch

  std::int64_t size() const { return static_cast<std::int64_t>(rows.size()); }
  std::int64_t experts() const { return static_cast<std::int64_t>(begin.size()) - 1; }
  std::int64_t rows_of(std::int64_t expert) const {
    const auto e = static_cast<std::size_t>(expert);
    return begin[e + 1] - begin[e];
  }
};

/// The first half of an expert's MLP; gate may be null.
struct ExpertWeights {
  const Weight* gate = nullptr;
  const Weight* up = nullptr;
};

/// What a cache holds of a key or a value: what matrix products read (fp32 or bf16), fp16, or int8 with a
/// scale for every head of a token.
enum class CacheElement : std::uint8_t { working, half, int8 };

/// Keys and values of the tokens so far, of one attention and several sequences of equal length: what later
/// tokens look back at. Belongs to the backend that made it.
class AttentionCache {
 public:
  virtual ~AttentionCache() = default;
  virtual std::uint64_t bytes() const = 0;  ///< of memory
};

/// What a RecurrentState holds of every sequence.
struct RecurrentShape {
  std::int64_t sequences = 0;
  std::int64_t channels = 0;  ///< of a short convolution
  std::int64_t taps = 0;
  std::int64_t value_heads = 0;  ///< of a gated delta rule; 0: there is none
  std::int64_t key_dim = 0;
  std::int64_t value_dim = 0;
};

/// What later tokens need of all tokens before, in a layer that has no keys and values: the last inputs of
/// its convolution, and the states of its delta rule. It is of fixed size, fp32, and cannot be cut back to
/// fewer tokens: who wants to return to a length keeps a copy. Belongs to the backend that made it.
class RecurrentState {
 public:
  virtual ~RecurrentState() = default;
  virtual std::uint64_t bytes() const = 0;  ///< of memory
  virtual void clear() = 0;                 ///< as before the first token
  virtual std::unique_ptr<RecurrentState> copy() const = 0;
  /// Becomes what `from`, of the same shape and backend, is.
  virtual void assign(const RecurrentState& from) = 0;
};

/// Which rows of a recurrent operation follow each other: windows of equal length, which begin with nothing
/// before them; or segments, of which a child goes on where its parent ends; or further tokens of the
/// sequences of a state, which it then holds too. A row's result is the same to the bit in all three.
struct RowSequences {
  std::int64_t windows = 0;
  std::int64_t length = 0;
  std::span<const Segment> segments = {};  ///< not empty: these, whatever `windows` and `length` are
  RecurrentState* state = nullptr;         ///< of `windows` sequences; not together with segments
};

/// A depthwise causal convolution along the tokens: y_t = bias + sum over j of kernel_j x_(t - taps + 1 + j),
/// where inputs before the first token are 0.
struct ShortConvolution {
  const Array* kernel = nullptr;  ///< [taps, channels] full; its last row multiplies the token itself
  const Array* bias = nullptr;    ///< [1, channels] full; null for none
  bool silu = false;              ///< y becomes y sigmoid(y)
  /// The input is [rows, 3 channels], B, C and u side by side; x = B u, and the result C y (LFM2).
  bool gated = false;
};

/// The gated delta rule (Yang, Kautz, Hatamizadeh, "Gated Delta Networks", 2024) as Qwen3-Next has it. Every
/// value head has a state S [key_dim, value_dim], 0 at first; value head h reads key head h / (value_heads /
/// key_heads). With q and k divided by the root of their square sum + norm_eps, and q by that of key_dim:
///   S_t = exp(g_t) S_(t-1) + k_t (beta_t (v_t - exp(g_t) S_(t-1)^T k_t))^T,  o_t = S_t^T q_t,
///   g_t = rate softplus(a_t + dt_bias), beta_t = sigmoid(b_t).
struct DeltaShape {
  std::int64_t key_heads = 0;
  std::int64_t value_heads = 0;
  std::int64_t key_dim = 0;
  std::int64_t value_dim = 0;
  const Array* rates = nullptr;    ///< [1, value_heads] full: -exp(A_log)
  const Array* dt_bias = nullptr;  ///< [1, value_heads] full
  float norm_eps = 1e-6f;
  /// Of q, k and v of all heads, which are side by side in one array.
  std::int64_t channels() const { return 2 * key_heads * key_dim + value_heads * value_dim; }
};

/// Gradients by what gated_delta_rule() reads, of the same shapes, all `working`.
struct DeltaGradient {
  Array qkv, a, b;
};

/// The operations that a decoder needs. model/ is written against this class only, so that another processor
/// is another implementation of it.
///
/// Rows are tokens. Every operation works row by row with a partition that does not depend on the number of
/// threads, so results do not either. Calls come from one thread at a time. Sizes are the caller's
/// responsibility: what does not fit is std::invalid_argument.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual Precision precision() const = 0;
  /// Rows (tokens) of a batch at which this backend is near its full speed; more of them only take memory.
  virtual std::int64_t batch_rows() const = 0;
  /// Bytes that still fit into the memory of its arrays and weights; nothing where it does not say.
  virtual std::optional<std::uint64_t> available_memory() const = 0;
  /// For people: "cpu, avx512_bf16, bf16".
  virtual std::string description() const = 0;

  /// Bytes of one number.
  virtual std::size_t size_of(Element element) const = 0;
  /// Zeros.
  virtual Array allocate(std::int64_t rows, std::int64_t cols, Element element) = 0;
  /// A `full` array with these values, values.size() == rows * cols.
  virtual Array upload(std::span<const float> values, std::int64_t rows, std::int64_t cols) = 0;
  /// Rows [first, first + rows) of an array, sharing its memory.
  virtual Array view(const Array& array, std::int64_t first, std::int64_t rows) = 0;
  /// Rows [first, first + n) of an array as floats, n = out.size() / cols.
  virtual void download(const Array& array, std::int64_t first, std::span<float> out) = 0;

  /// A dense matrix [out, in] (F16, BF16 or F32) with a bias of `out` values or none; the tensor's bytes are
  /// not needed afterwards.
  virtual std::unique_ptr<Weight> prepare(const TensorView& weight, std::span<const float> bias) = 0;
  /// A quantized matrix; it must have passed check().
  virtual std::unique_ptr<Weight> prepare(const StoredMatrix& weight, std::span<const float> bias) = 0;

  /// A copy of a matrix [n, cols] (F16, BF16 or F32), or of a quantized one that has passed check().
  virtual std::unique_ptr<Table> prepare_table(const TensorView& table) = 0;
  virtual std::unique_ptr<Table> prepare_table(const StoredMatrix& table) = 0;

  /// out[i] = table[ids[i]], or out[i] += that; out is `full` and has at least ids.size() rows; ids in [0,
  /// n).
  virtual void embed(const Table& table, std::span<const std::int32_t> ids, bool accumulate, Array& out) = 0;

  /// out = norm(in) for the first `rows` rows; in is `full`, out either, and may be in.
  virtual void norm(const Array& in, const NormWeights& weights, std::int64_t rows, Array& out) = 0;
  /// values *= factor; full or working, in place.
  virtual void scale(Array& values, std::int64_t rows, float factor) = 0;
  /// sum += factor * in, both full and of one width.
  virtual void add(const Array& in, std::int64_t rows, float factor, Array& sum) = 0;
  /// values *= sigmoid(gate); both working, gate as wide as values, or one number for each row.
  virtual void gate(const Array& gate, std::int64_t rows, Array& values) = 0;
  /// logits = cap * tanh(logits / cap), full, in place; cap > 0.
  virtual void softcap(Array& logits, std::int64_t rows, float cap) = 0;
  /// out = in, from `full` to `working`.
  virtual void convert(const Array& in, std::int64_t rows, Array& out) = 0;

  /// All products over the first `rows` rows of in (`working`).
  virtual void multiply(const Array& in, std::int64_t rows, std::span<const Product> products) = 0;

  /// The first half of an MLP: out = act(in gate^T) * (in up^T), or act(in up^T) if gate is null; biases
  /// included. in and out are `working`.
  virtual void activate(const Array& in, std::int64_t rows, const Weight* gate, const Weight& up,
                        Activation activation, Array& out) = 0;

  // Mixtures of experts: route(), gather() of the inputs, activate_experts(), multiply_experts() by the down
  // projections, add_experts(). A shared expert with a gate is one that all rows meet: its gate's logit goes
  // through route() with one expert and a sigmoid.

  /// logits is [rows, experts], `full`.
  virtual void route(const Array& logits, std::int64_t rows, const RouterRule& rule, ExpertRows& out) = 0;
  /// to[i] = from[rows[i]]; of the same element and width.
  virtual void gather(const Array& from, std::span<const std::int32_t> rows, Array& to) = 0;
  /// activate() of every expert's rows with its weights, which may be null where it has none.
  virtual void activate_experts(const Array& in, const ExpertRows& rows,
                                std::span<const ExpertWeights> experts, Activation activation,
                                Array& out) = 0;
  /// multiply() of every expert's rows with its weight, which may be null where it has none. What a row's
  /// product is depends on the size of the batch at most, not on how many rows the expert has.
  virtual void multiply_experts(const Array& in, const ExpertRows& rows,
                                std::span<const Weight* const> experts, Array& out) = 0;
  /// sum[rows.rows[i]] += rows.weights[i] from[i], for every row in the order of the experts; both `full`.
  virtual void add_experts(const Array& from, const ExpertRows& rows, Array& sum) = 0;

  /// q [windows * length, heads * head_dim], k and v [.., kv_heads * head_dim], out as q; all `working`.
  virtual void attend(const AttentionShape& shape, const Array& q, const Array& k, const Array& v,
                      Array& out) = 0;

  /// attend() for windows of different lengths, which lie one after another in the rows: shape.windows and
  /// shape.length are not looked at.
  virtual void attend(const AttentionShape& shape, std::span<const Segment> segments, const Array& q,
                      const Array& k, const Array& v, Array& out) = 0;

  /// Room for shape.windows sequences of at most shape.length tokens.
  virtual std::unique_ptr<AttentionCache> make_cache(const AttentionShape& shape, CacheElement element) = 0;
  /// attend() for shape.length further tokens of every sequence, at positions shape.past and after. Their
  /// keys and values go into the cache, which holds those of all positions before.
  virtual void extend(const AttentionShape& shape, const Array& q, const Array& k, const Array& v,
                      AttentionCache& cache, Array& out) = 0;

  /// As before the first token of every sequence.
  virtual std::unique_ptr<RecurrentState> make_state(const RecurrentShape& shape) = 0;
  /// in and out [rows, channels], `working`; in has three times as many columns if the convolution is gated.
  virtual void short_convolution(const RowSequences& sequences, const ShortConvolution& convolution,
                                 const Array& in, Array& out) = 0;
  /// qkv [rows, shape.channels()] `working`, a and b [rows, value_heads] `full`, out [rows, value_heads *
  /// value_dim] `working`. States and sums are fp32.
  virtual void gated_delta_rule(const RowSequences& sequences, const DeltaShape& shape, const Array& qkv,
                                const Array& a, const Array& b, Array& out) = 0;
  /// out = norm(in) * silu(gate), where the norm is that of every head of weights.scale.cols() columns; RMS
  /// norms only. All `working`; out may be in.
  virtual void gated_norm(const Array& in, const Array& gate, const NormWeights& weights, std::int64_t rows,
                          Array& out) = 0;

  /// losses[i] = -log softmax(logits of in[i])[targets[i]] in nats, from the head's fp32 logits, of which
  /// only a tile exists at a time; 0 where targets[i] is negative. in is `working`.
  virtual void losses(const Array& in, const OutputHead& head, std::span<const std::int32_t> targets,
                      std::span<float> losses) = 0;

  /// Compares candidates with a reference, row by row, over the whole vocabulary: p of the reference's logits
  /// by `head`, q of the candidate's by its own, from fp32 logits of which only tiles exist at a time; the
  /// reference's are computed once for all candidates. Rows with a negative target are left as they
  /// are. A candidate's result does not depend on the others. `reference` is like Compared::in;
  /// targets.size() rows.
  virtual void compare(const Array& reference, const OutputHead& head, std::span<const std::int32_t> targets,
                       bool jsd, std::span<const Compared> candidates) = 0;

  // The backward pass. A gradient is that of a loss summed over rows, and has the shape of what it is taken
  // by. Weights must be dense (Packed::off).

  /// W^T [in, out] without the bias: a gradient goes back through a product by multiply() with it. `memory`
  /// is an earlier result or null; one of the same shape is overwritten.
  virtual std::unique_ptr<Weight> transposed(const Weight& weight, std::unique_ptr<Weight> memory = {}) = 0;
  /// sum [a.cols(), b.cols()] (`full`) += a^T b over the first `rows` rows; a and b are `working`. Of a
  /// gradient and an input this is the gradient by a weight. Sums are fp32.
  virtual void add_product_of_columns(const Array& a, const Array& b, std::int64_t rows, Array& sum) = 0;
  /// Adds |x| and x^2 of the first `rows` rows of in (`working`) to sums of in.cols() values.
  virtual void add_column_sums(const Array& in, std::int64_t rows, std::span<double> abs,
                               std::span<double> squares) = 0;
  /// sum += the gradient by `in`, given the one by norm(in); all `full`. Adds the gradients by the norm's
  /// vectors to `of_weights`, whose vectors are as long as the norm's, unless it is null.
  virtual void norm_backward(const Array& in, const NormWeights& weights, std::int64_t rows,
                             const Array& gradient, Array& sum, NormGradient* of_weights) = 0;
  /// Through act(gate) * up, or act(up) if gate is null, of products that are given; all `working`. `out` is
  /// the result again, `of_gate` is not looked at without a gate; of_up may be `gradient`.
  virtual void activate_backward(const Array* gate, const Array& up, std::int64_t rows, Activation activation,
                                 const Array& gradient, Array& out, Array* of_gate, Array& of_up) = 0;
  /// Through gate(), in place: `gradient`, the one by the product, becomes that by `values`, which are the
  /// ones before it; all working. of_gate is shaped like the gate, and may be it.
  virtual void gate_backward(const Array& gate, const Array& values, std::int64_t rows, Array& gradient,
                             Array& of_gate) = 0;
  /// Through add_experts(): of_from[i] = weights[i] gradient[rows[i]] (`working`), and the gradients by the
  /// weights, of_weights[i] = gradient[rows[i]] * from[i]. `gradient` (of the sum) and `from` are `full`.
  virtual void add_experts_backward(const Array& gradient, const Array& from, const ExpertRows& rows,
                                    Array& of_from, std::span<float> of_weights) = 0;
  /// Through gather(): sum[rows[i]] += from[i] in the order of i; both `full`.
  virtual void gather_backward(const Array& from, std::span<const std::int32_t> rows, Array& sum) = 0;
  /// Through route(), which made `routed` of these logits, given the gradients by its weights: of_logits
  /// [>= rows, experts], `full`. Which experts are chosen has no gradient.
  virtual void route_backward(const Array& logits, std::int64_t rows, const RouterRule& rule,
                              const ExpertRows& routed, std::span<const float> of_weights,
                              Array& of_logits) = 0;
  /// Through attend() of windows of equal length. Adds to the sums; the arrays are overwritten.
  virtual void attend_backward(const AttentionShape& shape, const Array& q, const Array& k, const Array& v,
                               const Array& gradient, AttentionGradient& out) = 0;
  /// Through short_convolution() of windows of equal length, without a state: the gradient by its input, of
  /// the same shape; all `working`.
  virtual void short_convolution_backward(const RowSequences& sequences, const ShortConvolution& convolution,
                                          const Array& in, const Array& gradient, Array& of_in) = 0;
  /// Through gated_delta_rule() of windows of equal length, without a state; the arrays are overwritten.
  virtual void gated_delta_rule_backward(const RowSequences& sequences, const DeltaShape& shape,
                                         const Array& qkv, const Array& a, const Array& b,
                                         const Array& gradient, DeltaGradient& out) = 0;
  /// Through gated_norm(): the gradients by `in` and `gate`, all `working`. Adds those by the norm's scale,
  /// summed over rows and heads, to of_weights->scale unless of_weights is null.
  virtual void gated_norm_backward(const Array& in, const Array& gate, const NormWeights& weights,
                                   std::int64_t rows, const Array& gradient, Array& of_in, Array& of_gate,
                                   NormGradient* of_weights) = 0;
  /// The gradient by in W^T (before a soft cap) of the first losses.size() rows of in (`working`), W the
  /// head's: softmax(logits) minus the target's distribution, times the cap's slope; `out` [>= rows, W.out()]
  /// is `working`. A row without a loss has zeros. losses[i] is the loss of row i.
  virtual void loss_gradient(const Array& in, const OutputHead& head, const LossTargets& targets,
                             std::span<float> losses, Array& out) = 0;

  /// to = from, for the first `rows` rows; of the same element and width.
  virtual void copy(const Array& from, std::int64_t rows, Array& to) = 0;

  /// Adds the first `rows` rows of in (`working`) to sums of in.cols() values. Products of two inputs are
  /// summed in fp32 over at most kSumRows rows, everything else in double. Values that are not finite make
  /// sums that are not.
  virtual void sum_inputs(const Array& in, std::int64_t rows, InputSums& sums) = 0;
  /// An fp32 sum of so many terms of like size is off by some 2^-24 sqrt(kSumRows) = 3e-6 of its size.
  static constexpr std::int64_t kSumRows = 2048;
};

/// How a backend multiplies by quantized weights.
enum class Packed : std::uint8_t {
  off,    ///< they are dequantized when they are prepared: fastest for scoring many tokens
  exact,  ///< they stay packed; codes and factors as stored, sums in fp32, inputs as the precision says
  int8    ///< they stay packed; inputs are rounded to int8, every 32 of a row with a scale of their own
};

/// What a matrix multiplies.
enum class Inputs : std::uint8_t {
  as_computed,  ///< in the working precision
  /// Rounded as llama.cpp's kernels for processors do it before they multiply: to int8 in blocks for matrices
  /// in GGML's types, to 16 bits for those in 16 bits. Products are then llama.cpp's but for the last bits of
  /// sums. For dense weights (Packed::off) and Precision::fp32.
  as_llama_cpp,
};

struct BackendOptions {
  /// A backend ("cpu": the best that it has on this machine), or one of devices() ("cpu:avx2").
  std::string device = "cpu";
  Precision precision = Precision::bf16;
  Packed packed = Packed::off;
  Inputs inputs = Inputs::as_computed;
};

/// What this machine can compute on, the best first, backend after backend: "cpu:avx512_bf16", "cpu:avx2",
/// "cpu:portable". KNAPSAQ_ISA removes those above it.
std::vector<std::string> devices();

/// Backends are a folder below compute/ and a line in make_backend.cpp each. Throws UsageError for a device
/// that no backend knows and for one that this machine does not have.
std::unique_ptr<Backend> make_backend(const BackendOptions& options);

}  // namespace knapsaq
