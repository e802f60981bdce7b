// Inputs as llama.cpp's kernels for processors round them. docs/benchmarks.md has the comparison with
// llama-perplexity.

#include "knapsaq/compute/cpu/rounded_inputs.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/float16.h"
#include "knapsaq/base/random.h"

namespace knapsaq::cpu {
namespace {

std::vector<float> inputs(std::int64_t n) {
  std::vector<float> values(static_cast<std::size_t>(n));
  Random random(7);
  for (float& value : values) value = static_cast<float>(random.uniform() * 2 - 1);
  return values;
}

TEST(RoundedInputs, AreWholeMultiplesOfABlocksScale) {
  for (const auto& [rounding, block] :
       {std::pair{InputRounding::int8_32, 32}, {InputRounding::int8_256, 256}}) {
    const std::vector<float> in = inputs(512);
    std::vector<float> out(in.size());
    round_inputs(rounding, in.data(), std::ssize(in), out.data());
    for (std::size_t first = 0; first < in.size(); first += static_cast<std::size_t>(block)) {
      float largest = 0;
      for (int i = 0; i < block; ++i)
        largest = std::max(largest, std::abs(in[first + static_cast<std::size_t>(i)]));
      const float scale = largest / 127;
      for (int i = 0; i < block; ++i) {
        const std::size_t at = first + static_cast<std::size_t>(i);
        // Half a step, and what a scale in fp16 adds.
        EXPECT_NEAR(out[at], in[at], 0.5f * scale + std::abs(in[at]) / 2048) << at;
        const float steps = out[at] / scale;
        EXPECT_NEAR(steps, std::nearbyint(steps), 0.07f) << at;
      }
    }
  }
}

TEST(RoundedInputs, OfSixteenBits) {
  const std::vector<float> in = inputs(64);
  std::vector<float> out(in.size());
  round_inputs(InputRounding::half, in.data(), std::ssize(in), out.data());
  for (std::size_t i = 0; i < in.size(); ++i) EXPECT_EQ(out[i], half_to_float(float_to_half(in[i])));
  round_inputs(InputRounding::bfloat, in.data(), std::ssize(in), out.data());
  for (std::size_t i = 0; i < in.size(); ++i) EXPECT_EQ(out[i], bfloat16_to_float(float_to_bfloat16(in[i])));
  round_inputs(InputRounding::none, in.data(), std::ssize(in), out.data());
  EXPECT_EQ(out, in);
}

TEST(RoundedInputs, OfNothingAreNothing) {
  const std::vector<float> in(256, 0.0f);
  for (const InputRounding rounding : {InputRounding::int8_32, InputRounding::int8_256}) {
    std::vector<float> out(256, 1.0f);
    round_inputs(rounding, in.data(), 256, out.data());
    EXPECT_EQ(out, in);
  }
}

InputRounding of(GgmlType type) {
  GgmlMatrix matrix;
  matrix.type = type;
  return input_rounding(matrix);
}

TEST(RoundedInputs, FollowTheWeightsType) {
  EXPECT_EQ(of(GgmlType::Q4_K), InputRounding::int8_256);
  EXPECT_EQ(of(GgmlType::IQ4_XS), InputRounding::int8_256);
  EXPECT_EQ(of(GgmlType::IQ4_NL), InputRounding::int8_32);
  EXPECT_EQ(of(GgmlType::Q8_0), InputRounding::int8_32);
  EXPECT_EQ(input_rounding(PackedMatrix{}), InputRounding::none);
  EXPECT_EQ(input_rounding(DType::F16), InputRounding::half);
  EXPECT_EQ(input_rounding(DType::F32), InputRounding::none);
}

}  // namespace
}  // namespace knapsaq::cpu
