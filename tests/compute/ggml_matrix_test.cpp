#include "knapsaq/compute/ggml_matrix.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/compute/ggml_block.h"

namespace knapsaq {

// Names of parametrised tests stay readable.
void PrintTo(const GgmlTypeInfo& type, std::ostream* out) { *out << type.name; }
namespace {

/// What tools/make_ggml_references.py wrote for a type.
struct Reference {
  GgmlMatrix matrix;
  std::vector<float> weights;
};

Reference reference(const GgmlTypeInfo& type) {
  const std::string path =
      std::string(KNAPSAQ_TEST_DATA) + "/compute/ggml_" + std::string(type.name) + ".bin";
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.size() < 8) throw std::runtime_error("cannot read " + path);
  const char* at = bytes.data();
  const auto take = [&](void* to, std::size_t count) {
    std::memcpy(to, at, count);
    at += count;
  };
  std::array<std::int32_t, 2> shape;
  take(shape.data(), sizeof shape);
  Reference out;
  out.matrix.type = type.type;
  out.matrix.rows = shape[0];
  out.matrix.cols = shape[1];
  out.matrix.blocks.resize(out.matrix.rows * out.matrix.row_bytes());
  out.weights.resize(shape[0] * shape[1]);
  EXPECT_EQ(bytes.size(), 8 + out.matrix.blocks.size() + 4 * out.weights.size());
  take(out.matrix.blocks.data(), out.matrix.blocks.size());
  take(out.weights.data(), 4 * out.weights.size());
  return out;
}

class GgmlTypes : public testing::TestWithParam<GgmlTypeInfo> {};
INSTANTIATE_TEST_SUITE_P(, GgmlTypes, testing::ValuesIn(ggml_types().begin(), ggml_types().end()),
                         [](const auto& one) { return std::string(one.param.name); });

TEST_P(GgmlTypes, DecodesAsGgufPyToTheBit) {
  const auto [matrix, weights] = reference(GetParam());
  matrix.check();
  std::vector<float> row(matrix.cols);
  for (std::int64_t r = 0; r < matrix.rows; ++r) {
    matrix.dequantize_row(r, row);
    for (std::int64_t c = 0; c < matrix.cols; ++c) {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(row[c]),
                std::bit_cast<std::uint32_t>(weights[r * matrix.cols + c]))
          << "row " << r << " column " << c;
    }
  }
}

TEST_P(GgmlTypes, PacksWhatItUnpacked) {
  const auto [matrix, weights] = reference(GetParam());
  const auto bytes = static_cast<std::size_t>(GetParam().bytes);
  for (std::size_t at = 0; at < matrix.blocks.size(); at += bytes) {
    const std::span block = std::span(matrix.blocks).subspan(at, bytes);
    GgmlBlock numbers;
    unpack_block(GetParam().type, block, numbers);
    std::vector<std::byte> packed(bytes);
    pack_block(GetParam().type, numbers, packed);
    ASSERT_TRUE(std::ranges::equal(packed, block)) << "block " << at / bytes;
  }
}

TEST_P(GgmlTypes, FactorsThatAreNotFiniteAreRefused) {
  const auto original = reference(GetParam()).matrix;
  const std::size_t last = original.blocks.size() - static_cast<std::size_t>(GetParam().bytes);
  const GgmlRule& how = rule(GetParam().type);
  for (const bool second : {false, true}) {
    if (second && !how.has_min && !how.has_offset) continue;
    for (const std::uint16_t half : std::array<std::uint16_t, 3>{0x7C00, 0xFC00, 0x7E01}) {
      GgmlMatrix matrix = original;
      const std::span block = std::span(matrix.blocks).subspan(last);
      GgmlBlock numbers;
      unpack_block(matrix.type, block, numbers);
      (second ? numbers.m : numbers.d) = half;
      pack_block(matrix.type, numbers, block);
      EXPECT_THROW(matrix.check(), InputError) << std::hex << half;
    }
  }
}

TEST_P(GgmlTypes, SizesThatDoNotFitAreRefused) {
  const auto original = reference(GetParam()).matrix;
  GgmlMatrix matrix = original;
  matrix.blocks.pop_back();
  EXPECT_THROW(matrix.check(), InputError);
  matrix = original;
  matrix.cols -= 1;
  EXPECT_THROW(matrix.check(), InputError);
  matrix = original;
  matrix.rows = 0;
  EXPECT_THROW(matrix.check(), InputError);
  matrix.rows = std::int64_t{1} << 40;
  EXPECT_THROW(matrix.check(), InputError);
}

}  // namespace
}  // namespace knapsaq
