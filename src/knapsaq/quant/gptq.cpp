// GPTQ (Frantar et al. 2022): columns are quantized one after the other. Each compensates for the effect of
// the preceding errors on the linear's output, as far as their inputs are correlated; see HessianFactor.
//
// Choices:
// - Columns are processed by descending mean square of their inputs (activation order), while groups keep
//   their positions (static groups), so nothing has to be stored for the order. Scales and biases are found
//   before any code. Compared with the given order, this makes the Hessian error 6 to 9 % smaller (embedded
//   Llama, 2 to 8 bits, on the calibration text and on another).
// - Scales and biases minimise the error weighted by HessianFactor::importance, with rtn's among the
//   candidates: this makes the Hessian error 20 to 40 % smaller than with rtn's at 2 bits, and 5 to 7 % at 4.
// - Dead columns are rounded to nearest: the calibration does not show their effect, so they keep their
//   weights.
// - The result depends on the weights, the scheme and the second moments only, not on other linears or the
//   number of threads. OpenBLAS has different kernels for different processors, so codes that are nearly tied
//   may differ there.

#include "knapsaq/quant/gptq.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/quant/blas.h"
#include "knapsaq/quant/gptq_kernels.h"
#include "knapsaq/quant/group_fit.h"
#include "knapsaq/quant/hessian_factor.h"
#include "knapsaq/quant/lattice.h"
#include "knapsaq/quant/methods.h"
#include "knapsaq/quant/output_factor.h"
#include "knapsaq/quant/two_sided.h"

namespace knapsaq {

namespace {

// Rows that one thread takes through all columns. Their sums (256 x 4096 floats: 4 MiB) stay in the L3 cache.
// With fewer rows, packing the factor for the products would cost more than 1/256 of them; with more, small
// matrices would not occupy all threads.
constexpr std::int64_t kPanelRows = 256;

/// Quantizes rows [first, first + rows) and stores their codes.
class Panel {
 public:
  Panel(const MatrixView& weights, const HessianFactor& factor, const LevelTable& levels,
        RoundedMatrix& matrix, std::int64_t first)
      : weights_(weights),
        factor_(factor),
        levels_(levels),
        matrix_(matrix),
        first_(first),
        rows_(std::min(kPanelRows, weights.rows - first)),
        padded_((rows_ + kGptqRows - 1) / kGptqRows * kGptqRows),
        stride_(padded_ + kGptqRows),
        cols_(weights.cols) {}

  void quantize() {
    read_metadata();
    read_weights();
    codes_.resize(weights_t_.size());
    std::vector<float> made_up(weights_t_.size());
    std::vector<float> errors(static_cast<std::size_t>(kGptqCols * stride_));
    for (std::int64_t k = 0; k < cols_; k += kGptqCols) {
      check_cancelled();
      const std::int64_t count = std::min(kGptqCols, cols_ - k);
      quantize_block(k, count, made_up.data() + k * stride_, errors.data());
      const std::int64_t next = k + count;
      if (next == cols_) break;
      blas::add_transposed_product(cols_ - next, padded_, count, 1.0f,
                                   factor_.feedback.get() + k * cols_ + next, cols_, errors.data(), stride_,
                                   made_up.data() + next * stride_, stride_);
    }
    write_codes();
  }

 private:
  /// [groups, stride] each. Rows beyond the last have scale 0 and weight 0, which gives no error.
  void read_metadata() {
    const std::int64_t groups = matrix_.groups();
    for (auto* values : {&scales_, &inverses_, &biases_})
      values->resize(static_cast<std::size_t>(groups * stride_));
    std::vector<float> scales(static_cast<std::size_t>(groups));
    std::vector<float> biases(scales.size());
    for (std::int64_t r = 0; r < rows_; ++r) {
      matrix_.read_groups(first_ + r, scales, biases);
      for (std::int64_t g = 0; g < groups; ++g) {
        scales_[g * stride_ + r] = scales[g];
        inverses_[g * stride_ + r] = inverse_of(scales[g]);
        biases_[g * stride_ + r] = biases[g];
      }
    }
  }

  /// Into [cols, stride].
  void read_weights() {
    weights_t_.resize(static_cast<std::size_t>(cols_ * stride_));
    for_tiles([&, from = weights_.row(first_).data(), to = weights_t_.data()](
                  std::int64_t r, std::int64_t k) { to[k * stride_ + r] = from[r * cols_ + k]; });
  }

  void quantize_block(std::int64_t first, std::int64_t count, const float* made_up, float* errors) {
    const float* weights[kGptqCols];
    const float* scales[kGptqCols];
    const float* inverses[kGptqCols];
    const float* biases[kGptqCols];
    std::uint8_t* codes[kGptqCols];
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t col = factor_.order[first + i];
      const std::int64_t at = col / matrix_.group() * stride_;
      weights[i] = weights_t_.data() + col * stride_;
      scales[i] = scales_.data() + at;
      inverses[i] = inverses_.data() + at;
      biases[i] = biases_.data() + at;
      codes[i] = codes_.data() + col * stride_;
    }
    GptqBlock block;
    block.rows = padded_;
    block.row_stride = stride_;
    block.cols = count;
    block.weights = weights;
    block.scales = scales;
    block.inverses = inverses;
    block.biases = biases;
    block.largest = matrix_.largest();
    block.levels = levels_.levels.data();
    block.thresholds = levels_.thresholds.data();
    block.level_count = std::ssize(levels_.levels);
    block.made_up = made_up;
    block.feedback = factor_.feedback.get() + first * cols_ + first;
    block.stride = cols_;
    block.errors = errors;
    block.codes = codes;
    gptq_kernels().quantize(block);
  }

  void write_codes() {
    const std::int64_t line = cols_ + 64;  // as stride_
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows_ * line));
    // Local copies: as far as the compiler knows, a stored byte may be part of a vector's pointer.
    for_tiles([from = codes_.data(), to = codes.data(), stride = stride_, line](
                  std::int64_t r, std::int64_t k) { to[r * line + k] = from[k * stride + r]; });
    for (std::int64_t r = 0; r < rows_; ++r)
      matrix_.write_codes(first_ + r, std::span(codes).subspan(r * line, cols_));
  }

  /// Calls fn(row, column) for all of the panel, in tiles whose lines stay in the L1 cache during the
  /// transposition: rows of the weights, a power of two apart, share its eight ways.
  template <class Function>
  void for_tiles(Function&& fn) const {
    constexpr std::int64_t kTileRows = 8;
    constexpr std::int64_t kTileCols = 64;
    for (std::int64_t r = 0; r < rows_; r += kTileRows) {
      for (std::int64_t k = 0; k < cols_; k += kTileCols) {
        for (std::int64_t j = k; j < std::min(k + kTileCols, cols_); ++j) {
          for (std::int64_t i = r; i < std::min(r + kTileRows, rows_); ++i) fn(i, j);
        }
      }
    }
  }

  const MatrixView& weights_;
  const HessianFactor& factor_;
  const LevelTable& levels_;
  RoundedMatrix& matrix_;
  std::int64_t first_;
  std::int64_t rows_;
  std::int64_t padded_;
  // From column to column: with a power of two, columns would map to few sets of the L1 cache.
  std::int64_t stride_;
  std::int64_t cols_;
  std::vector<float> scales_;
  std::vector<float> inverses_;
  std::vector<float> biases_;
  std::vector<float> weights_t_;     ///< [cols, stride]
  std::vector<std::uint8_t> codes_;  ///< [cols, stride]
};

class Gptq final : public Quantizer {
 public:
  std::string_view name() const override { return "gptq"; }
  void check(const Scheme& scheme) const override { check_affine(scheme); }
  Needs needs() const override { return Needs::second_moments; }

  StoredMatrix quantize(const MatrixView& weights, const Scheme& scheme,
                        const InputStatistics* inputs) const override {
    return quantize_prepared(weights, scheme, inputs, nullptr);
  }
  std::unique_ptr<const PreparedInputs> prepare(const InputStatistics* inputs) const override {
    return factor_hessian(inputs);
  }
  StoredMatrix quantize_prepared(const MatrixView& weights, const Scheme& scheme,
                                 const InputStatistics* inputs,
                                 const PreparedInputs* prepared) const override {
    return quantize_for_outputs(weights, scheme, inputs, prepared, nullptr);
  }
  bool uses_outputs() const override { return true; }
  std::unique_ptr<const PreparedOutputs> prepare_outputs(const OutputStatistics* outputs) const override {
    return factor_outputs(outputs);
  }
  StoredMatrix quantize_for_outputs(const MatrixView& weights, const Scheme& scheme,
                                    const InputStatistics* inputs, const PreparedInputs* prepared,
                                    const PreparedOutputs* outputs) const override {
    check(scheme);
    if (auto held = on_lattice(weights, scheme)) return std::move(*held);
    if (prepared == nullptr)
      return quantize_for_outputs(weights, scheme, inputs, prepare(inputs).get(), outputs);
    const auto& factor = dynamic_cast<const HessianFactor&>(*prepared);
    if (factor.width != weights.cols) {
      throw InputError(fmt::format("{}: statistics of {} inputs for a linear with {}",
                                   inputs == nullptr ? "gptq" : inputs->name, factor.width, weights.cols));
    }
    const auto& base = *quantizer("rtn").groupwise();
    PackedMatrix packed = quantize_groups(
        weights, scheme,
        [&](const MatrixView& rows, GroupMetadata& m) {
          base.solve(rows, scheme, {}, m);
          fit_groups(rows, scheme, factor.importance, Fit::affine, m);
        },
        Codes::none);
    RoundedPacked rounded(packed);
    if (outputs == nullptr) {
      choose_gptq_codes(weights, factor, rounded);
      return packed;
    }
    const auto& output_factor = dynamic_cast<const OutputFactor&>(*outputs);
    if (output_factor.width != weights.rows) {
      throw InputError(fmt::format("gptq: statistics of {} outputs for a linear with {}", output_factor.width,
                                   weights.rows));
    }
    choose_two_sided_codes(weights, factor, &output_factor, rounded);
    return packed;
  }
};

}  // namespace

void choose_gptq_codes(const MatrixView& weights, const HessianFactor& factor, RoundedMatrix& matrix) {
  const LevelTable levels(matrix.levels());
  const auto panels = static_cast<std::size_t>((weights.rows + kPanelRows - 1) / kPanelRows);
  parallel_for(panels, [&](std::size_t panel) {
    Panel(weights, factor, levels, matrix, static_cast<std::int64_t>(panel) * kPanelRows).quantize();
  });
}

const Quantizer& gptq_quantizer() {
  static const Gptq instance;
  return instance;
}

}  // namespace knapsaq
