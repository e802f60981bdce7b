#pragma once

#include <algorithm>
#include <string>

#include "knapsaq/compute/backend.h"

namespace knapsaq::test {

/// A device as a part of a test's name: cpu_avx2.
inline std::string name_of(std::string device) {
  std::replace(device.begin(), device.end(), ':', '_');
  return device;
}
inline std::string name_of(const std::string& device, Precision precision) {
  return name_of(device) + (precision == Precision::fp32 ? "_fp32" : "_bf16");
}

}  // namespace knapsaq::test
