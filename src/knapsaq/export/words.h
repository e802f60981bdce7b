#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace knapsaq {

/// out[c, r] = in[r, c] for words; in is [rows, cols].
void transpose_words(std::span<const std::uint32_t> in, std::int64_t rows, std::int64_t cols,
                     std::span<std::uint32_t> out);

/// The zero points of a linear, [rows, groups], as dense bitstreams along the rows:
/// [groups, ceil(rows * bits / 32)]. This is GPTQ's qzeros; compressed-tensors' weight_zero_point is its
/// transpose.
std::vector<std::uint32_t> pack_zeros(std::span<const std::uint8_t> zeros, std::int64_t rows, int bits);

}  // namespace knapsaq
