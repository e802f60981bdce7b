#include "knapsaq/compute/cpu/attention.h"

#include <algorithm>
#include <stdexcept>

#include "knapsaq/base/threads.h"
#include "knapsaq/compute/cpu/query_tiles.h"
#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq::cpu {

template <class T>
void Attention<T>::attend(const AttentionShape& shape, const Array& q, const Array& k, const Array& v,
                          Array& out) {
  const std::int64_t rows = shape.windows * shape.length;
  check_attention(shape, rows, q, k, v, out);
  if (rows != 0) attend_windows(row_norms_.apply(shape, rows, q, k, v), out);
}

template <class T>
void Attention<T>::attend_windows(const typename RowNorms<T>::Inputs& in, Array& out) {
  const AttentionShape& shape = in.shape;
  const Array& q = in.q;
  const Array& k = in.k;
  const Array& v = in.v;
  const std::int64_t length = shape.length;
  const std::int64_t head_dim = shape.head_dim;
  const HeadTransform k_transform = key_transform(shape);

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

  attend_tiles<T>(kernels_, shape, q,
                  {packed_keys, packed_values, keys_size, values_size, panels * kernels_.panel}, out);
}

template <class T>
std::unique_ptr<AttentionCache> Attention<T>::make_cache(const AttentionShape& shape, CacheElement element) {
  return cached_.make_cache(shape, element);
}

template <class T>
void Attention<T>::extend(const AttentionShape& shape, const Array& q, const Array& k, const Array& v,
                          AttentionCache& cache, Array& out) {
  const std::int64_t rows = shape.windows * shape.length;
  check_attention(shape, rows, q, k, v, out);
  require(shape.length >= 1, "extend: no tokens");
  const auto in = row_norms_.apply(shape, rows, q, k, v);
  const NewTokens tokens{.shape = &in.shape,
                         .q_transform = query_transform(in.shape),
                         .k_transform = key_transform(in.shape),
                         .q = &in.q,
                         .k = &in.k,
                         .v = &in.v,
                         .out = &out};
  if (shape.past == 0 && shape.length > 1) {
    cached_.append(tokens, cache);
    if (rows != 0) attend_windows(in, out);
  } else {
    cached_.extend(tokens, cache);
  }
}

template class Attention<float>;
template class Attention<Bf16>;

}  // namespace knapsaq::cpu
