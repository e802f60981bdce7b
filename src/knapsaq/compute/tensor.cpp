#include "knapsaq/compute/tensor.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "knapsaq/base/float16.h"
#include "knapsaq/base/simd/tables.h"
#include "knapsaq/compute/convert_kernels.h"

namespace knapsaq {

#define KNAPSAQ_SET(set)                       \
  namespace set {                              \
  extern const ConvertKernels kConvertKernels; \
  }
KNAPSAQ_SETS
#undef KNAPSAQ_SET

namespace {

struct TypeInfo {
  std::string_view name;
  std::size_t size;
};

/// In the order of DType.
constexpr std::array<TypeInfo, 15> kTypes{{{"BOOL", 1},
                                           {"U8", 1},
                                           {"I8", 1},
                                           {"U16", 2},
                                           {"I16", 2},
                                           {"U32", 4},
                                           {"I32", 4},
                                           {"U64", 8},
                                           {"I64", 8},
                                           {"F16", 2},
                                           {"BF16", 2},
                                           {"F32", 4},
                                           {"F64", 8},
                                           {"F8_E4M3", 1},
                                           {"F8_E8M0", 1}}};

const TypeInfo& info(DType type) { return kTypes.at(static_cast<std::size_t>(type)); }

/// Files put tensors at any byte, so words are copied out instead of being read through a pointer; compilers
/// turn the copy into a plain load.
std::uint16_t word_at(const std::byte* bytes, std::size_t index) {
  std::uint16_t word;
  std::memcpy(&word, bytes + index * sizeof word, sizeof word);
  return word;
}

void convert_half(const std::byte* in, std::span<float> out) {
#define KNAPSAQ_SET(set) {#set, &set::kConvertKernels},
  static const ConvertKernels& best = *simd::usable_tables<const ConvertKernels*>({KNAPSAQ_SETS}).front();
#undef KNAPSAQ_SET
  best.convert_half(in, out.data(), static_cast<std::int64_t>(out.size()));
}

}  // namespace

std::size_t size_of(DType type) { return info(type).size; }

std::string_view name_of(DType type) { return info(type).name; }

std::optional<DType> parse_dtype(std::string_view name) {
  for (std::size_t i = 0; i < kTypes.size(); ++i) {
    if (kTypes[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

bool is_weight_type(DType type) { return type == DType::F16 || type == DType::BF16 || type == DType::F32; }

std::int64_t TensorView::elements() const { return static_cast<std::int64_t>(bytes.size() / size_of(type)); }

void read_floats(const TensorView& tensor, std::int64_t first, std::span<float> out) {
  const std::int64_t elements = tensor.elements();
  if (first < 0 || first > elements || out.size() > static_cast<std::uint64_t>(elements - first))
    throw std::out_of_range("read_floats: elements outside the tensor");
  if (out.empty()) return;
  const std::byte* in = tensor.bytes.data() + static_cast<std::size_t>(first) * size_of(tensor.type);
  switch (tensor.type) {
    case DType::F32:
      std::memcpy(out.data(), in, out.size_bytes());
      return;
    case DType::BF16:
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = bfloat16_to_float(word_at(in, i));
      return;
    case DType::F16:
      convert_half(in, out);
      return;
    default:
      throw std::invalid_argument("read_floats: a tensor of type " + std::string(name_of(tensor.type)));
  }
}

std::vector<float> read_floats(const TensorView& tensor) {
  std::vector<float> out(static_cast<std::size_t>(tensor.elements()));
  read_floats(tensor, 0, out);
  return out;
}

std::optional<std::size_t> first_not_finite(std::span<const float> values) {
  // An exponent of all ones is infinity or NaN. OR-ing over a stretch needs no branch per value, so that it
  // vectorises; the values of a dirty stretch are then looked at one by one.
  constexpr std::size_t kStretch = 1024;  // 4 KiB: stays in the first-level cache for the second look
  for (std::size_t begin = 0; begin < values.size(); begin += kStretch) {
    const std::span<const float> stretch = values.subspan(begin, std::min(kStretch, values.size() - begin));
    std::uint32_t dirty = 0;
    for (const float value : stretch) {
      dirty |= (std::bit_cast<std::uint32_t>(value) & 0x7F800000u) == 0x7F800000u ? 1u : 0u;
    }
    if (dirty == 0) continue;
    for (std::size_t i = 0; i < stretch.size(); ++i) {
      if (!std::isfinite(stretch[i])) return begin + i;
    }
  }
  return std::nullopt;
}

}  // namespace knapsaq
