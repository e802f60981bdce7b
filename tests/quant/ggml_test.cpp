#include <algorithm>
#include <bit>
#include <cmath>
#include <fstream>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/compute/ggml_block.h"
#include "knapsaq/compute/ggml_grid.h"
#include "knapsaq/compute/ggml_matrix.h"
#include "knapsaq/quant/ggml/kernels.h"
#include "knapsaq/quant/quantizer.h"
#include "quant/made_weights.h"
#include "work_with_threads.h"

namespace knapsaq {

// Names of parametrised tests stay readable.
void PrintTo(const GgmlTypeInfo& type, std::ostream* out) { *out << type.name; }
namespace {

constexpr std::int64_t kRows = 32;
constexpr std::int64_t kCols = 512;

/// The importance of tools/make_ggml_llama_references.py.
InputStatistics made_inputs() {
  MadeWeights numbers("wide", 1, kCols);
  InputStatistics inputs;
  inputs.name = "made";
  inputs.width = kCols;
  inputs.mean_square = numbers.values();
  for (float& square : inputs.mean_square) square *= square;
  return inputs;
}

GgmlMatrix quantized(std::string_view type, const MatrixView& weights, const InputStatistics* inputs) {
  GgmlMatrix matrix = std::get<GgmlMatrix>(quantize(weights, parse_scheme(type), inputs));
  matrix.check();
  return matrix;
}

std::vector<float> decoded(const GgmlMatrix& matrix) {
  std::vector<float> out(static_cast<std::size_t>(matrix.rows * matrix.cols));
  for (std::int64_t r = 0; r < matrix.rows; ++r)
    matrix.dequantize_row(r, std::span(out).subspan(r * matrix.cols, matrix.cols));
  return out;
}

double weighted_error(const MatrixView& weights, const GgmlMatrix& matrix, const InputStatistics* inputs) {
  const std::vector<float> q = decoded(matrix);
  double sum = 0;
  for (std::size_t i = 0; i < q.size(); ++i) {
    const double r = static_cast<double>(weights.values[i]) - static_cast<double>(q[i]);
    sum += (inputs != nullptr ? static_cast<double>(inputs->mean_square[i % weights.cols]) : 1.0) * r * r;
  }
  return sum;
}

TEST(GgmlEncoders, ErrAtMostAsMuchAsLlamaQuantize) {
  const std::string path = std::string(KNAPSAQ_TEST_DATA) + "/quant/ggml_llama.txt";
  std::ifstream file(path);
  std::string kind;
  std::string type;
  std::string importance;
  double theirs = 0;
  int cases = 0;
  const InputStatistics inputs = made_inputs();
  while (file >> kind >> type >> importance >> theirs) {
    const MadeWeights weights(kind, kRows, kCols);
    const InputStatistics* const used = importance == "imatrix" ? &inputs : nullptr;
    const double ours = weighted_error(weights.view(), quantized(type, weights.view(), used), used);
    EXPECT_LE(ours, theirs) << kind << " " << type << " " << importance;
    ++cases;
  }
  EXPECT_EQ(cases, 102) << path;
}

class GgmlEncoder : public testing::TestWithParam<GgmlTypeInfo> {};
INSTANTIATE_TEST_SUITE_P(, GgmlEncoder, testing::ValuesIn(ggml_types().begin(), ggml_types().end()),
                         [](const auto& one) { return std::string(one.param.name); });

TEST_P(GgmlEncoder, EveryInstructionSetFindsTheSameBlocks) {
  MadeWeights weights("student", 7, kCols);
  weights.values()[5] = -0.0f;
  std::fill_n(weights.values().begin() + 256, 256, 0.0f);
  std::fill_n(weights.values().begin() + 512, 256, 0.25f);
  std::vector<float> importance(weights.values().size());
  const InputStatistics inputs = made_inputs();
  for (std::size_t i = 0; i < importance.size(); ++i) importance[i] = inputs.mean_square[i % kCols] + 1e-6f;
  const auto count = static_cast<std::int64_t>(importance.size()) / GetParam().block;
  std::vector<FoundBlock> expected(count);
  all_ggml_kernels().back()->search(GetParam().type, weights.values().data(), importance.data(), count,
                                    expected.data());
  for (const GgmlKernels* kernels : all_ggml_kernels()) {
    std::vector<FoundBlock> found(count);
    kernels->search(GetParam().type, weights.values().data(), importance.data(), count, found.data());
    for (std::int64_t i = 0; i < count; ++i) {
      ASSERT_EQ(found[i].d, expected[i].d) << kernels->name << " block " << i;
      ASSERT_EQ(found[i].m, expected[i].m) << kernels->name << " block " << i;
      ASSERT_TRUE(std::ranges::equal(found[i].scales, expected[i].scales)) << kernels->name << " block " << i;
      ASSERT_TRUE(std::ranges::equal(found[i].mins, expected[i].mins)) << kernels->name << " block " << i;
      ASSERT_TRUE(std::ranges::equal(found[i].codes, expected[i].codes)) << kernels->name << " block " << i;
    }
  }
}

TEST_P(GgmlEncoder, NeitherThreadsNorNeighboursMatter) {
  const MadeWeights weights("normal", 200, kCols);
  const InputStatistics inputs = made_inputs();
  work_with_threads(1);
  const GgmlMatrix alone = quantized(GetParam().name, weights.view(), &inputs);
  work_with_threads(3);
  const GgmlMatrix together = quantized(GetParam().name, weights.view(), &inputs);
  work_with_threads(0);
  EXPECT_EQ(alone.blocks, together.blocks);
  // The last row by itself.
  const MatrixView last{1, kCols, weights.view().row(199)};
  EXPECT_TRUE(std::ranges::equal(quantized(GetParam().name, last, &inputs).blocks,
                                 std::span(alone.blocks).last(alone.row_bytes())));
}

TEST_P(GgmlEncoder, OnlyRatiosOfTheImportanceMatter) {
  const MadeWeights weights("normal", 4, kCols);
  InputStatistics inputs = made_inputs();
  const GgmlMatrix expected = quantized(GetParam().name, weights.view(), &inputs);
  for (float& square : inputs.mean_square) square *= 0x1p-60f;
  EXPECT_EQ(quantized(GetParam().name, weights.view(), &inputs).blocks, expected.blocks);
  // Inputs that were always zero say nothing.
  std::ranges::fill(inputs.mean_square, 0.0f);
  EXPECT_EQ(quantized(GetParam().name, weights.view(), &inputs).blocks,
            quantized(GetParam().name, weights.view(), nullptr).blocks);
}

TEST_P(GgmlEncoder, ColumnsThatWereNeverUsedAreStillStored) {
  const MadeWeights weights("normal", 8, kCols);
  InputStatistics inputs = made_inputs();
  // Whole blocks of dead columns: nothing else pulls at their factors.
  std::fill_n(inputs.mean_square.begin(), 256, 0.0f);
  const std::vector<float> q = decoded(quantized(GetParam().name, weights.view(), &inputs));
  double error = 0;
  double whole = 0;
  for (std::size_t i = 0; i < q.size(); ++i) {
    if (i % kCols >= 256) continue;
    const auto x = static_cast<double>(weights.view().values[i]);
    error += (x - static_cast<double>(q[i])) * (x - static_cast<double>(q[i]));
    whole += x * x;
  }
  EXPECT_LT(error, 0.25 * whole);  // IQ1_S, the coarsest, comes to 0.22
}

TEST_P(GgmlEncoder, ZerosStayZeros) {
  std::vector<float> values(2 * kCols, 0.0f);
  for (const float q : decoded(quantized(GetParam().name, {2, kCols, values}, nullptr))) EXPECT_EQ(q, 0.0f);
}

TEST_P(GgmlEncoder, ExtremeWeightsStayFiniteAndNear) {
  for (const float size : {kLargestWeight, 1.0f, 1e-4f}) {
    for (const float sign : {1.0f, -1.0f}) {
      MadeWeights weights("wide", 4, kCols);
      for (float& w : weights.values()) w = sign * std::min(std::fabs(w) * size / 6, size);
      weights.values()[3] = sign * size;
      const std::vector<float> q = decoded(quantized(GetParam().name, weights.view(), nullptr));
      double error = 0;
      double whole = 0;
      for (std::size_t i = 0; i < q.size(); ++i) {
        ASSERT_TRUE(std::isfinite(q[i]));
        error += std::pow(static_cast<double>(weights.values()[i]) - static_cast<double>(q[i]), 2);
        whole += std::pow(static_cast<double>(weights.values()[i]), 2);
      }
      EXPECT_LT(error, 0.25 * whole) << size << " " << sign;
    }
  }
  // Far below fp16: whatever comes out, it is finite and no larger than a step of the smallest factor.
  for (const float size : {1e-9f, 1e-20f, 1e-40f}) {
    MadeWeights weights("wide", 2, kCols);
    for (float& w : weights.values()) w *= size;
    for (const float q : decoded(quantized(GetParam().name, weights.view(), nullptr)))
      EXPECT_LT(std::fabs(q), 1e-4f);
  }
}

// Of the types without scales of sub-blocks: the search over those is not exhaustive.
TEST(GgmlEncoders, WhatABlockHoldsExactlyIsFound) {
  for (const GgmlTypeInfo& type : ggml_types()) {
    if (rule(type.type).highest_scale != 1) continue;
    SCOPED_TRACE(type.name);
    // Codes over their whole range times an fp16 number, as decoded.
    const GgmlRule& how = rule(type.type);
    const std::size_t levels =
        how.levels.empty() ? static_cast<std::size_t>(how.highest - how.lowest + 1) : how.levels.size();
    std::vector<float> values(kCols);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::size_t level = i % type.block * 5 % levels;
      const int code = how.levels.empty() ? how.lowest + static_cast<int>(level) : how.levels[level];
      values[i] = 0.0123291015625f * static_cast<float>(code) + (how.has_offset ? -0.25f : 0.0f);
    }
    // 8 bits have more codes than a block has weights, so its ends may be missing; the others are hit.
    EXPECT_EQ(decoded(quantized(type.name, {1, kCols, values}, nullptr)), values);
  }
}

/// Eight columns of sixteen rows, as GgmlKernels::nearest_points takes them.
struct Sixteen {
  std::vector<float> x = std::vector<float>(8 * 16);
  std::vector<float> w = std::vector<float>(8 * 16);
  std::vector<float> a = std::vector<float>(16);

  explicit Sixteen(const GgmlRule& how) {
    const MadeWeights made("wide", 1, 2 * 8 * 16);
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] = made.view().values[i];
      w[i] = 0.1f + made.view().values[x.size() + i] * made.view().values[x.size() + i];
    }
    // From scales so small that all codes are the largest to such as make all the least.
    for (std::size_t row = 0; row < 16; ++row)
      a[row] =
          (row % 3 == 2 ? -1.0f : 1.0f) * 0.3f * static_cast<float>(row) / static_cast<float>(how.highest);
    x[3] = 0.0f;
    x[16 + 3] = -0.0f;
  }
  double error(std::size_t row, std::size_t j, int code) const {
    const double r = static_cast<double>(x[16 * j + row]) - static_cast<double>(a[row]) * code;
    return static_cast<double>(w[16 * j + row]) * r * r;
  }
};

/// The least error of eight codes that a grid has, by looking at all of them.
double least_error(const GgmlGrid& grid, const Sixteen& made, std::size_t row) {
  const auto size = static_cast<std::size_t>(grid.size());
  const bool shifted = grid.signs() == GgmlGrid::Signs::shift;
  const int patterns = shifted ? 2 : 1 << size;
  // With an even and with an odd number of negative codes, of the points so far.
  double best[2] = {0, std::numeric_limits<double>::infinity()};
  for (std::size_t first = 0; first < 8; first += size) {
    double here[2] = {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
    for (std::size_t i = 0; i < grid.count(); ++i) {
      for (int pattern = 0; pattern < patterns; ++pattern) {
        double sum = 0;
        for (std::size_t j = 0; j < size; ++j) {
          const int number = grid.point(i)[j];
          const int code = shifted                   ? 8 * number + 2 * pattern - 1
                           : (pattern >> j & 1) != 0 ? -number
                                                     : number;
          sum += made.error(row, first + j, code);
        }
        const bool odd =
            grid.signs() == GgmlGrid::Signs::even && std::popcount(static_cast<unsigned>(pattern)) % 2 == 1;
        here[odd] = std::min(here[odd], sum);
      }
    }
    const double even = std::min(best[0] + here[0], best[1] + here[1]);
    best[1] = std::min(best[0] + here[1], best[1] + here[0]);
    best[0] = even;
  }
  return best[0];
}

TEST_P(GgmlEncoder, NearestPointsAreTheBestOfAll) {
  const GgmlGrid* const grid = GgmlGrid::of(GetParam().type);
  if (grid == nullptr) return;
  const Sixteen made(rule(GetParam().type));
  std::vector<std::int8_t> expected(8 * 16);
  all_ggml_kernels().back()->nearest_points(GetParam().type, made.x.data(), made.w.data(), made.a.data(),
                                            expected.data());
  for (std::size_t row = 0; row < 16; ++row) {
    double sum = 0;
    int negative = 0;
    std::vector<std::int8_t> codes;
    for (std::size_t j = 0; j < 8; ++j) {
      codes.push_back(expected[16 * j + row]);
      sum += made.error(row, j, codes.back());
      if (codes.back() < 0) ++negative;
    }
    EXPECT_LE(sum, least_error(*grid, made, row) * 1.0001) << row;
    if (grid->signs() == GgmlGrid::Signs::even) {
      EXPECT_EQ(negative % 2, 0) << row;
    }
    if (grid->signs() == GgmlGrid::Signs::shift) {
      const int shift = (codes[0] & 7) == 1 ? 1 : -1;
      for (std::int8_t& code : codes) code = static_cast<std::int8_t>((code - shift) / 8);
    }
    for (int first = 0; first < 8; first += grid->size())
      EXPECT_GE(grid->find(codes.data() + first), 0) << row;
  }
  for (const GgmlKernels* kernels : all_ggml_kernels()) {
    std::vector<std::int8_t> codes(8 * 16);
    kernels->nearest_points(GetParam().type, made.x.data(), made.w.data(), made.a.data(), codes.data());
    EXPECT_EQ(codes, expected) << kernels->name;
  }
}

TEST_P(GgmlEncoder, RefusesWhatItCannotDo) {
  const MadeWeights weights("normal", 2, kCols);
  const Scheme scheme = parse_scheme(GetParam().name);
  const Quantizer& encoder = quantizer(GetParam().name);
  EXPECT_EQ(encoder.name(), GetParam().name);
  EXPECT_EQ(encoder.groupwise(), nullptr);
  EXPECT_EQ(encoder.needs(), Needs::nothing);
  encoder.check(scheme);
  Scheme other = scheme;
  other.meta_bits = 8;
  other.meta_group = 128;
  EXPECT_THROW(encoder.check(other), UsageError);
  EXPECT_THROW((void)encoder.quantize(weights.view(), other), UsageError);

  InputStatistics inputs = made_inputs();
  inputs.mean_square[7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW((void)quantize(weights.view(), scheme, &inputs), InputError);
  inputs.mean_square[7] = -1.0f;
  EXPECT_THROW((void)quantize(weights.view(), scheme, &inputs), InputError);
  inputs = made_inputs();
  inputs.mean_square.pop_back();
  EXPECT_THROW((void)quantize(weights.view(), scheme, &inputs), UsageError);

  MadeWeights large("normal", 2, kCols);
  large.values()[9] = -32768.0f;
  EXPECT_THROW((void)quantize(large.view(), scheme), InputError);
  const MadeWeights narrow("normal", 2, GetParam().block + 16);
  EXPECT_THROW((void)quantize(narrow.view(), scheme), UsageError);
}

}  // namespace
}  // namespace knapsaq
