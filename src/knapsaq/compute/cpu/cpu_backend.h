#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/compute/backend.h"

namespace knapsaq {

/// Instruction sets that the CPU backend has kernels for, weakest first.
enum class CpuKernels : std::uint8_t { portable, avx2, avx512_bf16 };
std::string_view name_of(CpuKernels kernels);
/// Those that this processor can run and KNAPSAQ_ISA allows, the best first.
std::vector<CpuKernels> all_cpu_kernels();
CpuKernels best_cpu_kernels();

struct CpuOptions {
  Precision precision = Precision::bf16;
  CpuKernels kernels = best_cpu_kernels();
  Packed packed = Packed::off;
  /// Products of at most so many rows are computed from the codes; for more rows the matrix is dequantized
  /// piece by piece on the way. 16 rows of inputs fit the registers' reuse of one decoded group.
  std::int64_t packed_rows = 16;
};

/// A backend on this machine's processor: oneDNN for dense products, own kernels for the rest, threads of
/// current_pool(). bf16 needs avx512_bf16; with weaker kernels the weights are rounded to bfloat16 as asked
/// and everything else is fp32. `kernels` above best_cpu_kernels() is std::invalid_argument.
std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options);

// For the list of backends (make_backend.cpp):
/// Names of all_cpu_kernels().
std::vector<std::string> cpu_variants();
/// `variant`: one of cpu_variants().
std::unique_ptr<Backend> make_cpu_variant(const BackendOptions& options, std::string_view variant);

}  // namespace knapsaq
