#include "knapsaq/compute/cpu/attention.h"

#include <algorithm>
#include <stdexcept>

#include "knapsaq/base/threads.h"
#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq::cpu {
namespace {

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
  std::uint64_t bytes() const override { return keys_.size() + values_.size(); }
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

}  // namespace

HeadTransform transform_of(const AttentionShape& shape, const Array* norm) {
  HeadTransform transform{
      .head_dim = shape.head_dim, .norm = full_or_null(norm), .norm_eps = shape.norm_eps, .rotation = {}};
  if (shape.cosines != nullptr) transform.rotation = {full(*shape.cosines), full(*shape.sines)};
  return transform;
}

void check_attention(const AttentionShape& shape, std::int64_t rows, const Array& q, const Array& k,
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
      require(table->rows() >= shape.past + shape.length && table->cols() * 2 == shape.head_dim,
              "attend: rotation of another shape");
  }
  for (const Array* norm : {shape.q_norm, shape.k_norm})
    require(norm == nullptr || norm->empty() || norm->cols() == shape.head_dim,
            "attend: norm of another shape");
}

template <class T>
void Attention<T>::attend(const AttentionShape& shape, const Array& q, const Array& k, const Array& v,
                          Array& out) {
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
      kernels_.pack_keys(k_transform, working<T>(k) + start, k.cols(), length, panel, t_tile.data(),
                         packed_keys + packed * keys_size);
      kernels_.pack_values(head_dim, working<T>(v) + start, v.cols(), length, panel,
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
    kernels_.attend({.q = working<T>(q) + start,
                     .q_pitch = q.cols(),
                     .out = working<T>(out) + start,
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

template <class T>
std::unique_ptr<AttentionCache> Attention<T>::make_cache(const AttentionShape& shape, CacheElement element) {
  if (element != CacheElement::working)
    throw std::logic_error("make_cache: only `working` is implemented yet");
  require(shape.windows >= 0 && shape.length >= 0 && shape.kv_heads > 0 && shape.head_dim > 0,
          "make_cache: no such shape");
  return std::make_unique<PackedCache<T>>(kernels_, shape);
}

template <class T>
void Attention<T>::extend(const AttentionShape& shape, const Array& q, const Array& k, const Array& v,
                          AttentionCache& past, Array& out) {
  check_attention(shape, shape.windows, q, k, v, out);
  auto& cache = dynamic_cast<PackedCache<T>&>(past);
  require(shape.length == 1 && shape.past >= 0 && shape.past + shape.length <= cache.capacity &&
              shape.windows * shape.kv_heads == cache.heads && shape.head_dim == cache.head_dim,
          "extend: cache of another shape");
  const std::int64_t position = shape.past;
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
    kernels_.append(k_transform, working<T>(k) + start, working<T>(v) + start, position, cache.capacity,
                    t_tile.data(), keys, values);
    for (std::int64_t i = 0; i < heads_per_key; ++i) {
      const std::int64_t query = sequence * q.cols() + (key_head * heads_per_key + i) * head_dim;
      // Of the sequence only this row is there: a pitch of nothing leads to it from every position.
      kernels_.attend_one({.q = working<T>(q) + query,
                           .q_pitch = 0,
                           .out = working<T>(out) + query,
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

template class Attention<float>;
template class Attention<Bf16>;

}  // namespace knapsaq::cpu
