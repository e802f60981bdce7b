#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/kernels.h"
#include "knapsaq/compute/cpu/linears.h"
#include "knapsaq/compute/cpu/product.h"
#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq::cpu {

// Rows of a tile of what holds two or three tiles of logits as wide as the vocabulary. A head that fits
// the cache that the cores share is read again for every tile at little cost, and smaller tiles keep the
// logits near the core; a larger head comes from memory each time, and full tiles make that rarer.
inline constexpr std::int64_t kComparedRows = 32;
inline constexpr std::uint64_t kSharedCacheHead = std::uint64_t{8} << 20;
inline RowTiles head_tiles(const DenseWeight& head, std::int64_t rows) {
  return RowTiles(rows, head.bytes() > kSharedCacheHead ? kTileRows : kComparedRows);
}

/// Throws std::invalid_argument for a packed weight.
inline const DenseWeight& dense(const Weight& weight) {
  const auto* as_dense = dynamic_cast<const DenseWeight*>(&weight);
  require(as_dense != nullptr, "a weight is not dense");
  return *as_dense;
}
inline void check_input(const Array& in, std::int64_t rows, const DenseWeight& weight) {
  require(in.element() == Element::working && in.cols() == weight.in() && rows <= in.rows(),
          "product: input of another shape");
}

/// What a tile of rows makes of the head.
struct HeadTile {
  std::array<double, kTileRows> log_sums;         ///< log(sum(exp(logits))) of every row
  std::array<std::int64_t, kTileRows> likeliest;  ///< the first of the largest logits
};

/// Logits of a tile, chunk after chunk: [computed, chunk.cols] each, and what is known of the rows. A soft
/// cap of 0 is none.
template <class T>
HeadTile head_products(Products& products, const Kernels<T>& kernels, const DenseWeight& head, float softcap,
                       const Array& in, const RowTile& tile, float* logits) {
  const auto chunks = static_cast<std::int64_t>(head.chunks().size());
  std::vector<SoftmaxStatistics> statistics(static_cast<std::size_t>(chunks * tile.count));
  for (std::int64_t c = 0; c < chunks; ++c) {
    const DenseWeight::Chunk& chunk = head.chunks()[static_cast<std::size_t>(c)];
    float* part = logits + tile.computed * chunk.first;
    products.run(view_of(head, chunk), tile.computed, working<T>(in) + tile.first * in.cols(), part, true);
    if (softcap > 0) kernels.pointwise->softcap(part, tile.count * chunk.cols, softcap);
    for (std::int64_t r = 0; r < tile.count; ++r)
      statistics[static_cast<std::size_t>(r * chunks + c)] =
          kernels.softmax_statistics(part + r * chunk.cols, chunk.cols);
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

}  // namespace knapsaq::cpu
