// What a backend does number by number between products, capped logits, and gradients of norms and losses: on
// every device, against sums in double.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "compute/device_names.h"
#include "knapsaq/base/random.h"
#include "knapsaq/compute/backend.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

using Doubles = std::vector<double>;

std::vector<float> random_values(std::int64_t count, std::uint64_t seed, double deviation = 1) {
  Random random(seed);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(deviation * random.normal());
  return values;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

class PointwiseTest : public ::testing::TestWithParam<std::tuple<std::string, Precision>> {
 protected:
  void SetUp() override {
    const auto& [device, precision] = GetParam();
    backend = make_backend({.device = device, .precision = precision});
    // Of a number: a few roundings of fp32, or one to bf16.
    tolerance = precision == Precision::fp32 ? 1e-6 : 0.004;
  }

  Array full(const std::vector<float>& values, std::int64_t rows) {
    return backend->upload(values, rows, std::ssize(values) / rows);
  }
  Array working(const std::vector<float>& values, std::int64_t rows) {
    Array out = backend->allocate(rows, std::ssize(values) / rows, Element::working);
    backend->convert(full(values, rows), rows, out);
    return out;
  }
  std::vector<float> values_of(const Array& array) {
    std::vector<float> out(static_cast<std::size_t>(array.rows() * array.cols()));
    backend->download(array, 0, out);
    return out;
  }
  /// As the backend keeps `working` numbers.
  std::vector<float> rounded(const std::vector<float>& values) { return values_of(working(values, 1)); }

  /// Every number on its own: within a share of it, and of `size`.
  void expect_close(const std::vector<float>& found, const Doubles& expected, double share, double size = 0) {
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i)
      ASSERT_NEAR(found[i], expected[i], share * std::abs(expected[i]) + size) << i;
  }

  std::unique_ptr<Backend> backend;
  double tolerance = 0;
};

// Rows below and above a tile (128), widths of part of a vector, of one, of many and a part.
struct Shape {
  std::int64_t rows, cols;
};
const Shape kShapes[] = {{1, 1}, {3, 5}, {131, 16}, {130, 67}, {2, 1027}};

TEST_P(PointwiseTest, ScalesTheFirstRowsInPlace) {
  for (const auto& [rows, cols] : kShapes)
    for (const Element element : {Element::full, Element::working}) {
      const auto values = random_values(rows * cols, 1);
      Array array = element == Element::full ? full(values, rows) : working(values, rows);
      const auto before = values_of(array);
      const std::int64_t some = std::max<std::int64_t>(1, rows - 1);
      backend->scale(array, some, 0.37f);
      Doubles expected(before.begin(), before.end());
      for (std::int64_t i = 0; i < some * cols; ++i) expected[static_cast<std::size_t>(i)] *= 0.37f;
      expect_close(values_of(array), expected, element == Element::full ? 1e-7 : tolerance);
    }
}

TEST_P(PointwiseTest, AddsAMultiple) {
  for (const auto& [rows, cols] : kShapes) {
    const auto in = random_values(rows * cols, 1);
    const auto before = random_values(rows * cols, 2);
    Array sum = full(before, rows);
    backend->add(full(in, rows), rows, 0.22f, sum);
    Doubles expected;
    for (std::size_t i = 0; i < in.size(); ++i)
      expected.push_back(before[i] + static_cast<double>(0.22f) * in[i]);
    expect_close(values_of(sum), expected, 1e-7, 1e-7);
  }
}

TEST_P(PointwiseTest, GatesBySigmoids) {
  for (const auto& [rows, cols] : kShapes)
    for (const bool one : {false, true}) {  // gate for a row
      const std::int64_t gates = one ? 1 : cols;
      const auto gate = rounded(random_values(rows * gates, 1, 4));
      const auto values = rounded(random_values(rows * cols, 2));
      Array out = working(values, rows);
      backend->gate(working(gate, rows), rows, out);
      Doubles expected;
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < cols; ++c)
          expected.push_back(values[static_cast<std::size_t>(r * cols + c)] *
                             sigmoid(gate[static_cast<std::size_t>(one ? r : r * cols + c)]));
      expect_close(values_of(out), expected, tolerance);
    }
}

TEST_P(PointwiseTest, GradientsThroughGates) {
  for (const auto& [rows, cols] : kShapes)
    for (const bool one : {false, true}) {
      const std::int64_t gates = one ? 1 : cols;
      const auto gate = rounded(random_values(rows * gates, 1, 2));
      const auto values = rounded(random_values(rows * cols, 2));
      const auto gradient = rounded(random_values(rows * cols, 3));
      Array by_gate = working(gate, rows);
      Array by_values = working(gradient, rows);
      backend->gate_backward(by_gate, working(values, rows), rows, by_values, by_gate);
      Doubles of_gate(gate.size());
      Doubles of_values;
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < cols; ++c) {
          const auto i = static_cast<std::size_t>(r * cols + c);
          const auto g = static_cast<std::size_t>(one ? r : r * cols + c);
          const double s = sigmoid(gate[g]);
          of_values.push_back(gradient[i] * s);
          of_gate[g] += static_cast<double>(gradient[i]) * values[i] * s * (1 - s);
        }
      expect_close(values_of(by_values), of_values, tolerance, 1e-7);
      // 1 - s has the precision of 1; sums of a row that of their terms.
      expect_close(values_of(by_gate), of_gate, tolerance, one ? 1e-5 : 1e-6);
    }
}

TEST_P(PointwiseTest, CapsLogits) {
  const float none = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> logits = {0.0f, -0.0f, 1e-30f, -1e-6f, 0.1f,      16.4f,    16.6f, -29,
                               31,   400,   -1e5f,  3e38f,  -infinity, infinity, none};
  for (int i = -500; i < 500; ++i) logits.push_back(static_cast<float>(i) * 0.31f);
  Array array = full(logits, 1);
  backend->softcap(array, 1, 30);
  const auto found = values_of(array);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double expected = 30 * std::tanh(static_cast<double>(logits[i]) / 30);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(found[i]));
    } else {
      EXPECT_NEAR(found[i], expected, 5e-7 * std::abs(expected)) << logits[i];
    }
  }
  EXPECT_THROW(backend->softcap(array, 1, 0), std::invalid_argument);
}

TEST_P(PointwiseTest, WhatIsNoNumberStaysNone) {
  const float none = std::numeric_limits<float>::quiet_NaN();
  for (const std::int64_t width : {5, 48, 67}) {
    auto broken = random_values(width, 1);
    broken[static_cast<std::size_t>(width - 2)] = none;
    const auto sound = random_values(width, 2);
    Array values = working(sound, 1);
    backend->gate(working(broken, 1), 1, values);
    Array sum = full(sound, 1);
    backend->add(full(broken, 1), 1, 0, sum);
    Array gradient = working(sound, 1);
    Array of_gate = working(broken, 1);
    backend->gate_backward(of_gate, working(sound, 1), 1, gradient, of_gate);
    for (const Array& array : {values, sum, gradient, of_gate})
      for (std::int64_t i = 0; i < width; ++i)
        EXPECT_EQ(std::isnan(values_of(array)[static_cast<std::size_t>(i)]), i == width - 2) << i;
    values = working(sound, 1);
    backend->gate(working({none}, 1), 1, values);
    for (const float value : values_of(values)) EXPECT_TRUE(std::isnan(value));
  }
}

TEST_P(PointwiseTest, RefusesWhatDoesNotFit) {
  Array five = backend->allocate(2, 5, Element::working);
  Array four = backend->allocate(2, 4, Element::working);
  Array full_five = backend->allocate(2, 5, Element::full);
  Array full_four = backend->allocate(2, 4, Element::full);
  EXPECT_THROW(backend->scale(five, 3, 1), std::invalid_argument);
  EXPECT_THROW(backend->add(full_five, 2, 1, full_four), std::invalid_argument);
  EXPECT_THROW(backend->add(five, 2, 1, full_five), std::invalid_argument);
  EXPECT_THROW(backend->gate(four, 2, five), std::invalid_argument);
  EXPECT_THROW(backend->gate(full_five, 2, five), std::invalid_argument);
  EXPECT_THROW(backend->gate_backward(five, five, 2, four, five), std::invalid_argument);
  EXPECT_THROW(backend->softcap(five, 2, 30), std::invalid_argument);
}

// ---- the end of a model -----------------------------------------------------------------------------------

/// Numbers that bf16 holds exactly, so that both precisions have the same logits: eighths.
std::vector<float> eighths(std::int64_t count, std::uint64_t seed, double deviation) {
  std::vector<float> values = random_values(count, seed, deviation);
  for (float& value : values) value = std::round(std::clamp(value, -15.0f, 15.0f) * 8) / 8;
  return values;
}

struct EndOfModel {
  std::int64_t rows, vocab, depth;
  float softcap;
};

/// log softmax of the (capped) logits, and the cap's slopes at them.
struct Row {
  Doubles logs;
  Doubles slopes;
};
Row row_of(const EndOfModel& end, const std::vector<float>& in, const std::vector<float>& head,
           std::int64_t row) {
  Row result;
  for (std::int64_t v = 0; v < end.vocab; ++v) {
    double logit = 0;
    for (std::int64_t k = 0; k < end.depth; ++k)
      logit += static_cast<double>(in[static_cast<std::size_t>(row * end.depth + k)]) *
               head[static_cast<std::size_t>(v * end.depth + k)];
    const double bent = end.softcap > 0 ? std::tanh(logit / end.softcap) : 0;
    result.logs.push_back(end.softcap > 0 ? end.softcap * bent : logit);
    result.slopes.push_back(1 - bent * bent);
  }
  const double largest = *std::max_element(result.logs.begin(), result.logs.end());
  double sum = 0;
  for (const double logit : result.logs) sum += std::exp(logit - largest);
  for (double& logit : result.logs) logit -= largest + std::log(sum);
  return result;
}

// Heads of one chunk of columns and of several; rows of one tile and of several.
const EndOfModel kEnds[] = {{3, 7, 8, 0}, {3, 7, 8, 5}, {150, 300, 16, 30}, {40, 4500, 8, 4}};

TEST_P(PointwiseTest, LossesAndComparisonsOfCappedLogits) {
  for (const EndOfModel& end : kEnds) {
    const auto weights = eighths(end.vocab * end.depth, 1, 0.7);
    const auto other_weights = eighths(end.vocab * end.depth, 2, 0.7);
    const auto in = eighths(end.rows * end.depth, 3, 1);
    const auto reference = eighths(end.rows * end.depth, 4, 1);
    const auto head =
        backend->prepare({DType::F32, {end.vocab, end.depth}, std::as_bytes(std::span(weights))}, {});
    const auto other =
        backend->prepare({DType::F32, {end.vocab, end.depth}, std::as_bytes(std::span(other_weights))}, {});
    std::vector<std::int32_t> targets;
    for (std::int64_t r = 0; r < end.rows; ++r)
      targets.push_back(r % 7 == 2 ? -1 : static_cast<std::int32_t>(r * 997 % end.vocab));
    const Array x = working(in, end.rows);
    const Array p = working(reference, end.rows);

    std::vector<float> losses(targets.size());
    backend->losses(x, {other.get(), end.softcap}, targets, losses);
    std::vector<RowComparison> rows(targets.size());
    std::vector<RowComparison> same(targets.size());
    const std::vector<Compared> compared = {{&x, rows, other.get()}, {&p, same}};
    backend->compare(p, {head.get(), end.softcap}, targets, true, compared);
    for (std::int64_t r = 0; r < end.rows; ++r) {
      const auto i = static_cast<std::size_t>(r);
      if (targets[i] < 0) continue;
      const Row of_p = row_of(end, reference, weights, r);
      const Row of_q = row_of(end, in, other_weights, r);
      double kl = 0;
      double jsd = 0;
      for (std::size_t v = 0; v < of_p.logs.size(); ++v) {
        const double log_m = std::log((std::exp(of_p.logs[v]) + std::exp(of_q.logs[v])) / 2);
        kl += std::exp(of_p.logs[v]) * (of_p.logs[v] - of_q.logs[v]);
        jsd += std::exp(of_p.logs[v]) * (of_p.logs[v] - log_m) / 2 +
               std::exp(of_q.logs[v]) * (of_q.logs[v] - log_m) / 2;
      }
      EXPECT_NEAR(rows[i].kl, kl, 3e-6 * (1 + kl));
      EXPECT_NEAR(rows[i].jsd, jsd, 2e-6);
      EXPECT_NEAR(rows[i].loss, -of_q.logs[static_cast<std::size_t>(targets[i])], 3e-6 * (1 + rows[i].loss));
      EXPECT_EQ(rows[i].loss, losses[i]);
      EXPECT_EQ(same[i].kl, 0);
      EXPECT_EQ(same[i].jsd, 0);
      EXPECT_TRUE(same[i].agrees);
    }
  }
}

TEST_P(PointwiseTest, LossesFromPackedHeadsAreCapped) {
  const auto& [device, precision] = GetParam();
  const auto packed = make_backend({.device = device, .precision = precision, .packed = Packed::exact});
  const EndOfModel end{40, 300, 32, 6};
  const auto weights = eighths(end.vocab * end.depth, 1, 0.7);
  const auto in = eighths(end.rows * end.depth, 3, 1);
  const auto head =
      packed->prepare({DType::F32, {end.vocab, end.depth}, std::as_bytes(std::span(weights))}, {});
  Array x = packed->allocate(end.rows, end.depth, Element::working);
  packed->convert(packed->upload(in, end.rows, end.depth), end.rows, x);
  for (const std::int64_t rows : {std::int64_t{2}, end.rows}) {  // from codes, dequantized
    const std::vector<std::int32_t> targets(static_cast<std::size_t>(rows), 299);
    std::vector<float> losses(targets.size());
    packed->losses(x, {head.get(), end.softcap}, targets, losses);
    for (std::int64_t r = 0; r < rows; ++r) {
      const double expected = -row_of(end, in, weights, r).logs[299];
      EXPECT_NEAR(losses[static_cast<std::size_t>(r)], expected, 3e-6 * (1 + expected));
    }
  }
}

TEST_P(PointwiseTest, GradientsOfLossesByLogits) {
  for (const EndOfModel& end : kEnds) {
    const auto weights = eighths(end.vocab * end.depth, 1, 0.7);
    const auto reference_weights = eighths(end.vocab * end.depth, 2, 0.7);
    const auto in = eighths(end.rows * end.depth, 3, 1);
    const auto reference = eighths(end.rows * end.depth, 4, 1);
    const auto head =
        backend->prepare({DType::F32, {end.vocab, end.depth}, std::as_bytes(std::span(weights))}, {});
    const auto reference_head = backend->prepare(
        {DType::F32, {end.vocab, end.depth}, std::as_bytes(std::span(reference_weights))}, {});
    const Array x = working(in, end.rows);
    const Array p = working(reference, end.rows);
    std::vector<std::int32_t> tokens;
    std::vector<double> draws;
    for (std::int64_t r = 0; r < end.rows; ++r) {
      tokens.push_back(r % 7 == 2 ? -1 : static_cast<std::int32_t>(r * 997 % end.vocab));
      draws.push_back(static_cast<double>(r) / static_cast<double>(end.rows));
    }
    std::vector<float> losses(tokens.size());
    Array out = backend->allocate(end.rows, end.vocab, Element::working);
    for (const LossTargets& targets :
         {LossTargets{.tokens = tokens}, LossTargets{.draws = draws},
          LossTargets{.reference = &p, .reference_head = reference_head.get()}}) {
      backend->loss_gradient(x, {head.get(), end.softcap}, targets, losses, out);
      const auto found = values_of(out);
      for (std::int64_t r = 0; r < end.rows; ++r) {
        const auto i = static_cast<std::size_t>(r);
        const Row of_q = row_of(end, in, weights, r);
        Doubles expected(of_q.logs.size());
        double loss = 0;
        if (targets.reference != nullptr) {
          const Row of_p = row_of(end, reference, reference_weights, r);
          for (std::size_t v = 0; v < expected.size(); ++v) {
            loss += std::exp(of_p.logs[v]) * (of_p.logs[v] - of_q.logs[v]);
            expected[v] = (std::exp(of_q.logs[v]) - std::exp(of_p.logs[v])) * of_q.slopes[v];
          }
        } else if (targets.tokens.empty() || tokens[i] >= 0) {
          std::size_t target = targets.tokens.empty() ? 0 : static_cast<std::size_t>(tokens[i]);
          if (targets.tokens.empty())
            for (double sum = std::exp(of_q.logs[0]); sum <= draws[i]; sum += std::exp(of_q.logs[target]))
              ++target;
          loss = -of_q.logs[target];
          for (std::size_t v = 0; v < expected.size(); ++v)
            expected[v] = (std::exp(of_q.logs[v]) - (v == target ? 1 : 0)) * of_q.slopes[v];
        }
        EXPECT_NEAR(losses[i], loss, 3e-6 * (1 + loss));
        for (std::size_t v = 0; v < expected.size(); ++v)
          ASSERT_NEAR(found[i * expected.size() + v], expected[v], tolerance * std::abs(expected[v]) + 1e-6)
              << "row " << r << ", token " << v << ", cap " << end.softcap;
      }
    }
  }
}

// ---- norms ------------------------------------------------------------------------------------------------

/// y and the gradients by x, scale and shift for a gradient by y.
struct NormReference {
  Doubles sum, scale, shift;
};
NormReference norm_reference(Norm kind, const std::vector<float>& x, const std::vector<float>& scale,
                             const std::vector<float>& gradient, const std::vector<float>& before,
                             std::int64_t n, double eps) {
  NormReference result{{}, Doubles(static_cast<std::size_t>(n)), Doubles(static_cast<std::size_t>(n))};
  const auto width = static_cast<std::size_t>(n);
  for (std::size_t start = 0; start < x.size(); start += width) {
    double mean = 0;
    if (kind == Norm::layer)
      for (std::size_t i = 0; i < width; ++i) mean += x[start + i] / static_cast<double>(n);
    double squares = eps;
    for (std::size_t i = 0; i < width; ++i)
      squares += (x[start + i] - mean) * (x[start + i] - mean) / static_cast<double>(n);
    const double inverse = 1 / std::sqrt(squares);
    double of_mean = 0;
    double of_deviation = 0;
    const auto y = [&](std::size_t i) { return (x[start + i] - mean) * inverse; };
    const auto g = [&](std::size_t i) {
      return static_cast<double>(gradient[start + i]) * (scale.empty() ? 1.0F : scale[i]);
    };
    for (std::size_t i = 0; i < width; ++i) {
      of_mean += kind == Norm::layer ? g(i) / static_cast<double>(n) : 0;
      of_deviation += g(i) * y(i) / static_cast<double>(n);
      result.scale[i] += gradient[start + i] * y(i);
      result.shift[i] += static_cast<double>(gradient[start + i]);
    }
    for (std::size_t i = 0; i < width; ++i)
      result.sum.push_back(before[start + i] + (g(i) - of_mean - y(i) * of_deviation) * inverse);
  }
  return result;
}

TEST_P(PointwiseTest, GradientsOfNormsGoIntoASum) {
  for (const std::int64_t n : {5, 16, 100, 1027}) {
    const std::int64_t rows = 131;
    auto x = random_values(rows * n, 1);
    for (float& value : x) value += 1;
    const auto scale = random_values(n, 2);
    const auto gradient = random_values(rows * n, 3);
    const auto before = random_values(rows * n, 4);
    for (const Norm kind : {Norm::rms, Norm::layer})
      for (int vectors = 0; vectors <= (kind == Norm::rms ? 1 : 2); ++vectors) {
        NormWeights weights{.kind = kind, .eps = 1e-5f, .scale = {}, .shift = {}};
        if (vectors > 0) weights.scale = full(scale, 1);
        if (vectors > 1) weights.shift = full(scale, 1);
        const NormReference expected =
            norm_reference(kind, x, vectors > 0 ? scale : std::vector<float>(), gradient, before, n, 1e-5);
        // All of them asked for, the norm's own, none.
        for (const int asked : {0, vectors, 2}) {
          const auto sums = [&](int i) { return Doubles(static_cast<std::size_t>(asked > i ? n : 0), 0.5); };
          NormGradient of_weights{sums(0), sums(1)};
          Array sum = full(before, rows);
          backend->norm_backward(full(x, rows), weights, rows, full(gradient, rows), sum,
                                 asked == 0 ? nullptr : &of_weights);
          expect_close(values_of(sum), expected.sum, 1e-5, 2e-5);
          for (std::size_t i = 0; i < of_weights.scale.size(); ++i)
            ASSERT_NEAR(of_weights.scale[i] - 0.5, expected.scale[i], 1e-4);
          for (std::size_t i = 0; i < of_weights.shift.size(); ++i)
            ASSERT_NEAR(of_weights.shift[i] - 0.5, expected.shift[i], 1e-4);
        }
      }
  }
}

TEST_P(PointwiseTest, NothingDependsOnThreads) {
  const std::int64_t rows = 300;
  const std::int64_t cols = 37;
  const EndOfModel end{rows, 400, cols, 8};
  const auto weights = random_values(end.vocab * end.depth, 5);
  const auto head =
      backend->prepare({DType::F32, {end.vocab, end.depth}, std::as_bytes(std::span(weights))}, {});
  std::vector<std::vector<float>> found;
  for (const int threads : {1, 3}) {
    work_with_threads(threads);
    Array values = working(random_values(rows * cols, 1), rows);
    Array gate = working(random_values(rows, 2), rows);
    const Array ungated = working(random_values(rows * cols, 1), rows);
    backend->gate(gate, rows, values);
    backend->scale(values, rows, 0.3f);
    Array logits = backend->allocate(rows, end.vocab, Element::working);
    std::vector<float> losses(static_cast<std::size_t>(rows));
    const std::vector<std::int32_t> targets(losses.size(), 3);
    backend->loss_gradient(values, {head.get(), end.softcap}, {.tokens = targets}, losses, logits);
    backend->gate_backward(gate, ungated, rows, values, gate);
    std::vector<float> all = losses;
    for (const Array& array : {values, gate, logits})
      for (const float value : values_of(array)) all.push_back(value);
    found.push_back(all);
  }
  work_with_threads(0);
  EXPECT_EQ(found[0], found[1]);
}

std::string name_of_case(const ::testing::TestParamInfo<std::tuple<std::string, Precision>>& test) {
  return test::name_of(std::get<0>(test.param), std::get<1>(test.param));
}

INSTANTIATE_TEST_SUITE_P(Devices, PointwiseTest,
                         ::testing::Combine(::testing::ValuesIn(devices()),
                                            ::testing::Values(Precision::fp32, Precision::bf16)),
                         name_of_case);

}  // namespace
}  // namespace knapsaq
