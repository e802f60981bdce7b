#include "knapsaq/search/amq/rbf.h"

#include <cmath>
#include <fstream>
#include <set>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/random.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

using Points = std::vector<std::vector<double>>;

std::vector<double> scaled(const Points& points, const std::vector<double>& levels) {
  std::vector<double> result;
  for (const std::vector<double>& point : points)
    for (std::size_t v = 0; v < point.size(); ++v) result.push_back(point[v] / (levels[v] - 1));
  return result;
}

/// Different points of three levels, scaled.
std::vector<double> level_points(std::size_t count, std::size_t variables, Random& random) {
  std::set<std::vector<double>> points;
  while (points.size() < count) {
    std::vector<double> point(variables);
    for (double& x : point) x = 0.5 * static_cast<double>(random.below(3));
    points.insert(point);
  }
  std::vector<double> result;
  for (const std::vector<double>& point : points) result.insert(result.end(), point.begin(), point.end());
  return result;
}

/// A value for each point, linear in the levels but for a product.
std::vector<double> values_of(const std::vector<double>& points, std::size_t variables) {
  std::vector<double> values;
  for (std::size_t i = 0; i < points.size(); i += variables) {
    double value = 1;
    for (std::size_t v = 0; v < variables; ++v) value += static_cast<double>(v % 5) * points[i + v];
    values.push_back(value + points[i] * points[i + 1]);
  }
  return values;
}

std::vector<double> values_of_any(const std::vector<double>& points, std::size_t variables) {
  std::vector<double> values;
  for (std::size_t i = 0; i < points.size(); i += variables) values.push_back(std::sin(7 * points[i]));
  return values;
}

TEST(CubicRbf, EqualsScipy) {
  std::ifstream file(KNAPSAQ_TEST_DATA "/search/surrogate_references.json");
  const auto references = nlohmann::json::parse(file).at("interpolations");
  ASSERT_GE(references.size(), 4u);
  for (const auto& reference : references) {
    const auto levels = reference.at("levels").get<std::vector<double>>();
    const std::vector<double> points = scaled(reference.at("points").get<Points>(), levels);
    const std::vector<double> asked = scaled(reference.at("asked").get<Points>(), levels);
    const auto values = reference.at("values").get<std::vector<double>>();
    const auto expected = reference.at("predicted").get<std::vector<double>>();
    CubicRbf rbf(levels.size(), reference.at("damping"));
    rbf.add(points, values);
    const std::vector<double> predicted = rbf.predict(asked);
    ASSERT_EQ(predicted.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(predicted[i], expected[i], 1e-9);
  }
}

TEST(CubicRbf, GrowingGivesWhatFittingAtOnceGives) {
  constexpr std::size_t kVariables = 20;
  Random random(1);
  const std::vector<double> points = level_points(700, kVariables, random);
  const std::vector<double> values = values_of(points, kVariables);
  const std::vector<double> asked = level_points(100, kVariables, random);
  CubicRbf whole(kVariables);
  whole.add(points, values);
  CubicRbf grown(kVariables);
  // The first tile of the factor ends in the middle of a piece; one piece is larger than a tile.
  std::size_t first = 0;
  for (const std::size_t last : {100, 150, 200, 250, 300, 301, 650, 700}) {
    grown.add(std::span(points).subspan(first * kVariables, (last - first) * kVariables),
              std::span(values).subspan(first, last - first));
    first = last;
  }
  const std::vector<double> expected = whole.predict(asked);
  const std::vector<double> predicted = grown.predict(asked);
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(predicted[i], expected[i], 1e-9);
  EXPECT_EQ(grown.size(), 700u);
}

TEST(CubicRbf, GoesThroughItsPointsAndAlongPlanes) {
  constexpr std::size_t kVariables = 8;
  Random random(2);
  const std::vector<double> points = level_points(100, kVariables, random);
  const std::vector<double> values = values_of(points, kVariables);
  CubicRbf rbf(kVariables);
  rbf.add(points, values);
  const std::vector<double> predicted = rbf.predict(points);
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(predicted[i], values[i], 1e-4);

  std::vector<double> linear;
  for (std::size_t i = 0; i < points.size(); i += kVariables) linear.push_back(3 - 2 * points[i + 4]);
  CubicRbf plane(kVariables);
  plane.add(points, linear);
  const std::vector<double> outside(kVariables, 0.25);
  EXPECT_NEAR(plane.predict(outside).front(), 2.5, 1e-9);
}

TEST(CubicRbf, PointsOfAPlaneDoUntilOthersCome) {
  // Variable 1 always equals variable 0, then no longer.
  CubicRbf rbf(3);
  const std::vector<double> flat = {0, 0, 0, 0.5, 0.5, 0, 1, 1, 0.5, 0, 0, 1, 1, 1, 1};
  const std::vector<double> values = {0, 1, 2.5, 1, 3};
  rbf.add(flat, values);
  std::vector<double> predicted = rbf.predict(flat);
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(predicted[i], values[i], 1e-4);
  rbf.add(std::vector<double>{0, 1, 0, 1, 0, 0.5}, std::vector<double>{7, 8});
  predicted = rbf.predict(std::vector<double>{0, 1, 0, 1, 0, 0.5, 0.5, 0.5, 0});
  EXPECT_NEAR(predicted[0], 7, 1e-4);
  EXPECT_NEAR(predicted[1], 8, 1e-4);
  EXPECT_NEAR(predicted[2], 1, 1e-4);
}

TEST(CubicRbf, RepeatedPointsNeedDamping) {
  Random random(3);
  std::vector<double> points = level_points(30, 4, random);
  std::vector<double> values = values_of(points, 4);
  points.insert(points.end(), points.end() - 4, points.end());
  values.push_back(values.back());
  CubicRbf damped(4);
  damped.add(points, values);
  EXPECT_NEAR(damped.predict(std::span(points).last(4)).front(), values.back(), 1e-4);
  CubicRbf undamped(4, 0);
  EXPECT_THROW(undamped.add(points, values), UsageError);
}

/// Whether a repeated point is one of the anchors or not, in many dimensions or few, on levels that doubles
/// hold exactly or not, and however far apart points are: rounding must not decide.
TEST(CubicRbf, RepeatedPointsAreFoundWhateverTheirSize) {
  for (const std::size_t variables : {1, 2, 4, 9, 40})
    for (const double scale : {1e-3, 1.0, 1.0 / 3, 1e3})
      for (std::size_t repeated = 0; repeated < 12; ++repeated) {
        Random random(repeated + 100 * variables);
        std::vector<double> points;
        for (std::size_t i = 0; i < 60 * variables; ++i) points.push_back(scale * random.uniform());
        std::vector<double> values = values_of_any(points, variables);
        CubicRbf distinct(variables, 0);
        EXPECT_NO_THROW(distinct.add(points, values)) << variables << " variables, scale " << scale;
        const std::size_t from = repeated * 5;
        points.insert(points.end(), points.begin() + static_cast<std::ptrdiff_t>(from * variables),
                      points.begin() + static_cast<std::ptrdiff_t>((from + 1) * variables));
        values.push_back(values[from]);
        CubicRbf undamped(variables, 0);
        EXPECT_THROW(undamped.add(points, values), UsageError)
            << variables << " variables, scale " << scale << ", point " << from;
      }
}

TEST(CubicRbf, ThreadsChangeNothing) {
  constexpr std::size_t kVariables = 10;
  Random random(4);
  const std::vector<double> points = level_points(800, kVariables, random);
  const std::vector<double> values = values_of(points, kVariables);
  std::vector<std::vector<double>> results;
  for (const int threads : {1, 2, 3}) {
    work_with_threads(threads);
    CubicRbf rbf(kVariables);
    rbf.add(points, values);
    results.push_back(rbf.predict(points));
  }
  work_with_threads(0);
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

}  // namespace
}  // namespace knapsaq
