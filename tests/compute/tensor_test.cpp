#include "knapsaq/compute/tensor.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include <gtest/gtest.h>

#include "knapsaq/base/float16.h"

namespace knapsaq {
namespace {

/// All 65536 words, one byte off any alignment.
struct AllWords {
  AllWords() : bytes(2 * 65536 + 1) {
    for (std::uint32_t i = 0; i < 65536; ++i) {
      const auto word = static_cast<std::uint16_t>(i);
      std::memcpy(&bytes[1 + 2 * i], &word, 2);
    }
  }
  TensorView view(DType type) const { return {type, {256, 256}, std::span(bytes).subspan(1)}; }
  std::vector<std::byte> bytes;
};

TEST(Tensor, EveryHalfIsReadExactly) {
  const AllWords words;
  const std::vector<float> values = read_floats(words.view(DType::F16));
  ASSERT_EQ(values.size(), 65536u);
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const float expected = half_to_float(static_cast<std::uint16_t>(i));
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(values[i])) << i;
    } else {
      EXPECT_EQ(std::bit_cast<std::uint32_t>(values[i]), std::bit_cast<std::uint32_t>(expected)) << i;
    }
  }
}

TEST(Tensor, EveryBfloat16IsReadExactly) {
  const AllWords words;
  const std::vector<float> values = read_floats(words.view(DType::BF16));
  for (std::uint32_t i = 0; i < 65536; ++i) EXPECT_EQ(std::bit_cast<std::uint32_t>(values[i]), i << 16);
}

TEST(Tensor, AnyStretchCanBeRead) {
  const AllWords words;
  const TensorView view = words.view(DType::F16);
  const std::vector<float> all = read_floats(view);
  for (std::size_t first = 0; first < 20; ++first) {
    for (std::size_t count = 0; count < 40; ++count) {
      std::vector<float> part(count, -1.0f);
      read_floats(view, static_cast<std::int64_t>(first), part);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + static_cast<std::ptrdiff_t>(first)));
    }
  }
}

TEST(Tensor, OtherElementsAndTypesAreRefused) {
  const AllWords words;
  const TensorView view = words.view(DType::F16);
  std::vector<float> out(2);
  EXPECT_NO_THROW(read_floats(view, 65534, out));
  EXPECT_THROW(read_floats(view, 65535, out), std::out_of_range);
  EXPECT_THROW(read_floats(view, -1, out), std::out_of_range);
  EXPECT_THROW(read_floats(view, std::numeric_limits<std::int64_t>::max(), out), std::out_of_range);
  EXPECT_THROW(read_floats(words.view(DType::I16), 0, out), std::invalid_argument);
}

TEST(Tensor, TypesHaveTheNamesAndSizesOfSafetensors) {
  for (int i = 0; i < 13; ++i) {
    const auto type = static_cast<DType>(i);
    EXPECT_EQ(parse_dtype(name_of(type)), type);
  }
  EXPECT_EQ(name_of(DType::BF16), "BF16");
  EXPECT_EQ(size_of(DType::BF16), 2u);
  EXPECT_EQ(size_of(DType::BOOL), 1u);
  EXPECT_EQ(size_of(DType::I64), 8u);
  EXPECT_FALSE(parse_dtype("F8_E5M2").has_value());
}

TEST(Tensor, TheFirstValueThatIsNotFiniteIsFound) {
  std::vector<float> values(5000, std::numeric_limits<float>::max());
  EXPECT_EQ(first_not_finite(values), std::nullopt);
  EXPECT_EQ(first_not_finite({}), std::nullopt);
  values[4999] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(first_not_finite(values), 4999u);
  values[1024] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(first_not_finite(values), 1024u);
  values[0] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(first_not_finite(values), 0u);
}

}  // namespace
}  // namespace knapsaq
