#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace knapsaq {

/// Element types of tensors on disk; the names are those of safetensors.
enum class DType : std::uint8_t {
  BOOL,
  U8,
  I8,
  U16,
  I16,
  U32,
  I32,
  U64,
  I64,
  F16,
  BF16,
  F32,
  F64,
  F8_E4M3,  ///< sign, 4 bits of exponent, 3 of mantissa; no infinities
  F8_E8M0,  ///< a power of two: 2^(byte - 127); 255 is NaN
};

/// Bytes of one element.
std::size_t size_of(DType type);
/// "F16", "BF16", ... as safetensors writes them.
std::string_view name_of(DType type);
/// The reverse; empty for a name that is none of them.
std::optional<DType> parse_dtype(std::string_view name);
/// True for the types that weights may have: F16, BF16, F32.
bool is_weight_type(DType type);

/// A dense row-major tensor that somebody else owns (usually a mapped file).
struct TensorView {
  DType type = DType::F32;
  std::vector<std::int64_t> shape;   ///< outermost first; empty for a scalar
  std::span<const std::byte> bytes;  ///< exactly elements() * size_of(type); may be unaligned

  std::int64_t elements() const;
};

/// Elements [first, first + out.size()) of an F16, BF16 or F32 tensor, as floats; exact. Throws
/// std::out_of_range or std::invalid_argument: callers know what they ask for.
void read_floats(const TensorView& tensor, std::int64_t first, std::span<float> out);
std::vector<float> read_floats(const TensorView& tensor);

/// Index of the first value that is NaN or infinite; empty if there is none.
std::optional<std::size_t> first_not_finite(std::span<const float> values);

}  // namespace knapsaq
