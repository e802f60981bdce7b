// rtn-diag and hqq-diag: round-to-nearest and HQQ in the same formats, with scales and zero points that
// minimise sum_k E[x_k^2] (w_k - Q(w)_k)^2, the error of the linear's output if its inputs were uncorrelated.
// - rtn-diag tries 31 narrower ranges and keeps the best.
// - hqq-diag starts from HQQ's solution and the same ranges, and finds scale and zero point by weighted least
//   squares, alternating with the codes. (HQQ's own shrinkage does nothing for errors below 0.17, see
//   hqq.cpp, so HQQ is also least squares, of the zero point alone.)
// Codes are the nearest, as in the plain methods. Finding the metadata takes 0.1 s of two cores for a 4096 x
// 4096 linear in groups of 128. An imatrix file has the statistics that are needed.
//
// The weighted methods always help, most with few bits and large groups. On the embedded Llama and OPT, tr(dW
// H dW^T) on text outside the calibration is smaller than the plain method's by 30 to 48 % (rtn-diag) and 30
// to 49 % (hqq-diag) at 2 bits, and by 10 to 26 % and 11 to 26 % at 4. GPTQ, which uses correlations, reduces
// the error to a third to a half of theirs.

#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/quant/group_fit.h"
#include "knapsaq/quant/lattice.h"
#include "knapsaq/quant/methods.h"

namespace knapsaq {

namespace {

class Weighted final : public Quantizer {
 public:
  Weighted(std::string_view name, const Quantizer& plain, Fit fit) : name_(name), plain_(plain), fit_(fit) {}

  std::string_view name() const override { return name_; }
  void check(const Scheme& scheme) const override { plain_.check(scheme); }
  Needs needs() const override { return Needs::mean_squares; }

  StoredMatrix quantize(const MatrixView& weights, const Scheme& scheme,
                        const InputStatistics* inputs) const override {
    check(scheme);
    const std::span<const float> importance = checked(inputs, weights.cols);
    if (auto held = on_lattice(weights, scheme)) return std::move(*held);
    const GroupwiseQuantizer& plain = *plain_.groupwise();
    return quantize_groups(
        weights, scheme,
        [&](const MatrixView& rows, GroupMetadata& m) {
          plain.solve(rows, scheme, {}, m);
          fit_groups(rows, scheme, importance, fit_, m);
        },
        Codes::nearest);
  }

 private:
  std::span<const float> checked(const InputStatistics* inputs, std::int64_t cols) const {
    if (inputs == nullptr || inputs->mean_square.empty()) {
      throw UsageError(fmt::format("{} needs mean squares of the inputs{}; calibrate the model on text",
                                   name_, inputs == nullptr ? "" : " of " + inputs->name));
    }
    if (inputs->mean_square.size() != static_cast<std::uint64_t>(cols)) {
      throw InputError(fmt::format("{}: statistics of {} inputs for a linear with {}", inputs->name,
                                   inputs->mean_square.size(), cols));
    }
    for (std::size_t k = 0; k < inputs->mean_square.size(); ++k) {
      const float x = inputs->mean_square[k];
      if (std::isfinite(x) && x >= 0) continue;
      throw InputError(
          fmt::format("{}: the mean square of input {} is {}; calibrate again", inputs->name, k, x));
    }
    return inputs->mean_square;
  }

  std::string_view name_;
  const Quantizer& plain_;
  Fit fit_;
};

}  // namespace

const Quantizer& rtn_diag_quantizer() {
  static const Weighted instance("rtn-diag", rtn_quantizer(), Fit::range);
  return instance;
}

const Quantizer& hqq_diag_quantizer() {
  static const Weighted instance("hqq-diag", hqq_quantizer(), Fit::affine);
  return instance;
}

}  // namespace knapsaq
