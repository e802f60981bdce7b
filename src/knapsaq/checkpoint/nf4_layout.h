#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/compute/nf4_matrix.h"
#include "knapsaq/compute/tensor.h"

namespace knapsaq {

/// How a linear in NF4 is stored: bitsandbytes' own tensors, with B = ceil(N * K / 64) blocks:
///   <m>.weight                                      U8  [ceil(N * K / 2), 1]  codes
///   <m>.weight.absmax                               U8  [B]
///   <m>.weight.quant_map                            F32 [16]                  nf4_values()
///   <m>.weight.nested_absmax                        F32 [ceil(B / 256)]
///   <m>.weight.nested_quant_map                     F32 [256]                 nf4_absmax_values()
///   <m>.weight.quant_state.bitsandbytes__nf4        U8  [..]                  nf4_state()
/// In config.json, knapsaq.schemes.<m> is "nf4".
struct Nf4Shape {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
};

/// The tensors of a linear in the order in which they are written, with exact sizes before anything is
/// quantized.
std::vector<TensorSpec> nf4_tensors(std::string_view module, const Nf4Shape& shape);

/// Their bytes, in the same order; views into `matrix` and into the tables of values.
std::vector<std::span<const std::byte>> nf4_bytes(const Nf4Matrix& matrix);

/// The name of the tensor that states the shape.
std::string nf4_state_name(std::string_view module);
/// The content of that tensor. Throws InputError if it describes anything but NF4 with double quantization in
/// the block sizes above.
Nf4Shape parse_nf4_state(const TensorView& state);

/// Reads a linear through `tensor`, which finds a tensor by its name. The result has passed
/// Nf4Matrix::check(). Throws InputError naming the tensor.
Nf4Matrix read_nf4(std::string_view module, const Nf4Shape& shape,
                   const std::function<TensorView(const std::string& name)>& tensor);

}  // namespace knapsaq
