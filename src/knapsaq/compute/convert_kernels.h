#pragma once

#include <cstddef>
#include <cstdint>

namespace knapsaq {

struct ConvertKernels {
  /// `count` fp16 numbers at any address.
  void (*convert_half)(const std::byte* in, float* out, std::int64_t count);
};

}  // namespace knapsaq
