#include "knapsaq/compute/ggml_matrix.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/compute/ggml_block.h"

namespace knapsaq {
namespace {

constexpr std::array kTypes = {GgmlTypeInfo{GgmlType::IQ1_S, "iq1_s", 1, 256, 50},
                               GgmlTypeInfo{GgmlType::IQ1_M, "iq1_m", 1, 256, 56},
                               GgmlTypeInfo{GgmlType::IQ2_XXS, "iq2_xxs", 2, 256, 66},
                               GgmlTypeInfo{GgmlType::IQ2_XS, "iq2_xs", 2, 256, 74},
                               GgmlTypeInfo{GgmlType::IQ2_S, "iq2_s", 2, 256, 82},
                               GgmlTypeInfo{GgmlType::Q2_0, "q2_0", 2, 64, 18},
                               GgmlTypeInfo{GgmlType::Q2_K, "q2_k", 2, 256, 84},
                               GgmlTypeInfo{GgmlType::IQ3_XXS, "iq3_xxs", 3, 256, 98},
                               GgmlTypeInfo{GgmlType::IQ3_S, "iq3_s", 3, 256, 110},
                               GgmlTypeInfo{GgmlType::Q3_K, "q3_k", 3, 256, 110},
                               GgmlTypeInfo{GgmlType::IQ4_XS, "iq4_xs", 4, 256, 136},
                               GgmlTypeInfo{GgmlType::IQ4_NL, "iq4_nl", 4, 32, 18},
                               GgmlTypeInfo{GgmlType::Q4_0, "q4_0", 4, 32, 18},
                               GgmlTypeInfo{GgmlType::Q4_K, "q4_k", 4, 256, 144},
                               GgmlTypeInfo{GgmlType::Q4_1, "q4_1", 4, 32, 20},
                               GgmlTypeInfo{GgmlType::Q5_0, "q5_0", 5, 32, 22},
                               GgmlTypeInfo{GgmlType::Q5_K, "q5_k", 5, 256, 176},
                               GgmlTypeInfo{GgmlType::Q5_1, "q5_1", 5, 32, 24},
                               GgmlTypeInfo{GgmlType::Q6_K, "q6_k", 6, 256, 210},
                               GgmlTypeInfo{GgmlType::Q8_0, "q8_0", 8, 32, 34}};

/// Where a block keeps its two fp16 numbers; types with one have both at the same place. Not for IQ1_M, which
/// scatters its d.
struct HalfOffsets {
  std::size_t d;
  std::size_t m;
};

HalfOffsets half_offsets(GgmlType type) {
  switch (type) {
    case GgmlType::Q2_K:
      return {80, 82};
    case GgmlType::Q3_K:
      return {108, 108};
    case GgmlType::Q6_K:
      return {208, 208};
    case GgmlType::Q4_1:
    case GgmlType::Q5_1:
    case GgmlType::Q4_K:
    case GgmlType::Q5_K:
      return {0, 2};
    default:
      return {0, 0};
  }
}

/// Whether a block's fp16 factors are finite.
bool has_finite_factors(GgmlType type, std::span<const std::byte> bytes) {
  // The exponent's five bits are in the high byte.
  if (type == GgmlType::IQ1_M) {
    GgmlBlock block;
    unpack_block(type, bytes, block);
    return (block.d & 0x7C00U) != 0x7C00U;
  }
  const auto is_finite_at = [&](std::size_t at) {
    return (std::to_integer<unsigned>(bytes[at + 1]) & 0x7CU) != 0x7CU;
  };
  const HalfOffsets halves = half_offsets(type);
  return is_finite_at(halves.d) && is_finite_at(halves.m);
}

}  // namespace

std::span<const GgmlTypeInfo> ggml_types() { return kTypes; }

const GgmlTypeInfo& info(GgmlType type) { return *std::ranges::find(kTypes, type, &GgmlTypeInfo::type); }

std::optional<GgmlType> parse_ggml_type(std::string_view name) {
  const auto* const found = std::ranges::find(kTypes, name, &GgmlTypeInfo::name);
  if (found == kTypes.end()) return std::nullopt;
  return found->type;
}

void GgmlMatrix::dequantize_row(std::int64_t row, std::span<float> out) const {
  const GgmlTypeInfo& facts = info(type);
  const GgmlRule& how = rule(type);
  const auto bytes = static_cast<std::size_t>(facts.bytes);
  const auto in_block = static_cast<std::size_t>(facts.block);
  const auto in_sub_block = static_cast<std::size_t>(how.sub_block);
  const std::span all = std::span(blocks).subspan(static_cast<std::size_t>(row * row_bytes()),
                                                  static_cast<std::size_t>(row_bytes()));
  GgmlBlock block;
  float* w = out.data();
  for (std::size_t at = 0; at < all.size(); at += bytes) {
    unpack_block(type, all.subspan(at, bytes), block);
    const float d = half_to_float(block.d);
    const float m = half_to_float(block.m);
    // The order of the operations is gguf-py's, so that the results are equal to the last bit.
    for (std::size_t k = 0; k * in_sub_block < in_block; ++k, w += in_sub_block) {
      const std::int8_t* const q = block.codes.data() + k * in_sub_block;
      if (how.has_offset) {
        for (std::size_t j = 0; j < in_sub_block; ++j) w[j] = d * static_cast<float>(q[j]) + m;
        continue;
      }
      const float scale = d * how.factor(block.scales[k]);
      if (how.has_min) {
        const float min = m * static_cast<float>(block.mins[k]);
        for (std::size_t j = 0; j < in_sub_block; ++j) w[j] = scale * static_cast<float>(q[j]) - min;
      } else {
        for (std::size_t j = 0; j < in_sub_block; ++j) w[j] = scale * static_cast<float>(q[j]);
      }
    }
  }
}

void GgmlMatrix::check() const {
  constexpr std::int64_t kLargest = std::int64_t{1} << 31;
  if (rows < 1 || cols < 1 || rows > kLargest || cols > kLargest)
    throw InputError(fmt::format("the shape [{}, {}] is out of range", rows, cols));
  if (cols % info(type).block != 0)
    throw InputError(fmt::format("rows of {} weights are not whole blocks of {} ({})", cols, info(type).block,
                                 info(type).name));
  if (blocks.size() / static_cast<std::size_t>(rows) != static_cast<std::size_t>(row_bytes()) ||
      blocks.size() % static_cast<std::size_t>(rows) != 0)
    throw InputError(fmt::format("blocks: {} bytes do not fit [{}, {}] in {}", blocks.size(), rows, cols,
                                 info(type).name));
  const auto bytes = static_cast<std::size_t>(info(type).bytes);
  for (std::size_t at = 0; at < blocks.size(); at += bytes) {
    if (has_finite_factors(type, std::span(blocks).subspan(at, bytes))) continue;
    throw InputError(
        fmt::format("blocks: the factor of block {} ({}) is not finite", at / bytes, info(type).name));
  }
}

}  // namespace knapsaq
