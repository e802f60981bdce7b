#include "knapsaq/compute/cpu/attention.h"

#include <algorithm>
#include <stdexcept>

#include "knapsaq/base/threads.h"
#include "knapsaq/compute/cpu/query_tiles.h"
#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq::cpu {
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

  attend_tiles<T>(kernels_, shape, q_transform, q,
                  {packed_keys, packed_values, keys_size, values_size, panels * kernels_.panel}, out);
}

template <class T>
std::unique_ptr<AttentionCache> Attention<T>::make_cache(const AttentionShape& shape, CacheElement element) {
  return cached_.make_cache(shape, element);
}

template <class T>
void Attention<T>::extend(const AttentionShape& shape, const Array& q, const Array& k, const Array& v,
                          AttentionCache& cache, Array& out) {
  check_attention(shape, shape.windows * shape.length, q, k, v, out);
  require(shape.length >= 1, "extend: no tokens");
  const NewTokens tokens{.shape = &shape,
                         .q_transform = transform_of(shape, shape.q_norm),
                         .k_transform = transform_of(shape, shape.k_norm),
                         .q = &q,
                         .k = &k,
                         .v = &v,
                         .out = &out};
  if (shape.past == 0 && shape.length > 1) {
    cached_.append(tokens, cache);
    attend(shape, q, k, v, out);
  } else {
    cached_.extend(tokens, cache);
  }
}

template class Attention<float>;
template class Attention<Bf16>;

}  // namespace knapsaq::cpu
