// Matrices that were made of codes, in every form that on_lattice() knows and every type that weights are
// stored in; and such that were not.

#include "knapsaq/quant/lattice.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/float16.h"
#include "knapsaq/base/random.h"
#include "quant/made_weights.h"
#include "work_with_threads.h"

namespace knapsaq {

void PrintTo(const Scheme& scheme, std::ostream* out) { *out << to_string(scheme); }

namespace {

using testing::Values;
using testing::ValuesIn;

constexpr std::int64_t kRows = 24;
constexpr std::int64_t kCols = 256;

float to_bf16(float x) { return bfloat16_to_float(float_to_bfloat16(x)); }
float to_fp16(float x) { return half_to_float(float_to_half(x)); }
float to_fp32(float x) { return x; }

struct Type {
  const char* name;
  float (*round)(float);
};
const Type kTypes[] = {{"bf16", to_bf16}, {"fp16", to_fp16}, {"fp32", to_fp32}};
void PrintTo(const Type& type, std::ostream* out) { *out << type.name; }

std::vector<float> decoded(const StoredMatrix& stored) {
  std::vector<float> out(static_cast<std::size_t>(kRows * kCols));
  for (std::int64_t r = 0; r < kRows; ++r)
    dequantize_row(stored, r, std::span(out).subspan(static_cast<std::size_t>(r * kCols), kCols));
  return out;
}

std::vector<float> rounded(std::vector<float> values, const Type& type) {
  std::ranges::transform(values, values.begin(), type.round);
  return values;
}

/// The weights of a quantized matrix with few and many codes in use, zeros and constant groups, in a type.
std::vector<float> made_of_codes(const Scheme& scheme, const Type& type) {
  MadeWeights weights("normal", kRows, kCols);
  for (std::size_t i = 0; i < 128; ++i) weights.values()[i] = 0;
  for (std::size_t i = 256; i < 384; ++i) weights.values()[i] = 0.01f;
  for (std::size_t i = 512; i < 640; ++i) weights.values()[i] = i % 3 == 0 ? -0.02f : 0.02f;
  for (std::size_t i = 768; i < 896; ++i) weights.values()[i] *= 1e-4f;
  return rounded(decoded(quantize(weights.view(), scheme)), type);
}

class Lattices : public testing::TestWithParam<std::tuple<Scheme, Type>> {};

TEST_P(Lattices, AreFound) {
  const auto& [scheme, type] = GetParam();
  const std::vector<float> values = made_of_codes(scheme, type);
  const MatrixView weights{kRows, kCols, values};
  const auto found = on_lattice(weights, scheme);
  ASSERT_TRUE(found) << to_string(scheme);
  // To the bit, as numbers.
  const std::vector<float> again = rounded(decoded(*found), type);
  for (std::size_t i = 0; i < values.size(); ++i)
    ASSERT_EQ(again[i], values[i]) << to_string(scheme) << " at " << i;
}

/// All but real zero points at 8 bits, if the weights were rounded to bf16: that rounding is as coarse as the
/// points.
std::vector<std::tuple<Scheme, Type>> forms() {
  std::vector<std::tuple<Scheme, Type>> forms;
  for (const Scheme& scheme : lattice_schemes()) {
    for (const Type& type : kTypes) {
      const bool is_coarse = scheme.bits == 8 && scheme.zero == ZeroPoint::real && !ggml_type(scheme);
      if (!is_coarse || type.round != to_bf16) forms.emplace_back(scheme, type);
    }
  }
  return forms;
}
INSTANTIATE_TEST_SUITE_P(All, Lattices, ValuesIn(forms()), [](const auto& test) {
  std::string name = to_string(std::get<0>(test.param)) + std::get<1>(test.param).name;
  std::erase(name, ':');
  return name;
});

/// Names of the schemes on whose lattice all weights lie.
std::vector<std::string> held_by(const std::vector<float>& values) {
  const MatrixView weights{kRows, kCols, values};
  std::vector<std::string> names;
  for (const Scheme& scheme : lattice_schemes()) {
    EXPECT_EQ(lies_on_lattice(weights, scheme), on_lattice(weights, scheme).has_value()) << to_string(scheme);
    if (lies_on_lattice(weights, scheme)) names.push_back(to_string(scheme));
  }
  return names;
}

TEST(Lattice, OrdinaryWeightsLieOnNone) {
  for (const char* kind : {"normal", "student", "constant"}) {
    for (const Type& type : kTypes)
      EXPECT_THAT(held_by(rounded(MadeWeights(kind, kRows, kCols).values(), type)), testing::IsEmpty())
          << kind << " " << type.name;
  }
}

TEST(Lattice, NothingIsFoundWithoutEvidence) {
  for (const float weight : {0.0f, 0.0123f}) {
    const std::vector<float> row(kCols, weight);
    for (const Scheme& scheme : lattice_schemes())
      EXPECT_FALSE(on_lattice({1, kCols, row}, scheme)) << to_string(scheme) << " " << weight;
  }
}

TEST(Lattice, BlocksThatCouldBeMadeInManyWaysTakeNoTime) {
  // Two values in a sub-block, of no scale in common.
  std::vector<float> values(kRows * kCols);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto sub = static_cast<float>(i / 16);
    values[i] = i % 2 == 0 ? 0.01f + 1e-5f * sub : -0.02f - 3.1e-6f * sub * sub;
  }
  const MatrixView weights{kRows, kCols, values};
  for (const char* name : {"q2_k", "q3_k", "q4_k", "q5_k", "q6_k"})
    EXPECT_FALSE(on_lattice(weights, parse_scheme(name))) << name;
}

TEST(Lattice, NoiseBeyondRoundingEndsIt) {
  MadeWeights noise("normal", kRows, kCols);
  for (const Type& type : kTypes) {
    std::vector<float> values = made_of_codes(parse_scheme("q4_0"), type);
    EXPECT_THAT(held_by(values), testing::Contains("q4_0"));
    // A twentieth of a step.
    for (std::size_t i = 0; i < values.size(); ++i) values[i] += 0.02f * noise.values()[i];
    EXPECT_THAT(held_by(rounded(values, type)), testing::IsEmpty()) << type.name;
  }
}

TEST(Lattice, OneGroupElsewhereIsEnough) {
  std::vector<float> values = made_of_codes(parse_scheme("q4_0"), kTypes[0]);
  values[3000] *= 1.1f;
  EXPECT_FALSE(on_lattice({kRows, kCols, values}, parse_scheme("q4_0")));
}

TEST(Lattice, LargerGroupsAndFewerLevelsAreHeldByOthers) {
  // Symmetric with groups of 128: by everything that has at least as many codes.
  const std::vector<std::string> names = held_by(rounded(
      decoded(quantize(MadeWeights("normal", kRows, kCols).view(), parse_scheme("rtn:b4g128s"))), kTypes[0]));
  for (const char* name :
       {"rtn:b4g128s", "rtn:b4g32s", "rtn:b4g64", "q4_0", "q4_1", "q5_0", "q8_0", "rtn:b8g128s"})
    EXPECT_THAT(names, testing::Contains(name));
  for (const char* name : {"q2_0", "rtn:b3g32", "rtn:b2g32s"})
    EXPECT_THAT(names, testing::Not(testing::Contains(name)));
}

TEST(Lattice, MXFP4IsHeldByFiveBits) {
  // Points of E2M1, times two, with a power of two for 32 weights.
  constexpr float kPoints[] = {0, 1, 2, 3, 4, 6, 8, 12};
  std::vector<float> values(kRows * kCols);
  Random random(1);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint64_t draw = random.bits();
    const float sign = (draw & 8) != 0 ? -1.0f : 1.0f;
    values[i] = sign * std::ldexp(kPoints[draw & 7], -9 - static_cast<int>(i / 32 % 5));
  }
  const std::vector<std::string> names = held_by(values);
  ASSERT_FALSE(names.empty());
  EXPECT_THAT(names, testing::Contains("q5_0"));
  EXPECT_THAT(names, testing::Contains("rtn:b5g32s"));
  EXPECT_THAT(names, testing::Not(testing::Contains("q4_0")));
}

/// Scales in fp32, as some quantizers keep them, and integer zero points: what fp16 has for them is a little
/// off.
TEST(Lattice, ScalesBeyondHalfPrecisionCost) {
  const MadeWeights weights("normal", kRows, kCols);
  for (const Type& type : kTypes) {
    std::vector<float> values(kRows * kCols);
    for (std::size_t first = 0; first < values.size(); first += 64) {
      float scale = 0;
      for (std::size_t i = first; i < first + 64; ++i)
        scale = std::max(scale, std::fabs(weights.view().values[i]) / 9.0f);
      const float zero = 5.0f + static_cast<float>(first / 64 % 6);
      for (std::size_t i = first; i < first + 64; ++i) {
        const float code = std::clamp(std::nearbyint(weights.view().values[i] / scale + zero), 0.0f, 15.0f);
        values[i] = type.round((code - zero) * scale);
      }
    }
    const auto found = on_lattice({kRows, kCols, values}, parse_scheme("rtn:b4g64"));
    ASSERT_TRUE(found) << type.name;
    const std::vector<float> again = decoded(*found);
    double worst = 0;
    for (std::size_t i = 0; i < values.size(); ++i)
      worst = std::max(worst, static_cast<double>(std::fabs(again[i] - values[i])));
    EXPECT_LT(worst, 0.02 * 3 / 9 / 16) << type.name;  // a sixteenth of a step
  }
}

/// MLX computes s * u + c in the weights' type, with two roundings.
TEST(Lattice, SumsThatWereRoundedTwice) {
  const StoredMatrix stored = quantize(MadeWeights("normal", kRows, kCols).view(), parse_scheme("rtn:b4g64"));
  const auto& packed = std::get<PackedMatrix>(stored);
  std::vector<float> values(kRows * kCols);
  std::vector<std::uint8_t> codes(kCols);
  const auto words = static_cast<std::size_t>(packed.words_per_row());
  for (std::int64_t r = 0; r < kRows; ++r) {
    unpack_codes(std::span(packed.codes).subspan(static_cast<std::size_t>(r) * words, words), 4, codes);
    for (std::int64_t k = 0; k < kCols; ++k) {
      const auto [scale, bias] = packed.affine(r, k / 64);
      values[static_cast<std::size_t>(r * kCols + k)] =
          to_bf16(to_bf16(to_bf16(scale) * codes[static_cast<std::size_t>(k)]) + to_bf16(bias));
    }
  }
  EXPECT_TRUE(on_lattice({kRows, kCols, values}, parse_scheme("rtn:b4g64")));
}

TEST(Lattice, MethodsTakeItWhateverTheyWouldSearch) {
  for (const char* name : {"q4_1", "hqq:b4g32", "rtn:b4g32", "hqq:b5g32"}) {
    const std::vector<float> values = made_of_codes(parse_scheme("q4_1"), kTypes[0]);
    const MatrixView weights{kRows, kCols, values};
    double norm = 0;
    for (const float w : values) norm += static_cast<double>(w) * static_cast<double>(w);
    EXPECT_LT(frobenius_error(weights, quantize(weights, parse_scheme(name))), 2e-3 * std::sqrt(norm))
        << name;
  }
}

TEST(Lattice, ResultsDoNotDependOnThreads) {
  const std::vector<float> values = made_of_codes(parse_scheme("q4_0"), kTypes[0]);
  std::vector<std::vector<std::byte>> blocks;
  for (const int threads : {1, 3, 0}) {
    work_with_threads(threads);
    blocks.push_back(std::get<GgmlMatrix>(*on_lattice({kRows, kCols, values}, parse_scheme("q4_1"))).blocks);
  }
  EXPECT_EQ(blocks[0], blocks[1]);
  EXPECT_EQ(blocks[0], blocks[2]);
}

}  // namespace
}  // namespace knapsaq
