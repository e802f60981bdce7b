#include "knapsaq/calib/expert_statistics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>

namespace knapsaq {
namespace {

/// Where entry (i, i) of a lower triangle lies.
std::size_t diagonal(std::size_t i) { return i * (i + 1) / 2 + i; }

double trace(const InputSums& sums) {
  double sum = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(sums.width); ++i) sum += sums.products[diagonal(i)];
  return sum;
}

/// The sum of x^2 of one number in one row on average; 1 where there is none that is not 0.
double mean_square(double trace, std::uint64_t rows, std::int64_t width) {
  const double mean = rows == 0 ? 0 : trace / (static_cast<double>(rows) * static_cast<double>(width));
  return mean > 0 ? mean : 1;
}

std::uint64_t missing(const ObservedInput& input) {
  const auto width = static_cast<std::uint64_t>(input.sums.width);
  return input.sums.rows < width ? width - input.sums.rows : 0;
}

/// Rows of the layer's average input.
void lend_average(ObservedInput& input, const InputSums& all) {
  const double factor = static_cast<double>(missing(input)) / static_cast<double>(all.rows);
  InputSums& sums = input.sums;
  for (std::size_t i = 0; i < sums.products.size(); ++i) sums.products[i] += factor * all.products[i];
  for (std::size_t i = 0; i < sums.abs.size(); ++i) {
    sums.abs[i] += factor * all.abs[i];
    sums.max_abs[i] = std::max(sums.max_abs[i], all.max_abs[i]);
  }
}

/// Rows of uncorrelated numbers of one size.
void lend_uncorrelated(ObservedInput& input, double square) {
  const auto rows = static_cast<double>(missing(input));
  InputSums& sums = input.sums;
  for (std::size_t i = 0; i < static_cast<std::size_t>(sums.width); ++i) {
    sums.products[diagonal(i)] += rows * square;
    sums.abs[i] += rows * std::sqrt(square);
    sums.max_abs[i] = std::max(sums.max_abs[i], static_cast<float>(std::sqrt(square)));
  }
}

void lend(std::vector<ObservedInput*>& experts) {
  if (std::ranges::none_of(experts, [](const ObservedInput* input) { return missing(*input) > 0; })) return;
  InputSums all(experts.front()->sums.width);
  for (const ObservedInput* input : experts) all.add(input->sums);
  const double square = mean_square(trace(all), all.rows, all.width);
  for (ObservedInput* input : experts) {
    const std::uint64_t rows = missing(*input);
    if (rows == 0) continue;
    if (input->first.role != Role::expert_down && all.rows > 0) {
      lend_average(*input, all);
    } else {
      lend_uncorrelated(*input, input->sums.rows == 0
                                    ? square
                                    : mean_square(trace(input->sums), input->sums.rows, all.width));
    }
    input->lent = rows;
  }
}

}  // namespace

void lend_to_experts(std::vector<ObservedInput>& inputs) {
  std::map<Role, std::vector<ObservedInput*>> experts;
  for (ObservedInput& input : inputs)
    if (input.first.expert >= 0) experts[input.first.role].push_back(&input);
  for (auto& [role, some] : experts) lend(some);
}

void spread_over_tokens(std::vector<ObservedOutput>& outputs, const std::vector<Matrix>& matrices,
                        std::uint64_t tokens) {
  std::map<std::string_view, Role> role_of_expert;
  for (const Matrix& matrix : matrices)
    if (matrix.expert >= 0) role_of_expert.emplace(matrix.name, matrix.role);
  const auto squares_of = [](const ObservedOutput& output) {
    double sum = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(output.width); ++i)
      sum += output.products ? output.products->products[diagonal(i)] : output.squares[i];
    return sum;
  };
  struct Sum {
    double squares = 0;
    std::uint64_t rows = 0;
  };
  std::map<Role, Sum> sums;
  for (const ObservedOutput& output : outputs)
    if (const auto role = role_of_expert.find(output.name); role != role_of_expert.end()) {
      sums[role->second].squares += squares_of(output);
      sums[role->second].rows += output.tokens;
    }
  for (ObservedOutput& output : outputs) {
    const auto role = role_of_expert.find(output.name);
    if (role == role_of_expert.end()) continue;
    const Sum& sum = sums[role->second];
    const double half =
        sum.rows == 0
            ? 0
            : 0.5 * sum.squares / (static_cast<double>(sum.rows) * static_cast<double>(output.width));
    for (std::size_t i = 0; i < static_cast<std::size_t>(output.width); ++i)
      (output.products ? output.products->products[diagonal(i)] : output.squares[i]) += half;
    output.tokens = tokens;
  }
}

}  // namespace knapsaq
