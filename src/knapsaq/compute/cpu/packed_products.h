#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/aligned.h"
#include "knapsaq/compute/cpu/packed_kernels.h"
#include "knapsaq/compute/cpu/packed_weight.h"
#include "knapsaq/compute/cpu/product.h"

namespace knapsaq::cpu {

/// Few rows of inputs, made ready once for all packed weights that multiply them. T is what matrix products
/// read.
template <class T>
class PackedInputs {
 public:
  PackedInputs(const PackedKernels& kernels, Packed packed) : kernels_(kernels), packed_(packed) {}

  /// `x` is [rows, cols] and stays where it is while products run. For the weights given, and no others.
  void prepare(const T* x, std::int64_t rows, std::int64_t cols,
               std::span<const PackedWeight* const> weights);
  /// out[row][pitch] = W x for 16 rows of W in each of `panels` panels from `first` on, without bias; x are
  /// the rows [first_row, first_row + rows) of the inputs.
  void multiply(const PackedWeight& weight, std::int64_t first, std::int64_t panels, std::int64_t first_row,
                std::int64_t rows, float* out, std::int64_t pitch) const;
  /// All rows.
  void multiply(const PackedWeight& weight, std::int64_t first, std::int64_t panels, float* out,
                std::int64_t pitch) const {
    multiply(weight, first, panels, 0, rows_, out, pitch);
  }

 private:
  bool in_int8(const PackedWeight& weight) const;

  const PackedKernels& kernels_;
  Packed packed_;
  std::int64_t rows_ = 0;
  std::vector<Int8Input> int8_;
  std::vector<PlainInput<T>> plain_;
  AlignedBytes padded_;  ///< rows of T, whole tiles
  AlignedBytes codes_;
  AlignedBytes scales_;
  AlignedBytes sums_;        ///< of what int8 makes of the inputs
  AlignedBytes plain_sums_;  ///< of the inputs themselves
};

extern template class PackedInputs<float>;
extern template class PackedInputs<Bf16>;

/// Panels that one task multiplies: enough bytes for handing out to cost little, few enough for balance.
std::int64_t panels_per_task(const PackedWeight& weight);

/// How a packed weight is cut along `out` for products of many rows: one piece, dequantized, and the inputs
/// that meet it share the L2 cache.
std::int64_t columns_per_piece(const PackedWeight& weight);

/// Rows [first, first + cols) of W as numbers in the layout that products like; `first` is a multiple of 64.
/// The memory is `buffer`'s and the layout `layout`'s.
template <class T>
ProductOperand dequantize(const PackedWeight& weight, std::int64_t first, std::int64_t cols,
                          const PackedKernels& kernels, Products& products, dnnl::memory::desc& layout,
                          AlignedBytes& buffer);

}  // namespace knapsaq::cpu
