#include "knapsaq/compute/ggml_matrix.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

constexpr std::array kTypes = {
    GgmlTypeInfo{GgmlType::Q2_0, "q2_0", 2, 64, 18},   GgmlTypeInfo{GgmlType::Q2_K, "q2_k", 2, 256, 84},
    GgmlTypeInfo{GgmlType::Q3_K, "q3_k", 3, 256, 110}, GgmlTypeInfo{GgmlType::Q4_0, "q4_0", 4, 32, 18},
    GgmlTypeInfo{GgmlType::Q4_K, "q4_k", 4, 256, 144}, GgmlTypeInfo{GgmlType::Q4_1, "q4_1", 4, 32, 20},
    GgmlTypeInfo{GgmlType::Q5_0, "q5_0", 5, 32, 22},   GgmlTypeInfo{GgmlType::Q5_K, "q5_k", 5, 256, 176},
    GgmlTypeInfo{GgmlType::Q5_1, "q5_1", 5, 32, 24},   GgmlTypeInfo{GgmlType::Q6_K, "q6_k", 6, 256, 210},
    GgmlTypeInfo{GgmlType::Q8_0, "q8_0", 8, 32, 34}};

}  // namespace

std::span<const GgmlTypeInfo> ggml_types() { return kTypes; }

const GgmlTypeInfo& info(GgmlType type) { return *std::ranges::find(kTypes, type, &GgmlTypeInfo::type); }

std::optional<GgmlType> parse_ggml_type(std::string_view name) {
  const auto* const found = std::ranges::find(kTypes, name, &GgmlTypeInfo::name);
  if (found == kTypes.end()) return std::nullopt;
  return found->type;
}

void GgmlMatrix::dequantize_row(std::int64_t row, std::span<float> out) const {
  (void)row;
  (void)out;
  throw Error("not there yet");
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
}

}  // namespace knapsaq
