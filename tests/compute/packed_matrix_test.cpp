#include "knapsaq/compute/packed_matrix.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/random.h"

namespace knapsaq {
namespace {

TEST(AffineWidths, AreTheListAndNoOthers) {
  for (std::int64_t bits = -1; bits <= 300; ++bits)
    EXPECT_EQ(is_affine_width(bits), std::ranges::find(kAffineWidths, bits) != kAffineWidths.end()) << bits;
}

TEST(PackCodes, InverseIsExactForEveryWidthAndLength) {
  Random random(1);
  for (const int bits : kAffineWidths) {
    for (std::size_t length = 0; length <= 300; ++length) {
      std::vector<std::uint8_t> codes(length);
      for (auto& code : codes) code = static_cast<std::uint8_t>(random.below(1u << bits));
      std::vector<std::uint32_t> words((length * bits + 31) / 32, 0xDEADBEEFu);
      pack_codes(codes, bits, words);
      std::vector<std::uint8_t> back(length, 0xAA);
      unpack_codes(words, bits, back);
      ASSERT_EQ(back, codes) << bits << " bits, " << length << " codes";
      // The stream by its definition, bit by bit, and zeros in the padding.
      for (std::size_t bit = 0; bit < words.size() * 32; ++bit) {
        const bool expected = bit < length * bits && (codes[bit / bits] >> (bit % bits) & 1) != 0;
        ASSERT_EQ((words[bit / 32] >> (bit % 32) & 1) != 0, expected) << bits << " bits, bit " << bit;
      }
    }
  }
}

PackedMatrix matrix(int bits, int meta_bits) {
  PackedMatrix m;
  m.rows = 3;
  m.cols = 70;
  m.bits = bits;
  m.group = 32;
  m.meta_bits = meta_bits;
  m.codes.assign(static_cast<std::size_t>(m.rows * m.words_per_row()), 0x12345678u);
  if (meta_bits == 16) {
    m.scales.assign(9, float_to_half(0.5f));
    m.biases.assign(9, float_to_half(-1.0f));
  } else {
    m.meta_group = 4;
    m.scale_codes.assign(9, 100);
    m.zero_codes.assign(9, 50);
    m.scale_steps.assign(3, float_to_half(0.01f));
    m.scale_mins.assign(3, float_to_half(0.1f));
  }
  return m;
}

TEST(PackedMatrix, CheckAcceptsWhatFitsAndNamesWhatDoesNot) {
  for (const int bits : kAffineWidths) {
    EXPECT_NO_THROW(matrix(bits, 16).check());
    EXPECT_NO_THROW(matrix(bits, 8).check());
  }
  const auto refused = [](int meta_bits, auto&& spoil) -> std::string {
    PackedMatrix m = matrix(4, meta_bits);
    spoil(m);
    try {
      m.check();
    } catch (const InputError& error) {
      return error.what();
    }
    return "accepted";
  };
  using testing::HasSubstr;
  constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
  EXPECT_THAT(refused(16, [](PackedMatrix& m) { m.rows = 0; }), HasSubstr("shape"));
  EXPECT_THAT(refused(16, [](PackedMatrix& m) { m.rows = -3; }), HasSubstr("shape"));
  EXPECT_THAT(refused(16, [](PackedMatrix& m) { m.cols = kHuge; }), HasSubstr("shape"));
  EXPECT_THAT(refused(16,
                      [](PackedMatrix& m) {
                        m.rows = std::int64_t{1} << 40;
                        m.cols = std::int64_t{1} << 40;
                      }),
              HasSubstr("more than fit"));
  EXPECT_THAT(refused(16, [](PackedMatrix& m) { m.bits = 7; }), HasSubstr("bits"));
  EXPECT_THAT(refused(16, [](PackedMatrix& m) { m.group = 0; }), HasSubstr("group"));
  EXPECT_THAT(refused(16, [](PackedMatrix& m) { m.group = 71; }), HasSubstr("group"));
  EXPECT_THAT(refused(16, [](PackedMatrix& m) { m.codes.pop_back(); }), HasSubstr("codes"));
  EXPECT_THAT(refused(16, [](PackedMatrix& m) { m.scales.push_back(0); }), HasSubstr("scales"));
  EXPECT_THAT(refused(16, [](PackedMatrix& m) { m.biases.clear(); }), HasSubstr("biases"));
  EXPECT_THAT(refused(16, [](PackedMatrix& m) { m.biases[4] = 0x7C00; }), HasSubstr("biases"));
  EXPECT_THAT(refused(16, [](PackedMatrix& m) { m.meta_group = 4; }), HasSubstr("meta_group"));
  EXPECT_THAT(refused(16, [](PackedMatrix& m) { m.zero_codes.push_back(0); }), HasSubstr("zero_codes"));
  EXPECT_THAT(refused(16, [](PackedMatrix& m) { m.meta_bits = 4; }), HasSubstr("metadata"));
  EXPECT_THAT(refused(8, [](PackedMatrix& m) { m.meta_group = 0; }), HasSubstr("meta_group"));
  EXPECT_THAT(refused(8, [](PackedMatrix& m) { m.scale_codes.pop_back(); }), HasSubstr("scale_codes"));
  EXPECT_THAT(refused(8, [](PackedMatrix& m) { m.zero_codes.pop_back(); }), HasSubstr("zero_codes"));
  EXPECT_THAT(refused(8, [](PackedMatrix& m) { m.scale_steps.pop_back(); }), HasSubstr("scale_steps"));
  EXPECT_THAT(refused(8, [](PackedMatrix& m) { m.scale_mins.push_back(0); }), HasSubstr("scale_mins"));
  EXPECT_THAT(refused(8, [](PackedMatrix& m) { m.scale_mins[0] = 0xFE00; }), HasSubstr("scale_mins"));
  EXPECT_THAT(refused(8, [](PackedMatrix& m) { m.scales.push_back(0); }), HasSubstr("scales"));
}

TEST(PackedMatrix, BytesCountsEveryVector) {
  // 3 rows of ceil(70 * 3 / 32) = 7 words; 9 groups.
  EXPECT_EQ(matrix(3, 16).bytes(), 3u * 7 * 4 + 9 * 4);
  EXPECT_EQ(matrix(3, 8).bytes(), 3u * 7 * 4 + 9 * 2 + 3 * 4);
}

/// Reads the little-endian files of tools/make_quant_references.py piece by piece.
class Reader {
 public:
  explicit Reader(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
  }
  template <class T>
  std::vector<T> take(std::int64_t count) {
    std::vector<T> values(static_cast<std::size_t>(count));
    EXPECT_LE(at_ + values.size() * sizeof(T), bytes_.size());
    std::memcpy(values.data(), bytes_.data() + at_, values.size() * sizeof(T));
    at_ += values.size() * sizeof(T);
    return values;
  }
  bool at_end() const { return at_ == bytes_.size(); }

 private:
  std::vector<char> bytes_;
  std::size_t at_ = 0;
};

TEST(PackedMatrix, DequantizesAsAnIndependentDecoder) {
  for (const int bits : kAffineWidths) {
    for (const int meta_bits : {16, 8}) {
      SCOPED_TRACE(fmt::format("{} bits, {}-bit metadata", bits, meta_bits));
      Reader file(fmt::format("{}/compute/packed_{}_{}.bin", KNAPSAQ_TEST_DATA, bits, meta_bits));
      const auto header = file.take<std::int32_t>(4);
      PackedMatrix m;
      m.rows = header[0];
      m.cols = header[1];
      m.bits = bits;
      m.group = header[2];
      m.meta_bits = meta_bits;
      m.meta_group = header[3];
      m.codes = file.take<std::uint32_t>(m.rows * m.words_per_row());
      const std::int64_t groups = m.rows * m.groups();
      if (meta_bits == 16) {
        m.scales = file.take<std::uint16_t>(groups);
        m.biases = file.take<std::uint16_t>(groups);
      } else {
        m.scale_codes = file.take<std::uint8_t>(groups);
        m.zero_codes = file.take<std::uint8_t>(groups);
        m.scale_steps = file.take<std::uint16_t>(m.meta_groups());
        m.scale_mins = file.take<std::uint16_t>(m.meta_groups());
      }
      const auto expected = file.take<float>(m.rows * m.cols);
      ASSERT_TRUE(file.at_end());
      m.check();
      std::vector<float> row(static_cast<std::size_t>(m.cols));
      for (std::int64_t r = 0; r < m.rows; ++r) {
        m.dequantize_row(r, row);
        for (std::int64_t k = 0; k < m.cols; ++k)
          ASSERT_EQ(row[k], expected[r * m.cols + k]) << r << ", " << k;
      }
    }
  }
}

TEST(PackedMatrix, DequantizesLongRowsInPiecesAcrossGroupBorders) {
  // Rows longer than one piece of the decoder (1024), with groups that do not divide it.
  Random random(2);
  PackedMatrix m;
  m.rows = 2;
  m.cols = 2500;
  m.bits = 3;
  m.group = 100;
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(m.cols));
  const std::int64_t words = m.words_per_row();
  m.codes.resize(static_cast<std::size_t>(2 * words));
  for (int i = 0; i < 50; ++i) {
    m.scales.push_back(float_to_half(static_cast<float>(random.uniform())));
    m.biases.push_back(float_to_half(static_cast<float>(random.normal())));
  }
  for (std::int64_t r = 0; r < 2; ++r) {
    for (auto& code : codes) code = static_cast<std::uint8_t>(random.below(8));
    pack_codes(codes, 3, std::span(m.codes).subspan(r * words, words));
    std::vector<float> row(codes.size());
    m.dequantize_row(r, row);
    for (std::int64_t k = 0; k < m.cols; ++k) {
      const auto i = static_cast<std::size_t>(r * 25 + k / 100);
      ASSERT_EQ(row[k], half_to_float(m.scales[i]) * codes[k] + half_to_float(m.biases[i])) << r << ", " << k;
    }
  }
}

}  // namespace
}  // namespace knapsaq
