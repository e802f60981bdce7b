#include "knapsaq/compute/cpu/cpu_backend.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <type_traits>

#include "knapsaq/base/float16.h"
#include "knapsaq/base/instruction_set.h"
#include "knapsaq/base/memory.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/compute/cpu/aligned.h"
#include "knapsaq/compute/cpu/attention.h"
#include "knapsaq/compute/cpu/attention_gradient.h"
#include "knapsaq/compute/cpu/cpu_kernels.h"
#include "knapsaq/compute/cpu/experts.h"
#include "knapsaq/compute/cpu/gradients.h"
#include "knapsaq/compute/cpu/head_tile.h"
#include "knapsaq/compute/cpu/linears.h"
#include "knapsaq/compute/cpu/pointwise.h"
#include "knapsaq/compute/cpu/product.h"
#include "knapsaq/compute/cpu/recurrent.h"
#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq {
namespace cpu {
namespace {

// Rows of a batch: sixteen tiles keep several threads busy, and the activations of a block (13 MB per 1000
// rows of a model with 1024 hidden) stay near the shared cache.
constexpr std::int64_t kBatchRows = 16 * kTileRows;

/// A table whose rows can be read as floats.
class RowTable : public Table {
 public:
  virtual std::int64_t rows() const = 0;
  virtual std::int64_t cols() const = 0;
  virtual void read_row(std::int64_t id, std::span<float> out) const = 0;
};

class DenseTable final : public RowTable {
 public:
  explicit DenseTable(const TensorView& table) : bytes_(table.bytes.begin(), table.bytes.end()) {
    view_ = {table.type, table.shape, bytes_};
  }
  std::uint64_t bytes() const override { return bytes_.size(); }
  std::int64_t rows() const override { return view_.shape[0]; }
  std::int64_t cols() const override { return view_.shape[1]; }
  void read_row(std::int64_t id, std::span<float> out) const override {
    read_floats(view_, id * cols(), out);
  }

 private:
  std::vector<std::byte> bytes_;
  TensorView view_;
};

class StoredTable final : public RowTable {
 public:
  explicit StoredTable(const StoredMatrix& table) : table_(table) {}
  std::uint64_t bytes() const override { return memory_of(table_); }
  std::int64_t rows() const override { return rows_of(table_); }
  std::int64_t cols() const override { return cols_of(table_); }
  void read_row(std::int64_t id, std::span<float> out) const override { dequantize_row(table_, id, out); }

 private:
  StoredMatrix table_;
};

template <class T>
class CpuBackend final : public Backend {
 public:
  CpuBackend(const CpuOptions& options, const Kernels<T>& kernels, const PackedKernels& packed_kernels)
      : precision_(options.precision),
        kernels_(kernels),
        linears_(options, kernels, packed_kernels),
        pointwise_(*kernels.pointwise),
        grams_(kWorking),
        experts_(kernels),
        attention_(kernels),
        recurrent_(kernels),
        gradients_(kernels, linears_.products(), grams_) {}

  Precision precision() const override { return precision_; }
  std::int64_t batch_rows() const override { return kBatchRows; }
  std::optional<std::uint64_t> available_memory() const override { return knapsaq::available_memory(); }
  std::string description() const override {
    return std::string("cpu, ") + kernels_.name + (precision_ == Precision::bf16 ? ", bf16" : ", fp32");
  }

  std::size_t size_of(Element element) const override {
    return element == Element::full ? sizeof(float) : sizeof(T);
  }

  Array allocate(std::int64_t rows, std::int64_t cols, Element element) override {
    require(rows >= 0 && cols >= 0, "allocate: negative size");
    const std::size_t size = element == Element::full ? sizeof(float) : sizeof(T);
    auto bytes = std::make_shared<AlignedBytes>(static_cast<std::size_t>((rows + kRowStep) * cols) * size);
    bytes->clear();
    return {std::shared_ptr<void>(bytes, bytes->data()), rows, cols, element};
  }

  Array upload(std::span<const float> values, std::int64_t rows, std::int64_t cols) override {
    require(static_cast<std::int64_t>(values.size()) == rows * cols, "upload: wrong number of values");
    Array array = allocate(rows, cols, Element::full);
    if (!values.empty()) std::memcpy(array.data(), values.data(), values.size_bytes());
    return array;
  }

  Array view(const Array& array, std::int64_t first, std::int64_t rows) override {
    require(first >= 0 && rows >= 0 && first + rows <= array.rows(), "view: past the end");
    const std::size_t size = array.element() == Element::full ? sizeof(float) : sizeof(T);
    const std::size_t offset = static_cast<std::size_t>(first * array.cols()) * size;
    return array.view(static_cast<std::byte*>(array.data()) + offset, rows);
  }

  void download(const Array& array, std::int64_t first, std::span<float> out) override {
    const auto count = static_cast<std::int64_t>(out.size());
    require(first >= 0 && first * array.cols() + count <= array.rows() * array.cols(),
            "download: past the end");
    const std::int64_t start = first * array.cols();
    if (array.element() == Element::full) {
      std::copy_n(full(array) + start, count, out.begin());
    } else if constexpr (std::is_same_v<T, Bf16>) {
      std::transform(working<T>(array) + start, working<T>(array) + start + count, out.begin(),
                     [](Bf16 x) { return bfloat16_to_float(static_cast<std::uint16_t>(x)); });
    } else {
      std::copy_n(working<T>(array) + start, count, out.begin());
    }
  }

  std::unique_ptr<Weight> prepare(const TensorView& weight, std::span<const float> bias) override {
    return linears_.prepare(weight, bias);
  }
  std::unique_ptr<Weight> prepare(const StoredMatrix& weight, std::span<const float> bias) override {
    return linears_.prepare(weight, bias);
  }

  std::unique_ptr<Table> prepare_table(const TensorView& table) override {
    require(table.shape.size() == 2 && is_weight_type(table.type), "prepare_table: not a matrix of floats");
    return std::make_unique<DenseTable>(table);
  }
  std::unique_ptr<Table> prepare_table(const StoredMatrix& table) override {
    return std::make_unique<StoredTable>(table);
  }

  void embed(const Table& table, std::span<const std::int32_t> ids, bool accumulate, Array& out) override {
    const auto& rows = dynamic_cast<const RowTable&>(table);
    const std::int64_t cols = rows.cols();
    require(out.element() == Element::full && out.cols() == cols &&
                out.rows() >= static_cast<std::int64_t>(ids.size()),
            "embed: output of another shape");
    const RowTiles tiles(static_cast<std::int64_t>(ids.size()));
    for_tiles(tiles, [&](const RowTile& tile) {
      std::vector<float> row(static_cast<std::size_t>(cols));
      for (std::int64_t r = tile.first; r < tile.first + tile.count; ++r) {
        const std::int64_t id = ids[static_cast<std::size_t>(r)];
        float* target = full(out) + r * cols;
        if (accumulate) {
          rows.read_row(id, row);
          kernels_.add(row.data(), cols, target);
        } else {
          rows.read_row(id, {target, static_cast<std::size_t>(cols)});
        }
      }
    });
  }

  void norm(const Array& in, const NormWeights& weights, std::int64_t rows, Array& out) override {
    const std::int64_t n = in.cols();
    require(in.element() == Element::full && out.cols() == n && rows <= in.rows() && rows <= out.rows(),
            "norm: shapes differ");
    require(weights.scale.empty() || weights.scale.cols() == n, "norm: scale of another length");
    require(weights.shift.empty() || weights.shift.cols() == n, "norm: shift of another length");
    const float* scale = full_or_null(&weights.scale);
    const float* shift = full_or_null(&weights.shift);
    for_tiles(RowTiles(rows), [&](const RowTile& tile) {
      for (std::int64_t r = tile.first; r < tile.first + tile.count; ++r) {
        const float* x = full(in) + r * n;
        if (out.element() == Element::full) {
          kernels_.norm_full(weights.kind, x, scale, shift, weights.eps, n, full(out) + r * n);
        } else {
          kernels_.norm_working(weights.kind, x, scale, shift, weights.eps, n, working<T>(out) + r * n);
        }
      }
    });
  }

  void scale(Array& values, std::int64_t rows, float factor) override {
    pointwise_.scale(values, rows, factor);
  }
  void add(const Array& in, std::int64_t rows, float factor, Array& sum) override {
    pointwise_.add(in, rows, factor, sum);
  }
  void gate(const Array& gate, std::int64_t rows, Array& values) override {
    pointwise_.gate(gate, rows, values);
  }
  void softcap(Array& logits, std::int64_t rows, float cap) override {
    pointwise_.softcap(logits, rows, cap);
  }

  void convert(const Array& in, std::int64_t rows, Array& out) override {
    require(in.element() == Element::full && out.element() == Element::working && in.cols() == out.cols() &&
                rows <= in.rows() && rows <= out.rows(),
            "convert: shapes differ");
    for_tiles(RowTiles(rows), [&](const RowTile& tile) {
      kernels_.convert(full(in) + tile.first * in.cols(), tile.count * in.cols(),
                       working<T>(out) + tile.first * in.cols());
    });
  }

  void multiply(const Array& in, std::int64_t rows, std::span<const Product> products) override {
    linears_.multiply(in, rows, products);
  }
  void activate(const Array& in, std::int64_t rows, const Weight* gate, const Weight& up,
                Activation activation, Array& out) override {
    linears_.activate(in, rows, gate, up, activation, out);
  }
  void losses(const Array& in, const OutputHead& head, std::span<const std::int32_t> targets,
              std::span<float> losses) override {
    linears_.losses(in, head, targets, losses);
  }

  void route(const Array& logits, std::int64_t rows, const RouterRule& rule, ExpertRows& out) override {
    experts_.route(logits, rows, rule, out);
  }
  void gather(const Array& from, std::span<const std::int32_t> rows, Array& to) override {
    experts_.gather(from, rows, to);
  }
  void activate_experts(const Array& in, const ExpertRows& rows, std::span<const ExpertWeights> experts,
                        Activation activation, Array& out) override {
    linears_.activate_experts(in, rows, experts, activation, out);
  }
  void multiply_experts(const Array& in, const ExpertRows& rows, std::span<const Weight* const> experts,
                        Array& out) override {
    linears_.multiply_experts(in, rows, experts, out);
  }
  void add_experts(const Array& from, const ExpertRows& rows, Array& sum) override {
    experts_.add_experts(from, rows, sum);
  }

  void attend(const AttentionShape& shape, const Array& q, const Array& k, const Array& v,
              Array& out) override {
    attention_.attend(shape, q, k, v, out);
  }
  void attend(const AttentionShape& shape, std::span<const Segment> segments, const Array& q, const Array& k,
              const Array& v, Array& out) override {
    attention_.attend(shape, segments, q, k, v, out);
  }
  std::unique_ptr<AttentionCache> make_cache(const AttentionShape& shape, CacheElement element) override {
    return attention_.make_cache(shape, element);
  }
  void extend(const AttentionShape& shape, const Array& q, const Array& k, const Array& v,
              AttentionCache& cache, Array& out) override {
    attention_.extend(shape, q, k, v, cache, out);
  }

  std::unique_ptr<RecurrentState> make_state(const RecurrentShape& shape) override {
    return recurrent_.make_state(shape);
  }
  void short_convolution(const RowSequences& sequences, const ShortConvolution& convolution, const Array& in,
                         Array& out) override {
    recurrent_.short_convolution(sequences, convolution, in, out);
  }
  void gated_delta_rule(const RowSequences& sequences, const DeltaShape& shape, const Array& qkv,
                        const Array& a, const Array& b, Array& out) override {
    recurrent_.gated_delta_rule(sequences, shape, qkv, a, b, out);
  }
  void gated_norm(const Array& in, const Array& gate, const NormWeights& weights, std::int64_t rows,
                  Array& out) override {
    recurrent_.gated_norm(in, gate, weights, rows, out);
  }

  void compare(const Array& reference, const OutputHead& output, std::span<const std::int32_t> targets,
               bool jsd, std::span<const Compared> candidates) override {
    const DenseWeight& head = dense(*output.weight);
    const auto rows = static_cast<std::int64_t>(targets.size());
    check_input(reference, rows, head);
    std::vector<const DenseWeight*> heads;  // of the candidates
    for (const Compared& candidate : candidates) {
      heads.push_back(candidate.head == nullptr ? &head : &dense(*candidate.head));
      check_input(*candidate.in, rows, *heads.back());
      // Then it is cut into the same chunks.
      require(heads.back()->out() == head.out(), "compare: heads of different numbers of outputs");
      require(candidate.out.size() == targets.size(), "compare: output of another length");
    }
    for (const std::int32_t target : targets) require(target < head.out(), "compare: no such target");
    const Array of_reference_head = linears_.inputs_of(head, reference, rows);
    std::vector<Array> of_heads;  // what each candidate's multiplies
    for (std::size_t c = 0; c < candidates.size(); ++c)
      of_heads.push_back(linears_.inputs_of(*heads[c], *candidates[c].in, rows));
    const RowTiles tiles = head_tiles(head, rows);
    for_tiles(tiles, [&](const RowTile& tile) {
      const auto of_tile =
          targets.subspan(static_cast<std::size_t>(tile.first), static_cast<std::size_t>(tile.count));
      if (std::ranges::all_of(of_tile, [](std::int32_t target) { return target < 0; })) return;
      const std::int64_t elements = tile.computed * head.out();
      t_tile.reserve(static_cast<std::size_t>(3 * elements) * sizeof(float));
      float* log_p = reinterpret_cast<float*>(t_tile.data());
      float* p = log_p + elements;
      float* logits = p + elements;
      const HeadTile of_reference =
          head_products(linears_.products(), kernels_, head, output.softcap, of_reference_head, tile, log_p);
      // log p and log q are rounded to fp32 after the same subtraction, so that they are equal where p = q
      // is; what the rounding of the two sums leaves is added at the end.
      for (std::int64_t r = 0; r < tile.count; ++r) {
        const auto log_sum = static_cast<float>(of_reference.log_sums[static_cast<std::size_t>(r)]);
        for (const DenseWeight::Chunk& chunk : head.chunks()) {
          const std::int64_t start = tile.computed * chunk.first + r * chunk.cols;
          kernels_.log_probabilities(log_p + start, chunk.cols, log_sum, p + start);
        }
      }
      for (std::size_t c = 0; c < candidates.size(); ++c) {
        const Compared& candidate = candidates[c];
        const HeadTile of_candidate = head_products(linears_.products(), kernels_, *heads[c], output.softcap,
                                                    of_heads[c], tile, logits);
        for (std::int64_t r = 0; r < tile.count; ++r) {
          const auto i = static_cast<std::size_t>(r);
          const std::int32_t target = targets[static_cast<std::size_t>(tile.first + r)];
          if (target < 0) continue;
          const double log_sum = of_candidate.log_sums[i];
          const auto shift = static_cast<float>(log_sum);
          const double reference_sum = of_reference.log_sums[i];
          double kl = (log_sum - shift) - (reference_sum - static_cast<float>(reference_sum));
          double js = 0;
          double target_logit = 0;
          for (const DenseWeight::Chunk& chunk : head.chunks()) {
            const std::int64_t start = tile.computed * chunk.first + r * chunk.cols;
            const float* row = logits + start;
            if (jsd) {
              const DivergencePair part =
                  kernels_.both_divergences(log_p + start, p + start, row, chunk.cols, shift);
              kl += part.kl;
              js += part.jsd;
            } else {
              kl += kernels_.divergence(log_p + start, p + start, row, chunk.cols, shift);
            }
            if (target >= chunk.first && target < chunk.first + chunk.cols)
              target_logit = row[target - chunk.first];
          }
          RowComparison& out = candidate.out[static_cast<std::size_t>(tile.first + r)];
          // Rounding may leave a sum just below 0; NaN stays.
          out.kl = static_cast<float>(kl < 0 ? 0 : kl);
          if (jsd) out.jsd = static_cast<float>(js < 0 ? 0 : js);
          out.loss = static_cast<float>(log_sum - target_logit);
          out.agrees = of_candidate.likeliest[i] == of_reference.likeliest[i];
        }
      }
    });
  }

  std::unique_ptr<Weight> transposed(const Weight& weight, std::unique_ptr<Weight> memory) override {
    std::unique_ptr<DenseWeight> result;
    if (auto* earlier = dynamic_cast<DenseWeight*>(memory.get());
        earlier != nullptr && earlier->out() == weight.in() && earlier->in() == weight.out() &&
        earlier->bias().empty()) {
      static_cast<void>(memory.release());
      result.reset(earlier);
    }
    return linears_.products().transposed(dense(weight), std::move(result));
  }
  void add_product_of_columns(const Array& a, const Array& b, std::int64_t rows, Array& sum) override {
    gradients_.add_product_of_columns(a, b, rows, sum);
  }
  void add_column_sums(const Array& in, std::int64_t rows, std::span<double> abs,
                       std::span<double> squares) override {
    gradients_.add_column_sums(in, rows, abs, squares);
  }
  void norm_backward(const Array& in, const NormWeights& weights, std::int64_t rows, const Array& gradient,
                     Array& sum, NormGradient* of_weights) override {
    gradients_.norm_backward(in, weights, rows, gradient, sum, of_weights);
  }
  void activate_backward(const Array* gate, const Array& up, std::int64_t rows, Activation activation,
                         const Array& gradient, Array& out, Array* of_gate, Array& of_up) override {
    gradients_.activate_backward(gate, up, rows, activation, gradient, out, of_gate, of_up);
  }
  void add_experts_backward(const Array& gradient, const Array& from, const ExpertRows& rows, Array& of_from,
                            std::span<float> of_weights) override {
    experts_.add_experts_backward(gradient, from, rows, of_from, of_weights);
  }
  void gather_backward(const Array& from, std::span<const std::int32_t> rows, Array& sum) override {
    experts_.gather_backward(from, rows, sum);
  }
  void route_backward(const Array& logits, std::int64_t rows, const RouterRule& rule,
                      const ExpertRows& routed, std::span<const float> of_weights,
                      Array& of_logits) override {
    experts_.route_backward(logits, rows, rule, routed, of_weights, of_logits);
  }
  void attend_backward(const AttentionShape& shape, const Array& q, const Array& k, const Array& v,
                       const Array& gradient, AttentionGradient& out) override {
    attend_back<T>(kernels_, linears_.products(), shape, q, k, v, gradient, out);
  }
  void short_convolution_backward(const RowSequences& sequences, const ShortConvolution& convolution,
                                  const Array& in, const Array& gradient, Array& of_in) override {
    recurrent_.short_convolution_backward(sequences, convolution, in, gradient, of_in);
  }
  void gated_delta_rule_backward(const RowSequences& sequences, const DeltaShape& shape, const Array& qkv,
                                 const Array& a, const Array& b, const Array& gradient,
                                 DeltaGradient& out) override {
    recurrent_.gated_delta_rule_backward(sequences, shape, qkv, a, b, gradient, out);
  }
  void gated_norm_backward(const Array& in, const Array& gate, const NormWeights& weights, std::int64_t rows,
                           const Array& gradient, Array& of_in, Array& of_gate,
                           NormGradient* of_weights) override {
    recurrent_.gated_norm_backward(in, gate, weights, rows, gradient, of_in, of_gate, of_weights);
  }
  void gate_backward(const Array& gate, const Array& values, std::int64_t rows, Array& gradient,
                     Array& of_gate) override {
    pointwise_.gate_backward(gate, values, rows, gradient, of_gate);
  }
  void loss_gradient(const Array& in, const OutputHead& head, const LossTargets& targets,
                     std::span<float> losses, Array& out) override {
    gradients_.loss_gradient(in, head, targets, losses, out);
  }

  void copy(const Array& from, std::int64_t rows, Array& to) override {
    require(from.element() == to.element() && from.cols() == to.cols() && rows <= from.rows() &&
                rows <= to.rows(),
            "copy: shapes differ");
    const std::size_t size =
        static_cast<std::size_t>(from.cols()) * (from.element() == Element::full ? sizeof(float) : sizeof(T));
    for_tiles(RowTiles(rows), [&](const RowTile& tile) {
      const std::size_t start = static_cast<std::size_t>(tile.first) * size;
      std::memcpy(static_cast<std::byte*>(to.data()) + start,
                  static_cast<const std::byte*>(from.data()) + start,
                  static_cast<std::size_t>(tile.count) * size);
    });
  }

  void sum_inputs(const Array& in, std::int64_t rows, InputSums& sums) override {
    const std::int64_t width = in.cols();
    require(in.element() == Element::working && rows >= 0 && rows <= in.rows(), "sum_inputs: not an input");
    require(sums.width == width, "sum_inputs: sums of another width");
    for (std::int64_t first = 0; first < rows; first += kSumRows)
      grams_.add_gram(working<T>(in) + first * width, std::min(kSumRows, rows - first), width, sums.products);

    // Stripes of columns, a cache line and more of them, so that every sum has one order. Sums of few values
    // in fp32 first: they are exact to 1e-6, and vectors hold twice as many.
    constexpr std::int64_t kStripe = 64;
    parallel_for(static_cast<std::size_t>((width + kStripe - 1) / kStripe), [&](std::size_t index) {
      const std::int64_t start = static_cast<std::int64_t>(index) * kStripe;
      const std::int64_t cols = std::min(kStripe, width - start);
      std::array<float, kStripe> largest{};
      for (std::int64_t first = 0; first < rows; first += kTileRows) {
        std::array<float, kStripe> abs{};
        for (std::int64_t r = first; r < std::min(first + kTileRows, rows); ++r) {
          const T* x = working<T>(in) + r * width + start;
          for (std::int64_t c = 0; c < cols; ++c) {
            const auto i = static_cast<std::size_t>(c);
            const float size = std::abs(to_float(x[c]));
            abs[i] += size;
            largest[i] = largest[i] < size ? size : largest[i];
          }
        }
        for (std::int64_t c = 0; c < cols; ++c)
          sums.abs[static_cast<std::size_t>(start + c)] +=
              static_cast<double>(abs[static_cast<std::size_t>(c)]);
      }
      for (std::int64_t c = 0; c < cols; ++c) {
        float& known = sums.max_abs[static_cast<std::size_t>(start + c)];
        known = std::max(known, largest[static_cast<std::size_t>(c)]);
      }
    });
    sums.rows += static_cast<std::uint64_t>(rows);
  }

 private:
  static float to_float(T x) {
    if constexpr (std::is_same_v<T, Bf16>) {
      return bfloat16_to_float(static_cast<std::uint16_t>(x));
    } else {
      return x;
    }
  }

  Precision precision_;
  const Kernels<T>& kernels_;
  static constexpr dnnl::memory::data_type kWorking =
      std::is_same_v<T, Bf16> ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
  Linears<T> linears_;
  Pointwise<T> pointwise_;
  Products grams_;  ///< apart: layouts are chosen for other tiles
  Experts<T> experts_;
  Attention<T> attention_;
  Recurrent<T> recurrent_;
  Gradients<T> gradients_;
};

}  // namespace
}  // namespace cpu

std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options) {
#if defined(__x86_64__)
  // oneDNN looks once, when it is used first, and keeps to what it found.
  static const bool limited = [] {
    if (!allowed("avx512"))
      dnnl::set_max_cpu_isa(allowed("avx2") ? dnnl::cpu_isa::avx2 : dnnl::cpu_isa::sse41);
    return true;
  }();
  static_cast<void>(limited);
#endif
  const cpu::CpuKernels& kernels = cpu::kernels_of(options.kernels);
  if (options.precision == Precision::bf16 && kernels.bf16 != nullptr)
    return std::make_unique<cpu::CpuBackend<Bf16>>(options, *kernels.bf16, *kernels.packed);
  return std::make_unique<cpu::CpuBackend<float>>(options, *kernels.fp32, *kernels.packed);
}

std::vector<std::string> cpu_variants() {
  std::vector<std::string> names;
  for (const cpu::CpuKernels& kernels : cpu::all_kernels()) names.emplace_back(kernels.set);
  return names;
}

std::unique_ptr<Backend> make_cpu_variant(const BackendOptions& options, std::string_view variant) {
  return make_cpu_backend({.precision = options.precision,
                           .kernels = std::string(variant),
                           .packed = options.packed,
                           .inputs = options.inputs});
}

}  // namespace knapsaq
