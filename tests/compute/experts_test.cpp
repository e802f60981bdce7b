// Mixtures of experts: routing, grouped products and their gradients against plain loops in double.

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "compute/device_names.h"
#include "compute/stored_forms.h"
#include "knapsaq/base/random.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/cpu_backend.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

std::vector<float> random_values(std::int64_t count, std::uint64_t seed, double deviation = 1) {
  Random random(seed);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(deviation * random.normal());
  return values;
}

TensorView view_of(const std::vector<float>& values, std::int64_t rows, std::int64_t cols) {
  return {DType::F32, {rows, cols}, std::as_bytes(std::span(values))};
}

std::vector<float> values_of(Backend& backend, const Array& array) {
  std::vector<float> out(static_cast<std::size_t>(array.rows() * array.cols()));
  backend.download(array, 0, out);
  return out;
}

Array working(Backend& backend, const std::vector<float>& values, std::int64_t rows, std::int64_t cols) {
  Array out = backend.allocate(rows, cols, Element::working);
  backend.convert(backend.upload(values, rows, cols), rows, out);
  return out;
}

std::vector<double> doubles(const std::vector<float>& values) { return {values.begin(), values.end()}; }

double largest_difference(const std::vector<float>& found, const std::vector<double>& expected) {
  EXPECT_EQ(found.size(), expected.size());
  double worst = 0;
  double largest = 1e-30;
  for (std::size_t i = 0; i < std::min(found.size(), expected.size()); ++i) {
    worst = std::max(worst, std::abs(found[i] - expected[i]));
    largest = std::max(largest, std::abs(expected[i]));
  }
  return worst / largest;
}

struct Choice {
  std::vector<std::size_t> experts;  ///< ascending
  std::vector<double> weights;
};

/// One row of route(), by sorting all experts.
Choice routed(const std::vector<double>& logits, const RouterRule& rule, const std::vector<double>& bias,
              const std::vector<std::size_t>* fixed = nullptr) {
  std::vector<double> scores;
  const double top = *std::ranges::max_element(logits);
  for (const double x : logits)
    scores.push_back(rule.score == RouterRule::Score::softmax ? std::exp(x - top) : 1 / (1 + std::exp(-x)));
  if (rule.score == RouterRule::Score::softmax) {
    const double sum = std::accumulate(scores.begin(), scores.end(), 0.0);
    for (double& one : scores) one /= sum;
  }
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
    return bias.empty() ? logits[a] > logits[b] : scores[a] + bias[a] > scores[b] + bias[b];
  });
  Choice choice;
  choice.experts.assign(order.begin(), order.begin() + rule.chosen);
  if (fixed != nullptr) choice.experts = *fixed;
  std::ranges::sort(choice.experts);
  double sum = 0;
  for (const std::size_t e : choice.experts) sum += scores[e];
  for (const std::size_t e : choice.experts)
    choice.weights.push_back(scores[e] * static_cast<double>(rule.scale) /
                             (rule.renormalise ? sum + static_cast<double>(rule.epsilon) : 1.0));
  return choice;
}

/// All devices of this machine, in both precisions.
class ExpertsTest : public ::testing::TestWithParam<std::tuple<std::string, Precision>> {
 protected:
  void SetUp() override {
    const auto& [device, precision] = GetParam();
    backend = make_backend({.device = device, .precision = precision});
    tolerance = precision == Precision::fp32 ? 3e-6 : 1e-2;
  }

  std::unique_ptr<Backend> backend;
  double tolerance = 0;
};

INSTANTIATE_TEST_SUITE_P(, ExpertsTest,
                         ::testing::Combine(::testing::ValuesIn(devices()),
                                            ::testing::Values(Precision::fp32, Precision::bf16)),
                         [](const auto& one) {
                           return test::name_of(std::get<0>(one.param), std::get<1>(one.param));
                         });

TEST_P(ExpertsTest, RoutesEveryRowToItsHighestScores) {
  using Score = RouterRule::Score;
  for (const std::int64_t experts : {1, 8, 60, 129})
    for (const std::int64_t rows : {1, 300}) {
      const auto logits = random_values(rows * experts, 1, 2);
      const auto biases = random_values(experts, 2, 0.3);
      const Array bias = backend->upload(biases, 1, experts);
      const std::int64_t some = std::min<std::int64_t>(experts, 4);
      for (const RouterRule& rule :
           {RouterRule{.chosen = some}, RouterRule{.chosen = 1}, RouterRule{.chosen = experts},
            RouterRule{.chosen = some, .renormalise = true},
            RouterRule{.chosen = some, .score = Score::sigmoid, .scale = 2.5f, .bias = &bias},
            RouterRule{.chosen = some,
            .score = Score::sigmoid,
            .renormalise = true,
            .epsilon = 1e-6f,
            .scale = 2.5f,
            .bias = &bias},
            RouterRule{.chosen = some, .renormalise = true, .bias = &bias}}) {
        ExpertRows found;
        found.rows = {7, 7};  // what was there before is gone
        backend->route(backend->upload(logits, rows, experts), rows, rule, found);
        ASSERT_EQ(found.size(), rows * rule.chosen);
        ASSERT_EQ(found.experts(), experts);
        EXPECT_EQ(found.batch, rows);
        EXPECT_EQ(found.begin.front(), 0);
        EXPECT_EQ(found.begin.back(), found.size());
        std::vector<Choice> of_rows(static_cast<std::size_t>(rows));
        for (std::size_t e = 0; e < static_cast<std::size_t>(experts); ++e)
          for (std::int64_t i = found.begin[e]; i < found.begin[e + 1]; ++i) {
            const auto at = static_cast<std::size_t>(i);
            if (i > found.begin[e]) {
              EXPECT_LT(found.rows[at - 1], found.rows[at]);
            }
            Choice& choice = of_rows[static_cast<std::size_t>(found.rows[at])];
            choice.experts.push_back(e);
            choice.weights.push_back(static_cast<double>(found.weights[at]));
          }
        for (std::int64_t r = 0; r < rows; ++r) {
          const std::vector<double> row(logits.begin() + r * experts, logits.begin() + (r + 1) * experts);
          const Choice expected =
              routed(row, rule, rule.bias == nullptr ? std::vector<double>() : doubles(biases));
          const Choice& of_row = of_rows[static_cast<std::size_t>(r)];
          ASSERT_EQ(of_row.experts, expected.experts);
          for (std::size_t i = 0; i < expected.weights.size(); ++i)
            EXPECT_NEAR(of_row.weights[i], expected.weights[i], 2e-7 * expected.weights[i]);
        }
      }
    }
}

TEST_P(ExpertsTest, TiesGoToTheFirstAndNaNStaysNaN) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> logits = {1,    1,   1,   1,     // equal
                                     0,    2,   2,   2,     // the first two of three
                                     -inf, 3,   nan, 0,     // not a number anywhere
                                     -inf, 5,   1,   -inf,  // never chosen
                                     nan,  nan, nan, nan};
  for (const bool renormalise : {false, true}) {
    ExpertRows found;
    backend->route(backend->upload(logits, 5, 4), 5, {.chosen = 2, .renormalise = renormalise}, found);
    EXPECT_EQ(found.rows, (std::vector<std::int32_t>{0, 4, 0, 1, 2, 3, 4, 1, 2, 3}));
    EXPECT_EQ(found.begin, (std::vector<std::int64_t>{0, 2, 7, 10, 10}));
    for (std::size_t i = 0; i < found.rows.size(); ++i)
      EXPECT_EQ(std::isnan(found.weights[i]), found.rows[i] == 2 || found.rows[i] == 4) << i;
    EXPECT_FLOAT_EQ(found.weights[0], renormalise ? 0.5f : 0.25f);
  }
}

double silu(double x) { return x / (1 + std::exp(-x)); }

double gated(Activation activation, double gate, double up) {
  if (activation == Activation::silu) return silu(gate) * up;
  const double g = std::min(gate, 7.0);
  return g / (1 + std::exp(-1.702 * g)) * (std::clamp(up, -7.0, 7.0) + 1);
}

/// A layer of experts with all numbers in double.
struct Layer {
  std::int64_t rows, experts, hidden, width;
  Activation activation = Activation::silu;
  RouterRule rule;
  std::vector<double> logits, x;                  // [rows, experts], [rows, hidden]
  std::vector<double> gate, up, down;             // [experts, width, hidden] twice, [experts, hidden, width]
  std::vector<double> gate_bias, up_bias;         // [experts, width]
  std::vector<double> down_bias;                  // [experts, hidden]
  std::vector<std::vector<std::size_t>> choices;  ///< of each row; empty: by the logits

  std::vector<double> result() const {
    std::vector<double> out(static_cast<std::size_t>(rows * hidden));
    for (std::int64_t r = 0; r < rows; ++r) {
      const auto* in = x.data() + r * hidden;
      const Choice choice = routed({logits.begin() + r * experts, logits.begin() + (r + 1) * experts}, rule,
                                   {}, choices.empty() ? nullptr : &choices[static_cast<std::size_t>(r)]);
      for (std::size_t i = 0; i < choice.experts.size(); ++i) {
        const auto e = static_cast<std::int64_t>(choice.experts[i]);
        std::vector<double> middle;
        for (std::int64_t o = 0; o < width; ++o) {
          double g = gate_bias[static_cast<std::size_t>(e * width + o)];
          double u = up_bias[static_cast<std::size_t>(e * width + o)];
          for (std::int64_t k = 0; k < hidden; ++k) {
            g += gate[static_cast<std::size_t>((e * width + o) * hidden + k)] * in[k];
            u += up[static_cast<std::size_t>((e * width + o) * hidden + k)] * in[k];
          }
          middle.push_back(gated(activation, g, u));
        }
        for (std::int64_t o = 0; o < hidden; ++o) {
          double sum = down_bias[static_cast<std::size_t>(e * hidden + o)];
          for (std::int64_t k = 0; k < width; ++k)
            sum += down[static_cast<std::size_t>((e * hidden + o) * width + k)] *
                   middle[static_cast<std::size_t>(k)];
          out[static_cast<std::size_t>(r * hidden + o)] += choice.weights[i] * sum;
        }
      }
    }
    return out;
  }
};

Layer random_layer(std::int64_t rows, std::int64_t experts, std::int64_t hidden, std::int64_t width,
                   const RouterRule& rule, Activation activation) {
  const double spread = activation == Activation::silu ? 1 : 4;  // so that some are clamped
  Layer layer{.rows = rows,
              .experts = experts,
              .hidden = hidden,
              .width = width,
              .activation = activation,
              .rule = rule,
              .logits = {},
              .x = {},
              .gate = {},
              .up = {},
              .down = {},
              .gate_bias = {},
              .up_bias = {},
              .down_bias = {},
              .choices = {}};
  layer.logits = doubles(random_values(rows * experts, 1));
  layer.x = doubles(random_values(rows * hidden, 2));
  const double of_hidden = spread / std::sqrt(static_cast<double>(hidden));
  layer.gate = doubles(random_values(experts * width * hidden, 3, of_hidden));
  layer.up = doubles(random_values(experts * width * hidden, 4, of_hidden));
  layer.down = doubles(random_values(experts * hidden * width, 5, 1 / std::sqrt(static_cast<double>(width))));
  layer.gate_bias = doubles(random_values(experts * width, 6));
  layer.up_bias = doubles(random_values(experts * width, 7));
  layer.down_bias = doubles(random_values(experts * hidden, 8));
  return layer;
}

std::vector<float> floats(const std::vector<double>& values) { return {values.begin(), values.end()}; }

/// The matrices of a layer, prepared.
struct Prepared {
  std::vector<std::unique_ptr<Weight>> gate, up, down;
  std::vector<ExpertWeights> first;
  std::vector<const Weight*> second;
};

std::vector<std::unique_ptr<Weight>> prepare_all(Backend& backend, const std::vector<double>& values,
                                                 const std::vector<double>& biases, std::int64_t experts,
                                                 std::int64_t out, std::int64_t in) {
  std::vector<std::unique_ptr<Weight>> all;
  for (std::int64_t e = 0; e < experts; ++e) {
    const std::vector<float> matrix(values.begin() + e * out * in, values.begin() + (e + 1) * out * in);
    const std::vector<float> bias(biases.begin() + e * out, biases.begin() + (e + 1) * out);
    all.push_back(backend.prepare(view_of(matrix, out, in), bias));
  }
  return all;
}

Prepared prepared(Backend& backend, const Layer& layer) {
  Prepared all;
  all.gate = prepare_all(backend, layer.gate, layer.gate_bias, layer.experts, layer.width, layer.hidden);
  all.up = prepare_all(backend, layer.up, layer.up_bias, layer.experts, layer.width, layer.hidden);
  all.down = prepare_all(backend, layer.down, layer.down_bias, layer.experts, layer.hidden, layer.width);
  for (std::size_t e = 0; e < all.up.size(); ++e) {
    all.first.push_back({all.gate[e].get(), all.up[e].get()});
    all.second.push_back(all.down[e].get());
  }
  return all;
}

/// Everything between the router's logits and the sum.
std::vector<float> pass(Backend& backend, const Layer& layer, const Prepared& weights, const Array& x,
                        const Array& logits, std::int64_t rows) {
  ExpertRows routed_rows;
  backend.route(logits, rows, layer.rule, routed_rows);
  const std::int64_t total = routed_rows.size();
  Array gathered = backend.allocate(total, layer.hidden, Element::working);
  Array middle = backend.allocate(total, layer.width, Element::working);
  Array out = backend.allocate(total, layer.hidden, Element::full);
  Array sum = backend.allocate(rows, layer.hidden, Element::full);
  backend.gather(x, routed_rows.rows, gathered);
  backend.activate_experts(gathered, routed_rows, weights.first, layer.activation, middle);
  backend.multiply_experts(middle, routed_rows, weights.second, out);
  backend.add_experts(out, routed_rows, sum);
  return values_of(backend, sum);
}

TEST_P(ExpertsTest, AreTheSumOfTheirMlps) {
  for (const Activation activation : {Activation::silu, Activation::clamped_swiglu})
    for (const auto& [rows, experts, hidden, width, chosen] :
         {std::tuple{1, 4, 32, 48, 2}, std::tuple{5, 3, 33, 17, 3}, std::tuple{300, 5, 64, 70, 2},
          std::tuple{3, 40, 16, 16, 1}}) {
      const Layer layer =
          random_layer(rows, experts, hidden, width, {.chosen = chosen, .renormalise = true}, activation);
      const Prepared weights = prepared(*backend, layer);
      const auto found = pass(*backend, layer, weights, working(*backend, floats(layer.x), rows, hidden),
                              backend->upload(floats(layer.logits), rows, experts), rows);
      EXPECT_LE(largest_difference(found, layer.result()), 3 * tolerance) << rows << ' ' << experts;
    }
}

// Whatever else is in the batch, and on any number of threads.
TEST_P(ExpertsTest, ARowDependsOnNothingElse) {
  constexpr std::int64_t kRows = 170;
  const Layer layer = random_layer(kRows, 6, 64, 48, {.chosen = 2}, Activation::silu);
  const Prepared weights = prepared(*backend, layer);
  const Array x = working(*backend, floats(layer.x), kRows, layer.hidden);
  const Array logits = backend->upload(floats(layer.logits), kRows, layer.experts);
  const auto all = pass(*backend, layer, weights, x, logits, kRows);
  for (const int threads : {1, 3}) {
    work_with_threads(threads);
    EXPECT_EQ(pass(*backend, layer, weights, x, logits, kRows), all);
  }
  work_with_threads(0);
  for (const std::int64_t first : {0, 1, 90, 169})
    for (const std::int64_t rows : {1, 2, 40}) {
      if (first + rows > kRows) continue;
      const auto some = pass(*backend, layer, weights, backend->view(x, first, rows),
                             backend->view(logits, first, rows), rows);
      EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin() + first * layer.hidden)) << first;
    }
}

/// d result / d values, times `gradient`, by differences.
std::vector<double> by_differences(const Layer& layer, std::vector<double> Layer::*values,
                                   const std::vector<double>& gradient) {
  Layer moved = layer;
  std::vector<double> slopes;
  for (double& value : moved.*values) {
    const double before = value;
    const double step = 1e-5;
    double change = 0;
    for (const double sign : {1.0, -1.0}) {
      value = before + sign * step;
      const std::vector<double> result = moved.result();
      for (std::size_t i = 0; i < result.size(); ++i) change += sign * gradient[i] * result[i];
    }
    value = before;
    slopes.push_back(change / (2 * step));
  }
  return slopes;
}

TEST_P(ExpertsTest, GradientsAreThoseByDifferences) {
  using Score = RouterRule::Score;
  for (const Activation activation : {Activation::silu, Activation::clamped_swiglu})
    for (const RouterRule& rule :
         {RouterRule{.chosen = 2}, RouterRule{.chosen = 2, .renormalise = true, .scale = 1.5f},
          RouterRule{.chosen = 2, .score = Score::sigmoid},
          RouterRule{.chosen = 2, .score = Score::sigmoid, .renormalise = true, .epsilon = 0.01f}}) {
      Layer layer = random_layer(9, 4, 6, 5, rule, activation);
      const std::int64_t rows = layer.rows;
      const Prepared weights = prepared(*backend, layer);
      const std::vector<float> gradients = random_values(rows * layer.hidden, 9);

      ExpertRows routed_rows;
      const Array logits = backend->upload(floats(layer.logits), rows, layer.experts);
      backend->route(logits, rows, rule, routed_rows);
      // What the backend multiplies is rounded; experts are not chosen anew where numbers are moved.
      const std::int64_t total = routed_rows.size();
      layer.choices.resize(static_cast<std::size_t>(rows));
      for (std::size_t e = 0; e < static_cast<std::size_t>(layer.experts); ++e)
        for (std::int64_t i = routed_rows.begin[e]; i < routed_rows.begin[e + 1]; ++i)
          layer.choices[static_cast<std::size_t>(routed_rows.rows[static_cast<std::size_t>(i)])].push_back(e);

      const auto make = [&](std::int64_t cols, Element element) {
        return backend->allocate(total, cols, element);
      };
      const Array x = working(*backend, floats(layer.x), rows, layer.hidden);
      Array gathered = make(layer.hidden, Element::working);
      Array gate = make(layer.width, Element::working);
      Array up = make(layer.width, Element::working);
      Array middle = make(layer.width, Element::working);
      Array out = make(layer.hidden, Element::full);
      std::vector<const Weight*> gates, ups;
      for (const ExpertWeights& one : weights.first) {
        gates.push_back(one.gate);
        ups.push_back(one.up);
      }
      backend->gather(x, routed_rows.rows, gathered);
      backend->multiply_experts(gathered, routed_rows, gates, gate);
      backend->multiply_experts(gathered, routed_rows, ups, up);
      backend->activate_experts(gathered, routed_rows, weights.first, activation, middle);
      backend->multiply_experts(middle, routed_rows, weights.second, out);

      Array of_out = make(layer.hidden, Element::working);
      std::vector<float> of_weights(static_cast<std::size_t>(total));
      backend->add_experts_backward(backend->upload(gradients, rows, layer.hidden), out, routed_rows, of_out,
                                    of_weights);
      std::vector<std::unique_ptr<Weight>> backs;
      const auto back = [&](const std::vector<const Weight*>& of) {
        std::vector<const Weight*> all;
        for (const Weight* weight : of) {
          backs.push_back(backend->transposed(*weight));
          all.push_back(backs.back().get());
        }
        return all;
      };
      Array of_middle = make(layer.width, Element::working);
      Array of_gate = make(layer.width, Element::working);
      Array again = make(layer.width, Element::working);
      backend->multiply_experts(of_out, routed_rows, back(weights.second), of_middle);
      backend->activate_backward(&gate, up, total, activation, of_middle, again, &of_gate, of_middle);
      EXPECT_LE(largest_difference(values_of(*backend, again), doubles(values_of(*backend, middle))),
                tolerance);
      Array of_x = backend->allocate(rows, layer.hidden, Element::full);
      Array part = make(layer.hidden, Element::full);
      for (const auto& [gradient, of] : {std::pair{&of_middle, &ups}, std::pair{&of_gate, &gates}}) {
        backend->multiply_experts(*gradient, routed_rows, back(*of), part);
        backend->gather_backward(part, routed_rows.rows, of_x);
      }
      Array of_logits = backend->allocate(rows, layer.experts, Element::full);
      backend->route_backward(logits, rows, rule, routed_rows, of_weights, of_logits);

      const std::vector<double> gradient = doubles(gradients);
      const double bound = 10 * tolerance;
      EXPECT_LE(largest_difference(values_of(*backend, of_x), by_differences(layer, &Layer::x, gradient)),
                bound);
      EXPECT_LE(
          largest_difference(values_of(*backend, of_logits), by_differences(layer, &Layer::logits, gradient)),
          bound);
      std::vector<float> of_up, of_gates, of_down;
      for (std::int64_t e = 0; e < layer.experts; ++e) {
        const std::int64_t first = routed_rows.begin[static_cast<std::size_t>(e)];
        const std::int64_t count = routed_rows.rows_of(e);
        const auto add = [&](const Array& a, const Array& b, std::vector<float>& all) {
          Array sum = backend->allocate(a.cols(), b.cols(), Element::full);
          backend->add_product_of_columns(backend->view(a, first, count), backend->view(b, first, count),
                                          count, sum);
          const auto values = values_of(*backend, sum);
          all.insert(all.end(), values.begin(), values.end());
        };
        add(of_middle, gathered, of_up);
        add(of_gate, gathered, of_gates);
        add(of_out, middle, of_down);
      }
      EXPECT_LE(largest_difference(of_up, by_differences(layer, &Layer::up, gradient)), bound);
      EXPECT_LE(largest_difference(of_gates, by_differences(layer, &Layer::gate, gradient)), bound);
      EXPECT_LE(largest_difference(of_down, by_differences(layer, &Layer::down, gradient)), bound);
    }
}

TEST_P(ExpertsTest, RefusesWhatDoesNotFit) {
  const Layer layer = random_layer(4, 3, 8, 6, {.chosen = 1}, Activation::silu);
  Prepared weights = prepared(*backend, layer);
  const Array logits = backend->upload(floats(layer.logits), 4, 3);
  ExpertRows rows;
  EXPECT_THROW(backend->route(logits, 4, {.chosen = 4}, rows), std::invalid_argument);
  EXPECT_THROW(backend->route(logits, 4, {.chosen = 0}, rows), std::invalid_argument);
  EXPECT_THROW(backend->route(logits, 5, {.chosen = 1}, rows), std::invalid_argument);
  backend->route(logits, 4, {.chosen = 1}, rows);
  Array x = working(*backend, floats(layer.x), 4, 8);
  Array to = backend->allocate(3, 8, Element::working);
  EXPECT_THROW(backend->gather(x, rows.rows, to), std::invalid_argument);
  to = backend->allocate(4, 8, Element::working);
  const std::vector<std::int32_t> missing = {4};
  EXPECT_THROW(backend->gather(x, missing, to), std::invalid_argument);
  Array middle = backend->allocate(4, 6, Element::working);
  EXPECT_THROW(
      backend->activate_experts(x, rows, std::span(weights.first).first(2), Activation::silu, middle),
      std::invalid_argument);
  for (ExpertWeights& one : weights.first) one.gate = nullptr;
  EXPECT_THROW(backend->activate_experts(x, rows, weights.first, Activation::clamped_swiglu, middle),
               std::invalid_argument);
  std::vector<const Weight*> none(3);
  EXPECT_THROW(backend->multiply_experts(middle, rows, none, x), std::invalid_argument);
}

class PackedExperts : public ::testing::TestWithParam<std::tuple<test::StoredForm, std::string>> {};

std::vector<test::StoredForm> some_forms() {
  std::vector<test::StoredForm> some;
  for (const test::StoredForm& form : test::stored_forms())
    for (const char* name : {"b3g64", "b8g32m8", "q4_k", "nf4"})
      if (form.name == name) some.push_back(form);
  return some;
}

INSTANTIATE_TEST_SUITE_P(, PackedExperts,
                         ::testing::Combine(::testing::ValuesIn(some_forms()),
                                            ::testing::ValuesIn(cpu_variants())),
                         [](const auto& one) {
                           return std::get<0>(one.param).name + "_" + std::get<1>(one.param);
                         });

// Every row gets the bits that products of that row alone have: from the codes of few rows, and with
// dequantized pieces of many.
TEST_P(PackedExperts, AreTheProductsOfSingleRows) {
  constexpr std::int64_t kExperts = 3;
  constexpr std::int64_t kHidden = 256;
  constexpr std::int64_t kWidth = 256;
  const auto& [form, kernels] = GetParam();
  std::vector<StoredMatrix> matrices;
  for (std::uint64_t i = 0; i < 3 * kExperts; ++i)
    matrices.push_back(i % 3 == 2 ? form.make(kHidden, kWidth, test::Codes::random, i)
                                  : form.make(kWidth, kHidden, test::Codes::random, i));
  for (const auto& [precision, packed] :
       {std::pair{Precision::fp32, Packed::exact}, std::pair{Precision::bf16, Packed::int8}})
    for (const auto& [batch, packed_rows] : {std::pair{1, 16}, std::pair{23, 16}, std::pair{40, 0}}) {
      CpuOptions options;
      options.precision = precision;
      options.kernels = kernels;
      options.packed = packed;
      options.packed_rows = packed_rows;
      const auto backend = make_cpu_backend(options);
      std::vector<std::unique_ptr<Weight>> all;
      std::vector<ExpertWeights> first;
      std::vector<const Weight*> second;
      for (std::uint64_t e = 0; e < kExperts; ++e) {
        for (std::uint64_t i = 0; i < 3; ++i)
          all.push_back(backend->prepare(matrices[3 * e + i], random_values(i == 2 ? kHidden : kWidth, e)));
        first.push_back({all[3 * e].get(), all[3 * e + 1].get()});
        second.push_back(all.back().get());
      }
      ExpertRows rows;
      backend->route(backend->upload(random_values(batch * kExperts, 1), batch, kExperts), batch,
                     {.chosen = 2}, rows);
      const Array x = working(*backend, random_values(batch * kHidden, 2), batch, kHidden);
      Array gathered = backend->allocate(rows.size(), kHidden, Element::working);
      Array middle = backend->allocate(rows.size(), kWidth, Element::working);
      Array out = backend->allocate(rows.size(), kHidden, Element::full);
      backend->gather(x, rows.rows, gathered);
      backend->activate_experts(gathered, rows, first, Activation::silu, middle);
      backend->multiply_experts(middle, rows, second, out);
      Array one_middle = backend->allocate(1, kWidth, Element::working);
      Array one_out = backend->allocate(1, kHidden, Element::full);
      for (std::size_t e = 0; e < kExperts; ++e)
        for (std::int64_t i = rows.begin[e]; i < rows.begin[e + 1]; ++i) {
          const Array row = backend->view(x, rows.rows[static_cast<std::size_t>(i)], 1);
          backend->activate(row, 1, first[e].gate, *first[e].up, Activation::silu, one_middle);
          EXPECT_EQ(values_of(*backend, one_middle), values_of(*backend, backend->view(middle, i, 1)));
          const Product product{second[e], &one_out, false};
          backend->multiply(one_middle, 1, {&product, 1});
          EXPECT_EQ(values_of(*backend, one_out), values_of(*backend, backend->view(out, i, 1)));
        }
    }
}

// A product's last tile is computed in whole steps of rows: those behind a view stay as they are.
TEST_P(ExpertsTest, ProductsWriteNoRowsBehindTheirOwn) {
  const std::vector<float> before = random_values(40 * 8, 1);
  const auto weight = backend->prepare(view_of(random_values(8 * 6, 2), 8, 6), {});
  Array out = backend->upload(before, 40, 8);
  Array some = backend->view(out, 3, 5);
  const Product product{weight.get(), &some, false};
  backend->multiply(working(*backend, random_values(5 * 6, 3), 5, 6), 5, {&product, 1});
  const auto after = values_of(*backend, out);
  EXPECT_TRUE(std::equal(before.begin(), before.begin() + 3 * 8, after.begin()));
  EXPECT_TRUE(std::equal(before.begin() + 8 * 8, before.end(), after.begin() + 8 * 8));
}

}  // namespace
}  // namespace knapsaq
