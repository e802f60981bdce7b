#include "knapsaq/compute/backend.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <type_traits>

#include "knapsaq/base/float16.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/compute/cpu/aligned.h"
#include "knapsaq/compute/cpu/kernels.h"
#include "knapsaq/compute/cpu/product.h"

namespace knapsaq {
namespace cpu {
namespace {

// Rows of a tile: the unit of all parallel work. oneDNN's products of 128 rows reach 97 % of what they reach
// with thousands (64 rows: 95 %), and a window of 512 tokens still makes four of them.
constexpr std::int64_t kTileRows = 128;
// The last tile of a batch is rounded up to a multiple of this many rows, so that few product programs are
// needed; arrays have room for it behind their last row.
constexpr std::int64_t kRowStep = 16;

// Rows of a tile of compare(), which holds three tiles of logits as wide as the vocabulary. A head that fits
// the cache that the cores share is read again for every tile at little cost, and smaller tiles keep the
// logits near the core; a larger head comes from memory each time, and full tiles make that rarer.
constexpr std::int64_t kComparedRows = 32;
constexpr std::uint64_t kSharedCacheHead = std::uint64_t{8} << 20;

std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

void require(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

/// Rows [first, first + count) of a batch; computed rows are more at the end of the batch.
struct RowTile {
  std::int64_t first;
  std::int64_t count;
  std::int64_t computed;
};

struct RowTiles {
  explicit RowTiles(std::int64_t count, std::int64_t height = kTileRows) : rows(count), tile_rows(height) {}
  std::int64_t rows;
  std::int64_t tile_rows;
  std::int64_t size() const { return (rows + tile_rows - 1) / tile_rows; }
  RowTile operator[](std::int64_t index) const {
    const std::int64_t first = index * tile_rows;
    const std::int64_t count = std::min(tile_rows, rows - first);
    return {first, count, round_up(count, kRowStep)};
  }
};

class DenseTable final : public Table {
 public:
  explicit DenseTable(const TensorView& table) : bytes_(table.bytes.begin(), table.bytes.end()) {
    view_ = {table.type, table.shape, bytes_};
  }
  const TensorView& view() const { return view_; }

 private:
  std::vector<std::byte> bytes_;
  TensorView view_;
};

/// log(sum(exp(logits))) of a row from the statistics of its parts, which lie `stride` apart.
double log_sum_of(const SoftmaxStatistics* parts, std::int64_t count, std::int64_t stride) {
  double largest = parts[0].largest;
  for (std::int64_t c = 1; c < count; ++c) largest = std::max<double>(largest, parts[c * stride].largest);
  double sum = 0;
  for (std::int64_t c = 0; c < count; ++c)
    sum += parts[c * stride].sum * std::exp(parts[c * stride].largest - largest);
  return largest + std::log(sum);
}

/// Keys and values as Kernels::append() lays them out, head after head of sequence after sequence.
template <class T>
class PackedCache final : public AttentionCache {
 public:
  PackedCache(const Kernels<T>& kernels, const AttentionShape& shape)
      : heads(shape.windows * shape.kv_heads),
        head_dim(shape.head_dim),
        capacity(shape.length),
        keys_size(round_up(kernels.packed_keys_size(capacity, head_dim), 32)),
        values_size(round_up(kernels.packed_values_size(capacity, head_dim), 32)),
        keys_(static_cast<std::size_t>(heads * keys_size) * sizeof(T)),
        values_(static_cast<std::size_t>(heads * values_size) * sizeof(T)) {
    keys_.clear();
    values_.clear();
  }
  T* keys(std::int64_t head) { return reinterpret_cast<T*>(keys_.data()) + head * keys_size; }
  T* values(std::int64_t head) { return reinterpret_cast<T*>(values_.data()) + head * values_size; }

  const std::int64_t heads;  ///< of all sequences
  const std::int64_t head_dim;
  const std::int64_t capacity;
  const std::int64_t keys_size;  ///< elements of one head
  const std::int64_t values_size;

 private:
  AlignedBytes keys_;
  AlignedBytes values_;
};

/// Memory of the thread that runs a task, for the tiles between a product and what follows it.
thread_local AlignedBytes t_tile;

template <class T>
class CpuBackend final : public Backend {
 public:
  CpuBackend(Precision precision, const Kernels<T>& kernels)
      : precision_(precision), kernels_(kernels), products_(kWorking), grams_(kWorking) {}

  Precision precision() const override { return precision_; }
  std::string description() const override {
    return std::string("cpu, ") + kernels_.name + (precision_ == Precision::bf16 ? ", bf16" : ", fp32");
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
      std::transform(working(array) + start, working(array) + start + count, out.begin(),
                     [](Bf16 x) { return bfloat16_to_float(static_cast<std::uint16_t>(x)); });
    } else {
      std::copy_n(working(array) + start, count, out.begin());
    }
  }

  std::unique_ptr<Weight> prepare(const TensorView& weight, std::span<const float> bias) override {
    require(weight.shape.size() == 2 && is_weight_type(weight.type), "prepare: not a matrix of floats");
    return prepare(weight.shape[0], weight.shape[1], bias,
                   [&](std::int64_t first, std::int64_t n, float* out) {
                     const std::int64_t in = weight.shape[1];
                     read_floats(weight, first * in, {out, static_cast<std::size_t>(n * in)});
                   });
  }

  std::unique_ptr<Weight> prepare(const StoredMatrix& weight, std::span<const float> bias) override {
    const std::int64_t cols = cols_of(weight);
    return prepare(rows_of(weight), cols, bias, [&](std::int64_t first, std::int64_t n, float* out) {
      for (std::int64_t r = 0; r < n; ++r)
        dequantize_row(weight, first + r, {out + r * cols, static_cast<std::size_t>(cols)});
    });
  }

  std::unique_ptr<Table> prepare_table(const TensorView& table) override {
    require(table.shape.size() == 2 && is_weight_type(table.type), "prepare_table: not a matrix of floats");
    return std::make_unique<DenseTable>(table);
  }

  void embed(const Table& table, std::span<const std::int32_t> ids, bool accumulate, Array& out) override {
    const TensorView& view = dynamic_cast<const DenseTable&>(table).view();
    const std::int64_t cols = view.shape[1];
    require(out.element() == Element::full && out.cols() == cols &&
                out.rows() >= static_cast<std::int64_t>(ids.size()),
            "embed: output of another shape");
    const RowTiles tiles(static_cast<std::int64_t>(ids.size()));
    over(tiles, [&](const RowTile& tile) {
      std::vector<float> row(static_cast<std::size_t>(cols));
      for (std::int64_t r = tile.first; r < tile.first + tile.count; ++r) {
        const std::int64_t id = ids[static_cast<std::size_t>(r)];
        float* target = full(out) + r * cols;
        if (accumulate) {
          read_floats(view, id * cols, row);
          kernels_.add(row.data(), cols, target);
        } else {
          read_floats(view, id * cols, {target, static_cast<std::size_t>(cols)});
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
    over(RowTiles(rows), [&](const RowTile& tile) {
      for (std::int64_t r = tile.first; r < tile.first + tile.count; ++r) {
        const float* x = full(in) + r * n;
        if (out.element() == Element::full) {
          kernels_.norm_full(weights.kind, x, scale, shift, weights.eps, n, full(out) + r * n);
        } else {
          kernels_.norm_working(weights.kind, x, scale, shift, weights.eps, n, working(out) + r * n);
        }
      }
    });
  }

  void convert(const Array& in, std::int64_t rows, Array& out) override {
    require(in.element() == Element::full && out.element() == Element::working && in.cols() == out.cols() &&
                rows <= in.rows() && rows <= out.rows(),
            "convert: shapes differ");
    over(RowTiles(rows), [&](const RowTile& tile) {
      kernels_.convert(full(in) + tile.first * in.cols(), tile.count * in.cols(),
                       working(out) + tile.first * in.cols());
    });
  }

  void multiply(const Array& in, std::int64_t rows, std::span<const Product> products) override {
    struct Piece {
      const Product* product;
      const DenseWeight* weight;
      const DenseWeight::Chunk* chunk;
    };
    std::vector<Piece> pieces;
    for (const Product& product : products) {
      const auto& weight = dynamic_cast<const DenseWeight&>(*product.weight);
      check_input(in, rows, weight);
      require(product.out->cols() == weight.out() && rows <= product.out->rows(), "multiply: shapes differ");
      require(!product.accumulate || product.out->element() == Element::full, "multiply: sum is not full");
      for (const DenseWeight::Chunk& chunk : weight.chunks()) pieces.push_back({&product, &weight, &chunk});
    }
    // All row tiles of one chunk before the next chunk: its weights stay in the cache that the cores share.
    const RowTiles tiles(rows);
    parallel_for(pieces.size() * static_cast<std::size_t>(tiles.size()), [&](std::size_t index) {
      const Piece& piece = pieces[index / static_cast<std::size_t>(tiles.size())];
      const RowTile tile = tiles[static_cast<std::int64_t>(index) % tiles.size()];
      const T* x = working(in) + tile.first * in.cols();
      const DenseWeight::Chunk& chunk = *piece.chunk;
      Array& out = *piece.product->out;
      const bool is_full = out.element() == Element::full;
      const std::size_t size = is_full ? sizeof(float) : sizeof(T);
      const std::size_t pitch = static_cast<std::size_t>(out.cols()) * size;
      std::byte* target = static_cast<std::byte*>(out.data()) + static_cast<std::size_t>(tile.first) * pitch +
                          static_cast<std::size_t>(chunk.first) * size;
      if (chunk.cols == out.cols() && !piece.product->accumulate) {
        products_.run(*piece.weight, chunk, tile.computed, x, target, is_full);
        return;
      }
      const std::size_t row_bytes = static_cast<std::size_t>(chunk.cols) * size;
      t_tile.reserve(static_cast<std::size_t>(tile.computed) * row_bytes);
      products_.run(*piece.weight, chunk, tile.computed, x, t_tile.data(), is_full);
      for (std::int64_t r = 0; r < tile.count; ++r) {
        std::byte* to = target + static_cast<std::size_t>(r) * pitch;
        const std::byte* from = t_tile.data() + static_cast<std::size_t>(r) * row_bytes;
        if (piece.product->accumulate) {
          kernels_.add(reinterpret_cast<const float*>(from), chunk.cols, reinterpret_cast<float*>(to));
        } else {
          std::memcpy(to, from, row_bytes);
        }
      }
    });
  }

  void activate(const Array& in, std::int64_t rows, const Weight* gate_weight, const Weight& up_weight,
                Activation activation, Array& out) override {
    const auto* gate = dynamic_cast<const DenseWeight*>(gate_weight);
    const auto& up = dynamic_cast<const DenseWeight&>(up_weight);
    check_input(in, rows, up);
    if (gate != nullptr) {
      check_input(in, rows, *gate);
      require(gate->out() == up.out(), "activate: gate and up differ");
    }
    require(out.element() == Element::working && out.cols() == up.out() && rows <= out.rows(),
            "activate: output of another shape");
    const RowTiles tiles(rows);
    parallel_for(up.chunks().size() * static_cast<std::size_t>(tiles.size()), [&](std::size_t index) {
      const std::size_t c = index / static_cast<std::size_t>(tiles.size());
      const RowTile tile = tiles[static_cast<std::int64_t>(index) % tiles.size()];
      const DenseWeight::Chunk& chunk = up.chunks()[c];
      const T* x = working(in) + tile.first * in.cols();
      const std::int64_t elements = tile.computed * chunk.cols;
      t_tile.reserve(static_cast<std::size_t>(2 * elements) * sizeof(T));
      T* ups = reinterpret_cast<T*>(t_tile.data());
      T* gates = gate == nullptr ? nullptr : ups + elements;
      if (gate != nullptr) products_.run(*gate, gate->chunks()[c], tile.computed, x, gates, false);
      products_.run(up, chunk, tile.computed, x, ups, false);
      for (std::int64_t r = 0; r < tile.count; ++r) {
        kernels_.activate(activation, gate == nullptr ? nullptr : gates + r * chunk.cols,
                          ups + r * chunk.cols, chunk.cols,
                          working(out) + (tile.first + r) * out.cols() + chunk.first);
      }
    });
  }

  void attend(const AttentionShape& shape, const Array& q, const Array& k, const Array& v,
              Array& out) override {
    check_attention(shape, shape.windows * shape.length, q, k, v, out);
    if (shape.windows == 0 || shape.length == 0) return;
    const std::int64_t length = shape.length;
    const std::int64_t head_dim = shape.head_dim;
    const HeadTransform q_transform = transform_of(shape, shape.q_norm);
    const HeadTransform k_transform = transform_of(shape, shape.k_norm);

    const std::int64_t keys_size = round_up(kernels_.packed_keys_size(length, head_dim), 32);
    const std::int64_t values_size = round_up(kernels_.packed_values_size(length, head_dim), 32);
    const std::int64_t packed_heads = shape.windows * shape.kv_heads;
    packed_keys_.reserve(static_cast<std::size_t>(packed_heads * keys_size) * sizeof(T));
    packed_values_.reserve(static_cast<std::size_t>(packed_heads * values_size) * sizeof(T));
    T* const packed_keys = reinterpret_cast<T*>(packed_keys_.data());
    T* const packed_values = reinterpret_cast<T*>(packed_values_.data());
    const auto scratch_bytes = static_cast<std::size_t>(kernels_.attention_scratch(head_dim));

    const std::int64_t panels = (length + kernels_.panel - 1) / kernels_.panel;
    parallel_for(static_cast<std::size_t>(shape.windows * panels), [&](std::size_t index) {
      const std::int64_t window = static_cast<std::int64_t>(index) / panels;
      const std::int64_t panel = static_cast<std::int64_t>(index) % panels;
      t_tile.reserve(scratch_bytes);
      for (std::int64_t head = 0; head < shape.kv_heads; ++head) {
        const std::int64_t packed = window * shape.kv_heads + head;
        const std::int64_t start = window * length * k.cols() + head * head_dim;
        kernels_.pack_keys(k_transform, working(k) + start, k.cols(), length, panel, t_tile.data(),
                           packed_keys + packed * keys_size);
        kernels_.pack_values(head_dim, working(v) + start, v.cols(), length, panel,
                             packed_values + packed * values_size);
      }
    });

    // The tiles of one head follow each other (its keys and values stay in the second cache), longest first.
    const std::int64_t tiles = (length + kernels_.query_tile - 1) / kernels_.query_tile;
    const std::int64_t heads_per_key = shape.heads / shape.kv_heads;
    parallel_for(static_cast<std::size_t>(shape.windows * shape.heads * tiles), [&](std::size_t index) {
      const std::int64_t number = static_cast<std::int64_t>(index) / tiles;
      const std::int64_t first = (tiles - 1 - static_cast<std::int64_t>(index) % tiles) * kernels_.query_tile;
      const std::int64_t window = number / shape.heads;
      const std::int64_t head = number % shape.heads;
      const std::int64_t packed = window * shape.kv_heads + head / heads_per_key;
      const std::int64_t start = window * length * q.cols() + head * head_dim;
      t_tile.reserve(scratch_bytes);
      kernels_.attend({.q = working(q) + start,
                       .q_pitch = q.cols(),
                       .out = working(out) + start,
                       .out_pitch = out.cols(),
                       .first = first,
                       .count = std::min(kernels_.query_tile, length - first),
                       .sliding_window = shape.sliding_window,
                       .transform = q_transform,
                       .head = {packed_keys + packed * keys_size, packed_values + packed * values_size,
                                panels * kernels_.panel},
                       .scratch = t_tile.data()});
    });
  }

  std::unique_ptr<AttentionCache> make_cache(const AttentionShape& shape) override {
    require(shape.windows >= 0 && shape.length >= 0 && shape.kv_heads > 0 && shape.head_dim > 0,
            "make_cache: no such shape");
    return std::make_unique<PackedCache<T>>(kernels_, shape);
  }

  void attend_next(const AttentionShape& shape, const Array& q, const Array& k, const Array& v,
                   AttentionCache& past, Array& out) override {
    check_attention(shape, shape.windows, q, k, v, out);
    auto& cache = dynamic_cast<PackedCache<T>&>(past);
    require(shape.length >= 1 && shape.length <= cache.capacity &&
                shape.windows * shape.kv_heads == cache.heads && shape.head_dim == cache.head_dim,
            "attend_next: cache of another shape");
    const std::int64_t position = shape.length - 1;
    const std::int64_t head_dim = shape.head_dim;
    const HeadTransform q_transform = transform_of(shape, shape.q_norm);
    const HeadTransform k_transform = transform_of(shape, shape.k_norm);
    const auto scratch_bytes = static_cast<std::size_t>(kernels_.attention_scratch(head_dim));
    const std::int64_t padded_length = round_up(cache.capacity, kernels_.panel);
    const std::int64_t heads_per_key = shape.heads / shape.kv_heads;
    // A task is a head of keys with all heads of queries that read it.
    parallel_for(static_cast<std::size_t>(cache.heads), [&](std::size_t index) {
      const auto number = static_cast<std::int64_t>(index);
      const std::int64_t sequence = number / shape.kv_heads;
      const std::int64_t key_head = number % shape.kv_heads;
      T* const keys = cache.keys(number);
      T* const values = cache.values(number);
      t_tile.reserve(scratch_bytes);
      const std::int64_t start = sequence * k.cols() + key_head * head_dim;
      kernels_.append(k_transform, working(k) + start, working(v) + start, position, cache.capacity,
                      t_tile.data(), keys, values);
      for (std::int64_t i = 0; i < heads_per_key; ++i) {
        const std::int64_t query = sequence * q.cols() + (key_head * heads_per_key + i) * head_dim;
        // Of the sequence only this row is there: a pitch of nothing leads to it from every position.
        kernels_.attend_one({.q = working(q) + query,
                             .q_pitch = 0,
                             .out = working(out) + query,
                             .out_pitch = 0,
                             .first = position,
                             .count = 1,
                             .sliding_window = shape.sliding_window,
                             .transform = q_transform,
                             .head = {keys, values, padded_length},
                             .scratch = t_tile.data()});
      }
    });
  }

  void losses(const Array& in, const Weight& head_weight, std::span<const std::int32_t> targets,
              std::span<float> losses) override {
    const auto& head = dynamic_cast<const DenseWeight&>(head_weight);
    const auto rows = static_cast<std::int64_t>(targets.size());
    check_input(in, rows, head);
    require(losses.size() == targets.size(), "losses: output of another length");
    const auto chunks = static_cast<std::int64_t>(head.chunks().size());
    std::vector<SoftmaxStatistics> statistics(static_cast<std::size_t>(chunks * rows));
    std::vector<float> target_logits(targets.size(), 0.0f);
    const RowTiles tiles(rows);
    parallel_for(static_cast<std::size_t>(chunks * tiles.size()), [&](std::size_t index) {
      const std::int64_t c = static_cast<std::int64_t>(index) / tiles.size();
      const RowTile tile = tiles[static_cast<std::int64_t>(index) % tiles.size()];
      const DenseWeight::Chunk& chunk = head.chunks()[static_cast<std::size_t>(c)];
      t_tile.reserve(static_cast<std::size_t>(tile.computed * chunk.cols) * sizeof(float));
      float* logits = reinterpret_cast<float*>(t_tile.data());
      products_.run(head, chunk, tile.computed, working(in) + tile.first * in.cols(), logits, true);
      for (std::int64_t r = 0; r < tile.count; ++r) {
        const std::int64_t row = tile.first + r;
        const float* of_row = logits + r * chunk.cols;
        statistics[static_cast<std::size_t>(c * rows + row)] =
            kernels_.softmax_statistics(of_row, chunk.cols);
        const std::int64_t target = targets[static_cast<std::size_t>(row)] - chunk.first;
        if (target >= 0 && target < chunk.cols) target_logits[static_cast<std::size_t>(row)] = of_row[target];
      }
    });
    over(tiles, [&](const RowTile& tile) {
      for (std::int64_t row = tile.first; row < tile.first + tile.count; ++row) {
        const auto i = static_cast<std::size_t>(row);
        if (targets[i] < 0) {
          losses[i] = 0;
          continue;
        }
        losses[i] = static_cast<float>(log_sum_of(&statistics[i], chunks, rows) - target_logits[i]);
      }
    });
  }

  void compare(const Array& reference, const Weight& head_weight, std::span<const std::int32_t> targets,
               bool jsd, std::span<const Compared> candidates) override {
    const auto& head = dynamic_cast<const DenseWeight&>(head_weight);
    const auto rows = static_cast<std::int64_t>(targets.size());
    check_input(reference, rows, head);
    for (const Compared& candidate : candidates) {
      check_input(*candidate.in, rows, head);
      require(candidate.out.size() == targets.size(), "compare: output of another length");
    }
    for (const std::int32_t target : targets) require(target < head.out(), "compare: no such target");
    const RowTiles tiles(rows, head.bytes() > kSharedCacheHead ? kTileRows : kComparedRows);
    over(tiles, [&](const RowTile& tile) {
      const std::int64_t elements = tile.computed * head.out();
      t_tile.reserve(static_cast<std::size_t>(3 * elements) * sizeof(float));
      float* log_p = reinterpret_cast<float*>(t_tile.data());
      float* p = log_p + elements;
      float* logits = p + elements;
      const HeadTile of_reference = head_products(head, reference, tile, log_p);
      // log p and log q are rounded to fp32 after the same subtraction, so that they are equal where p = q
      // is; what the rounding of the two sums leaves is added at the end.
      for (std::int64_t r = 0; r < tile.count; ++r) {
        const auto log_sum = static_cast<float>(of_reference.log_sums[static_cast<std::size_t>(r)]);
        for (const DenseWeight::Chunk& chunk : head.chunks()) {
          const std::int64_t start = tile.computed * chunk.first + r * chunk.cols;
          kernels_.log_probabilities(log_p + start, chunk.cols, log_sum, p + start);
        }
      }
      for (const Compared& candidate : candidates) {
        const HeadTile of_candidate = head_products(head, *candidate.in, tile, logits);
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

  void copy(const Array& from, std::int64_t rows, Array& to) override {
    require(from.element() == to.element() && from.cols() == to.cols() && rows <= from.rows() &&
                rows <= to.rows(),
            "copy: shapes differ");
    const std::size_t size =
        static_cast<std::size_t>(from.cols()) * (from.element() == Element::full ? sizeof(float) : sizeof(T));
    over(RowTiles(rows), [&](const RowTile& tile) {
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
      grams_.add_gram(working(in) + first * width, std::min(kSumRows, rows - first), width, sums.products);

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
          const T* x = working(in) + r * width + start;
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
  /// What a tile of rows makes of the head.
  struct HeadTile {
    std::array<double, kTileRows> log_sums;         ///< log(sum(exp(logits))) of every row
    std::array<std::int64_t, kTileRows> likeliest;  ///< the first of the largest logits
  };

  /// Logits of a tile, chunk after chunk: [computed, chunk.cols] each, and what is known of the rows.
  HeadTile head_products(const DenseWeight& head, const Array& in, const RowTile& tile, float* logits) {
    const auto chunks = static_cast<std::int64_t>(head.chunks().size());
    std::vector<SoftmaxStatistics> statistics(static_cast<std::size_t>(chunks * tile.count));
    for (std::int64_t c = 0; c < chunks; ++c) {
      const DenseWeight::Chunk& chunk = head.chunks()[static_cast<std::size_t>(c)];
      float* part = logits + tile.computed * chunk.first;
      products_.run(head, chunk, tile.computed, working(in) + tile.first * in.cols(), part, true);
      for (std::int64_t r = 0; r < tile.count; ++r)
        statistics[static_cast<std::size_t>(r * chunks + c)] =
            kernels_.softmax_statistics(part + r * chunk.cols, chunk.cols);
    }
    HeadTile result;
    for (std::int64_t r = 0; r < tile.count; ++r) {
      const SoftmaxStatistics* of_row = &statistics[static_cast<std::size_t>(r * chunks)];
      result.log_sums[static_cast<std::size_t>(r)] = log_sum_of(of_row, chunks, 1);
      const auto top = static_cast<std::size_t>(
          std::max_element(of_row, of_row + chunks,
                           [](const auto& a, const auto& b) { return a.largest < b.largest; }) -
          of_row);
      const DenseWeight::Chunk& chunk = head.chunks()[top];
      const float* row = logits + tile.computed * chunk.first + r * chunk.cols;
      result.likeliest[static_cast<std::size_t>(r)] =
          chunk.first + (std::find(row, row + chunk.cols, of_row[top].largest) - row);
    }
    return result;
  }

  static float* full(const Array& array) { return static_cast<float*>(array.data()); }
  static T* working(const Array& array) { return static_cast<T*>(array.data()); }
  static float to_float(T x) {
    if constexpr (std::is_same_v<T, Bf16>) {
      return bfloat16_to_float(static_cast<std::uint16_t>(x));
    } else {
      return x;
    }
  }
  static const float* full_or_null(const Array* array) {
    return array == nullptr || array->empty() ? nullptr : full(*array);
  }

  template <class Function>
  static void over(const RowTiles& tiles, Function&& function) {
    parallel_for(static_cast<std::size_t>(tiles.size()),
                 [&](std::size_t index) { function(tiles[static_cast<std::int64_t>(index)]); });
  }

  static void check_input(const Array& in, std::int64_t rows, const DenseWeight& weight) {
    require(in.element() == Element::working && in.cols() == weight.in() && rows <= in.rows(),
            "product: input of another shape");
  }

  static HeadTransform transform_of(const AttentionShape& shape, const Array* norm) {
    HeadTransform transform{
        .head_dim = shape.head_dim, .norm = full_or_null(norm), .norm_eps = shape.norm_eps, .rotation = {}};
    if (shape.cosines != nullptr) transform.rotation = {full(*shape.cosines), full(*shape.sines)};
    return transform;
  }

  static void check_attention(const AttentionShape& shape, std::int64_t rows, const Array& q, const Array& k,
                              const Array& v, const Array& out) {
    require(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0, "attend: heads are no multiple");
    for (const Array* array : {&q, &k, &v, static_cast<const Array*>(&out)}) {
      const std::int64_t heads = array == &k || array == &v ? shape.kv_heads : shape.heads;
      require(array->element() == Element::working && array->rows() >= rows &&
                  array->cols() == heads * shape.head_dim,
              "attend: shapes differ");
    }
    if (shape.cosines != nullptr) {
      for (const Array* table : {shape.cosines, shape.sines})
        require(table->rows() >= shape.length && table->cols() * 2 == shape.head_dim,
                "attend: rotation of another shape");
    }
    for (const Array* norm : {shape.q_norm, shape.k_norm})
      require(norm == nullptr || norm->empty() || norm->cols() == shape.head_dim,
              "attend: norm of another shape");
  }

  std::unique_ptr<Weight> prepare(std::int64_t out, std::int64_t in, std::span<const float> bias,
                                  const Products::RowReader& read) {
    require(bias.empty() || static_cast<std::int64_t>(bias.size()) == out, "prepare: bias of another length");
    return products_.prepare(out, in, {bias.begin(), bias.end()}, read, precision_ == Precision::bf16);
  }

  Precision precision_;
  const Kernels<T>& kernels_;
  static constexpr dnnl::memory::data_type kWorking =
      std::is_same_v<T, Bf16> ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
  Products products_;
  Products grams_;  ///< apart: layouts are chosen for other tiles
  AlignedBytes packed_keys_;
  AlignedBytes packed_values_;
};

}  // namespace
}  // namespace cpu

CpuKernels best_cpu_kernels() {
#if defined(KNAPSAQ_X86_KERNELS)
  if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
    return CpuKernels::avx512_bf16;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return CpuKernels::avx2;
#endif
  return CpuKernels::portable;
}

std::unique_ptr<Backend> make_cpu_backend(Precision precision, CpuKernels kernels) {
  if (kernels > best_cpu_kernels()) throw std::invalid_argument("this processor has no such instructions");
#if defined(KNAPSAQ_X86_KERNELS)
  if (kernels == CpuKernels::avx512_bf16) {
    if (precision == Precision::bf16)
      return std::make_unique<cpu::CpuBackend<cpu::Bf16>>(precision, cpu::avx512_bf16_kernels());
    return std::make_unique<cpu::CpuBackend<float>>(precision, cpu::avx512_kernels());
  }
  if (kernels == CpuKernels::avx2)
    return std::make_unique<cpu::CpuBackend<float>>(precision, cpu::avx2_kernels());
#endif
  return std::make_unique<cpu::CpuBackend<float>>(precision, cpu::portable_kernels());
}

}  // namespace knapsaq
