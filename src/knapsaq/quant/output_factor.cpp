#include "knapsaq/quant/output_factor.h"

#include <optional>
#include <utility>

#include "knapsaq/quant/moment_factor.h"

namespace knapsaq {

namespace {

// What is added shrinks an estimate from few tokens. On wiki-llama-6m (2 and 3 bits, three calibrations), a
// quarter and the whole of the mean are within 2 % of half of it with G from 8192 tokens or more; with 2048
// tokens a quarter costs 5 %.
constexpr double kDamping = 0.5;

}  // namespace

std::unique_ptr<const OutputFactor> factor_outputs(const OutputStatistics* outputs) {
  if (outputs == nullptr || outputs->second_moment.empty()) return nullptr;
  const std::int64_t n = outputs->width;
  const double mean = mean_of_moments(outputs->second_moment, n, outputs->name, "outputs' gradients");
  std::optional<MomentFactor> moments = factor_moments(outputs->second_moment, n, mean, kDamping);
  if (!moments || moments->damping != kDamping) return nullptr;
  auto factor = std::make_unique<OutputFactor>();
  factor->width = n;
  factor->order = std::move(moments->order);
  factor->feedback = std::move(moments->feedback);
  return factor;
}

}  // namespace knapsaq
