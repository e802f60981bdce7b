// Feedback of errors for GGML's types: gptq.h and two_sided.h on their blocks.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/compute/ggml_block.h"
#include "knapsaq/quant/hessian_factor.h"
#include "knapsaq/quant/local_errors.h"
#include "knapsaq/quant/output_factor.h"
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

InputStatistics squares_only(InputStatistics inputs) {
  inputs.second_moment.clear();
  return inputs;
}

GgmlMatrix quantized(std::string_view type, const MatrixView& weights, const InputStatistics* inputs,
                     const OutputStatistics* outputs = nullptr) {
  GgmlMatrix matrix = std::get<GgmlMatrix>(quantize("linear", weights, parse_scheme(type), inputs, outputs));
  matrix.check();
  return matrix;
}

/// tr(dW H dW^T)
double error_of(const MatrixView& weights, const GgmlMatrix& matrix, const InputStatistics& inputs) {
  return local_errors(weights, matrix, &inputs).hessian;
}

bool feeds_back(GgmlType type) { return type != GgmlType::IQ1_S; }

std::vector<std::string> all_types() {
  std::vector<std::string> names;
  for (const GgmlTypeInfo& type : ggml_types()) names.emplace_back(type.name);
  return names;
}

class GgmlFeedback : public testing::TestWithParam<std::string> {
 protected:
  std::string_view name() const { return type_.name; }
  const GgmlTypeInfo& type_ = info(*parse_ggml_type(GetParam()));
  const GgmlRule& rule_ = rule(type_.type);
};
INSTANTIATE_TEST_SUITE_P(, GgmlFeedback, testing::ValuesIn(all_types()),
                         [](const auto& one) { return one.param; });

TEST_P(GgmlFeedback, LosesLessThanBlocksAlone) {
  const InputStatistics inputs = made_inputs(512, 2000, 1);
  const InputStatistics squares = squares_only(inputs);
  for (const std::string kind : {"normal", "student"}) {
    const MadeWeights weights(kind, 48, 512);
    const GgmlMatrix with = quantized(name(), weights.view(), &inputs);
    const GgmlMatrix without = quantized(name(), weights.view(), &squares);
    if (feeds_back(type_.type)) {
      EXPECT_LT(error_of(weights.view(), with, inputs), 0.8 * error_of(weights.view(), without, inputs))
          << kind;
    } else {
      EXPECT_EQ(with.blocks, without.blocks);
    }
  }
}

TEST_P(GgmlFeedback, WithoutSecondMomentsThereIsNone) {
  const MadeWeights weights("student", 20, 512);
  const InputStatistics inputs = squares_only(made_inputs(512, 600, 2));
  const OutputStatistics outputs = made_outputs(20, 100, 3);
  const Quantizer& method = quantizer(name());
  EXPECT_EQ(method.needs(), Needs::nothing);
  EXPECT_EQ(method.prepare(nullptr), nullptr);
  EXPECT_EQ(method.prepare(&inputs), nullptr);
  EXPECT_EQ(quantized(name(), weights.view(), nullptr, &outputs).blocks,
            quantized(name(), weights.view(), nullptr).blocks);
  EXPECT_EQ(quantized(name(), weights.view(), &inputs, &outputs).blocks,
            quantized(name(), weights.view(), &inputs).blocks);
}

TEST_P(GgmlFeedback, NeitherThreadsNorPreparationMatter) {
  const MadeWeights weights("student", 200, 768);
  const InputStatistics inputs = made_inputs(768, 400, 4);
  const OutputStatistics outputs = made_outputs(200, 300, 5);
  const Quantizer& method = quantizer(name());
  for (const OutputStatistics* const used : {static_cast<const OutputStatistics*>(nullptr), &outputs}) {
    work_with_threads(1);
    const GgmlMatrix one = quantized(name(), weights.view(), &inputs, used);
    work_with_threads(5);
    EXPECT_EQ(one.blocks, quantized(name(), weights.view(), &inputs, used).blocks);
    const auto prepared = method.prepare(&inputs);
    const auto ends = method.prepare_outputs(used);
    EXPECT_EQ(one.blocks,
              std::get<GgmlMatrix>(method.quantize_for_outputs(weights.view(), parse_scheme(name()), &inputs,
                                                               prepared.get(), ends.get()))
                  .blocks);
    work_with_threads(0);
  }
}

TEST_P(GgmlFeedback, OutputsThatMatterLoseLess) {
  const MadeWeights weights("student", 100, 512);
  const InputStatistics inputs = made_inputs(512, 2000, 6);
  const OutputStatistics outputs = made_outputs(100, 400, 7);
  if (!feeds_back(type_.type)) return;
  // tr(G dW H dW^T), by H = S S^T: of the errors times S.
  const auto divergence = [&](const GgmlMatrix& matrix) {
    std::vector<double> e(100 * 512);
    std::vector<float> row(512);
    for (std::int64_t r = 0; r < 100; ++r) {
      matrix.dequantize_row(r, row);
      for (std::int64_t k = 0; k < 512; ++k)
        e[r * 512 + k] = static_cast<double>(weights.view().row(r)[k]) - static_cast<double>(row[k]);
    }
    std::vector<double> eh(e.size());
    for (std::int64_t r = 0; r < 100; ++r)
      for (std::int64_t k = 0; k < 512; ++k)
        for (std::int64_t j = 0; j < 512; ++j)
          eh[r * 512 + j] += e[r * 512 + k] * static_cast<double>(inputs.second_moment[k * 512 + j]);
    double sum = 0;
    for (std::int64_t r = 0; r < 100; ++r) {
      for (std::int64_t s = 0; s < 100; ++s) {
        double product = 0;
        for (std::int64_t k = 0; k < 512; ++k) product += eh[r * 512 + k] * e[s * 512 + k];
        sum += product * static_cast<double>(outputs.second_moment[r * 100 + s]);
      }
    }
    return sum;
  };
  EXPECT_LT(divergence(quantized(name(), weights.view(), &inputs, &outputs)),
            0.9 * divergence(quantized(name(), weights.view(), &inputs)));
}

TEST_P(GgmlFeedback, BlocksAreUnpackedAndPackedTheSame) {
  const MadeWeights weights("student", 40, 512);
  const InputStatistics inputs = made_inputs(512, 600, 8);
  const OutputStatistics outputs = made_outputs(40, 100, 9);
  const GgmlMatrix matrix = quantized(name(), weights.view(), &inputs, &outputs);
  const auto bytes = static_cast<std::size_t>(type_.bytes);
  std::vector<std::byte> again(bytes);
  for (std::size_t at = 0; at < matrix.blocks.size(); at += bytes) {
    const std::span block = std::span(matrix.blocks).subspan(at, bytes);
    GgmlBlock numbers;
    unpack_block(type_.type, block, numbers);
    pack_block(type_.type, numbers, again);
    ASSERT_TRUE(std::ranges::equal(block, again)) << at;
  }
}

/// The numbers of a matrix: scale of each code, what is added, and the codes, [rows, cols] each.
struct Numbers {
  explicit Numbers(const GgmlMatrix& matrix) {
    const GgmlRule& rule = knapsaq::rule(matrix.type);
    const GgmlTypeInfo& type = info(matrix.type);
    for (std::size_t at = 0; at < matrix.blocks.size(); at += static_cast<std::size_t>(type.bytes)) {
      GgmlBlock block;
      unpack_block(matrix.type, std::span(matrix.blocks).subspan(at, static_cast<std::size_t>(type.bytes)),
                   block);
      const double m = static_cast<double>(half_to_float(block.m));
      for (int i = 0; i < type.block; ++i) {
        const int sub = i / rule.sub_block;
        scales.push_back(static_cast<double>(half_to_float(block.d)) *
                         static_cast<double>(rule.factor(block.scales[sub])));
        added.push_back(rule.has_min ? -m * block.mins[sub] : rule.has_offset ? m : 0);
        codes.push_back(block.codes[i]);
      }
    }
  }
  std::vector<double> scales;
  std::vector<double> added;
  std::vector<int> codes;
};

TEST_P(GgmlFeedback, EveryCodeIsTheNearestToWhatItsFormulaSays) {
  if (!feeds_back(type_.type)) return;
  // Several tiles, the last ones short.
  constexpr std::int64_t kRows = 70;
  constexpr std::int64_t kCols = 512;
  const MadeWeights weights("student", kRows, kCols);
  const InputStatistics inputs = made_inputs(kCols, 2 * kCols, 10);
  const OutputStatistics outputs = made_outputs(kRows, 2 * kRows, 11);
  const std::int64_t together = rule_.grid != nullptr ? 8 : 1;
  const auto columns = factor_hessian(&inputs, together);
  for (const bool with_outputs : {false, true}) {
    SCOPED_TRACE(with_outputs ? "two-sided" : "one-sided");
    const GgmlMatrix matrix = quantized(name(), weights.view(), &inputs, with_outputs ? &outputs : nullptr);
    const Numbers numbers(matrix);
    const auto lines = with_outputs ? factor_outputs(&outputs) : nullptr;
    const auto row_at = [&](std::int64_t i) { return lines ? lines->order[i] : i; };
    // E, F = E V with V the columns' feedback and ones, in the factors' orders.
    std::vector<double> e;
    for (std::int64_t i = 0; i < kRows; ++i) {
      for (std::int64_t j = 0; j < kCols; ++j) {
        const auto at = static_cast<std::size_t>(row_at(i) * kCols + columns->order[j]);
        e.push_back(static_cast<double>(weights.view().values[at]) -
                    (numbers.scales[at] * numbers.codes[at] + numbers.added[at]));
      }
    }
    std::vector<double> f = e;
    for (std::int64_t i = 0; i < kRows; ++i)
      for (std::int64_t k = 0; k < kCols; ++k)
        for (std::int64_t j = k + 1; j < kCols; ++j)
          f[i * kCols + j] += e[i * kCols + k] * static_cast<double>(columns->feedback[k * kCols + j]);
    for (std::int64_t i = 0; i < kRows; ++i) {
      // What all before an element add to its error.
      std::vector<double> others(kCols);
      for (std::int64_t j = 0; j < kCols; ++j) {
        others[j] = f[i * kCols + j] - e[i * kCols + j];
        for (std::int64_t k = 0; k < i && lines; ++k)
          others[j] += static_cast<double>(lines->feedback[k * kRows + i]) * f[k * kCols + j];
      }
      for (std::int64_t j = 0; j < kCols; j += together) {
        const auto at = [&](std::int64_t k) {
          return static_cast<std::size_t>(row_at(i) * kCols + columns->order[j + k]);
        };
        if (numbers.scales[at(0)] == 0) continue;
        if (together == 1) {
          const double code =
              (static_cast<double>(weights.view().values[at(0)]) + others[j] - numbers.added[at(0)]) /
              numbers.scales[at(0)];
          double least = 1e9;
          const auto meet = [&](int one) { least = std::min(least, std::fabs(code - one)); };
          for (const std::int8_t level : rule_.levels) meet(level);
          for (int one = rule_.lowest; one <= rule_.highest && rule_.levels.empty(); ++one) meet(one);
          ASSERT_NEAR(std::fabs(code - numbers.codes[at(0)]), least, 2e-3) << row_at(i) << " " << j;
          continue;
        }
        // Within a run, `others` has the run's own errors too: the target is where they are what would make
        // every term zero.
        double target[8];
        double own[8];
        for (std::int64_t k = 0; k < 8; ++k) {
          double sum = others[j + k];
          for (std::int64_t l = 0; l < k; ++l) {
            const auto feedback = static_cast<double>(columns->feedback[(j + l) * kCols + j + k]);
            sum += (own[l] - e[i * kCols + j + l]) * feedback;
          }
          own[k] = -sum;
          target[k] = static_cast<double>(weights.view().values[at(k)]) + sum;
        }
        const double scale = numbers.scales[at(0)];
        const auto error = [&](const int* codes) {
          double sum = 0;
          for (std::int64_t k = 0; k < 8; ++k) {
            const auto diagonal = static_cast<double>(columns->diagonal[j + k]);
            sum += std::pow(diagonal * (target[k] - scale * codes[k]), 2);
          }
          return sum;
        };
        // No point that is somewhere in the matrix is nearer.
        const double chosen = error(numbers.codes.data() + at(0));
        for (std::size_t other = 0; other < numbers.codes.size(); other += 8 * 61)
          ASSERT_GE(error(numbers.codes.data() + other), chosen * 0.999) << row_at(i) << " " << j;
      }
    }
  }
}

TEST_P(GgmlFeedback, ZerosAndDeadInputsDoNoHarm) {
  InputStatistics inputs = made_inputs(256, 400, 12);
  for (std::int64_t k = 0; k < 256; ++k) {
    for (const std::int64_t dead : {3, 40, 41}) {
      inputs.second_moment[k * 256 + dead] = inputs.second_moment[dead * 256 + k] = 0;
      inputs.mean_square[dead] = 0;
    }
  }
  MadeWeights weights("normal", 18, 256);
  std::fill_n(weights.values().begin(), 2 * 256, 0.0f);
  const OutputStatistics outputs = made_outputs(18, 100, 13);
  const GgmlMatrix matrix = quantized(name(), weights.view(), &inputs, &outputs);
  std::vector<float> row(256);
  for (std::int64_t r = 0; r < 18; ++r) {
    matrix.dequantize_row(r, row);
    for (std::int64_t k = 0; k < 256; ++k) {
      ASSERT_TRUE(std::isfinite(row[k]));
      if (r < 2) {
        ASSERT_EQ(row[k], 0) << r << " " << k;
      }
    }
  }
  std::ranges::fill(inputs.second_moment, 0.0f);
  std::ranges::fill(inputs.mean_square, 0.0f);
  EXPECT_NO_THROW(quantized(name(), weights.view(), &inputs, &outputs));
}

TEST(GgmlFeedbacks, StatisticsOfOtherShapesAreRefused) {
  const MadeWeights weights("normal", 20, 256);
  const InputStatistics narrow = made_inputs(128, 200, 14);
  const InputStatistics inputs = made_inputs(256, 400, 14);
  const OutputStatistics outputs = made_outputs(12, 50, 15);
  for (const std::string type : {"q4_k", "iq3_s"}) {
    EXPECT_THAT(message_of<InputError>([&] { quantized(type, weights.view(), &narrow); }),
                testing::HasSubstr("128 inputs for a linear with 256"));
    EXPECT_THAT(message_of<InputError>([&] { quantized(type, weights.view(), &inputs, &outputs); }),
                testing::HasSubstr("12 outputs for a linear with 20"));
    InputStatistics bad = inputs;
    bad.second_moment[5] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_THAT(message_of<InputError>([&] { quantized(type, weights.view(), &bad); }),
                testing::HasSubstr("[0, 5]"));
  }
}

TEST(GgmlFeedbacks, TypesWithoutPointsShareGptqsPreparation) {
  for (const GgmlTypeInfo& type : ggml_types()) {
    const std::string_view shared = quantizer(type.name).preparation();
    if (rule(type.type).grid == nullptr) {
      EXPECT_EQ(shared, quantizer("gptq").preparation()) << type.name;
    } else {
      EXPECT_EQ(shared, feeds_back(type.type) ? quantizer("iq2_s").preparation() : type.name);
    }
  }
}

}  // namespace
}  // namespace knapsaq
