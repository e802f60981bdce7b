#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "knapsaq/base/threads.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/aligned.h"

namespace knapsaq::cpu {

// Rows of a tile: the unit of all parallel work. oneDNN's products of 128 rows reach 97 % of what they reach
// with thousands (64 rows: 95 %), and a window of 512 tokens still makes four of them.
inline constexpr std::int64_t kTileRows = 128;
// The last tile of a batch is rounded up to a multiple of this many rows, so that few product programs are
// needed; arrays have room for it behind their last row.
inline constexpr std::int64_t kRowStep = 16;

inline std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

inline void require(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

/// Rows [first, first + count) of a batch; computed rows are more at the end of the batch.
struct RowTile {
  std::int64_t first;
  std::int64_t count;
  std::int64_t computed;
};

struct RowTiles {
  explicit RowTiles(std::int64_t count, std::int64_t height = kTileRows) : rows(count), tile_rows(height) {}
  std::int64_t rows;
  std::int64_t tile_rows;
  std::int64_t size() const { return (rows + tile_rows - 1) / tile_rows; }
  RowTile operator[](std::int64_t index) const {
    const std::int64_t first = index * tile_rows;
    const std::int64_t count = std::min(tile_rows, rows - first);
    return {first, count, round_up(count, kRowStep)};
  }
};

/// Calls function(tile) for all tiles, on all threads.
template <class Function>
void for_tiles(const RowTiles& tiles, Function&& function) {
  parallel_for(static_cast<std::size_t>(tiles.size()),
               [&](std::size_t index) { function(tiles[static_cast<std::int64_t>(index)]); });
}

/// Memory of the thread that runs a task, for the tiles between a product and what follows it.
inline thread_local AlignedBytes t_tile;

inline float* full(const Array& array) { return static_cast<float*>(array.data()); }
template <class T>
T* working(const Array& array) {
  return static_cast<T*>(array.data());
}
inline const float* full_or_null(const Array* array) {
  return array == nullptr || array->empty() ? nullptr : full(*array);
}

}  // namespace knapsaq::cpu
