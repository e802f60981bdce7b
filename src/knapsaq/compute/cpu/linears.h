#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/arena.h"
#include "knapsaq/compute/cpu/cpu_backend.h"
#include "knapsaq/compute/cpu/kernels.h"
#include "knapsaq/compute/cpu/packed_kernels.h"
#include "knapsaq/compute/cpu/packed_products.h"
#include "knapsaq/compute/cpu/product.h"

namespace knapsaq::cpu {

/// The products of the CPU backend: Backend's functions of the same names. T is what matrix products read.
///
/// Dense weights are oneDNN's (product.h). With CpuOptions::packed, weights are in panels (packed_kernels.h),
/// dense ones too: few rows are multiplied from these directly; for many rows every piece of a weight is
/// dequantized by the task that multiplies by it, into oneDNN's layout and the thread's cache.
template <class T>
class Linears {
 public:
  Linears(const CpuOptions& options, const Kernels<T>& kernels, const PackedKernels& packed_kernels);

  std::unique_ptr<Weight> prepare(const TensorView& weight, std::span<const float> bias);
  std::unique_ptr<Weight> prepare(const StoredMatrix& weight, std::span<const float> bias);

  void multiply(const Array& in, std::int64_t rows, std::span<const Product> products);
  void activate(const Array& in, std::int64_t rows, const Weight* gate, const Weight& up,
                Activation activation, Array& out);
  void losses(const Array& in, const Weight& head, std::span<const std::int32_t> targets,
              std::span<float> losses);

  /// What `weight` multiplies of `in`: `in` itself, or its first `rows` rows rounded (Inputs::as_llama_cpp).
  Array inputs_of(const Weight& weight, const Array& in, std::int64_t rows) const;

  /// For compare(), which takes dense heads only.
  Products& products() { return products_; }

 private:
  std::unique_ptr<Weight> prepare(std::int64_t out, std::int64_t in, std::span<const float> bias,
                                  const DenseRows& read, InputRounding rounding);
  bool few(std::int64_t rows, const Weight& weight) const;
  void multiply_few(const Array& in, std::int64_t rows, std::span<const Product> products);
  void activate_few(const Array& in, std::int64_t rows, const PackedWeight* gate, const PackedWeight& up,
                    Activation activation, Array& out);
  /// Rows of W that are multiplied at once, and their number.
  std::int64_t piece_columns(const Weight& weight) const;
  std::int64_t pieces(const Weight& weight) const;
  /// Piece number `index`, in memory of the thread (`slot` 0 or 1) if it has to be made.
  ProductOperand open(const Weight& weight, std::int64_t index, int slot);
  /// Tiles that follow each other on one thread.
  std::int64_t tiles_per_task(const Weight& weight) const;

  Precision precision_;
  Packed packed_;
  std::int64_t packed_rows_;
  bool rounds_inputs_;
  const Kernels<T>& kernels_;
  const PackedKernels& packed_kernels_;
  Products products_;
  PackedInputs<T> inputs_;
  Arena arena_;
};

extern template class Linears<float>;
extern template class Linears<Bf16>;

/// log(sum(exp(logits))) of a row from the statistics of its parts, which lie `stride` apart.
double log_sum_of(const SoftmaxStatistics* parts, std::int64_t count, std::int64_t stride);

}  // namespace knapsaq::cpu
