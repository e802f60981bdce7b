#include "knapsaq/bank/measure_linear.h"

#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/bank/magnitude_percentiles.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/progress.h"
#include "knapsaq/quant/quantizer.h"
#include "quant/made_weights.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

/// Weights as a checkpoint stores them.
struct Stored {
  Stored(const MatrixView& weights, DType type) : bytes(weights.values.size() * size_of(type)) {
    for (std::size_t i = 0; i < weights.values.size(); ++i) {
      // The upper half of a float is a bfloat16, little-endian.
      const auto bits = std::bit_cast<std::uint32_t>(weights.values[i]);
      if (type == DType::F32) {
        std::memcpy(bytes.data() + 4 * i, &bits, 4);
      } else {
        const auto upper = static_cast<std::uint16_t>(bits >> 16);
        std::memcpy(bytes.data() + 2 * i, &upper, 2);
      }
    }
    view = {type, {weights.rows, weights.cols}, bytes};
  }
  std::vector<std::byte> bytes;
  TensorView view;
};

const auto kNobody = [](std::uint64_t) {};

TEST(MeasureLinear, StatisticsAreThoseOfNumpyAndScipy) {
  std::ifstream file(std::string(KNAPSAQ_TEST_DATA) + "/bank/statistics.txt");
  std::string line;
  int cases = 0;
  while (std::getline(file, line)) {
    SCOPED_TRACE(line);
    std::istringstream in(line);
    std::string kind;
    std::string type;
    std::int64_t rows = 0;
    std::int64_t cols = 0;
    double kurtosis = 0;
    ASSERT_TRUE(in >> kind >> rows >> cols >> type >> kurtosis);
    const Stored stored(MadeWeights(kind, rows, cols).view(), type == "F32" ? DType::F32 : DType::BF16);
    const WeightStatistics statistics = measure_linear(stored.view, {}, "w", kNobody).statistics;
    EXPECT_NEAR(statistics.kurtosis, kurtosis, 1e-10 * kurtosis);
    for (const double percentile : statistics.percentiles) {
      double expected = 0;
      ASSERT_TRUE(in >> expected);
      EXPECT_NEAR(percentile, expected, 1e-13 * expected);
    }
    ++cases;
  }
  EXPECT_EQ(cases, 8);
}

TEST(MeasureLinear, ErrorsAreThoseOfTheStoredMatrices) {
  const MadeWeights weights("student", 300, 352);
  const Stored stored(weights.view(), DType::F32);
  const Menu menu = parse_menu(
      "b2g32/m8g128,b3g64/m8g64,b4g128/m8g32,b8g64/m8g128,b3row/"
      "m8g128,b2g32,b3g64,b4g128,b8g32,b4row,rtn:b3g32,"
      "rtn:b4g64s,rtn:b2row,uniform:b3row,b5g64,b6g32/m8g128,rtn:b6g64s");
  const LinearMeasurement measured = measure_linear(stored.view, menu.schemes, "w", kNobody);
  ASSERT_EQ(measured.fnorms.size(), menu.schemes.size());
  for (std::size_t s = 0; s < menu.schemes.size(); ++s) {
    const double expected = frobenius_error(weights.view(), quantize(weights.view(), menu.schemes[s]));
    EXPECT_NEAR(measured.fnorms[s], expected, 1e-6 * expected) << to_string(menu.schemes[s]);
  }
}

TEST(MeasureLinear, DoesNotDependOnTheNumberOfThreads) {
  const MadeWeights weights("student", 1000, 352);
  const Stored stored(weights.view(), DType::BF16);
  const Menu menu = parse_menu("mxq");
  work_with_threads(1);
  const LinearMeasurement one = measure_linear(stored.view, menu.schemes, "w", kNobody);
  for (const int threads : {2, 5}) {
    work_with_threads(threads);
    const LinearMeasurement many = measure_linear(stored.view, menu.schemes, "w", kNobody);
    EXPECT_EQ(many.fnorms, one.fnorms);
    EXPECT_EQ(many.statistics.kurtosis, one.statistics.kurtosis);
    EXPECT_THAT(many.statistics.percentiles, testing::ElementsAreArray(one.statistics.percentiles));
  }
  work_with_threads(0);
}

TEST(MeasureLinear, TellsOfEveryWeightOnce) {
  const MadeWeights weights("normal", 700, 352);
  const Stored stored(weights.view(), DType::F32);
  std::atomic<std::uint64_t> done = 0;
  measure_linear(stored.view, parse_menu("b4g64").schemes, "w", [&](std::uint64_t n) { done += n; });
  EXPECT_EQ(done, 700u * 352u);
}

TEST(MeasureLinear, NamesBadWeights) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity(), 1e30f, -33000.0f}) {
    MadeWeights weights("normal", 700, 352);
    weights.values()[352 * 600 + 17] = bad;
    const Stored stored(weights.view(), DType::F32);
    try {
      measure_linear(stored.view, parse_menu("b4g64").schemes, "layers.2.fc1.weight", kNobody);
      FAIL() << bad;
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("layers.2.fc1.weight"));
      EXPECT_THAT(error.what(), testing::HasSubstr("[600, 17]"));
    }
  }
  MadeWeights edge("normal", 4, 64);
  edge.values()[5] = -kLargestWeight;
  EXPECT_NO_THROW(
      measure_linear(Stored(edge.view(), DType::F32).view, parse_menu("b4g64").schemes, "w", kNobody));
}

TEST(MeasureLinear, RefusesWhatIsNoMatrix) {
  const MadeWeights weights("normal", 4, 64);
  Stored stored(weights.view(), DType::F32);
  stored.view.shape = {256};
  EXPECT_THROW(measure_linear(stored.view, {}, "w", kNobody), InputError);
  stored.view.shape = {4, 64};
  stored.view.type = DType::I32;
  EXPECT_THROW(measure_linear(stored.view, {}, "w", kNobody), InputError);
}

TEST(MeasureLinear, ConstantsHaveNoKurtosis) {
  const std::vector<float> values(64 * 32, 0.25f);
  const Stored stored(MatrixView{64, 32, values}, DType::F32);
  const LinearMeasurement measured =
      measure_linear(stored.view, parse_menu("b4g32,b2g32/m8g32").schemes, "w", kNobody);
  EXPECT_EQ(measured.statistics.kurtosis, 0);
  EXPECT_EQ(measured.statistics.percentiles[1], 0.25);
  EXPECT_EQ(measured.fnorms[0], 0);
}

TEST(MagnitudePercentiles, AreExactAtEveryRank) {
  // Magnitudes that share their first bits, so that every pass has to tell them apart; and one weight alone.
  std::vector<float> weights;
  for (int i = 0; i < 101; ++i) {
    const float size = std::bit_cast<float>(0x3F800000u + static_cast<std::uint32_t>(i * 37 % 101));
    weights.push_back(i % 2 == 0 ? size : -size);
  }
  std::vector<double> percentages;
  for (int i = 0; i <= 100; ++i) percentages.push_back(i);
  const auto values = [&](std::span<const float> of) {
    MagnitudePercentiles p(static_cast<std::int64_t>(of.size()), percentages);
    for (int pass = 0; pass < MagnitudePercentiles::kPasses; ++pass) {
      for (const float& weight : of) {
        auto counts = p.counts();
        p.count({&weight, 1}, counts);
        p.add(counts);
      }
      p.end_pass();
    }
    return p.values();
  };
  const std::vector<double> all = values(weights);
  for (std::size_t i = 0; i <= 100; ++i) {
    EXPECT_EQ(all[i], std::bit_cast<float>(0x3F800000u + static_cast<std::uint32_t>(i))) << i;
  }
  EXPECT_THAT(values(std::vector<float>{-3.5f}), testing::Each(3.5));
}

}  // namespace
}  // namespace knapsaq
