#pragma once

#include <cstddef>

namespace knapsaq {

/// `count` binary16 values (unaligned) to float, eight at a time. Only on processors with AVX and F16C.
/// Plain pointers, because an inline function of a header that is instantiated in a source with AVX could be
/// the copy that the linker keeps for everybody.
void convert_half_f16c(const std::byte* in, float* out, std::size_t count);

}  // namespace knapsaq
