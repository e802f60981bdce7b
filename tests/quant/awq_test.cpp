#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/random.h"
#include "knapsaq/quant/local_errors.h"
#include "knapsaq/quant/quantizer.h"
#include "made_weights.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

using ::testing::HasSubstr;

/// Inputs with a few loud channels and correlations between neighbours.
InputStatistics made_inputs(std::int64_t width) {
  constexpr int kTokens = 200;
  InputStatistics inputs;
  inputs.name = "layer";
  inputs.width = width;
  inputs.tokens = kTokens;
  const auto n = static_cast<std::size_t>(width);
  std::vector<double> sums(n * n);
  Random random(5);
  std::vector<double> x(n);
  for (int token = 0; token < kTokens; ++token) {
    double before = 0;
    for (std::size_t k = 0; k < n; ++k) {
      before = 0.5 * before + random.uniform() - 0.5;
      x[k] = before * (k % 37 == 5 ? 20 : 1);
    }
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j) sums[i * n + j] += x[i] * x[j];
  }
  for (const double sum : sums) inputs.second_moment.push_back(static_cast<float>(sum / kTokens));
  for (std::size_t k = 0; k < n; ++k) {
    inputs.mean_square.push_back(inputs.second_moment[k * n + k]);
    inputs.mean_abs.push_back(std::sqrt(inputs.mean_square.back()));
    inputs.max_abs.push_back(inputs.mean_abs.back());
  }
  return inputs;
}

/// The part of tr(dW H dW^T) that is inside groups: what is minimised.
InputStatistics within_groups(InputStatistics inputs, std::int64_t group) {
  for (std::int64_t i = 0; i < inputs.width; ++i)
    for (std::int64_t j = 0; j < inputs.width; ++j)
      if (i / group != j / group) inputs.second_moment[static_cast<std::size_t>(i * inputs.width + j)] = 0;
  return inputs;
}

TEST(Awq, ClipsForALowerOutputErrorThanRoundToNearest) {
  const MadeWeights weights("student", 96, 320);
  const InputStatistics inputs = made_inputs(320);
  for (const std::string tail : {"b2g32", "b3g128", "b3g128z", "b3g128s", "b4g64", "b4g128/m8g128",
                                 "b3g32/m8g32", "b5g64", "b6g64s", "b6g32/m8g128", "b8g64", "b3row"}) {
    SCOPED_TRACE(tail);
    const Scheme awq = parse_scheme("awq:" + tail);
    const InputStatistics counted = within_groups(inputs, awq.group == 0 ? 320 : awq.group);
    const auto error = [&](const std::string& method) {
      const StoredMatrix stored = quantize(weights.view(), parse_scheme(method + ":" + tail), &inputs);
      check(stored);
      return local_errors(weights.view(), stored, &counted).hessian;
    };
    const double rtn = error("rtn");
    const double clipped = error("awq");
    EXPECT_LE(clipped, rtn * (1 + 1e-6));
    // Heavy tails at few bits are what clipping is for.
    if (awq.bits <= 3) {
      EXPECT_LT(clipped, 0.9 * rtn);
    }
  }
}

TEST(Awq, TriesTenRangesAndTakesTheBest) {
  // One group whose largest weight is 8 times the others', and inputs that do not see it: half the range.
  std::vector<float> w(32);
  for (std::size_t k = 0; k < w.size(); ++k) w[k] = static_cast<float>(k) / 31.0f - 0.5f;
  w[7] = 4.0f;
  InputStatistics inputs = made_inputs(32);
  for (std::size_t k = 0; k < 32; ++k)
    for (std::size_t j = 0; j < 32; ++j) inputs.second_moment[k * 32 + j] = k == j && k != 7 ? 1.0f : 0.0f;
  const PackedMatrix packed =
      std::get<PackedMatrix>(quantize({1, 32, w}, parse_scheme("awq:b4g32"), &inputs));
  EXPECT_NEAR(packed.affine(0, 0).scale, (0.55f * 4.0f + 0.5f) / 15, 1e-3);
}

TEST(Awq, DoesNotDependOnTheNumberOfThreads) {
  const MadeWeights weights("student", 700, 256);
  const InputStatistics inputs = made_inputs(256);
  std::vector<std::uint32_t> codes;
  for (const int threads : {1, 3}) {
    work_with_threads(threads);
    const auto packed = std::get<PackedMatrix>(quantize(weights.view(), parse_scheme("awq:b3g128"), &inputs));
    if (codes.empty()) codes = packed.codes;
    EXPECT_EQ(packed.codes, codes);
  }
  work_with_threads(0);
}

TEST(Awq, SaysWhatItNeeds) {
  const MadeWeights weights("normal", 8, 64);
  EXPECT_EQ(quantizer("awq").needs(), Needs::second_moments);
  EXPECT_THROW(quantize(weights.view(), parse_scheme("awq:b4g64")), UsageError);
  InputStatistics inputs = made_inputs(64);
  inputs.second_moment[64 + 2] = std::numeric_limits<float>::quiet_NaN();
  try {
    quantize(weights.view(), parse_scheme("awq:b4g64"), &inputs);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("layer: the second moment at [1, 2]"));
  }
  const InputStatistics narrow = made_inputs(32);
  EXPECT_THROW(quantize(weights.view(), parse_scheme("awq:b4g64"), &narrow), InputError);
}

}  // namespace
}  // namespace knapsaq
