#include "knapsaq/compute/cpu/attention_gradient.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "knapsaq/base/threads.h"
#include "knapsaq/compute/cpu/attention_rules.h"
#include "knapsaq/compute/cpu/linears.h"
#include "knapsaq/compute/cpu/row_norms.h"
#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq::cpu {
namespace {

/// What a product multiplies by, in its layout.
struct Operand {
  std::int64_t cols = 0;
  std::int64_t in = 0;
  dnnl::memory::desc layout;
  AlignedBytes data;
  ProductOperand view() const {
    return {.first = 0, .cols = cols, .in = in, .layout = &layout, .data = data.data(), .bias = nullptr};
  }
};

/// Rows of a head, dense, padded with zeros to a multiple of kRowStep: what one tile contributes.
template <class T>
struct HeadTileRows {
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::int64_t padded = 0;
  std::vector<T> rows;  ///< [padded, head_dim]
};

/// One head of keys, and the heads of queries that read it.
template <class T>
class Task {
 public:
  Task(const Kernels<T>& kernels, Products& products, const AttentionShape& shape)
      : kernels_(kernels),
        products_(products),
        shape_(shape),
        dim_(shape.head_dim),
        factor_(attention_scale(shape)) {}

  /// All pointers are those of the head's first token; `norms`: sums by the vectors of the heads' norms, or
  /// null.
  struct Place {
    const T* x;
    std::int64_t pitch;
    T* gradient;
    HeadTransform transform;
    float* norms;
  };
  /// A head's logit of no token, or null, and the sum of the gradients by it.
  struct Sink {
    const float* logit;
    double gradient = 0;
  };

  void read_keys(const Place& keys, const T* values, std::int64_t values_pitch) {
    for (std::int64_t first = 0; first < shape_.length; first += kTileRows) {
      KeyTile tile;
      tile.keys = transformed(keys, first);
      const HeadTileRows<T> of_values = plain(values, values_pitch, first);
      tile.by_key = operand_of_rows(tile.keys.rows, tile.keys.padded);
      tile.by_dimension = operand_of_columns(tile.keys.rows, tile.keys.padded);
      tile.values = operand_of_rows(of_values.rows, of_values.padded);
      tile.of_keys.resize(tile.keys.rows.size());
      tile.of_values.resize(tile.keys.rows.size());
      tiles_.push_back(std::move(tile));
    }
  }

  void back(const Place& queries, const T* gradient, std::int64_t pitch, Sink& sink) {
    for (std::int64_t first = 0; first < shape_.length; first += kTileRows)
      back_tile(queries, transformed(queries, first), plain(gradient, pitch, first), sink);
  }

  /// The gradients by keys and values, summed over all queries.
  void write_keys(const Place& keys, T* of_values, std::int64_t values_pitch) {
    for (KeyTile& tile : tiles_) {
      for (std::int64_t r = 0; r < tile.keys.count; ++r) {
        const std::int64_t position = tile.keys.first + r;
        write(keys, position, tile.of_keys.data() + r * dim_);
        kernels_.convert(tile.of_values.data() + r * dim_, dim_, of_values + position * values_pitch);
      }
    }
  }

 private:
  struct KeyTile {
    HeadTileRows<T> keys;
    Operand by_key;        ///< scores: W = keys
    Operand by_dimension;  ///< gradients by queries: W = keys^T
    Operand values;        ///< gradients by probabilities: W = values
    std::vector<float> of_keys, of_values;
  };

  HeadTileRows<T> room(std::int64_t first) const {
    HeadTileRows<T> tile;
    tile.first = first;
    tile.count = std::min(kTileRows, shape_.length - first);
    tile.padded = round_up(tile.count, kRowStep);
    tile.rows.resize(static_cast<std::size_t>(tile.padded * dim_));
    return tile;
  }
  HeadTileRows<T> plain(const T* x, std::int64_t pitch, std::int64_t first) const {
    HeadTileRows<T> tile = room(first);
    for (std::int64_t r = 0; r < tile.count; ++r)
      std::memcpy(tile.rows.data() + r * dim_, x + (first + r) * pitch,
                  static_cast<std::size_t>(dim_) * sizeof(T));
    return tile;
  }
  HeadTileRows<T> transformed(const Place& place, std::int64_t first) const {
    HeadTileRows<T> tile = room(first);
    std::vector<float> head(static_cast<std::size_t>(dim_));
    for (std::int64_t r = 0; r < tile.count; ++r) {
      kernels_.transform(place.transform, place.x + (first + r) * place.pitch, first + r, head.data());
      kernels_.convert(head.data(), dim_, tile.rows.data() + r * dim_);
    }
    return tile;
  }

  /// W [rows, head_dim] in a product's layout.
  Operand operand_of_rows(const std::vector<T>& rows, std::int64_t count) const {
    Operand operand{count, dim_, products_.layout(count, dim_, false), {}};
    operand.data = AlignedBytes(operand.layout.get_size());
    operand.data.clear();
    products_.reorder(rows.data(), count, dim_, operand.layout, operand.data.data());
    return operand;
  }
  /// W = rows^T [head_dim, rows].
  Operand operand_of_columns(const std::vector<T>& rows, std::int64_t count) const {
    Operand operand{dim_, count, products_.layout(dim_, count, false), {}};
    operand.data = AlignedBytes(operand.layout.get_size());
    operand.data.clear();
    products_.reorder_columns(rows.data(), dim_, 0, dim_, count, operand.layout, operand.data.data());
    return operand;
  }

  /// The keys of `tile` that the query at `position` sees, from the tile's first one.
  struct Range {
    std::int64_t low, high;
  };
  Range seen(std::int64_t position, const HeadTileRows<T>& keys) const {
    const std::int64_t first =
        shape_.sliding_window == 0 ? 0 : std::max<std::int64_t>(0, position - shape_.sliding_window + 1);
    const std::int64_t low = std::clamp<std::int64_t>(first - keys.first, 0, keys.count);
    return {low, std::clamp<std::int64_t>(position + 1 - keys.first, low, keys.count)};
  }

  void back_tile(const Place& queries, HeadTileRows<T> q, HeadTileRows<T> gradient, Sink& sink) {
    const std::int64_t rows = q.padded;
    // Tiles of keys that some query of this tile sees.
    const auto end = static_cast<std::size_t>(q.first / kTileRows + 1);
    std::size_t begin = 0;
    while (begin + 1 < end && seen(q.first, tiles_[begin].keys).low == tiles_[begin].keys.count) ++begin;
    const std::size_t count = end - begin;
    const auto size = static_cast<std::size_t>(kTileRows * kTileRows);
    scores_.resize(count * size);
    slopes_.resize(count * size);
    rounded_.resize(count * size);
    if (shape_.softcap != 0) caps_.resize(count * size);

    // Scores, and the logarithm of their sum of exponentials in every row, to which a sink adds one.
    const std::size_t parts = count + (sink.logit == nullptr ? 0 : 1);
    std::vector<SoftmaxStatistics> statistics(parts * static_cast<std::size_t>(q.count));
    for (std::size_t t = 0; t < count; ++t) {
      const KeyTile& tile = tiles_[begin + t];
      const std::int64_t cols = tile.keys.padded;
      float* scores = scores_.data() + t * size;
      products_.run(tile.by_key.view(), rows, q.rows.data(), scores, true);
      for (std::int64_t r = 0; r < q.count; ++r) {
        float* row = scores + r * cols;
        const Range range = seen(q.first + r, tile.keys);
        for (std::int64_t c = range.low; c < range.high; ++c) row[c] *= factor_;
        if (shape_.softcap != 0) {
          kernels_.pointwise->softcap(row, cols, shape_.softcap);
          kernels_.pointwise->softcap_slopes(row, cols, shape_.softcap, caps_.data() + t * size + r * cols);
        }
        std::fill(row, row + range.low, kUnseen);
        std::fill(row + range.high, row + cols, kUnseen);
        statistics[static_cast<std::size_t>(r) * parts + t] = kernels_.softmax_statistics(row, cols);
      }
    }
    std::vector<float> means(static_cast<std::size_t>(q.count));
    std::vector<double> of_sink(static_cast<std::size_t>(q.count));
    for (std::int64_t r = 0; r < q.count; ++r) {
      const auto i = static_cast<std::size_t>(r);
      if (sink.logit != nullptr) statistics[i * parts + count] = {*sink.logit, 1};
      const auto log_sum =
          static_cast<float>(log_sum_of(&statistics[i * parts], static_cast<std::int64_t>(parts), 1));
      if (sink.logit != nullptr) of_sink[i] = std::exp(static_cast<double>(*sink.logit - log_sum));
      for (std::size_t t = 0; t < count; ++t) {
        const std::int64_t at = static_cast<std::int64_t>(t * size) + r * tiles_[begin + t].keys.padded;
        kernels_.gradients->probabilities(scores_.data() + at, tiles_[begin + t].keys.padded, log_sum,
                                          rounded_.data() + at);
      }
    }
    for (std::size_t t = 0; t < count; ++t) {
      KeyTile& tile = tiles_[begin + t];
      const std::int64_t cols = tile.keys.padded;
      clear_padding(rounded_.data() + t * size, q.count, rows, cols);
      float* slopes = slopes_.data() + t * size;
      products_.run(tile.values.view(), rows, gradient.rows.data(), slopes, true);
      for (std::int64_t r = 0; r < q.count; ++r)
        means[static_cast<std::size_t>(r)] +=
            kernels_.gradients->dot(scores_.data() + t * size + r * cols, slopes + r * cols, cols);
    }
    for (std::size_t i = 0; i < means.size(); ++i)
      sink.gradient -= of_sink[i] * static_cast<double>(means[i]);

    const Operand by_query = operand_of_columns(q.rows, rows);
    const Operand of_gradient = operand_of_columns(gradient.rows, rows);
    std::vector<float> of_queries(static_cast<std::size_t>(rows * dim_));
    for (std::size_t t = 0; t < count; ++t) {
      KeyTile& tile = tiles_[begin + t];
      const std::int64_t cols = tile.keys.padded;
      T* rounded = rounded_.data() + t * size;
      add_transposed(rounded, rows, cols, of_gradient, tile.of_values);
      for (std::int64_t r = 0; r < q.count; ++r) {
        const std::int64_t at = static_cast<std::int64_t>(t * size) + r * cols;
        if (shape_.softcap != 0) kernels_.pointwise->multiply(caps_.data() + at, cols, scores_.data() + at);
        kernels_.gradients->softmax(scores_.data() + at, slopes_.data() + at, cols,
                                    means[static_cast<std::size_t>(r)], factor_, rounded_.data() + at);
      }
      add_transposed(rounded, rows, cols, by_query, tile.of_keys);
      product_.resize(static_cast<std::size_t>(rows * dim_));
      products_.run(tile.by_dimension.view(), rows, rounded, product_.data(), true);
      kernels_.add(product_.data(), rows * dim_, of_queries.data());
    }
    for (std::int64_t r = 0; r < q.count; ++r) write(queries, q.first + r, of_queries.data() + r * dim_);
  }

  /// Rows behind the last query must not reach sums over queries.
  static void clear_padding(T* tile, std::int64_t count, std::int64_t rows, std::int64_t cols) {
    std::fill(tile + count * cols, tile + rows * cols, T{});
  }

  /// sum [cols, head_dim] += tile^T B, with tile [rows, cols] and B [rows, head_dim].
  void add_transposed(const T* tile, std::int64_t rows, std::int64_t cols, const Operand& b,
                      std::vector<float>& sum) {
    turned_.resize(static_cast<std::size_t>(rows * cols));
    products_.transpose(tile, cols, 0, cols, rows, turned_.data());
    product_.resize(static_cast<std::size_t>(cols * dim_));
    products_.run(b.view(), cols, turned_.data(), product_.data(), true);
    kernels_.add(product_.data(), cols * dim_, sum.data());
  }

  /// The gradient by a head as it was before its transform, from the one after it, which is lost.
  void write(const Place& place, std::int64_t position, float* gradient) {
    const HeadTransform& transform = place.transform;
    if (transform.scales != nullptr)
      for (std::int64_t i = 0; i < dim_; ++i) gradient[i] *= transform.scales[position];
    if (transform.rotation.cosines != nullptr) {
      const std::int64_t pairs = transform.rotation.pairs;
      const float* cosines = transform.rotation.cosines + position * pairs;
      const float* sines = transform.rotation.sines + position * pairs;
      for (std::int64_t i = 0; i < pairs; ++i) {
        const float a = gradient[i];
        const float b = gradient[pairs + i];
        gradient[i] = a * cosines[i] + b * sines[i];
        gradient[pairs + i] = b * cosines[i] - a * sines[i];
      }
    }
    T* out = place.gradient + position * place.pitch;
    if (transform.norm == nullptr) return kernels_.convert(gradient, dim_, out);
    std::vector<float> x(static_cast<std::size_t>(dim_));
    std::vector<float> sum(static_cast<std::size_t>(dim_));
    const HeadTransform nothing{.head_dim = dim_};
    kernels_.transform(nothing, place.x + position * place.pitch, position, x.data());
    kernels_.gradients->norm(Norm::rms, x.data(), transform.norm, transform.norm_eps, dim_, gradient,
                             sum.data(), place.norms, nullptr);
    kernels_.convert(sum.data(), dim_, out);
  }

  // Below every score, but finite, so that differences stay numbers.
  static constexpr float kUnseen = -1e30f;

  const Kernels<T>& kernels_;
  Products& products_;
  const AttentionShape& shape_;
  std::int64_t dim_;
  float factor_;
  std::vector<KeyTile> tiles_;
  // Of a tile of queries, one tile of keys behind another.
  std::vector<float> scores_;  ///< then probabilities
  std::vector<float> caps_;    ///< derivatives of a soft cap
  std::vector<float> slopes_;  ///< gradients by probabilities
  std::vector<T> rounded_;     ///< probabilities, then gradients by scores
  std::vector<T> turned_;
  std::vector<float> product_;
};

}  // namespace

template <class T>
void attend_back(const Kernels<T>& kernels, Products& products, const AttentionShape& whole,
                 const Array& of_q, const Array& of_k, const Array& of_v, const Array& gradient,
                 AttentionGradient& out) {
  const std::int64_t rows = whole.windows * whole.length;
  require(whole.past == 0, "attend_backward: no cache");
  check_attention(whole, rows, of_q, of_k, of_v, gradient);
  check_attention(whole, rows, out.q, out.k, out.v, gradient);
  require(out.sinks.empty() || std::ssize(out.sinks) == whole.heads,
          "attend_backward: not a sum for each head");
  if (rows == 0) return;
  RowNorms<T> row_norms(kernels);
  const auto inputs = row_norms.apply(whole, rows, of_q, of_k, of_v);
  const AttentionShape& shape = inputs.shape;
  const Array& q = inputs.q;
  const Array& k = inputs.k;
  const Array& v = inputs.v;
  HeadTransform q_transform = query_transform(shape);
  q_transform.factor = 1;  // scores are scaled instead: they are rounded less
  const HeadTransform k_transform = key_transform(shape);
  const std::int64_t dim = shape.head_dim;
  const std::int64_t group = shape.heads / shape.kv_heads;
  const auto tasks = static_cast<std::size_t>(shape.windows * shape.kv_heads);
  std::vector<float> norms(tasks * static_cast<std::size_t>(2 * dim));  // of q, then of k, task by task
  std::vector<double> sinks(static_cast<std::size_t>(shape.windows * shape.heads));
  parallel_for(tasks, [&](std::size_t index) {
    const std::int64_t window = static_cast<std::int64_t>(index) / shape.kv_heads;
    const std::int64_t head = static_cast<std::int64_t>(index) % shape.kv_heads;
    float* of_norms = norms.data() + index * static_cast<std::size_t>(2 * dim);
    const auto start = [&](const Array& array, std::int64_t at) {
      return working<T>(array) + window * shape.length * array.cols() + at * dim;
    };
    using Place = typename Task<T>::Place;
    const Place keys{start(k, head), k.cols(), start(out.k, head), k_transform, of_norms + dim};
    Task<T> task(kernels, products, shape);
    task.read_keys(keys, start(v, head), v.cols());
    for (std::int64_t h = head * group; h < (head + 1) * group; ++h) {
      const Place queries{start(q, h), q.cols(), start(out.q, h), q_transform, of_norms};
      typename Task<T>::Sink sink{sink_of(shape, h)};
      task.back(queries, start(gradient, h), gradient.cols(), sink);
      sinks[static_cast<std::size_t>(window * shape.heads + h)] = sink.gradient;
    }
    task.write_keys(keys, start(out.v, head), out.v.cols());
  });
  const auto add = [&](const HeadTransform& transform, std::vector<double>& sums, std::size_t offset) {
    if (transform.norm == nullptr || sums.empty()) return;
    for (std::size_t task = 0; task < tasks; ++task)
      for (std::size_t i = 0; i < static_cast<std::size_t>(dim); ++i)
        sums[i] += static_cast<double>(norms[(2 * task + offset) * static_cast<std::size_t>(dim) + i]);
  };
  add(q_transform, out.q_norm, 0);
  add(k_transform, out.k_norm, 1);
  for (std::size_t i = 0; i < sinks.size() && !out.sinks.empty(); ++i)
    out.sinks[i % out.sinks.size()] += sinks[i];
  row_norms.back(whole, rows, of_q, of_k, of_v, out);
}

template void attend_back(const Kernels<float>&, Products&, const AttentionShape&, const Array&, const Array&,
                          const Array&, const Array&, AttentionGradient&);
template void attend_back(const Kernels<Bf16>&, Products&, const AttentionShape&, const Array&, const Array&,
                          const Array&, const Array&, AttentionGradient&);

}  // namespace knapsaq::cpu
