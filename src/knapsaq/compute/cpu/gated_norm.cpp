#include <algorithm>
#include <vector>

#include "knapsaq/compute/cpu/recurrent.h"
#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq::cpu {
namespace {

void check(const NormWeights& weights, std::int64_t rows, std::initializer_list<const Array*> arrays) {
  require(weights.kind == Norm::rms && weights.shift.empty() && !weights.scale.empty(),
          "gated_norm: an RMS norm with a scale");
  const Array& first = **arrays.begin();
  require(weights.scale.cols() >= 1 && first.cols() % weights.scale.cols() == 0,
          "gated_norm: norm of another length");
  for (const Array* array : arrays)
    require(array->element() == Element::working && array->cols() == first.cols() && rows <= array->rows(),
            "gated_norm: shapes differ");
}

}  // namespace

template <class T>
void Recurrent<T>::gated_norm(const Array& in, const Array& gate, const NormWeights& weights,
                              std::int64_t rows, Array& out) const {
  check(weights, rows, {&in, &gate, &out});
  const std::int64_t n = weights.scale.cols();
  for_tiles(RowTiles(rows), [&](const RowTile& tile) {
    for (std::int64_t i = tile.first * in.cols(); i < (tile.first + tile.count) * in.cols(); i += n)
      kernels_.gated_norm(working<T>(in) + i, working<T>(gate) + i, full(weights.scale), weights.eps, n,
                          working<T>(out) + i);
  });
}

template <class T>
void Recurrent<T>::gated_norm_backward(const Array& in, const Array& gate, const NormWeights& weights,
                                       std::int64_t rows, const Array& gradient, Array& of_in, Array& of_gate,
                                       NormGradient* of_weights) const {
  check(weights, rows, {&in, &gate, &gradient, &of_in, &of_gate});
  const std::int64_t n = weights.scale.cols();
  require(of_weights == nullptr || std::ssize(of_weights->scale) == n,
          "gated_norm_backward: sums of another length");
  const RowTiles tiles(rows);
  std::vector<float> parts(of_weights == nullptr ? 0 : static_cast<std::size_t>(tiles.size() * n));
  for_tiles(tiles, [&](const RowTile& tile) {
    float* const part = of_weights == nullptr ? nullptr : parts.data() + tile.first / kTileRows * n;
    for (std::int64_t i = tile.first * in.cols(); i < (tile.first + tile.count) * in.cols(); i += n)
      kernels_.gated_norm_backward(working<T>(in) + i, working<T>(gate) + i, full(weights.scale), weights.eps,
                                   n, working<T>(gradient) + i, working<T>(of_in) + i,
                                   working<T>(of_gate) + i, part);
  });
  for (std::size_t i = 0; i < parts.size(); ++i)
    of_weights->scale[i % static_cast<std::size_t>(n)] += static_cast<double>(parts[i]);
}

template void Recurrent<float>::gated_norm(const Array&, const Array&, const NormWeights&, std::int64_t,
                                           Array&) const;
template void Recurrent<Bf16>::gated_norm(const Array&, const Array&, const NormWeights&, std::int64_t,
                                          Array&) const;
template void Recurrent<float>::gated_norm_backward(const Array&, const Array&, const NormWeights&,
                                                    std::int64_t, const Array&, Array&, Array&,
                                                    NormGradient*) const;
template void Recurrent<Bf16>::gated_norm_backward(const Array&, const Array&, const NormWeights&,
                                                   std::int64_t, const Array&, Array&, Array&,
                                                   NormGradient*) const;

}  // namespace knapsaq::cpu
