#include "knapsaq/tune/tunable_vector.h"

#include <stdexcept>
#include <utility>

#include "knapsaq/base/float16.h"
#include "knapsaq/tune/tunable_matrix.h"

namespace knapsaq {

TunableVector::TunableVector(std::string tensor, DType type, std::vector<float> start,
                             std::vector<float> units)
    : tensor_(std::move(tensor)),
      type_(type),
      start_(std::move(start)),
      units_(std::move(units)),
      values_(start_) {
  if (start_.size() != units_.size()) throw std::invalid_argument("TunableVector: one unit for each value");
}

void TunableVector::gradient(std::span<const double> by_values, std::span<float> out) const {
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = units_[i] * static_cast<float>(by_values[i]);
}

void TunableVector::set(std::span<const float> parameters) {
  for (std::size_t i = 0; i < values_.size(); ++i) {
    const float value = start_[i] + units_[i] * parameters[i];
    values_[i] = type_ == DType::F16    ? half_to_float(nearest_half(value))
                 : type_ == DType::BF16 ? bfloat16_to_float(float_to_bfloat16(value))
                                        : value;
  }
}

}  // namespace knapsaq
