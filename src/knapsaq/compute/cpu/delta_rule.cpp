#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "knapsaq/base/threads.h"
#include "knapsaq/compute/cpu/recurrent.h"
#include "knapsaq/compute/cpu/recurrent_state.h"
#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq::cpu {
namespace {

// Of so many tokens, the blocks of a head are tasks of their own.
constexpr std::int64_t kManyTokens = 16;

/// Runs that begin with the same state: one, and those that go on where it ends.
struct Family {
  std::size_t first = 0;
  std::vector<std::size_t> children;
};

std::vector<Family> families_of(const std::vector<SequenceRun>& runs) {
  std::vector<Family> families;
  std::vector<std::size_t> family_of(runs.size());
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (runs[i].parent < 0) {
      family_of[i] = families.size();
      families.push_back({i, {}});
    } else {
      families[family_of[static_cast<std::size_t>(runs[i].parent)]].children.push_back(i);
    }
  }
  return families;
}

}  // namespace

void check_delta(const DeltaShape& shape, std::int64_t rows, const Array& qkv, const Array& a, const Array& b,
                 const Array& out) {
  require(shape.key_heads >= 1 && shape.value_heads >= 1 && shape.value_heads % shape.key_heads == 0 &&
              shape.key_dim >= 1 && shape.value_dim >= 1,
          "gated_delta_rule: no such heads");
  require(qkv.element() == Element::working && qkv.rows() >= rows && qkv.cols() == shape.channels(),
          "gated_delta_rule: q, k and v of another shape");
  for (const Array* array : {&a, &b})
    require(array->element() == Element::full && array->rows() >= rows && array->cols() == shape.value_heads,
            "gated_delta_rule: a or b of another shape");
  for (const Array* vector : {shape.rates, shape.dt_bias})
    require(vector != nullptr && vector->element() == Element::full && vector->cols() == shape.value_heads,
            "gated_delta_rule: rates or biases of another length");
  require(out.element() == Element::working && out.rows() >= rows &&
              out.cols() == shape.value_heads * shape.value_dim,
          "gated_delta_rule: result of another shape");
}

template <class T>
typename Recurrent<T>::Prepared Recurrent<T>::prepare(const DeltaShape& shape, std::int64_t rows,
                                                      const Array& qkv, const Array& a, const Array& b) {
  const std::int64_t width = shape.key_heads * shape.key_dim;
  const std::int64_t of_row = 2 * width + shape.key_heads + 2 * shape.value_heads;
  prepared_.reserve(static_cast<std::size_t>(rows * of_row) * sizeof(float));
  Prepared all{};
  all.q = reinterpret_cast<float*>(prepared_.data());
  all.k = all.q + rows * width;
  all.dots = all.k + rows * width;
  all.decays = all.dots + rows * shape.key_heads;
  all.betas = all.decays + rows * shape.value_heads;
  const float factor = 1.0f / std::sqrt(static_cast<float>(shape.key_dim));
  for_tiles(RowTiles(rows, kRowStep), [&](const RowTile& tile) {
    for (std::int64_t r = tile.first; r < tile.first + tile.count; ++r) {
      const T* row = working<T>(qkv) + r * qkv.cols();
      for (std::int64_t h = 0; h < shape.key_heads; ++h) {
        float* const q = all.q + r * width + h * shape.key_dim;
        float* const k = all.k + r * width + h * shape.key_dim;
        kernels_.normalize(row + h * shape.key_dim, shape.key_dim, shape.norm_eps, factor, q);
        kernels_.normalize(row + width + h * shape.key_dim, shape.key_dim, shape.norm_eps, 1.0f, k);
        all.dots[r * shape.key_heads + h] = kernels_.dot(q, k, shape.key_dim);
      }
      for (std::int64_t h = 0; h < shape.value_heads; ++h) {
        const std::int64_t i = r * shape.value_heads + h;
        const float x = full(a)[i] + full(*shape.dt_bias)[h];
        // softplus(x) is x to the last bit there.
        const float softplus = x > 20 ? x : std::log1p(std::exp(x));
        all.decays[i] = std::exp(full(*shape.rates)[h] * softplus);
        all.betas[i] = 1.0f / (1.0f + std::exp(-full(b)[i]));
      }
    }
  });
  return all;
}

template <class T>
void Recurrent<T>::gated_delta_rule(const RowSequences& sequences, const DeltaShape& shape, const Array& qkv,
                                    const Array& a, const Array& b, Array& out) {
  const std::vector<SequenceRun> runs = runs_of(sequences, qkv.rows());
  const std::int64_t rows = runs.empty() ? 0 : runs.back().row + runs.back().length;
  check_delta(shape, rows, qkv, a, b, out);
  const CpuRecurrentState* state = state_of(sequences);
  require(state == nullptr ||
              (state->shape().value_heads == shape.value_heads && state->shape().key_dim == shape.key_dim &&
               state->shape().value_dim == shape.value_dim),
          "gated_delta_rule: state of another shape");
  if (rows == 0) return;
  const Prepared prepared = prepare(shape, rows, qkv, a, b);

  const std::vector<Family> families = families_of(runs);
  const std::int64_t width = shape.key_heads * shape.key_dim;
  const std::int64_t values_per_key = shape.value_heads / shape.key_heads;
  const std::int64_t blocks = (shape.value_dim + kernels_.block - 1) / kernels_.block;
  const std::int64_t block_size = shape.key_dim * kernels_.block;
  const std::int64_t per_task = rows >= kManyTokens ? 1 : blocks;
  const std::int64_t tasks_per_head = (blocks + per_task - 1) / per_task;

  const auto advance = [&](const SequenceRun& run, std::int64_t head, std::int64_t block, float* states) {
    const std::int64_t key_head = head / values_per_key;
    const std::int64_t column = head * shape.value_dim + block * kernels_.block;
    kernels_.run({.q = prepared.q + run.row * width + key_head * shape.key_dim,
                  .k = prepared.k + run.row * width + key_head * shape.key_dim,
                  .dot = prepared.dots + run.row * shape.key_heads + key_head,
                  .decay = prepared.decays + run.row * shape.value_heads + head,
                  .beta = prepared.betas + run.row * shape.value_heads + head,
                  .v = working<T>(qkv) + run.row * qkv.cols() + 2 * width + column,
                  .out = working<T>(out) + run.row * out.cols() + column,
                  .key_pitch = width,
                  .dot_pitch = shape.key_heads,
                  .head_pitch = shape.value_heads,
                  .v_pitch = qkv.cols(),
                  .out_pitch = out.cols(),
                  .tokens = run.length,
                  .key_dim = shape.key_dim,
                  .cols = std::min(kernels_.block, shape.value_dim - block * kernels_.block),
                  .state = states});
  };

  const auto tasks = static_cast<std::size_t>(shape.value_heads * tasks_per_head);
  parallel_for(families.size() * tasks, [&](std::size_t index) {
    const Family& family = families[index / tasks];
    const auto task = static_cast<std::int64_t>(index % tasks);
    const std::int64_t head = task / tasks_per_head;
    const std::int64_t first = task % tasks_per_head * per_task;
    for (std::int64_t block = first; block < std::min(first + per_task, blocks); ++block) {
      if (state != nullptr) {
        advance(runs[family.first], head, block,
                state->head(static_cast<std::int64_t>(family.first), head) + block * block_size);
        continue;
      }
      t_tile.reserve(static_cast<std::size_t>(2 * block_size) * sizeof(float));
      float* const parent = reinterpret_cast<float*>(t_tile.data());
      float* const child = parent + block_size;
      std::fill_n(parent, block_size, 0.0f);
      advance(runs[family.first], head, block, parent);
      for (const std::size_t i : family.children) {
        std::copy_n(parent, block_size, child);
        advance(runs[i], head, block, child);
      }
    }
  });
}

template Recurrent<float>::Prepared Recurrent<float>::prepare(const DeltaShape&, std::int64_t, const Array&,
                                                              const Array&, const Array&);
template Recurrent<Bf16>::Prepared Recurrent<Bf16>::prepare(const DeltaShape&, std::int64_t, const Array&,
                                                            const Array&, const Array&);
template void Recurrent<float>::gated_delta_rule(const RowSequences&, const DeltaShape&, const Array&,
                                                 const Array&, const Array&, Array&);
template void Recurrent<Bf16>::gated_delta_rule(const RowSequences&, const DeltaShape&, const Array&,
                                                const Array&, const Array&, Array&);

}  // namespace knapsaq::cpu
