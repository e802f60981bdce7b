#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/compute/tensor.h"

namespace knapsaq {

inline std::filesystem::path checkpoint_data(std::string_view name) {
  return std::filesystem::path(KNAPSAQ_TEST_DATA) / "checkpoint" / name;
}

/// The values that tools/make_checkpoint_references.py gives to floating-point tensors.
inline std::vector<float> reference_floats(std::size_t count) {
  std::vector<float> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<float>(i % 37) / 4 - 4;
  return out;
}

template <class Number>
std::vector<Number> as_numbers(const TensorView& tensor) {
  std::vector<Number> out(tensor.bytes.size() / sizeof(Number));
  if (!out.empty()) std::memcpy(out.data(), tensor.bytes.data(), tensor.bytes.size());
  return out;
}

}  // namespace knapsaq
