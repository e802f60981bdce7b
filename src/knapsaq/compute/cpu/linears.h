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
/// dequantized by the task that multiplies by it, into oneDNN's layout and the thread's cache. All experts of
/// a product are handled alike, by the rows that an expert has on average: so a row's result does not depend
/// on where the other rows go.
template <class T>
class Linears {
 public:
  Linears(const CpuOptions& options, const Kernels<T>& kernels, const PackedKernels& packed_kernels);

  std::unique_ptr<Weight> prepare(const TensorView& weight, std::span<const float> bias);
  std::unique_ptr<Weight> prepare(const StoredMatrix& weight, std::span<const float> bias);

  void multiply(const Array& in, std::int64_t rows, std::span<const Product> products);
  void activate(const Array& in, std::int64_t rows, const Weight* gate, const Weight& up,
                Activation activation, Array& out);
  void multiply_experts(const Array& in, const ExpertRows& rows, std::span<const Weight* const> experts,
                        Array& out);
  void activate_experts(const Array& in, const ExpertRows& rows, std::span<const ExpertWeights> experts,
                        Activation activation, Array& out);
  void losses(const Array& in, const OutputHead& head, std::span<const std::int32_t> targets,
              std::span<float> losses);

  /// What `weight` multiplies of `in`: `in` itself, or its first `rows` rows rounded (Inputs::as_llama_cpp).
  Array inputs_of(const Weight& weight, const Array& in, std::int64_t rows) const;

  /// For compare(), which takes dense heads only.
  Products& products() { return products_; }

 private:
  std::unique_ptr<Weight> prepare(std::int64_t out, std::int64_t in, std::span<const float> bias,
                                  const DenseRows& read, InputRounding rounding);
  bool few(std::int64_t rows, const Weight& weight) const;
  bool few(const ExpertRows& rows) const;
  /// Rows [first, first + rows) of an input, what they are multiplied by, and the array whose rows of the
  /// same numbers get the result.
  struct ProductPart {
    Product product;
    std::int64_t first, rows;
  };
  /// The same for act(in gate^T) * (in up^T); gate may be null.
  struct ActivatedPart {
    const Weight* gate;
    const Weight* up;
    std::int64_t first, rows;
  };
  void check_activated(const Array& in, std::int64_t rows, const ExpertWeights& weights,
                       Activation activation, const Array& out) const;
  void multiply_parts(const Array& in, std::span<const ProductPart> parts);
  void activate_parts(const Array& in, std::span<const ActivatedPart> parts, Activation activation,
                      Array& out);
  /// From the codes; `rows`: of `in`, all of them.
  void multiply_few(const Array& in, std::int64_t rows, std::span<const ProductPart> parts);
  void activate_few(const Array& in, std::int64_t rows, std::span<const ActivatedPart> parts,
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
