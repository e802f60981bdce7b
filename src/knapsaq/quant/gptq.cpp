// GPTQ (Frantar et al. 2022): columns are quantized one after the other, and each makes up for what the
// errors of those before it did to the linear's output, as far as their inputs are correlated.
// HessianFactor says how.
//
// Choices:
// - Columns go by descending mean square of their inputs (activation order) while groups stay where they are
//   (static groups), so nothing has to be stored for the order. Scales and biases are found before any code.
// - They minimise the error weighted by HessianFactor::importance, not by the Hessian's diagonal: what later
//   columns make up for does not count.
// - Dead columns are rounded to the nearest: calibration does not know what they do, so they keep their
// weights.
// - The result depends on the weights, the scheme and the second moments alone, not on what other linears
//   became or on the number of threads. OpenBLAS has other kernels for other processors, so codes that are a
//   toss-up may fall differently there.

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/progress.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/quant/blas.h"
#include "knapsaq/quant/gptq_kernels.h"
#include "knapsaq/quant/group_fit.h"
#include "knapsaq/quant/hessian_factor.h"
#include "knapsaq/quant/methods.h"

namespace knapsaq {

namespace {

// Rows that one thread takes through all columns. Their sums (256 x 4096 floats: 4 MiB) live in the
// third-level cache; with fewer rows, packing the factor for the products would cost more than 1/256 of them,
// with more, small matrices would not occupy all threads.
constexpr std::int64_t kPanelRows = 256;

float inverse_of(float scale) { return scale > 0 ? 1 / scale : 0; }

/// Quantizes rows [first, first + rows) and packs their codes.
class Panel {
 public:
  Panel(const MatrixView& weights, const HessianFactor& factor, PackedMatrix& packed, std::int64_t first)
      : weights_(weights),
        factor_(factor),
        packed_(packed),
        first_(first),
        rows_(std::min(kPanelRows, weights.rows - first)),
        padded_((rows_ + kGptqRows - 1) / kGptqRows * kGptqRows),
        cols_(weights.cols) {}

  void quantize() {
    read_metadata();
    std::vector<float> made_up(static_cast<std::size_t>(cols_ * padded_));
    std::vector<float> block_weights(static_cast<std::size_t>(kGptqCols * padded_));
    std::vector<float> errors(static_cast<std::size_t>(kGptqCols * padded_));
    std::vector<std::uint8_t> block_codes(static_cast<std::size_t>(kGptqCols * padded_));
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows_ * cols_));
    for (std::int64_t k = 0; k < cols_; k += kGptqCols) {
      check_cancelled();
      const std::int64_t count = std::min(kGptqCols, cols_ - k);
      GptqBlock block;
      block.rows = padded_;
      block.cols = count;
      for (std::int64_t r = 0; r < rows_; ++r) {
        const std::span<const float> row = weights_.row(first_ + r);
        for (std::int64_t i = 0; i < count; ++i) block_weights[i * padded_ + r] = row[factor_.order[k + i]];
      }
      const float* scales[kGptqCols];
      const float* inverses[kGptqCols];
      const float* biases[kGptqCols];
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t at = factor_.order[k + i] / packed_.group * padded_;
        scales[i] = scales_.data() + at;
        inverses[i] = inverses_.data() + at;
        biases[i] = biases_.data() + at;
      }
      block.weights = block_weights.data();
      block.made_up = made_up.data() + k * padded_;
      block.feedback = factor_.feedback.data() + k * cols_ + k;
      block.stride = cols_;
      block.scales = scales;
      block.inverses = inverses;
      block.biases = biases;
      block.largest = static_cast<float>((1 << packed_.bits) - 1);
      block.errors = errors.data();
      block.codes = block_codes.data();
      quantize_gptq_block(block);
      for (std::int64_t r = 0; r < rows_; ++r) {
        std::uint8_t* row = codes.data() + r * cols_;
        for (std::int64_t i = 0; i < count; ++i) row[factor_.order[k + i]] = block_codes[i * padded_ + r];
      }
      const std::int64_t next = k + count;
      if (next == cols_) break;
      blas::add_transposed_product(cols_ - next, padded_, count, 1.0f,
                                   factor_.feedback.data() + k * cols_ + next, cols_, errors.data(), padded_,
                                   made_up.data() + next * padded_, padded_);
    }
    const auto words = static_cast<std::size_t>(packed_.words_per_row());
    for (std::int64_t r = 0; r < rows_; ++r) {
      pack_codes(std::span(codes).subspan(r * cols_, cols_), packed_.bits,
                 std::span(packed_.codes).subspan(static_cast<std::size_t>(first_ + r) * words, words));
    }
  }

 private:
  /// [groups, padded rows] each. Rows beyond the last have scale 0 and weight 0, which gives no error.
  void read_metadata() {
    const std::int64_t groups = packed_.groups();
    for (auto* values : {&scales_, &inverses_, &biases_})
      values->resize(static_cast<std::size_t>(groups * padded_));
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t g = 0; g < groups; ++g) {
        const PackedMatrix::Affine affine = packed_.affine(first_ + r, g);
        scales_[g * padded_ + r] = affine.scale;
        inverses_[g * padded_ + r] = inverse_of(affine.scale);
        biases_[g * padded_ + r] = affine.bias;
      }
    }
  }

  const MatrixView& weights_;
  const HessianFactor& factor_;
  PackedMatrix& packed_;
  std::int64_t first_;
  std::int64_t rows_;
  std::int64_t padded_;
  std::int64_t cols_;
  std::vector<float> scales_;
  std::vector<float> inverses_;
  std::vector<float> biases_;
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
    check(scheme);
    if (prepared == nullptr) return quantize_prepared(weights, scheme, inputs, prepare(inputs).get());
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
    const auto panels = static_cast<std::size_t>((weights.rows + kPanelRows - 1) / kPanelRows);
    parallel_for(panels, [&](std::size_t panel) {
      Panel(weights, factor, packed, static_cast<std::int64_t>(panel) * kPanelRows).quantize();
    });
    return packed;
  }
};

}  // namespace

const Quantizer& gptq_quantizer() {
  static const Gptq instance;
  return instance;
}

}  // namespace knapsaq
