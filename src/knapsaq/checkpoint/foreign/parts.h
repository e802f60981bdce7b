#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "knapsaq/checkpoint/tensor_table.h"
#include "knapsaq/compute/tensor.h"

/// What the readers of foreign formats have in common.
namespace knapsaq::foreign {

/// A whole number that a description has under `key`; empty if it is absent or null. Throws InputError.
std::optional<std::int64_t> integer(const nlohmann::json& object, const char* key);
/// A text, or empty.
std::string text(const nlohmann::json& object, const char* key);

/// "tensor 'a.b' reason".
[[noreturn]] void refuse(std::string_view tensor, std::string_view reason);
/// A tensor of the files. Throws InputError if it is not there (`of` names whose part it is) or has another
/// type or number of dimensions.
TensorView part(const TensorTable& tensors, const std::string& name, std::string_view of, DType type,
                std::size_t dimensions);

/// The extent of one block where `extent` numbers have `blocks` scales: the first of `usual` for which that
/// is right, the last block may be short; else an even division. Empty if there is none.
std::optional<std::int64_t> block_extent(std::int64_t extent, std::int64_t blocks,
                                         std::span<const std::int64_t> usual);

/// Scales as floats: F16, BF16, F32, and powers of two in F8_E8M0 or U8 (2^(byte - 127)); exact.
bool is_scale_type(DType type);
std::vector<float> scales(const TensorView& view);

/// Rounds to a type as torch casts floats to it; F32 changes nothing.
void round_to(DType type, std::span<float> values);

/// Makes [count, cols] of a weight type, `block` rows at a time and in parallel: `fill(first, out)` writes
/// rows [first, ..) of this part into `out`, the last time fewer than `block`.
std::vector<std::byte> make_rows(DType type, std::int64_t count, std::int64_t cols, std::int64_t block,
                                 const std::function<void(std::int64_t first, std::span<float> out)>& fill);

/// Little-endian words at any byte of a file.
inline std::uint32_t word_at(std::span<const std::byte> bytes, std::int64_t index) {
  std::uint32_t word;
  std::memcpy(&word, bytes.data() + static_cast<std::size_t>(index) * sizeof word, sizeof word);
  return word;
}

/// Words that `codes` codes of some bits take, one after the other without gaps.
constexpr std::int64_t words_of(std::int64_t codes, std::int64_t bits) { return (codes * bits + 31) / 32; }

/// Code `index` of a row of words, the lowest bits first; `word(i)` gives word i.
template <class Word>
std::uint32_t code_at(std::int64_t index, int bits, const Word& word) {
  const std::int64_t bit = index * bits;
  const auto shift = static_cast<int>(bit % 32);
  std::uint32_t code = word(bit / 32) >> shift;
  if (shift + bits > 32) code |= word(bit / 32 + 1) << (32 - shift);
  return code & ((1u << bits) - 1);
}

/// "4 bits", "2 to 8 bits".
std::string bits_text(std::int64_t least, std::int64_t most);

}  // namespace knapsaq::foreign
