#include "knapsaq/checkpoint/foreign/scaled.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/foreign/parts.h"

namespace knapsaq::foreign {

const std::array<float, 256>& e4m3_values() {
  static const std::array<float, 256> values = [] {
    std::array<float, 256> out{};
    for (int byte = 0; byte < 256; ++byte) {
      const int exponent = (byte >> 3) & 15;
      const auto mantissa = static_cast<float>(byte & 7);
      float value = exponent == 0 ? mantissa * 0x1p-9f : std::ldexp(1 + mantissa / 8, exponent - 7);
      if ((byte & 127) == 127) value = std::numeric_limits<float>::quiet_NaN();
      out[static_cast<std::size_t>(byte)] = (byte & 128) != 0 ? -value : value;
    }
    return out;
  }();
  return values;
}

namespace {

/// How the scales lie over a matrix.
struct Blocks {
  std::int64_t rows = 0, cols = 0;  ///< of the matrix
  std::int64_t block_rows = 0, block_cols = 0;
  std::int64_t across = 0;  ///< scales of a row of blocks
  std::int64_t of_one = 0;  ///< scales of one matrix; 0: one for all of them
};

}  // namespace

DerivedTensor dequantized(const ForeignFiles& files, const Fp8Weight& names, std::string& text) {
  const TensorView weight = files.tensors.tensor(names.weight);
  const TensorView scale = files.tensors.tensor(names.scale);
  if (!is_scale_type(scale.type))
    refuse(names.scale, fmt::format("is {}, which scales are not", name_of(scale.type)));
  const std::size_t dimensions = weight.shape.size();
  if (dimensions < 2 || weight.elements() == 0)
    refuse(names.weight,
           fmt::format("is FP8 of shape [{}], which is no matrix", fmt::join(weight.shape, ", ")));

  Blocks blocks;
  blocks.rows = weight.shape[dimensions - 2];
  blocks.cols = weight.shape[dimensions - 1];
  const std::int64_t matrices = weight.elements() / (blocks.rows * blocks.cols);
  const auto no_fit = [&] {
    refuse(names.scale, fmt::format("of shape [{}] does not fit the weight's [{}]",
                                    fmt::join(scale.shape, ", "), fmt::join(weight.shape, ", ")));
  };
  std::vector<std::int64_t> shape = scale.shape;
  const bool per_row = dimensions == 2 && shape.size() == 1 && shape[0] == blocks.rows && blocks.rows > 1;
  if (per_row) shape.push_back(1);
  if (scale.elements() == 1) {
    blocks.block_rows = blocks.rows;
    blocks.block_cols = blocks.cols;
    blocks.across = 1;
    text = "whole tensors";
  } else {
    if (shape.size() != dimensions || !std::equal(shape.begin(), shape.end() - 2, weight.shape.begin()))
      no_fit();
    const auto down = block_extent(blocks.rows, shape[dimensions - 2], names.block_rows);
    const auto across = block_extent(blocks.cols, shape[dimensions - 1], names.block_cols);
    if (!down || !across) no_fit();
    blocks.block_rows = *down;
    blocks.block_cols = *across;
    blocks.across = shape[dimensions - 1];
    blocks.of_one = blocks.across * shape[dimensions - 2];
    text = blocks.block_rows == 1 && blocks.across == 1 ? std::string("rows")
                                                        : fmt::format("blocks of {} x {}", *down, *across);
  }

  const std::int64_t rows_of_index = dimensions == 2 ? 1 : matrices / weight.shape[0] * blocks.rows;
  const DType type = files.type;
  const DType via = names.via;
  DerivedTensor out{{names.weight, type, weight.shape}, {names.weight, names.scale}, {}};
  out.make = [=](std::int64_t first, std::int64_t count) {
    const std::vector<float> factors = scales(scale);
    const std::array<float, 256>& values = e4m3_values();
    const std::int64_t begin = first * rows_of_index;
    return make_rows(type, count * rows_of_index, blocks.cols, 1, [&](std::int64_t row, std::span<float> to) {
      const std::int64_t at = begin + row;
      const std::byte* from = weight.bytes.data() + at * blocks.cols;
      const float* factor = factors.data() + at / blocks.rows * blocks.of_one +
                            at % blocks.rows / blocks.block_rows * blocks.across;
      for (std::int64_t b = 0; b < blocks.across; ++b) {
        const std::int64_t end = std::min((b + 1) * blocks.block_cols, blocks.cols);
        for (std::int64_t c = b * blocks.block_cols; c < end; ++c)
          to[static_cast<std::size_t>(c)] = values[std::to_integer<std::size_t>(from[c])] * factor[b];
      }
      round_to(via, to);
    });
  };
  return out;
}

}  // namespace knapsaq::foreign
