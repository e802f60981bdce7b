#include "knapsaq/tune/tunable_matrix.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "compute/stored_forms.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/export/integer_zeros.h"

namespace knapsaq {
namespace {

/// Every number of a matrix that may be tuned, in the order of its parameters.
std::vector<float> numbers_of(const StoredMatrix& stored) {
  std::vector<float> numbers;
  const auto add_halves = [&](const std::vector<std::uint16_t>& halves) {
    for (const std::uint16_t half : halves) numbers.push_back(half_to_float(half));
  };
  if (const auto* affine = std::get_if<PackedMatrix>(&stored)) {
    add_halves(affine->scales);
    if (!integer_zeros(*affine).obstacle.empty()) add_halves(affine->biases);
    add_halves(affine->scale_mins);
    add_halves(affine->scale_steps);
    numbers.insert(numbers.end(), affine->scale_codes.begin(), affine->scale_codes.end());
    numbers.insert(numbers.end(), affine->zero_codes.begin(), affine->zero_codes.end());
  } else if (const auto* ggml = std::get_if<GgmlMatrix>(&stored)) {
    const GgmlRule& how = rule(ggml->type);
    const auto bytes = static_cast<std::size_t>(info(ggml->type).bytes);
    const int in_block = info(ggml->type).block / how.sub_block;
    std::vector<GgmlBlock> blocks(ggml->blocks.size() / bytes);
    for (std::size_t b = 0; b < blocks.size(); ++b)
      unpack_block(ggml->type, std::span(ggml->blocks).subspan(b * bytes, bytes), blocks[b]);
    for (const GgmlBlock& block : blocks) numbers.push_back(half_to_float(block.d));
    if (how.has_min || how.has_offset)
      for (const GgmlBlock& block : blocks) numbers.push_back(half_to_float(block.m));
    if (how.highest_scale != 1)
      for (const GgmlBlock& block : blocks)
        numbers.insert(numbers.end(), block.scales.begin(), block.scales.begin() + in_block);
    if (how.has_min)
      for (const GgmlBlock& block : blocks)
        numbers.insert(numbers.end(), block.mins.begin(), block.mins.begin() + in_block);
  } else {
    const auto& nf4 = std::get<Nf4Matrix>(stored);
    for (const std::uint8_t code : nf4.absmax_codes) numbers.push_back(nf4_absmax_values()[code]);
    numbers.insert(numbers.end(), nf4.nested_absmax.begin(), nf4.nested_absmax.end());
  }
  return numbers;
}

std::vector<std::byte> all_bytes(const StoredMatrix& stored) {
  std::vector<std::byte> all;
  for (const auto part : bytes_of(stored)) all.insert(all.end(), part.begin(), part.end());
  return all;
}

/// sum over the weights of gradient * weight.
double loss(const StoredMatrix& stored, std::span<const float> gradient) {
  std::vector<float> row(static_cast<std::size_t>(cols_of(stored)));
  double sum = 0;
  for (std::int64_t r = 0; r < rows_of(stored); ++r) {
    dequantize_row(stored, r, row);
    for (std::size_t k = 0; k < row.size(); ++k)
      sum += static_cast<double>(gradient[static_cast<std::size_t>(r) * row.size() + k]) *
             static_cast<double>(row[k]);
  }
  return sum;
}

std::vector<float> random_floats(std::size_t count, double size, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(size * random.normal());
  return values;
}

class EveryForm : public testing::TestWithParam<test::StoredForm> {};

INSTANTIATE_TEST_SUITE_P(Tunable, EveryForm, testing::ValuesIn(test::stored_forms()),
                         [](const auto& one) { return one.param.name; });

TEST_P(EveryForm, IsItselfWithoutAChange) {
  const StoredMatrix stored = GetParam().make(5, 512, test::Codes::random, 3);
  const auto tunable = make_tunable(stored);
  ASSERT_GT(tunable->parameters(), 0);
  ASSERT_EQ(numbers_of(stored).size(), tunable->parameters());
  tunable->set(random_floats(tunable->parameters(), 0.05, 4));
  EXPECT_NE(all_bytes(tunable->matrix()), all_bytes(stored));
  EXPECT_EQ(all_bytes(tunable->matrix()).size(), all_bytes(stored).size());
  EXPECT_NO_THROW(check(tunable->matrix()));
  tunable->set(std::vector<float>(tunable->parameters()));
  EXPECT_EQ(all_bytes(tunable->matrix()), all_bytes(stored));
}

// A weight is linear in each parameter alone, so that a difference of any size is the derivative; a large one
// makes rounding small. Numbers have ends: what one has really moved by is read from the matrix.
TEST_P(EveryForm, HasTheGradientOfFiniteDifferences) {
  const std::int64_t rows = 3;
  const std::int64_t cols = 512;
  const auto tunable = make_tunable(GetParam().make(rows, cols, test::Codes::random, 5));
  const std::vector<float> by_weights = random_floats(static_cast<std::size_t>(rows * cols), 1, 6);
  // Not where it starts, so that the gradient has to look at the present numbers.
  const std::vector<float> at = random_floats(tunable->parameters(), 0.05, 7);
  tunable->set(at);
  std::vector<float> sums(tunable->sums());
  for (const std::int64_t row : {2, 0, 1})
    tunable->add_sums(row, std::span(by_weights).subspan(static_cast<std::size_t>(row * cols), cols), sums);
  std::vector<float> gradient(tunable->parameters());
  tunable->gradient(sums, gradient);
  const std::vector<float> numbers = numbers_of(tunable->matrix());
  const double here = loss(tunable->matrix(), by_weights);

  // A scale takes its bias along, which is rounded too.
  const auto* affine = std::get_if<PackedMatrix>(&tunable->matrix());
  const double rounding = affine != nullptr && !affine->biases.empty() ? 0.03 : 1e-3;
  std::size_t moved = 0;
  for (std::size_t i = 0; i < at.size(); ++i) {
    double most = 0;
    for (const float step : {-64.0f, 64.0f}) {
      std::vector<float> other = at;
      other[i] += step;
      tunable->set(other);
      const std::vector<float> others = numbers_of(tunable->matrix());
      ASSERT_EQ(others.size(), numbers.size());
      const double by = static_cast<double>(others[i]) - static_cast<double>(numbers[i]);
      if (by == 0 || tunable->unit(i) == 0) continue;
      const double slope = (loss(tunable->matrix(), by_weights) - here) / by;
      const double expected = static_cast<double>(gradient[i]) / static_cast<double>(tunable->unit(i));
      // Products of fp32 and the sums of a group in fp32, over up to 512 weights of size one.
      const double scale = std::fabs(expected) + 32;
      EXPECT_NEAR(slope, expected, rounding * scale + 1e-6 * std::fabs(here / by)) << i << " by " << by;
      most = std::max(most, std::fabs(by));
    }
    moved += most > 0 ? 1 : 0;
  }
  EXPECT_GT(moved, at.size() * 9 / 10);
}

TEST(Tunable, KeepsWholeZeroPoints) {
  for (const bool symmetric : {false, true}) {
    PackedMatrix matrix = test::affine_matrix(4, 256, 4, 64, true, 0, test::Codes::random, 8);
    for (std::size_t i = 0; !symmetric && i < matrix.scales.size(); ++i) {
      matrix.scales[i] = float_to_half(0x1p-6f * static_cast<float>(1 + i % 5));
      matrix.biases[i] = float_to_half(-half_to_float(matrix.scales[i]) * static_cast<float>(i % 16));
    }
    const IntegerZerosResult before = integer_zeros(matrix);
    ASSERT_EQ(before.obstacle, "");
    ASSERT_EQ(before.zeros.symmetric, symmetric);
    const auto tunable = make_tunable(matrix);
    EXPECT_EQ(tunable->parameters(), matrix.scales.size());
    tunable->set(random_floats(tunable->parameters(), 0.1, 9));
    const auto& after = std::get<PackedMatrix>(tunable->matrix());
    EXPECT_EQ(integer_zeros(after).obstacle, "");
    EXPECT_EQ(integer_zeros(after).zeros.zeros, before.zeros.zeros);
    EXPECT_NE(after.scales, matrix.scales);
  }
}

TEST(Tunable, AScaleOfZeroStays) {
  PackedMatrix matrix = test::affine_matrix(1, 128, 4, 64, false, 0, test::Codes::random, 10);
  matrix.scales[0] = 0;
  const auto tunable = make_tunable(matrix);
  tunable->set(std::vector<float>(tunable->parameters(), 0.5f));
  const auto& after = std::get<PackedMatrix>(tunable->matrix());
  EXPECT_EQ(after.scales[0], 0);
  EXPECT_EQ(after.biases[0], matrix.biases[0]);
  EXPECT_NE(after.scales[1], matrix.scales[1]);
}

TEST(Tunable, StaysFinite) {
  PackedMatrix matrix = test::affine_matrix(1, 64, 2, 64, false, 0, test::Codes::random, 11);
  matrix.scales[0] = float_to_half(60000);
  const auto tunable = make_tunable(matrix);
  tunable->set(std::vector<float>(tunable->parameters(), 3.0f));
  EXPECT_NO_THROW(check(tunable->matrix()));
}

// Blocks of 64 and rows of 96: two rows share a block.
TEST(Tunable, Nf4BlocksGoOnInTheNextRow) {
  const Nf4Matrix matrix = test::nf4_matrix(4, 96, test::Codes::random, 12);
  const auto tunable = make_tunable(matrix);
  EXPECT_EQ(tunable->rows_together(), 2);
  const std::vector<float> ones(96, 1.0f);
  std::vector<float> sums(tunable->sums());
  for (std::int64_t row = 0; row < 4; ++row) tunable->add_sums(row, ones, sums);
  for (std::int64_t block = 0; block < 6; ++block) {
    float expected = 0;
    for (std::int64_t i = 64 * block; i < 64 * (block + 1); ++i) {
      const std::uint8_t pair = matrix.codes[static_cast<std::size_t>(i / 2)];
      expected += nf4_values()[i % 2 == 0 ? pair >> 4 : pair & 15];
    }
    EXPECT_NEAR(sums[static_cast<std::size_t>(block)], expected, 1e-5);
  }
}

}  // namespace
}  // namespace knapsaq
