#include "knapsaq/export/words.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "knapsaq/compute/packed_matrix.h"

namespace knapsaq {

namespace {

// Four words; every compiler turns the shuffles below into the two-way interleaving that all processors have,
// so there is no version per instruction set.
using Four = std::uint32_t __attribute__((vector_size(16)));

Four load(const std::uint32_t* from) {
  Four value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
void store(Four value, std::uint32_t* to) { std::memcpy(to, &value, sizeof value); }
Four low(Four a, Four b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
Four high(Four a, Four b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }

void transpose_four(const std::uint32_t* from, std::int64_t stride, std::uint32_t* to,
                    std::int64_t to_stride) {
  const Four a = load(from);
  const Four b = load(from + stride);
  const Four c = load(from + 2 * stride);
  const Four d = load(from + 3 * stride);
  store(low(low(a, c), low(b, d)), to);
  store(high(low(a, c), low(b, d)), to + to_stride);
  store(low(high(a, c), high(b, d)), to + 2 * to_stride);
  store(high(high(a, c), high(b, d)), to + 3 * to_stride);
}

// A tile of 16 x 16 words reads and writes whole cache lines of 64 bytes.
constexpr std::int64_t kTile = 16;

void transpose_tile(const std::uint32_t* from, std::int64_t cols, std::uint32_t* to, std::int64_t rows) {
  // Through a buffer: lines that are a power of two apart, as in most models, map to the same few sets of the
  // L1 cache, so each must be finished before the next is touched.
  alignas(64) std::array<std::uint32_t, kTile * kTile> buffer;
  for (std::int64_t r = 0; r < kTile; r += 4)
    for (std::int64_t c = 0; c < kTile; c += 4)
      transpose_four(from + r * cols + c, cols, buffer.data() + c * kTile + r, kTile);
  for (std::int64_t c = 0; c < kTile; ++c)
    std::memcpy(to + c * rows, buffer.data() + c * kTile, kTile * sizeof buffer[0]);
}

}  // namespace

void transpose_words(std::span<const std::uint32_t> in, std::int64_t rows, std::int64_t cols,
                     std::span<std::uint32_t> out) {
  for (std::int64_t c0 = 0; c0 < cols; c0 += kTile) {
    const std::int64_t width = std::min(kTile, cols - c0);
    for (std::int64_t r0 = 0; r0 < rows; r0 += kTile) {
      const std::int64_t height = std::min(kTile, rows - r0);
      const std::uint32_t* from = in.data() + r0 * cols + c0;
      std::uint32_t* to = out.data() + c0 * rows + r0;
      if (width == kTile && height == kTile) {
        // Processors do not prefetch rows that are pages apart.
        if (r0 + 2 * kTile <= rows)
          for (std::int64_t r = kTile; r < 2 * kTile; ++r) __builtin_prefetch(from + r * cols);
        transpose_tile(from, cols, to, rows);
      } else {
        for (std::int64_t r = 0; r < height; ++r)
          for (std::int64_t c = 0; c < width; ++c) to[c * rows + r] = from[r * cols + c];
      }
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
