#include "knapsaq/compute/cpu/attention_rules.h"

#include <cmath>
#include <numbers>

#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq::cpu {
namespace {

constexpr auto kLog2E = static_cast<float>(std::numbers::log2e);

HeadTransform transform_of(const AttentionShape& shape, const Array* norm) {
  HeadTransform transform{.head_dim = shape.head_dim, .norm = full_or_null(norm), .norm_eps = shape.norm_eps};
  if (shape.cosines != nullptr)
    transform.rotation = {full(*shape.cosines), full(*shape.sines), shape.cosines->cols()};
  return transform;
}

/// A norm of all heads together, too: RowNorms has left none of these behind when heads are looked at.
bool fits(const Array* norm, std::int64_t heads, std::int64_t head_dim) {
  return norm == nullptr || norm->empty() ||
         (norm->element() == Element::full && (norm->cols() == head_dim || norm->cols() == heads * head_dim));
}

}  // namespace

HeadTransform query_transform(const AttentionShape& shape) {
  HeadTransform transform = transform_of(shape, shape.q_norm);
  transform.factor =
      shape.scale != 0 ? shape.scale * kLog2E : kLog2E / std::sqrt(static_cast<float>(shape.head_dim));
  transform.scales = full_or_null(shape.query_scales);
  return transform;
}

float attention_scale(const AttentionShape& shape) {
  return shape.scale != 0 ? shape.scale : 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
}

HeadTransform key_transform(const AttentionShape& shape) { return transform_of(shape, shape.k_norm); }

float base2_softcap(const AttentionShape& shape) { return shape.softcap * kLog2E; }

const float* sink_of(const AttentionShape& shape, std::int64_t head) {
  return shape.sinks == nullptr ? nullptr : full(*shape.sinks) + head;
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
  const std::int64_t positions = shape.past + shape.length;
  if (shape.cosines != nullptr) {
    for (const Array* table : {shape.cosines, shape.sines})
      require(table->rows() >= positions && table->cols() * 2 <= shape.head_dim &&
                  table->cols() == shape.cosines->cols(),
              "attend: rotation of another shape");
  }
  require(
      fits(shape.q_norm, shape.heads, shape.head_dim) && fits(shape.k_norm, shape.kv_heads, shape.head_dim),
      "attend: norm of another shape");
  require(shape.softcap >= 0, "attend: a soft cap below 0");
  require(shape.sinks == nullptr ||
              (shape.sinks->element() == Element::full && shape.sinks->cols() == shape.heads),
          "attend: sinks of another shape");
  require(shape.query_scales == nullptr ||
              (shape.query_scales->element() == Element::full && shape.query_scales->cols() == 1 &&
               shape.query_scales->rows() >= positions),
          "attend: scales of another shape");
}

}  // namespace knapsaq::cpu
