#include "knapsaq/export/gguf/blocks.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include <fmt/core.h>

#include "knapsaq/base/float16.h"
#include "knapsaq/base/threads.h"

namespace knapsaq {
namespace {

/// Rows that one task converts: enough that distributing tasks costs nothing.
constexpr std::int64_t kTaskRows = 32;

/// GGML's types by the width of an affine matrix's codes, smallest first.
std::vector<GgmlType> candidates(int bits) {
  switch (bits) {
    case 2:
      return {GgmlType::Q2_0};
    case 4:
      return {GgmlType::Q4_0, GgmlType::Q4_1};
    case 5:
      return {GgmlType::Q5_0, GgmlType::Q5_1};
    case 8:
      return {GgmlType::Q8_0};
    default:
      return {};
  }
}

bool whole_blocks(const PackedMatrix& matrix, int block) {
  return matrix.cols % block == 0 && (matrix.group % block == 0 || matrix.group == matrix.cols);
}

void store_half(float value, std::byte* out) {
  const std::uint16_t half = float_to_half(value);
  std::memcpy(out, &half, sizeof half);
}

/// One block of codes u with scale s and bias c. The result may be wrong if the type cannot hold them: the
/// caller compares.
void encode_block(GgmlType type, std::span<const std::uint8_t> codes, float scale, float bias,
                  std::byte* out) {
  const float zero = scale == 0 ? 0 : std::nearbyint(-bias / scale);
  switch (type) {
    case GgmlType::Q8_0: {
      store_half(scale, out);
      for (std::size_t i = 0; i < codes.size(); ++i) {
        const float code = scale == 0 ? 0 : static_cast<float>(codes[i]) - zero;
        out[2 + i] = static_cast<std::byte>(static_cast<std::int8_t>(std::clamp(code, -128.0F, 127.0F)));
      }
      return;
    }
    case GgmlType::Q4_0:
    case GgmlType::Q4_1:
    case GgmlType::Q5_0:
    case GgmlType::Q5_1: {
      store_half(scale, out);
      out += 2;
      if (type == GgmlType::Q4_1 || type == GgmlType::Q5_1) {
        store_half(bias, out);
        out += 2;
      }
      if (type == GgmlType::Q5_0 || type == GgmlType::Q5_1) {
        std::uint32_t fifths = 0;
        for (std::size_t i = 0; i < codes.size(); ++i) fifths |= std::uint32_t{codes[i]} >> 4 << i;
        std::memcpy(out, &fifths, sizeof fifths);
        out += sizeof fifths;
      }
      const std::size_t half = codes.size() / 2;
      for (std::size_t i = 0; i < half; ++i)
        out[i] = static_cast<std::byte>((codes[i] & 15) | codes[half + i] << 4);
      return;
    }
    default: {  // Q2_0
      const bool mirrored = zero == 2;
      store_half(mirrored ? -scale : scale, out);
      for (std::size_t i = 0; i < codes.size(); i += 4) {
        unsigned byte = 0;
        for (std::size_t k = 0; k < 4; ++k) byte |= (mirrored ? 3U - codes[i + k] : codes[i + k]) << (2 * k);
        out[2 + i / 4] = static_cast<std::byte>(byte);
      }
      return;
    }
  }
}

/// False as soon as one weight differs.
bool encode_rows(const PackedMatrix& matrix, std::int64_t first, std::int64_t last, GgmlMatrix& out) {
  const GgmlTypeInfo& type = info(out.type);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(matrix.cols));
  std::vector<float> wanted(codes.size());
  std::vector<float> got(codes.size());
  for (std::int64_t row = first; row < last; ++row) {
    unpack_codes(std::span(matrix.codes).subspan(row * matrix.words_per_row(), matrix.words_per_row()),
                 matrix.bits, codes);
    std::byte* blocks = out.blocks.data() + row * out.row_bytes();
    for (std::int64_t k = 0; k < matrix.cols; k += type.block, blocks += type.bytes) {
      const auto [scale, bias] = matrix.affine(row, k / matrix.group);
      encode_block(out.type, std::span(codes).subspan(k, type.block), scale, bias, blocks);
    }
    matrix.dequantize_row(row, wanted);
    out.dequantize_row(row, got);
    if (wanted != got) return false;
  }
  return true;
}

std::optional<GgmlMatrix> try_type(const PackedMatrix& matrix, GgmlType type) {
  if (!whole_blocks(matrix, info(type).block)) return std::nullopt;
  GgmlMatrix out{type, matrix.rows, matrix.cols, {}};
  out.blocks.resize(static_cast<std::size_t>(matrix.rows * out.row_bytes()));
  // Most matrices that do not fit differ in their first row.
  if (!encode_rows(matrix, 0, 1, out)) return std::nullopt;
  std::atomic<bool> exact = true;
  parallel_for(static_cast<std::size_t>((matrix.rows + kTaskRows - 1) / kTaskRows), [&](std::size_t task) {
    const auto first = static_cast<std::int64_t>(task) * kTaskRows;
    if (exact && !encode_rows(matrix, first, std::min(first + kTaskRows, matrix.rows), out)) exact = false;
  });
  if (!exact) return std::nullopt;
  return out;
}

}  // namespace

std::optional<GgmlMatrix> exact_blocks(const PackedMatrix& matrix) {
  for (const GgmlType type : candidates(matrix.bits))
    if (auto blocks = try_type(matrix, type)) return blocks;
  return std::nullopt;
}

std::string why_not_exact(const PackedMatrix& matrix) {
  const std::vector<GgmlType> types = candidates(matrix.bits);
  if (types.empty())
    return fmt::format("GGUF has no type for {}-bit codes with one scale per group", matrix.bits);
  const GgmlTypeInfo& type = info(types.back());
  if (!whole_blocks(matrix, type.block))
    return fmt::format("groups of {} in rows of {} are not whole blocks of {} weights, as {} has them",
                       matrix.group, matrix.cols, type.block, type.name);
  if (matrix.meta_bits != 16)
    return "scales that are quantized themselves are no fp16 numbers, as GGUF has them";
  switch (matrix.bits) {
    case 2:
      return "of 2-bit codes GGUF holds only those with the zero points 1 and 2 (Q2_0)";
    case 8:
      return "of 8-bit codes GGUF holds only those with integer zero points, the codes within 128 of them "
             "(Q8_0)";
    default:
      return "its scales and biases are no pairs that GGUF holds";
  }
}

}  // namespace knapsaq
