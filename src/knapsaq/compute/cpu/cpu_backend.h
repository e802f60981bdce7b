#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/compute/backend.h"

namespace knapsaq {

struct CpuOptions {
  Precision precision = Precision::bf16;
  /// The instruction set of the kernels, one of cpu_variants(); empty: the best.
  std::string kernels = {};
  Packed packed = Packed::off;
  /// Products of at most so many rows are computed from the codes; for more rows the matrix is dequantized
  /// piece by piece on the way. 16 rows of inputs fit the registers' reuse of one decoded group.
  std::int64_t packed_rows = 16;
  Inputs inputs = Inputs::as_computed;
};

/// A backend on this machine's processor: oneDNN for dense products, own kernels for the rest, threads of
/// current_pool(). bf16 needs kernels with products of bfloat16 (avx512_bf16); with others the weights are
/// rounded to bfloat16 as asked and everything else is fp32. Other `kernels` than cpu_variants() are
/// std::invalid_argument.
std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options);

// For the list of backends (make_backend.cpp):
/// Instruction sets whose kernels this processor can run and KNAPSAQ_ISA allows, the best first.
std::vector<std::string> cpu_variants();
/// `variant`: one of cpu_variants().
std::unique_ptr<Backend> make_cpu_variant(const BackendOptions& options, std::string_view variant);

}  // namespace knapsaq
