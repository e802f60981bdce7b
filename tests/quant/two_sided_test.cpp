#include "knapsaq/quant/two_sided.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/quant/gptq.h"
#include "knapsaq/quant/quantizer.h"
#include "message_of.h"
#include "quant/made_inputs.h"
#include "quant/made_weights.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

/// Statistics of random gradients, correlated like made_inputs().
OutputStatistics made_outputs(std::int64_t width, std::int64_t tokens, std::uint64_t seed) {
  InputStatistics made = made_inputs(width, tokens, seed);
  return {"made.output", width, made.tokens, std::move(made.mean_square), std::move(made.second_moment)};
}

PackedMatrix two_sided(const MatrixView& weights, const std::string& scheme, const InputStatistics& inputs,
                       const OutputStatistics& outputs) {
  const Quantizer& gptq = quantizer("gptq");
  const auto prepared = gptq.prepare_outputs(&outputs);
  EXPECT_NE(prepared, nullptr);
  auto packed = std::get<PackedMatrix>(
      gptq.quantize_for_outputs(weights, parse_scheme(scheme), &inputs, nullptr, prepared.get()));
  packed.check();
  return packed;
}

PackedMatrix one_sided(const MatrixView& weights, const std::string& scheme, const InputStatistics& inputs) {
  return std::get<PackedMatrix>(quantize(weights, parse_scheme(scheme), &inputs));
}

/// W - W_hat in the factors' orders, in double.
std::vector<double> errors_of(const MatrixView& weights, const PackedMatrix& packed,
                              const std::vector<std::int32_t>& rows, const std::vector<std::int32_t>& cols) {
  std::vector<double> errors;
  std::vector<float> values(static_cast<std::size_t>(weights.cols));
  for (const std::int32_t r : rows) {
    packed.dequantize_row(r, values);
    for (const std::int32_t c : cols)
      errors.push_back(static_cast<double>(weights.row(r)[c]) - static_cast<double>(values[c]));
  }
  return errors;
}

/// tr(G E H E^T).
double divergence(const MatrixView& weights, const PackedMatrix& packed, const InputStatistics& inputs,
                  const OutputStatistics& outputs) {
  const std::int64_t m = weights.rows;
  const std::int64_t n = weights.cols;
  std::vector<std::int32_t> rows(static_cast<std::size_t>(m));
  std::vector<std::int32_t> cols(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < m; ++i) rows[i] = static_cast<std::int32_t>(i);
  for (std::int64_t j = 0; j < n; ++j) cols[j] = static_cast<std::int32_t>(j);
  const std::vector<double> e = errors_of(weights, packed, rows, cols);
  std::vector<double> eh(e.size());
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t k = 0; k < n; ++k)
      for (std::int64_t j = 0; j < n; ++j)
        eh[i * n + j] += e[i * n + k] * static_cast<double>(inputs.second_moment[k * n + j]);
  double sum = 0;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t k = 0; k < m; ++k) {
      double product = 0;
      for (std::int64_t j = 0; j < n; ++j) product += eh[i * n + j] * e[k * n + j];
      sum += product * static_cast<double>(outputs.second_moment[i * m + k]);
    }
  }
  return sum;
}

TEST(TwoSided, EveryCodeIsTheNearestToWhatItsFormulaSays) {
  // Less than a register, a tile and its neighbours, several tiles with short last ones.
  for (const auto& [rows, cols] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {1, 1}, {3, 5}, {1, 300}, {150, 1}, {64, 128}, {65, 129}, {200, 300}}) {
    for (const std::string scheme : {"gptq:b2g32", "gptq:b3g64", "gptq:b4g32/m8g32"}) {
      SCOPED_TRACE(scheme + " of " + std::to_string(rows) + " x " + std::to_string(cols));
      const MadeWeights weights("student", rows, cols);
      const InputStatistics inputs = made_inputs(cols, 2 * cols, 1);
      const OutputStatistics outputs = made_outputs(rows, 2 * rows, 2);
      const PackedMatrix packed = two_sided(weights.view(), scheme, inputs, outputs);
      const auto columns = factor_hessian(&inputs);
      const auto lines = factor_outputs(&outputs);
      const std::vector<double> e = errors_of(weights.view(), packed, lines->order, columns->order);
      // F = E V, V the columns' feedback and ones.
      std::vector<double> f = e;
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t k = 0; k < cols; ++k)
          for (std::int64_t j = k + 1; j < cols; ++j)
            f[i * cols + j] += e[i * cols + k] * static_cast<double>(columns->feedback[k * cols + j]);
      std::vector<std::uint8_t> codes(static_cast<std::size_t>(cols));
      const double largest = (1 << packed.bits) - 1;
      const auto words = static_cast<std::size_t>(packed.words_per_row());
      for (std::int64_t i = 0; i < rows; ++i) {
        const std::int32_t r = lines->order[i];
        unpack_codes(std::span(packed.codes).subspan(static_cast<std::size_t>(r) * words, words), packed.bits,
                     codes);
        for (std::int64_t j = 0; j < cols; ++j) {
          const std::int32_t c = columns->order[j];
          double target = static_cast<double>(weights.view().row(r)[c]) + f[i * cols + j] - e[i * cols + j];
          for (std::int64_t k = 0; k < i; ++k)
            target += static_cast<double>(lines->feedback[k * rows + i]) * f[k * cols + j];
          const auto [scale, bias] = packed.affine(r, c / packed.group);
          if (scale == 0) continue;
          const double wanted =
              std::clamp((target - static_cast<double>(bias)) / static_cast<double>(scale), 0.0, largest);
          ASSERT_NEAR(codes[c], wanted, 0.5 + 1e-3) << r << " " << c;
        }
      }
    }
  }
}

TEST(TwoSided, LosesLessThanGptqInTheMean) {
  // Every small problem by itself may go either way, as for every greedy method.
  double sum = 0;
  int better = 0;
  constexpr int kProblems = 60;
  for (int seed = 0; seed < kProblems; ++seed) {
    const std::int64_t rows = 4 + seed % 30;
    const std::int64_t cols = 8 + 3 * (seed % 20);
    MadeWeights weights("student", rows, cols);
    for (float& w : weights.values()) w *= 1 + 0.1f * static_cast<float>(seed);
    const InputStatistics inputs = made_inputs(cols, 3 * cols, static_cast<std::uint64_t>(2 * seed));
    const OutputStatistics outputs = made_outputs(rows, 3 * rows, static_cast<std::uint64_t>(2 * seed + 1));
    const std::string scheme = seed % 2 == 0 ? "gptq:b2g32" : "gptq:b3g32";
    const double with =
        divergence(weights.view(), two_sided(weights.view(), scheme, inputs, outputs), inputs, outputs);
    const double without =
        divergence(weights.view(), one_sided(weights.view(), scheme, inputs), inputs, outputs);
    sum += std::log(with / without);
    better += with < without ? 1 : 0;
  }
  RecordProperty("ratio", std::to_string(std::exp(sum / kProblems)));
  EXPECT_LT(std::exp(sum / kProblems), 0.8);
  EXPECT_GT(better, kProblems * 9 / 10);
}

TEST(TwoSided, IsGptqWhereOutputsAreUncorrelated) {
  const MadeWeights weights("student", 150, 300);
  const InputStatistics inputs = made_inputs(300, 400, 1);
  OutputStatistics outputs = made_outputs(150, 10, 2);
  for (std::int64_t i = 0; i < 150; ++i)
    for (std::int64_t k = 0; k < 150; ++k) outputs.second_moment[i * 150 + k] *= i == k ? 1.0f : 0.0f;
  for (const std::string scheme : {"gptq:b2g64", "gptq:b4g32/m8g32"}) {
    const PackedMatrix with = two_sided(weights.view(), scheme, inputs, outputs);
    const PackedMatrix without = one_sided(weights.view(), scheme, inputs);
    EXPECT_EQ(with.scales, without.scales);
    EXPECT_EQ(with.scale_codes, without.scale_codes);
    // Products of another shape round differently, and from a tie on a row goes its own way.
    std::vector<float> ours(300);
    std::vector<float> wanted(300);
    int same = 0;
    for (std::int64_t r = 0; r < 150; ++r) {
      with.dequantize_row(r, ours);
      without.dequantize_row(r, wanted);
      same += ours == wanted ? 1 : 0;
    }
    EXPECT_GE(same, 147);
  }
}

TEST(TwoSided, DoesNotDependOnThreadsOrPreparation) {
  const MadeWeights weights("student", 330, 700);
  const InputStatistics inputs = made_inputs(700, 300, 3);
  const OutputStatistics outputs = made_outputs(330, 200, 4);
  const Quantizer& gptq = quantizer("gptq");
  for (const std::string scheme : {"gptq:b3g64", "gptq:b4g32/m8g128"}) {
    work_with_threads(1);
    const PackedMatrix one = two_sided(weights.view(), scheme, inputs, outputs);
    work_with_threads(5);
    EXPECT_EQ(one.codes, two_sided(weights.view(), scheme, inputs, outputs).codes);
    const auto prepared = gptq.prepare(&inputs);
    const auto ends = gptq.prepare_outputs(&outputs);
    EXPECT_EQ(one.codes,
              std::get<PackedMatrix>(gptq.quantize_for_outputs(weights.view(), parse_scheme(scheme), &inputs,
                                                               prepared.get(), ends.get()))
                  .codes);
    work_with_threads(0);
  }
}

TEST(TwoSided, OutputsThatSayNothingAreNotUsed) {
  const MadeWeights weights("normal", 20, 64);
  const InputStatistics inputs = made_inputs(64, 100, 5);
  const Quantizer& gptq = quantizer("gptq");
  EXPECT_EQ(gptq.prepare_outputs(nullptr), nullptr);
  OutputStatistics outputs = made_outputs(20, 100, 6);
  for (std::int64_t i = 0; i < 20; ++i)
    for (std::int64_t k = 0; k < 20; ++k) outputs.second_moment[i * 20 + k] = i == k ? 1.0f : -1.0f;
  EXPECT_EQ(gptq.prepare_outputs(&outputs), nullptr) << "not positive semidefinite";
  outputs.second_moment.clear();
  EXPECT_EQ(gptq.prepare_outputs(&outputs), nullptr) << "mean squares only";
  const auto packed = std::get<PackedMatrix>(
      gptq.quantize_for_outputs(weights.view(), parse_scheme("gptq:b3g32"), &inputs, nullptr, nullptr));
  EXPECT_EQ(packed.codes, one_sided(weights.view(), "gptq:b3g32", inputs).codes);
}

TEST(TwoSided, DeadAndFewOutputs) {
  const MadeWeights weights("normal", 90, 128);
  const InputStatistics inputs = made_inputs(128, 400, 7);
  // One token: all gradients are multiples of each other.
  OutputStatistics outputs = made_outputs(90, 1, 8);
  EXPECT_LT(
      divergence(weights.view(), two_sided(weights.view(), "gptq:b3g64", inputs, outputs), inputs, outputs),
      0.5 * divergence(weights.view(), one_sided(weights.view(), "gptq:b3g64", inputs), inputs, outputs));
  // No gradient at all: nothing to weigh by.
  std::ranges::fill(outputs.second_moment, 0.0f);
  EXPECT_EQ(two_sided(weights.view(), "gptq:b3g64", inputs, outputs).codes,
            one_sided(weights.view(), "gptq:b3g64", inputs).codes);
}

TEST(TwoSided, RefusesBrokenStatistics) {
  const MadeWeights weights("normal", 20, 64);
  const InputStatistics inputs = made_inputs(64, 100, 9);
  const Quantizer& gptq = quantizer("gptq");
  OutputStatistics outputs = made_outputs(21, 100, 10);
  const auto prepared = gptq.prepare_outputs(&outputs);
  EXPECT_EQ(message_of<InputError>([&] {
              gptq.quantize_for_outputs(weights.view(), parse_scheme("gptq:b3g32"), &inputs, nullptr,
                                        prepared.get());
            }),
            "gptq: statistics of 21 outputs for a linear with 20");
  outputs.second_moment[22] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(
      message_of<InputError>([&] { gptq.prepare_outputs(&outputs); }),
      testing::HasSubstr("made.output: the second moment at [1, 1] of its outputs' gradients is nan"));
  outputs.second_moment.pop_back();
  EXPECT_THROW(gptq.prepare_outputs(&outputs), InputError);
}

}  // namespace
}  // namespace knapsaq
