#include "knapsaq/export/integer_zeros.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "knapsaq/base/float16.h"

namespace knapsaq {

IntegerZerosResult integer_zeros(const PackedMatrix& matrix) {
  IntegerZerosResult result;
  if (matrix.meta_bits != 16) {
    result.obstacle = fmt::format("its scales and zero points are quantized (m{}g{}); use schemes without /m",
                                  matrix.meta_bits, matrix.meta_group);
    return result;
  }
  const int middle = 1 << (matrix.bits - 1);
  const int top = (1 << matrix.bits) - 1;
  std::vector<std::uint8_t>& zeros = result.zeros.zeros;
  zeros.resize(matrix.scales.size());
  result.zeros.symmetric = true;
  for (std::size_t i = 0; i < zeros.size(); ++i) {
    const double scale = half_to_float(matrix.scales[i]);
    const double bias = half_to_float(matrix.biases[i]);
    // A scale of 0 makes every weight the bias, whatever the zero point.
    const double zero = scale != 0 ? -bias / scale : bias == 0 ? middle : std::nan("");
    // The division rounds; the product of two short numbers does not.
    const double nearest = std::nearbyint(zero);
    const bool exact = nearest >= 0 && nearest <= top && -scale * nearest == bias;
    if (!exact) {
      const auto groups = static_cast<std::size_t>(matrix.groups());
      const std::string where = fmt::format("row {} group {}", i / groups, i % groups);
      if (std::isnan(zero))
        result.obstacle = fmt::format("{} has the scale 0 and the bias {:.4g}", where, bias);
      else if (zero < -0.5 || zero > top + 0.5)
        result.obstacle = fmt::format("zero point {:.4g} of {} is not in 0 .. {}", zero, where, top);
      else
        result.obstacle = fmt::format("zero point {:.6g} of {} is not a whole number", zero, where);
      result.obstacle += "; quantize with schemes that end in z or s";
      zeros.clear();
      return result;
    }
    zeros[i] = static_cast<std::uint8_t>(nearest);
    result.zeros.symmetric = result.zeros.symmetric && zeros[i] == middle;
  }
  return result;
}

}  // namespace knapsaq
