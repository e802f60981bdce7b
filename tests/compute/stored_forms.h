#pragma once

// Random matrices in every form that a linear is stored in.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "knapsaq/base/float16.h"
#include "knapsaq/base/random.h"
#include "knapsaq/compute/ggml_block.h"
#include "knapsaq/compute/ggml_matrix.h"
#include "knapsaq/compute/stored_matrix.h"

namespace knapsaq::test {

/// How codes are chosen: any, or what is hard on narrow sums.
enum class Codes { random, highest, lowest, alternating };

inline std::int64_t code_between(Random& random, Codes codes, std::int64_t index, std::int64_t low,
                                 std::int64_t high) {
  switch (codes) {
    case Codes::highest:
      return high;
    case Codes::lowest:
      return low;
    case Codes::alternating:
      return index % 2 == 0 ? low : high;
    case Codes::random:
      break;
  }
  return low + static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(high - low + 1)));
}

/// group 0: rows.
inline PackedMatrix affine_matrix(std::int64_t rows, std::int64_t cols, int bits, std::int64_t group,
                                  bool symmetric, int meta_group, Codes codes, std::uint64_t seed) {
  Random random(seed);
  PackedMatrix matrix;
  matrix.rows = rows;
  matrix.cols = cols;
  matrix.bits = bits;
  matrix.group = static_cast<int>(group == 0 ? cols : group);
  std::vector<std::uint8_t> row(static_cast<std::size_t>(cols));
  std::vector<std::uint32_t> words(static_cast<std::size_t>(matrix.words_per_row()));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t k = 0; k < cols; ++k)
      row[static_cast<std::size_t>(k)] =
          static_cast<std::uint8_t>(code_between(random, codes, k, 0, (1 << bits) - 1));
    pack_codes(row, bits, words);
    matrix.codes.insert(matrix.codes.end(), words.begin(), words.end());
  }
  const auto groups = static_cast<std::size_t>(rows * matrix.groups());
  const auto half = [&](double value) { return float_to_half(static_cast<float>(value)); };
  if (meta_group > 0) {
    matrix.meta_bits = 8;
    matrix.meta_group = meta_group;
    for (std::size_t i = 0; i < groups; ++i) {
      matrix.scale_codes.push_back(static_cast<std::uint8_t>(random.below(256)));
      matrix.zero_codes.push_back(static_cast<std::uint8_t>(random.below(256)));
    }
    for (std::int64_t i = 0; i < matrix.meta_groups(); ++i) {
      matrix.scale_steps.push_back(half(0.0002 * random.uniform()));
      matrix.scale_mins.push_back(half(0.01 * random.uniform()));
    }
    return matrix;
  }
  for (std::size_t i = 0; i < groups; ++i) {
    matrix.scales.push_back(half(0.02 + 0.05 * random.uniform()));
    const float scale = half_to_float(matrix.scales.back());
    matrix.biases.push_back(
        float_to_half(symmetric ? -static_cast<float>(1 << (bits - 1)) * scale
                                : -scale * static_cast<float>(random.uniform() * ((1 << bits) - 1))));
  }
  return matrix;
}

/// Codes on the grid of a type: of any points and signs, or of the points of the largest and the smallest
/// sum.
inline void fill_from_grid(GgmlType type, Random& random, Codes codes, std::span<std::int8_t> out) {
  const GgmlGrid& grid = *rule(type).grid;
  const auto size = static_cast<std::size_t>(grid.size());
  const auto sum = [&](std::size_t n) { return std::accumulate(grid.point(n), grid.point(n) + size, 0); };
  std::size_t least = 0;
  std::size_t most = 0;
  for (std::size_t n = 0; n < grid.count(); ++n) {
    if (sum(n) < sum(least)) least = n;
    if (sum(n) > sum(most)) most = n;
  }
  const auto sign = [&](std::size_t i) {
    return static_cast<int>(2 * code_between(random, codes, static_cast<std::int64_t>(i), 0, 1) - 1);
  };
  const bool shifts = grid.signs() == GgmlGrid::Signs::shift;
  const std::size_t alike = type == GgmlType::IQ1_S ? 32 : 8;  // codes with the same shift
  int shift = 1;
  bool negative = false;  // of eight codes, an odd number so far
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (shifts && i % alike == 0) shift = sign(i / alike);
    if (i % size == 0) {
      const std::size_t extreme = shifts && shift < 0 ? least : most;
      const std::size_t n = codes == Codes::random ? random.below(grid.count()) : extreme;
      std::copy_n(grid.point(n), size, out.begin() + static_cast<std::ptrdiff_t>(i));
    }
    int factor = shifts ? 8 : sign(i);
    if (grid.signs() == GgmlGrid::Signs::even && i % 8 == 7) factor = negative ? -1 : 1;
    negative = i % 8 != 7 && negative != (factor < 0);
    out[i] = static_cast<std::int8_t>(factor * out[i] + (shifts ? shift : 0));
  }
}

inline void fill_codes(GgmlType type, Random& random, Codes codes, std::span<std::int8_t> out) {
  const GgmlRule& of = rule(type);
  if (of.grid != nullptr) return fill_from_grid(type, random, codes, out);
  const bool listed = !of.levels.empty();
  const std::int64_t first = listed ? 0 : of.lowest;
  const std::int64_t last = listed ? std::ssize(of.levels) - 1 : of.highest;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::int64_t code = code_between(random, codes, static_cast<std::int64_t>(i), first, last);
    out[i] = listed ? of.levels[static_cast<std::size_t>(code)] : static_cast<std::int8_t>(code);
  }
}

inline GgmlMatrix ggml_matrix(GgmlType type, std::int64_t rows, std::int64_t cols, Codes codes,
                              std::uint64_t seed) {
  Random random(seed);
  const GgmlTypeInfo& of = info(type);
  const GgmlRule& bounds = rule(type);
  GgmlMatrix matrix;
  matrix.type = type;
  matrix.rows = rows;
  matrix.cols = cols;
  matrix.blocks.resize(static_cast<std::size_t>(rows * matrix.row_bytes()));
  GgmlBlock block;
  for (std::size_t at = 0; at < matrix.blocks.size(); at += static_cast<std::size_t>(of.bytes)) {
    block.d = float_to_half(static_cast<float>(0.001 + 0.002 * random.uniform()));
    block.m = float_to_half(static_cast<float>(0.01 * random.normal()));
    for (std::size_t i = 0; i < 16; ++i) {
      block.scales[i] = static_cast<std::int8_t>(code_between(random, codes, static_cast<std::int64_t>(i),
                                                              bounds.lowest_scale, bounds.highest_scale));
      block.mins[i] =
          static_cast<std::int8_t>(random.below(static_cast<std::uint64_t>(bounds.highest_scale) + 1));
    }
    fill_codes(type, random, codes, std::span(block.codes).first(static_cast<std::size_t>(of.block)));
    pack_block(type, block, std::span(matrix.blocks).subspan(at, static_cast<std::size_t>(of.bytes)));
  }
  return matrix;
}

inline Nf4Matrix nf4_matrix(std::int64_t rows, std::int64_t cols, Codes codes, std::uint64_t seed) {
  Random random(seed);
  Nf4Matrix matrix;
  matrix.rows = rows;
  matrix.cols = cols;
  for (std::int64_t i = 0; i < (rows * cols + 1) / 2; ++i)
    matrix.codes.push_back(static_cast<std::uint8_t>(code_between(random, codes, i, 0, 15) << 4 |
                                                     code_between(random, codes, i + 1, 0, 15)));
  for (std::int64_t i = 0; i < matrix.blocks(); ++i)
    matrix.absmax_codes.push_back(static_cast<std::uint8_t>(random.below(256)));
  for (std::int64_t i = 0; i < matrix.nested_blocks(); ++i)
    matrix.nested_absmax.push_back(static_cast<float>(0.01 + 0.02 * random.uniform()));
  matrix.offset = 0.05f;
  matrix.state = nf4_state(rows, cols, matrix.offset);
  return matrix;
}

/// A form by name; `make` for rows and columns (a multiple of 256 for GGML's, of 64 for NF4).
struct StoredForm {
  std::string name;
  std::function<StoredMatrix(std::int64_t rows, std::int64_t cols, Codes codes, std::uint64_t seed)> make;
};

inline std::vector<StoredForm> stored_forms() {
  std::vector<StoredForm> forms;
  for (const int bits : kAffineWidths) {
    for (const int group : {32, 64, 128, 0}) {
      const std::string name = group == 0 ? fmt::format("b{}row", bits) : fmt::format("b{}g{}", bits, group);
      for (const bool symmetric : {false, true})
        forms.push_back({fmt::format("{}{}", name, symmetric ? "s" : ""),
                         [=](auto rows, auto cols, Codes codes, std::uint64_t seed) {
                           return affine_matrix(rows, cols, bits, group, symmetric, 0, codes, seed);
                         }});
      forms.push_back({fmt::format("{}m8", name), [=](auto rows, auto cols, Codes codes, std::uint64_t seed) {
                         return affine_matrix(rows, cols, bits, group, false, 128, codes, seed);
                       }});
    }
  }
  for (const GgmlTypeInfo& type : ggml_types())
    forms.push_back(
        {std::string(type.name), [id = type.type](auto rows, auto cols, Codes codes, std::uint64_t seed) {
           return ggml_matrix(id, rows, cols, codes, seed);
         }});
  forms.push_back({"nf4", [](auto rows, auto cols, Codes codes, std::uint64_t seed) {
                     return nf4_matrix(rows, cols, codes, seed);
                   }});
  return forms;
}

}  // namespace knapsaq::test
