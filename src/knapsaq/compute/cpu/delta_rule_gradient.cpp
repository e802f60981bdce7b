#include <algorithm>
#include <cmath>
#include <vector>

#include "knapsaq/base/float16.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/compute/cpu/recurrent.h"
#include "knapsaq/compute/cpu/recurrent_state.h"
#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq::cpu {
namespace {

float to_float(float x) { return x; }
float to_float(Bf16 x) { return bfloat16_to_float(static_cast<std::uint16_t>(x)); }
void store(float x, float& place) { place = x; }
void store(float x, Bf16& place) { place = static_cast<Bf16>(float_to_bfloat16(x)); }

}  // namespace

// Columns of a state do not look at each other, so a few go back through all tokens of a window at a time;
// what they share, the gradients by keys, queries, decays and betas, is summed over the columns and the value
// heads of a key head, which are one task. All states of these columns are kept meanwhile.
template <class T>
void Recurrent<T>::gated_delta_rule_backward(const RowSequences& sequences, const DeltaShape& shape,
                                             const Array& qkv, const Array& a, const Array& b,
                                             const Array& gradient, DeltaGradient& out) {
  require(sequences.segments.empty() && sequences.state == nullptr,
          "gated_delta_rule_backward: windows only");
  const std::vector<SequenceRun> runs = runs_of(sequences, qkv.rows());
  const std::int64_t rows = sequences.windows * sequences.length;
  check_delta(shape, rows, qkv, a, b, gradient);
  require(out.qkv.element() == Element::working && out.qkv.rows() >= rows && out.qkv.cols() == qkv.cols(),
          "gated_delta_rule_backward: shapes differ");
  for (const Array* array : {&out.a, &out.b})
    require(
        array->element() == Element::working && array->rows() >= rows && array->cols() == shape.value_heads,
        "gated_delta_rule_backward: shapes differ");
  if (rows == 0) return;
  const Prepared prepared = prepare(shape, rows, qkv, a, b);

  const std::int64_t dim = shape.key_dim;
  const std::int64_t width = shape.key_heads * dim;
  const std::int64_t heads = shape.value_heads;
  const std::int64_t values_per_key = heads / shape.key_heads;
  const std::int64_t length = sequences.length;
  gradients_.reserve(static_cast<std::size_t>(rows * 2 * (width + heads)) * sizeof(float));
  float* const of_q = reinterpret_cast<float*>(gradients_.data());
  float* const of_k = of_q + rows * width;
  float* const of_decays = of_k + rows * width;
  float* const of_betas = of_decays + rows * heads;
  std::fill_n(of_q, rows * 2 * (width + heads), 0.0f);

  parallel_for(runs.size() * static_cast<std::size_t>(shape.key_heads), [&](std::size_t index) {
    const std::int64_t row = runs[index / static_cast<std::size_t>(shape.key_heads)].row;
    const std::int64_t key_head = static_cast<std::int64_t>(index) % shape.key_heads;
    const std::int64_t at_key = row * width + key_head * dim;
    constexpr std::int64_t kColumns = kDeltaColumns;
    t_tile.reserve(static_cast<std::size_t>(kColumns * ((length + 2) * dim + 4 * length)) * sizeof(float));
    float* const states = reinterpret_cast<float*>(t_tile.data());
    float* const of_state = states + (length + 1) * kColumns * dim;
    float* const v = of_state + kColumns * dim;
    float* const of_out = v + length * kColumns;
    float* const of_v = of_out + length * kColumns;
    float* const differences = of_v + length * kColumns;
    for (std::int64_t head = key_head * values_per_key; head < (key_head + 1) * values_per_key; ++head) {
      const std::int64_t at_head = row * heads + head;
      for (std::int64_t first = 0; first < shape.value_dim; first += kColumns) {
        const std::int64_t column = head * shape.value_dim + first;
        const std::int64_t count = std::min(kColumns, shape.value_dim - first);
        for (std::int64_t t = 0; t < length; ++t) {
          const T* const from_v = working<T>(qkv) + (row + t) * qkv.cols() + 2 * width + column;
          const T* const from_out = working<T>(gradient) + (row + t) * gradient.cols() + column;
          for (std::int64_t c = 0; c < kColumns; ++c) {
            v[t * kColumns + c] = c < count ? to_float(from_v[c]) : 0;
            of_out[t * kColumns + c] = c < count ? to_float(from_out[c]) : 0;
          }
        }
        kernels_.run_backward({.q = prepared.q + at_key,
                               .k = prepared.k + at_key,
                               .decay = prepared.decays + at_head,
                               .beta = prepared.betas + at_head,
                               .v = v,
                               .gradient = of_out,
                               .key_pitch = width,
                               .head_pitch = heads,
                               .tokens = length,
                               .key_dim = dim,
                               .states = states,
                               .of_state = of_state,
                               .differences = differences,
                               .of_v = of_v,
                               .of_q = of_q + at_key,
                               .of_k = of_k + at_key,
                               .of_decay = of_decays + at_head,
                               .of_beta = of_betas + at_head});
        for (std::int64_t t = 0; t < length; ++t) {
          T* const to_v = working<T>(out.qkv) + (row + t) * out.qkv.cols() + 2 * width + column;
          for (std::int64_t c = 0; c < count; ++c) store(of_v[t * kColumns + c], to_v[c]);
        }
      }
    }
  });

  const float factor = 1.0f / std::sqrt(static_cast<float>(dim));
  for_tiles(RowTiles(rows, kRowStep), [&](const RowTile& tile) {
    for (std::int64_t r = tile.first; r < tile.first + tile.count; ++r) {
      const T* const row = working<T>(qkv) + r * qkv.cols();
      T* const of_row = working<T>(out.qkv) + r * out.qkv.cols();
      for (std::int64_t start = 0; start < width; start += dim) {
        kernels_.normalize_backward(row + start, dim, shape.norm_eps, factor, of_q + r * width + start,
                                    of_row + start);
        kernels_.normalize_backward(row + width + start, dim, shape.norm_eps, 1.0f, of_k + r * width + start,
                                    of_row + width + start);
      }
      for (std::int64_t h = 0; h < heads; ++h) {
        const std::int64_t i = r * heads + h;
        const float rate = full(*shape.rates)[h];
        const float x = full(a)[i] + full(*shape.dt_bias)[h];
        const float beta = prepared.betas[i];
        // The slope of softplus is the sigmoid.
        store(of_decays[i] * prepared.decays[i] * rate / (1.0f + std::exp(-x)), working<T>(out.a)[i]);
        store(of_betas[i] * beta * (1.0f - beta), working<T>(out.b)[i]);
      }
    }
  });
}

template void Recurrent<float>::gated_delta_rule_backward(const RowSequences&, const DeltaShape&,
                                                          const Array&, const Array&, const Array&,
                                                          const Array&, DeltaGradient&);
template void Recurrent<Bf16>::gated_delta_rule_backward(const RowSequences&, const DeltaShape&, const Array&,
                                                         const Array&, const Array&, const Array&,
                                                         DeltaGradient&);

}  // namespace knapsaq::cpu
