#include "knapsaq/compute/cpu/row_norms.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq::cpu {
namespace {

bool is_wide(const Array* norm, std::int64_t head_dim) {
  return norm != nullptr && !norm->empty() && norm->cols() != head_dim;
}

/// Back through the norm of every `width` numbers of the rows of x: `gradient` is turned from the one by the
/// norm's result into the one by x.
template <class T>
void norm_back(const Kernels<T>& kernels, const Array& x, std::int64_t rows, const Array* norm,
               std::int64_t width, float eps, Array& gradient, std::vector<double>* of_norm) {
  const HeadTransform as_it_is{.head_dim = width};
  const RowTiles tiles(rows);
  const auto n = static_cast<std::size_t>(width);
  const bool sums = of_norm != nullptr && !of_norm->empty();
  require(!sums || of_norm->size() == n, "attend_backward: sums of another length");
  std::vector<float> parts(sums ? static_cast<std::size_t>(tiles.size()) * n : 0);
  for_tiles(tiles, [&](const RowTile& tile) {
    std::vector<float> of_tile(3 * n);
    float* const input = of_tile.data();
    float* const by_result = input + n;
    float* const by_input = by_result + n;
    float* const part = sums ? parts.data() + tile.first / kTileRows * width : nullptr;
    for (std::int64_t at = tile.first * x.cols(); at < (tile.first + tile.count) * x.cols(); at += width) {
      kernels.transform(as_it_is, working<T>(x) + at, 0, input);
      kernels.transform(as_it_is, working<T>(gradient) + at, 0, by_result);
      std::fill_n(by_input, n, 0.0f);
      kernels.gradients->norm(Norm::rms, input, full_or_null(norm), eps, width, by_result, by_input, part,
                              nullptr);
      kernels.convert(by_input, width, working<T>(gradient) + at);
    }
  });
  for (std::size_t i = 0; i < parts.size(); ++i) (*of_norm)[i % n] += static_cast<double>(parts[i]);
}

}  // namespace

template <class T>
Array RowNorms<T>::normed(const Array& x, std::int64_t rows, const Array* norm, std::int64_t width, float eps,
                          AlignedBytes& memory) const {
  memory.reserve(static_cast<std::size_t>(rows * x.cols()) * sizeof(T));
  T* const out = reinterpret_cast<T*>(memory.data());
  const HeadTransform as_it_is{.head_dim = width};
  for_tiles(RowTiles(rows), [&](const RowTile& tile) {
    t_tile.reserve(static_cast<std::size_t>(width) * sizeof(float));
    float* const input = reinterpret_cast<float*>(t_tile.data());
    for (std::int64_t at = tile.first * x.cols(); at < (tile.first + tile.count) * x.cols(); at += width) {
      kernels_.transform(as_it_is, working<T>(x) + at, 0, input);
      kernels_.norm_working(Norm::rms, input, full_or_null(norm), nullptr, eps, width, out + at);
    }
  });
  return {std::shared_ptr<void>(std::shared_ptr<void>(), out), rows, x.cols(), Element::working};
}

template <class T>
typename RowNorms<T>::Inputs RowNorms<T>::apply(const AttentionShape& shape, std::int64_t rows,
                                                const Array& q, const Array& k, const Array& v) {
  Inputs inputs{shape, q, k, v};
  if (is_wide(shape.q_norm, shape.head_dim)) {
    inputs.q = normed(q, rows, shape.q_norm, q.cols(), shape.norm_eps, q_);
    inputs.shape.q_norm = nullptr;
  }
  if (is_wide(shape.k_norm, shape.head_dim)) {
    inputs.k = normed(k, rows, shape.k_norm, k.cols(), shape.norm_eps, k_);
    inputs.shape.k_norm = nullptr;
  }
  if (shape.v_norm) {
    inputs.v = normed(v, rows, nullptr, shape.head_dim, shape.norm_eps, v_);
    inputs.shape.v_norm = false;
  }
  return inputs;
}

template <class T>
void RowNorms<T>::back(const AttentionShape& shape, std::int64_t rows, const Array& q, const Array& k,
                       const Array& v, AttentionGradient& gradient) const {
  if (is_wide(shape.q_norm, shape.head_dim))
    norm_back(kernels_, q, rows, shape.q_norm, q.cols(), shape.norm_eps, gradient.q, &gradient.q_norm);
  if (is_wide(shape.k_norm, shape.head_dim))
    norm_back(kernels_, k, rows, shape.k_norm, k.cols(), shape.norm_eps, gradient.k, &gradient.k_norm);
  if (shape.v_norm)
    norm_back(kernels_, v, rows, nullptr, shape.head_dim, shape.norm_eps, gradient.v, nullptr);
}

template class RowNorms<float>;
template class RowNorms<Bf16>;

}  // namespace knapsaq::cpu
