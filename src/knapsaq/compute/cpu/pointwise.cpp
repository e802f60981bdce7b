#include "knapsaq/compute/cpu/pointwise.h"

#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq::cpu {
namespace {

bool has(const Array& array, Element element, std::int64_t rows, std::int64_t cols) {
  return array.element() == element && array.cols() == cols && rows >= 0 && rows <= array.rows();
}

}  // namespace

template <class T>
void Pointwise<T>::scale(Array& values, std::int64_t rows, float factor) const {
  const std::int64_t n = values.cols();
  require(has(values, values.element(), rows, n), "scale: not so many rows");
  for_tiles(RowTiles(rows), [&](const RowTile& tile) {
    if (values.element() == Element::full) {
      kernels_.scale_full(full(values) + tile.first * n, tile.count * n, factor);
    } else {
      kernels_.scale_working(working<T>(values) + tile.first * n, tile.count * n, factor);
    }
  });
}

template <class T>
void Pointwise<T>::add(const Array& in, std::int64_t rows, float factor, Array& sum) const {
  const std::int64_t n = in.cols();
  require(has(in, Element::full, rows, n) && has(sum, Element::full, rows, n), "add: shapes differ");
  for_tiles(RowTiles(rows), [&](const RowTile& tile) {
    kernels_.add_scaled(full(in) + tile.first * n, tile.count * n, factor, full(sum) + tile.first * n);
  });
}

template <class T>
void Pointwise<T>::gate(const Array& gate, std::int64_t rows, Array& values) const {
  const std::int64_t n = values.cols();
  const bool one = gate.cols() == 1;
  require(has(values, Element::working, rows, n) && has(gate, Element::working, rows, one ? 1 : n),
          "gate: shapes differ");
  for_tiles(RowTiles(rows), [&](const RowTile& tile) {
    if (!one)
      return kernels_.gate(working<T>(gate) + tile.first * n, tile.count * n,
                           working<T>(values) + tile.first * n);
    for (std::int64_t r = tile.first; r < tile.first + tile.count; ++r)
      kernels_.gate_by_one(working<T>(gate) + r, n, working<T>(values) + r * n);
  });
}

template <class T>
void Pointwise<T>::gate_backward(const Array& gate, const Array& values, std::int64_t rows, Array& gradient,
                                 Array& of_gate) const {
  const std::int64_t n = values.cols();
  const bool one = gate.cols() == 1;
  const std::int64_t gates = one ? 1 : n;
  require(has(values, Element::working, rows, n) && has(gradient, Element::working, rows, n) &&
              has(gate, Element::working, rows, gates) && has(of_gate, Element::working, rows, gates),
          "gate_backward: shapes differ");
  for_tiles(RowTiles(rows), [&](const RowTile& tile) {
    // All numbers of a tile at once, or those of a row that share a gate.
    const std::int64_t together = one ? 1 : tile.count;
    const auto kernel = one ? kernels_.gate_by_one_backward : kernels_.gate_backward;
    for (std::int64_t r = tile.first; r < tile.first + tile.count; r += together)
      kernel(working<T>(gate) + r * gates, working<T>(values) + r * n, together * n,
             working<T>(gradient) + r * n, working<T>(of_gate) + r * gates);
  });
}

template <class T>
void Pointwise<T>::softcap(Array& logits, std::int64_t rows, float cap) const {
  const std::int64_t n = logits.cols();
  require(has(logits, Element::full, rows, n), "softcap: not so many logits");
  require(cap > 0, "softcap: a cap is above 0");
  for_tiles(RowTiles(rows), [&](const RowTile& tile) {
    kernels_.softcap(full(logits) + tile.first * n, tile.count * n, cap);
  });
}

template class Pointwise<float>;
template class Pointwise<Bf16>;

}  // namespace knapsaq::cpu
