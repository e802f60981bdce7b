#include "knapsaq/export/words.h"

#include <algorithm>

#include "knapsaq/compute/packed_matrix.h"

namespace knapsaq {

void transpose_words(std::span<const std::uint32_t> in, std::int64_t rows, std::int64_t cols,
                     std::span<std::uint32_t> out) {
  // A tile of 16 x 16 words reads and writes whole cache lines (64 bytes) only, and its 32 lines stay in the
  // first-level cache whatever the strides.
  constexpr std::int64_t kTile = 16;
  for (std::int64_t r0 = 0; r0 < rows; r0 += kTile) {
    const std::int64_t r1 = std::min(r0 + kTile, rows);
    for (std::int64_t c0 = 0; c0 < cols; c0 += kTile) {
      const std::int64_t c1 = std::min(c0 + kTile, cols);
      for (std::int64_t c = c0; c < c1; ++c)
        for (std::int64_t r = r0; r < r1; ++r) out[c * rows + r] = in[r * cols + c];
    }
  }
}

std::vector<std::uint32_t> pack_zeros(std::span<const std::uint8_t> zeros, std::int64_t rows, int bits) {
  const std::int64_t groups = static_cast<std::int64_t>(zeros.size()) / rows;
  const std::int64_t words = (rows * bits + 31) / 32;
  std::vector<std::uint32_t> packed(static_cast<std::size_t>(groups * words));
  std::vector<std::uint8_t> column(static_cast<std::size_t>(rows));
  for (std::int64_t g = 0; g < groups; ++g) {
    for (std::int64_t r = 0; r < rows; ++r) column[r] = zeros[r * groups + g];
    pack_codes(column, bits, std::span(packed).subspan(g * words, words));
  }
  return packed;
}

}  // namespace knapsaq
