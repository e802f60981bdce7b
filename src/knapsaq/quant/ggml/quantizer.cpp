// GGML's types as methods: blocks of a row, each found on its own by the kernels' search, so that a matrix
// is quantized in parallel and the result depends on nothing but a block's weights and the importance
// of its columns. Where second moments of the inputs are known, the codes are chosen again for what the
// search has found beside them (d, scales, minima), now as GPTQ chooses them, or two-sided rounding if there
// are those of the outputs too: each makes up for the errors of those before it.

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/compute/ggml_block.h"
#include "knapsaq/compute/ggml_matrix.h"
#include "knapsaq/quant/ggml/kernels.h"
#include "knapsaq/quant/ggml/rounded_ggml.h"
#include "knapsaq/quant/gptq.h"
#include "knapsaq/quant/hessian_factor.h"
#include "knapsaq/quant/lattice.h"
#include "knapsaq/quant/methods.h"
#include "knapsaq/quant/output_factor.h"
#include "knapsaq/quant/scheme_layout.h"
#include "knapsaq/quant/two_sided.h"

namespace knapsaq {

namespace {

/// w_k of each column: its inputs' mean square over the mean of all, so that the search computes with numbers
/// around 1. A column whose inputs were (nearly) always zero still counts a little: it breaks ties in favour
/// of storing it well, and what calibration has not seen may come.
std::vector<float> importance(const InputStatistics& inputs, std::int64_t cols) {
  if (inputs.width != cols || inputs.mean_square.size() != static_cast<std::size_t>(cols)) {
    throw UsageError(fmt::format("{}: the statistics are of {} inputs, the linear has {}", inputs.name,
                                 inputs.mean_square.size(), cols));
  }
  double sum = 0;
  for (std::size_t k = 0; k < inputs.mean_square.size(); ++k) {
    if (!std::isfinite(inputs.mean_square[k]) || inputs.mean_square[k] < 0)
      throw InputError(
          fmt::format("{}: the mean square of input {} is {}", inputs.name, k, inputs.mean_square[k]));
    sum += static_cast<double>(inputs.mean_square[k]);
  }
  const double mean = sum / static_cast<double>(cols);
  if (mean == 0) return {};
  constexpr double kLeast = 1e-6;
  std::vector<float> out(static_cast<std::size_t>(cols));
  std::ranges::transform(inputs.mean_square, out.begin(), [&](float square) {
    return static_cast<float>(std::max(static_cast<double>(square) / mean, kLeast));
  });
  return out;
}

/// Least squares shrink: the best codes and factors keep a sum of w x q that falls short of the sum of w x^2
/// by the whole error, so every output comes out a little too small, and layer after layer adds up.
enum class Remedy : std::uint8_t {
  enlarge,  ///< restoring_factor(), for codes that are chosen block by block
  favour,   ///< favour_large_weights(), for codes with feedback
};

/// The factors of a block are enlarged by this much, which restores a share of the loss; an error of e
/// (relative) grows by some 0.64 e of itself. Measured on wiki-llama-6m with an imatrix, against counting the
/// errors of large weights for more in the search: mean KL divergence is less by 14 % in IQ2_XXS, 8 % in Q2_K
/// and 2 % in IQ3_S. Restoring all of it changed nothing more.
float restoring_factor(const GgmlRule& how, std::span<const float> x, std::span<const float> w,
                       const FoundBlock& found) {
  constexpr double kShare = 0.8;
  constexpr double kMost = 1.5;  // what codes cannot say at all comes back no larger
  const auto size = static_cast<std::size_t>(how.sub_block);
  double kept = 0;
  double whole = 0;
  for (std::size_t sub = 0; sub * size < x.size(); ++sub) {
    double with_codes = 0;
    double alone = 0;
    for (std::size_t j = sub * size; j < (sub + 1) * size; ++j) {
      const double wx = static_cast<double>(w[j]) * static_cast<double>(x[j]);
      with_codes += wx * found.codes[j];
      alone += wx;
      whole += wx * static_cast<double>(x[j]);
    }
    const float a = how.highest_scale == 1 ? 1.0f : how.factor(found.scales[sub]);
    kept += static_cast<double>(found.d * a) * with_codes;
    if (how.has_min) kept -= static_cast<double>(found.m * static_cast<float>(found.mins[sub])) * alone;
    if (how.has_offset) kept += static_cast<double>(found.m) * alone;
  }
  if (kept <= 0) return 1;
  return static_cast<float>(1 + kShare * (std::min(whole / kept, kMost) - 1));
}

/// Errors of large weights count for more in the search, by 1 + |x| / rms of their 32 neighbours. Where
/// errors are fed back, later columns make up for part of what large weights lose in smaller ones, and not
/// for a scale that is too small. On wiki-llama-6m, from none of it to half to all, the divergence of Q2_0
/// goes from .121 to .098 to .091, of Q2_K from .0336 to .0305 to .0300, of Q3_K from .0080 to .0074 to
/// .0074, of IQ2_XS from .0411 to .0360 (none and all); twice as much changes nothing more.
void favour_large_weights(std::span<const float> x, std::span<float> w) {
  constexpr std::size_t kNeighbours = 32;  // divides every block
  for (std::size_t first = 0; first < x.size(); first += kNeighbours) {
    const std::span<const float> around = x.subspan(first, kNeighbours);
    double squares = 0;
    for (const float value : around) squares += static_cast<double>(value) * static_cast<double>(value);
    if (squares == 0) continue;
    const double factor = 1 / std::sqrt(squares / kNeighbours);
    for (std::size_t j = 0; j < kNeighbours; ++j)
      w[first + j] *= static_cast<float>(1 + std::fabs(static_cast<double>(around[j])) * factor);
  }
}

GgmlBlock stored(const FoundBlock& found, float enlarged) {
  GgmlBlock block;
  // A zero may come with either sign, and which may depend on the instruction set.
  block.d = found.d == 0 ? std::uint16_t{0} : float_to_half(found.d * enlarged);
  block.m = found.m == 0 ? std::uint16_t{0} : float_to_half(found.m * enlarged);
  std::ranges::copy(found.scales, block.scales.begin());
  std::ranges::copy(found.mins, block.mins.begin());
  std::ranges::copy(found.codes, block.codes.begin());
  return block;
}

/// Whether errors are fed back where second moments of the inputs are known; docs/gguf.md has what it
/// gains for each type. Codes of IQ1_S are not free in runs of eight: 32 of them share a shift.
bool feeds_back(GgmlType type) { return type != GgmlType::IQ1_S; }

class GgmlQuantizer final : public Quantizer {
 public:
  explicit GgmlQuantizer(GgmlType type) : type_(info(type)), has_points_(rule(type).grid != nullptr) {}

  std::string_view name() const override { return type_.name; }

  void check(const Scheme& scheme) const override {
    if (scheme != parse_scheme(type_.name))
      throw UsageError(fmt::format("{} has no variants: write {}", type_.name, type_.name));
  }

  StoredMatrix quantize(const MatrixView& weights, const Scheme& scheme,
                        const InputStatistics* inputs) const override {
    return quantize_for_outputs(weights, scheme, inputs, nullptr, nullptr);
  }
  std::unique_ptr<const PreparedInputs> prepare(const InputStatistics* inputs) const override {
    if (!feeds_back(type_.type) || inputs == nullptr || inputs->second_moment.empty()) return nullptr;
    return factor_hessian(inputs, has_points_ ? kPointCols : 1);
  }
  StoredMatrix quantize_prepared(const MatrixView& weights, const Scheme& scheme,
                                 const InputStatistics* inputs,
                                 const PreparedInputs* prepared) const override {
    return quantize_for_outputs(weights, scheme, inputs, prepared, nullptr);
  }
  std::string_view preparation() const override {
    if (!feeds_back(type_.type)) return name();
    return has_points_ ? "points" : gptq_quantizer().preparation();
  }
  bool uses_outputs() const override { return feeds_back(type_.type); }
  std::unique_ptr<const PreparedOutputs> prepare_outputs(const OutputStatistics* outputs) const override {
    return feeds_back(type_.type) ? factor_outputs(outputs) : nullptr;
  }
  StoredMatrix quantize_for_outputs(const MatrixView& weights, const Scheme& scheme,
                                    const InputStatistics* inputs, const PreparedInputs* prepared,
                                    const PreparedOutputs* outputs) const override {
    check(scheme);
    if (auto held = on_lattice(weights, scheme)) return std::move(*held);
    std::unique_ptr<const PreparedInputs> own;
    if (prepared == nullptr) own = prepare(inputs);
    const auto* factor = dynamic_cast<const HessianFactor*>(prepared == nullptr ? own.get() : prepared);
    if (factor == nullptr) {
      const std::vector<float> columns =
          inputs != nullptr ? importance(*inputs, weights.cols) : std::vector<float>{};
      return search(weights, scheme, columns, Remedy::enlarge);
    }
    if (factor->width != weights.cols) {
      throw InputError(fmt::format("{}: statistics of {} inputs for a linear with {}",
                                   inputs == nullptr ? type_.name : inputs->name, factor->width,
                                   weights.cols));
    }
    GgmlMatrix out = search(weights, scheme, factor->importance, Remedy::favour);
    RoundedGgml rounded(out);
    const auto* output_factor = dynamic_cast<const OutputFactor*>(outputs);
    if (output_factor != nullptr && output_factor->width != weights.rows) {
      throw InputError(fmt::format("{}: statistics of {} outputs for a linear with {}", type_.name,
                                   output_factor->width, weights.rows));
    }
    if (output_factor == nullptr && !has_points_)
      choose_gptq_codes(weights, *factor, rounded);
    else
      choose_two_sided_codes(weights, *factor, output_factor, rounded);
    return out;
  }

 private:
  /// `columns`: importance of each, empty: all alike.
  GgmlMatrix search(const MatrixView& weights, const Scheme& scheme, const std::vector<float>& columns,
                    Remedy remedy) const {
    (void)stored_shape(scheme, weights.rows, weights.cols);
    const WeightRange range = range_of(weights);
    if (std::max(-range.low, range.high) > kLargestWeight) {
      throw LargeWeightError(-range.low > range.high ? range.low : range.high);
    }

    GgmlMatrix out;
    out.type = type_.type;
    out.rows = weights.rows;
    out.cols = weights.cols;
    out.blocks.resize(static_cast<std::size_t>(weights.rows * out.row_bytes()));
    // 64 KiB of weights at a time: with their importance they stay in the L2 cache, and handing
    // them out costs nothing beside the search.
    constexpr std::int64_t kPieceWeights = 16384;
    const std::int64_t block = type_.block;
    const std::int64_t all = weights.rows * weights.cols / block;
    const std::int64_t in_piece = kPieceWeights / block;
    parallel_for(static_cast<std::size_t>((all + in_piece - 1) / in_piece), [&](std::size_t piece) {
      check_cancelled();
      const std::int64_t first = static_cast<std::int64_t>(piece) * in_piece;
      const std::int64_t count = std::min(in_piece, all - first);
      const std::span<const float> x = weights.values.subspan(static_cast<std::size_t>(first * block),
                                                              static_cast<std::size_t>(count * block));
      std::vector<float> w(x.size(), 1.0f);
      for (std::int64_t i = 0; i < count && !columns.empty(); ++i) {
        const std::int64_t column = (first + i) * block % weights.cols;
        std::copy_n(columns.begin() + column, block, w.begin() + i * block);
      }
      if (remedy == Remedy::favour) favour_large_weights(x, w);
      std::vector<FoundBlock> found(static_cast<std::size_t>(count));
      ggml_kernels().search(type_.type, x.data(), w.data(), count, found.data());
      const auto bytes = static_cast<std::size_t>(type_.bytes);
      for (std::size_t i = 0; i < found.size(); ++i) {
        const std::size_t at = i * static_cast<std::size_t>(block);
        const auto length = static_cast<std::size_t>(block);
        const float enlarged =
            remedy == Remedy::favour
                ? 1.0f
                : restoring_factor(rule(type_.type), x.subspan(at, length),
                                   std::span<const float>(w).subspan(at, length), found[i]);
        pack_block(type_.type, stored(found[i], enlarged),
                   std::span(out.blocks).subspan((static_cast<std::size_t>(first) + i) * bytes, bytes));
      }
    });
    return out;
  }

  const GgmlTypeInfo& type_;
  bool has_points_;
};

}  // namespace

std::span<const Quantizer* const> ggml_quantizers() {
  static const std::vector<GgmlQuantizer> instances = [] {
    std::vector<GgmlQuantizer> made;
    for (const GgmlTypeInfo& type : ggml_types()) made.emplace_back(type.type);
    return made;
  }();
  static const std::vector<const Quantizer*> pointers = [] {
    std::vector<const Quantizer*> made;
    for (const GgmlQuantizer& one : instances) made.push_back(&one);
    return made;
  }();
  return pointers;
}

}  // namespace knapsaq
