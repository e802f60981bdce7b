#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "knapsaq/checkpoint/safetensors.h"

namespace knapsaq {

/// Writes floats computed by `value(i)` in pieces that need little memory.
template <class Function>
void write_values(SafetensorsWriter& writer, std::size_t count, Function&& value) {
  std::array<float, 16384> piece;
  for (std::size_t first = 0; first < count; first += piece.size()) {
    const std::size_t n = std::min(piece.size(), count - first);
    for (std::size_t i = 0; i < n; ++i) piece[i] = value(first + i);
    writer.write(std::as_bytes(std::span(piece).first(n)));
  }
}

}  // namespace knapsaq
