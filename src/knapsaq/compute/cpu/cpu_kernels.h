#pragma once

#include <span>
#include <string_view>

#include "knapsaq/compute/cpu/kernels.h"
#include "knapsaq/compute/cpu/packed_kernels.h"

namespace knapsaq::cpu {

/// What the backend runs of one instruction set.
struct CpuKernels {
  std::string_view set;
  const Kernels<float>* fp32 = nullptr;
  const Kernels<Bf16>* bf16 = nullptr;  ///< null where there are no products of bfloat16
  const PackedKernels* packed = nullptr;
};

/// Those that this processor can run and KNAPSAQ_ISA allows, the best first.
std::span<const CpuKernels> all_kernels();
/// Empty: the best. Throws std::invalid_argument for a set that is not among them.
const CpuKernels& kernels_of(std::string_view set);

}  // namespace knapsaq::cpu
