// Numbers of files to floats.

#include <cstddef>

#include "knapsaq/base/simd/simd.h"
#include "knapsaq/compute/convert_kernels.h"

namespace knapsaq::KNAPSAQ_SET {
namespace {

using namespace simd::KNAPSAQ_SET;

void convert_half(const std::byte* in, float* out, std::int64_t count) {
  const Half* p = reinterpret_cast<const Half*>(in);
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(out + i, load(p + i));
  if (i < count) {
    Half rest[kLanes] = {};
    __builtin_memcpy(rest, in + 2 * i, static_cast<std::size_t>(2 * (count - i)));
    store_part(out + i, load(rest), static_cast<int>(count - i));
  }
}

}  // namespace

extern const ConvertKernels kConvertKernels;
constexpr ConvertKernels kConvertKernels = {convert_half};

}  // namespace knapsaq::KNAPSAQ_SET
