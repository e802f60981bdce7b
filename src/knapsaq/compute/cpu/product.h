#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <tuple>
#include <vector>

#include <dnnl.hpp>

#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/aligned.h"
#include "knapsaq/compute/cpu/kernels.h"
#include "knapsaq/compute/cpu/rounded_inputs.h"

namespace knapsaq::cpu {

/// W [out, in] in oneDNN's blocked layout, cut along `out` into chunks of equal width (the last may be
/// narrower), each a dense matrix of its own: oneDNN's fast path wants the output of a product dense, and the
/// tile that a chunk makes has to fit into the L2 cache.
class DenseWeight final : public Weight {
 public:
  struct Chunk {
    std::int64_t first;  ///< row of W
    std::int64_t cols;   ///< rows of W, that is, columns of the product
    dnnl::memory::desc layout;
    AlignedBytes data;
  };
  DenseWeight(std::int64_t out, std::int64_t in, std::vector<float> bias)
      : Weight(out, in, std::move(bias)) {}
  std::uint64_t bytes() const override {
    std::uint64_t sum = bias().size_bytes();
    for (const Chunk& chunk : chunks_) sum += chunk.data.size();
    return sum;
  }
  std::vector<Chunk>& chunks() { return chunks_; }
  const std::vector<Chunk>& chunks() const { return chunks_; }
  /// What its inputs become before it multiplies them.
  InputRounding input_rounding() const { return input_rounding_; }
  void set_input_rounding(InputRounding rounding) { input_rounding_ = rounding; }

 private:
  InputRounding input_rounding_ = InputRounding::none;
  std::vector<Chunk> chunks_;
};

/// A matrix that a product multiplies by: some rows of a W [out, in], in a layout of oneDNN's.
struct ProductOperand {
  std::int64_t first = 0;  ///< row of W
  std::int64_t cols = 0;   ///< rows of W, that is, columns of the product
  std::int64_t in = 0;
  const dnnl::memory::desc* layout = nullptr;
  const void* data = nullptr;
  const float* bias = nullptr;  ///< null: none
};
inline ProductOperand view_of(const DenseWeight& weight, const DenseWeight::Chunk& chunk) {
  return {.first = chunk.first,
          .cols = chunk.cols,
          .in = weight.in(),
          .layout = &chunk.layout,
          .data = chunk.data.data(),
          .bias = weight.bias().empty() ? nullptr : weight.bias().data() + chunk.first};
}

/// A layout that kernels can write: blocks of `rows` rows of W, in each one after another blocks of columns,
/// in these [columns][rows] numbers, or [columns / 2][rows][2] if `pairs`.
struct BlockedLayout {
  bool pairs = false;
  std::int64_t rows = 0;          ///< 64, or 16 without pairs: DenseProduct's panels
  std::int64_t row_block = 0;     ///< elements from `rows` rows to the next
  std::int64_t column_block = 0;  ///< elements from 16 columns (32 if `pairs`) to the next
};
/// Empty for other layouts, and where columns are padded.
std::optional<BlockedLayout> blocked(const dnnl::memory::desc& layout);

/// Matrix products of row tiles, by oneDNN or by a kernel of ours, each on the thread that calls: who calls
/// from many threads at once has the parallelism, in tiles that do not depend on the number of threads.
class Products {
 public:
  /// `working`: bf16 or f32, the type of inputs and weights. `own` (f32 only) multiplies in oneDNN's stead.
  explicit Products(dnnl::memory::data_type working, DenseProduct own = nullptr)
      : working_(working), own_(own) {}

  /// Rows [first, first + n) of W as floats; called from many threads.
  using RowReader = std::function<void(std::int64_t first, std::int64_t n, float* out)>;
  /// `round_to_bf16`: the values of W are rounded even if they are kept in fp32.
  std::unique_ptr<DenseWeight> prepare(std::int64_t out, std::int64_t in, std::vector<float> bias,
                                       const RowReader& read, bool round_to_bf16);

  /// out [rows, matrix.cols] = in [rows, matrix.in] matrix^T + bias; both dense; `full`: out is fp32, else of
  /// the working type. A row of the result depends neither on the other rows nor on their number (test
  /// Products.RowsDoNotDependOnEachOther). `rows` should take few values: each makes a program of its own.
  void run(const ProductOperand& matrix, std::int64_t rows, const void* in, void* out, bool full);

  /// The layout in which products like best what prepare() would make of `cols` rows of W.
  dnnl::memory::desc layout(std::int64_t cols, std::int64_t in, bool has_bias);
  /// Puts `cols` rows of W, plain and of the working type, into a layout.
  void reorder(const void* plain, std::int64_t cols, std::int64_t in, const dnnl::memory::desc& layout,
               void* to);

  /// W^T of a prepared W, without its bias, in the memory of an earlier result of that shape or in new one.
  /// Uses all threads.
  std::unique_ptr<DenseWeight> transposed(const DenseWeight& weight, std::unique_ptr<DenseWeight> memory);
  /// Puts columns [first, first + cols) of a plain B [in, pitch], of the working type, into a layout: run()
  /// then multiplies by B.
  void reorder_columns(const void* b, std::int64_t pitch, std::int64_t first, std::int64_t cols,
                       std::int64_t in, const dnnl::memory::desc& layout, void* to);
  /// to [cols, rows] = the transpose of columns [first, first + cols) of a plain matrix [rows, pitch].
  void transpose(const void* from, std::int64_t pitch, std::int64_t first, std::int64_t cols,
                 std::int64_t rows, void* to);
  /// sum [a_cols, b_cols] += a^T b of a [rows, a_cols] and b [rows, b_cols], dense. Uses all threads.
  void add_product_of_columns(const void* a, std::int64_t a_cols, const void* b, std::int64_t b_cols,
                              std::int64_t rows, float* sum);

  /// lower += X^T X of X [rows, width], dense: the lower triangle, row by row. fp32 sums inside. Uses all
  /// threads.
  void add_gram(const void* x, std::int64_t rows, std::int64_t width, std::span<double> lower);

 private:
  struct Program {
    dnnl::matmul primitive;
    dnnl::memory::desc in, weight, bias, out, scratchpad;
  };
  /// rows, cols, depth, full, bias
  using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t, bool, bool>;
  /// Room for a W [out, in], in the layouts that products like best.
  std::unique_ptr<DenseWeight> empty(std::int64_t out, std::int64_t in, std::vector<float> bias);
  /// The same matrix in another layout.
  void move(const dnnl::memory::desc& from_layout, const void* from, const dnnl::memory::desc& to_layout,
            void* to);
  const Program& program(const Key& key, const dnnl::memory::desc* layout);
  void multiply(const Program& ready, const void* in, const void* weight, const float* bias, void* out);

  dnnl::memory::data_type working_;
  DenseProduct own_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  AlignedBytes plain_;  ///< of transposed()
  std::mutex mutex_;
  /// Guarded by mutex_; entries stay where they are. Several under one key differ in the weight's layout.
  std::multimap<Key, Program> programs_;
};

}  // namespace knapsaq::cpu
