#include "knapsaq/bank/stage_correction.h"

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>

namespace knapsaq {
namespace {

void add(std::span<const float> values, double factor, std::vector<float>& sums) {
  for (std::size_t i = 0; i < values.size(); ++i) sums[i] += static_cast<float>(factor) * values[i];
}

double dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

/// Both halves of the products.
std::vector<float> square(const InputSums& sums) {
  const auto n = static_cast<std::size_t>(sums.width);
  std::vector<float> matrix(n * n);
  const double* product = sums.products.data();
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j <= i; ++j)
      matrix[i * n + j] = matrix[j * n + i] = static_cast<float>(*product++);
  return matrix;
}

/// Where a^2 uu - 2 a ut is least for a in [0, most].
double minimum(double ut, double uu, double most) { return uu > 0 ? std::clamp(ut / uu, 0.0, most) : 0; }

}  // namespace

StageCorrection::StageCorrection(PairedInputs inputs, double most_share)
    : fit_errors_(std::move(inputs.fit.errors)),
      fit_residual_(std::move(inputs.fit.residual_errors)),
      judge_errors_(std::move(inputs.judge.errors)),
      judge_residual_(std::move(inputs.judge.residual_errors)),
      most_share_(most_share),
      of_fit_(inputs.fit.quantized),
      of_all_((inputs.fit.quantized.add(inputs.judge.quantized), inputs.fit.quantized)),
      judge_moments_(square(inputs.judge.quantized)) {
  statistics_ = statistics_of({inputs.first, std::move(inputs.fit.quantized), 0});
}

StageCorrection::Shares StageCorrection::best_shares(std::int64_t rows, std::vector<float> fit,
                                                     std::vector<float> judge) const {
  const std::int64_t width = statistics_.width;
  const auto judged = [&](const std::vector<float>& change) {
    return multiply({rows, width, change}, judge_moments_);
  };
  of_fit_.solve(rows, fit);
  const std::vector<float>& u = fit;  // D1 of the first part
  const std::vector<float> moments = judged(u);
  const double uu = dot(moments, u);
  if (fit_residual_.empty()) return {minimum(dot(u, judge), uu, most_share_), 0};

  add(judge_residual_, 1, judge);
  std::vector<float> v = fit_residual_;  // D2
  of_fit_.solve(rows, v);
  const double uv = dot(moments, v);
  const double vv = dot(judged(v), v);
  const double ut = dot(u, judge);
  const double vt = dot(v, judge);
  // Coordinate descent on a convex quadratic reaches its minimum within the bounds; each round leaves cos^2
  // of the angle between both changes of the way.
  Shares best;
  for (int round = 0; round < 100; ++round) {
    best.input = minimum(ut - best.residual * uv, uu, most_share_);
    best.residual = minimum(vt - best.input * uv, vv, most_share_);
  }
  return best;
}

std::vector<float> StageCorrection::corrected(const MatrixView& weights) const {
  std::vector<float> values(weights.values.begin(), weights.values.end());
  if (most_share_ == 0) return values;
  std::vector<float> wanted = multiply(weights, fit_errors_);
  std::vector<float> judge = multiply(weights, judge_errors_);
  const Shares shares = best_shares(weights.rows, wanted, judge);
  add(judge, 1, wanted);
  for (float& value : wanted) value *= static_cast<float>(shares.input);
  add(fit_residual_, shares.residual, wanted);
  add(judge_residual_, shares.residual, wanted);
  of_all_.solve(weights.rows, wanted);
  add(wanted, 1, values);
  return values;
}

StoredMatrix StageCorrection::quantize(const MatrixView& weights, const Scheme& scheme,
                                       const OutputStatistics* outputs) {
  const std::vector<float> values = corrected(weights);
  const Quantizer& method = quantizer(scheme.method);
  const auto [prepared, is_new] = prepared_.try_emplace(method.preparation());
  if (is_new) prepared->second = method.prepare(&statistics_);
  return method.quantize_for_outputs({weights.rows, weights.cols, values}, scheme, &statistics_,
                                     prepared->second.get(), method.prepare_outputs(outputs).get());
}

}  // namespace knapsaq
