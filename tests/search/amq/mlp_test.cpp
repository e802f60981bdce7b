#include "knapsaq/search/amq/mlp.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "work_with_threads.h"

namespace knapsaq {
namespace {

constexpr std::size_t kVariables = 6;

std::vector<double> points(std::size_t count, Random& random) {
  std::vector<double> result;
  for (std::size_t i = 0; i < count * kVariables; ++i)
    result.push_back(0.5 * static_cast<double>(random.below(3)));
  return result;
}

std::vector<double> values_of(const std::vector<double>& points) {
  std::vector<double> values;
  for (std::size_t i = 0; i < points.size(); i += kVariables) {
    double value = 0;
    for (std::size_t v = 0; v < kVariables; ++v)
      value += std::exp(-2 * points[i + v]) * static_cast<double>(v + 1);
    values.push_back(0.01 * (value + points[i] * points[i + 1]));
  }
  return values;
}

TEST(Mlp, GradientIsTheSlopeOfTheLoss) {
  Random random(1);
  Mlp mlp(kVariables, {.layers = 2, .width = 7, .seed = 3});
  std::vector<float> inputs;
  std::vector<float> targets;
  for (int i = 0; i < 40; ++i) {
    for (std::size_t v = 0; v < kVariables; ++v) inputs.push_back(static_cast<float>(random.uniform()));
    targets.push_back(static_cast<float>(2 * random.normal()));  // on both sides of the loss's bend
  }
  std::vector<float> gradient;
  mlp.loss(inputs, targets, gradient);
  std::vector<float> ignored;
  double difference = 0;
  double length = 0;
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    const float step = 3e-4f;
    const float weight = mlp.parameters()[i];
    mlp.parameters()[i] = weight + step;
    const double above = mlp.loss(inputs, targets, ignored);
    mlp.parameters()[i] = weight - step;
    const double below = mlp.loss(inputs, targets, ignored);
    mlp.parameters()[i] = weight;
    const double slope = (above - below) / (2 * static_cast<double>(step));
    difference += std::pow(static_cast<double>(gradient[i]) - slope, 2);
    length += slope * slope;
  }
  // A unit here and there has its bend within the step.
  EXPECT_LT(std::sqrt(difference), 0.03 * std::sqrt(length));
}

TEST(Mlp, LearnsAFunctionAndGoesOnLearning) {
  Random random(2);
  const std::vector<double> seen = points(400, random);
  const std::vector<double> asked = points(100, random);
  const std::vector<double> expected = values_of(asked);
  const MlpOptions options{.layers = 3, .width = 32, .batch = 64, .first_steps = 600, .more_steps = 200};
  const auto error = [&](const Mlp& mlp) {
    const std::vector<double> predicted = mlp.predict(asked);
    double sum = 0;
    for (std::size_t i = 0; i < predicted.size(); ++i) sum += std::pow(predicted[i] - expected[i], 2);
    return std::sqrt(sum / static_cast<double>(predicted.size()));
  };
  double mean = 0;
  for (const double value : expected) mean += value / static_cast<double>(expected.size());
  double deviation = 0;
  for (const double value : expected)
    deviation += std::pow(value - mean, 2) / static_cast<double>(expected.size());
  deviation = std::sqrt(deviation);

  Mlp mlp(kVariables, options);
  mlp.add(std::span(seen).first(100 * kVariables),
          values_of({seen.begin(), seen.begin() + 100 * kVariables}));
  const double first = error(mlp);
  EXPECT_LT(first, 0.4 * deviation);
  for (std::size_t i = 100; i < 400; i += 50)
    mlp.add(std::span(seen).subspan(i * kVariables, 50 * kVariables),
            values_of({seen.begin() + static_cast<std::ptrdiff_t>(i * kVariables),
                       seen.begin() + static_cast<std::ptrdiff_t>((i + 50) * kVariables)}));
  EXPECT_LT(error(mlp), 0.6 * first);
}

TEST(Mlp, ThreadsChangeNothing) {
  Random random(3);
  const std::vector<double> seen = points(100, random);
  std::vector<std::vector<double>> results;
  for (const int threads : {1, 2}) {
    work_with_threads(threads);
    Mlp mlp(kVariables, {.width = 100, .batch = 100, .first_steps = 50});
    mlp.add(seen, values_of(seen));
    results.push_back(mlp.predict(seen));
  }
  work_with_threads(0);
  EXPECT_EQ(results[0], results[1]);
}

}  // namespace
}  // namespace knapsaq
