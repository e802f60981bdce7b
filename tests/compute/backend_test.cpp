#include "knapsaq/compute/backend.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <ostream>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "compute/device_names.h"
#include "knapsaq/base/random.h"
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

/// All devices of this machine, in both precisions.
class BackendTest : public ::testing::TestWithParam<std::tuple<std::string, Precision>> {
 protected:
  void SetUp() override {
    const auto& [device, precision] = GetParam();
    backend = make_backend({.device = device, .precision = precision});
    // fp32: sums of some hundred terms. bf16: two roundings of 2^-9 at most per term, and one of the result.
    tolerance = precision == Precision::fp32 ? 2e-6 : 6e-3;
  }

  Array working(const std::vector<float>& values, std::int64_t rows, std::int64_t cols) {
    Array out = backend->allocate(rows, cols, Element::working);
    backend->convert(backend->upload(values, rows, cols), rows, out);
    return out;
  }
  std::vector<float> values_of(const Array& array) {
    std::vector<float> out(static_cast<std::size_t>(array.rows() * array.cols()));
    backend->download(array, 0, out);
    return out;
  }

  std::unique_ptr<Backend> backend;
  double tolerance = 0;
};

/// in W^T + bias in double.
std::vector<double> product(const std::vector<float>& in, const std::vector<float>& weight,
                            const std::vector<float>& bias, std::int64_t rows, std::int64_t out,
                            std::int64_t depth) {
  std::vector<double> result;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t o = 0; o < out; ++o) {
      double sum = bias.empty() ? 0 : bias[static_cast<std::size_t>(o)];
      for (std::int64_t k = 0; k < depth; ++k)
        sum += static_cast<double>(in[static_cast<std::size_t>(r * depth + k)]) *
               weight[static_cast<std::size_t>(o * depth + k)];
      result.push_back(sum);
    }
  }
  return result;
}

/// Largest difference as a share of the largest value.
double difference(const std::vector<float>& found, const std::vector<double>& expected) {
  EXPECT_EQ(found.size(), expected.size());
  double worst = 0;
  double largest = 0;
  for (std::size_t i = 0; i < std::min(found.size(), expected.size()); ++i) {
    worst = std::max(worst, std::abs(found[i] - expected[i]));
    largest = std::max(largest, std::abs(expected[i]));
  }
  return worst / largest;
}

struct Shape {
  std::int64_t rows, out, depth;
};
// Below, at and above the tiles of rows (128), chunks of columns (2048) and vectors.
const Shape kShapes[] = {{1, 1, 1},       {3, 33, 17},    {130, 64, 96},
                         {128, 2048, 33}, {17, 4500, 40}, {200, 2049, 31}};

TEST_P(BackendTest, Products) {
  for (const auto& [rows, out, depth] : kShapes) {
    const auto in = random_values(rows * depth, 1);
    const auto weight = random_values(out * depth, 2);
    const auto bias = random_values(out, 3);
    const Array x = working(in, rows, depth);
    for (const bool biased : {false, true}) {
      const auto prepared =
          backend->prepare(view_of(weight, out, depth), biased ? std::span(bias) : std::span<const float>());
      const auto expected = product(in, weight, biased ? bias : std::vector<float>(), rows, out, depth);
      Array full = backend->allocate(rows, out, Element::full);
      Array half = backend->allocate(rows, out, Element::working);
      const Product products[] = {{prepared.get(), &full, false}, {prepared.get(), &half, false}};
      backend->multiply(x, rows, products);
      EXPECT_LE(difference(values_of(full), expected), tolerance) << rows << ' ' << out << ' ' << depth;
      EXPECT_LE(difference(values_of(half), expected), 2 * tolerance) << rows << ' ' << out << ' ' << depth;

      const auto before = random_values(rows * out, 4);
      Array sum = backend->upload(before, rows, out);
      const Product adding{prepared.get(), &sum, true};
      backend->multiply(x, rows, {&adding, 1});
      auto expected_sum = expected;
      for (std::size_t i = 0; i < expected_sum.size(); ++i) expected_sum[i] += before[i];
      EXPECT_LE(difference(values_of(sum), expected_sum), tolerance) << rows << ' ' << out << ' ' << depth;
    }
  }
}

/// What a row's product is depends on that row alone: a pass over some windows gives the bits of a pass over
/// all, whatever stands before and behind them.
TEST_P(BackendTest, RowsDoNotDependOnEachOther) {
  constexpr std::int64_t kRows = 160;
  for (const auto& [out, depth] : {std::pair{512, 96}, std::pair{96, 256}, std::pair{70, 100},
                                   std::pair{2049, 300}, std::pair{64, 1100}}) {
    const auto in = random_values(kRows * depth, 1);
    const auto prepared =
        backend->prepare(view_of(random_values(out * depth, 2), out, depth), random_values(out, 3));
    const Array x = working(in, kRows, depth);
    const auto product_of = [&](std::int64_t first, std::int64_t rows) {
      Array result = backend->allocate(rows, out, Element::full);
      const Product one{prepared.get(), &result, false};
      backend->multiply(backend->view(x, first, rows), rows, {&one, 1});
      return values_of(result);
    };
    const auto all = product_of(0, kRows);
    for (std::int64_t first : {0, 1, 31, 100})
      for (std::int64_t rows : {1, 7, 16, 17, 30, 32, 48, 60}) {
        const auto some = product_of(first, rows);
        EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin() + first * out))
            << out << " x " << depth << ", rows " << first << " to " << first + rows;
      }
  }
}

/// losses() and compare() cut rows into tiles of other heights.
TEST_P(BackendTest, ComparisonsTellTheLossesToTheBit) {
  constexpr std::int64_t kRows = 170;
  constexpr std::int64_t kDepth = 96;
  for (const std::int64_t vocab : {500, 4100}) {
    const auto head = backend->prepare(view_of(random_values(vocab * kDepth, 2), vocab, kDepth), {});
    const Array p = working(random_values(kRows * kDepth, 1), kRows, kDepth);
    const Array q = working(random_values(kRows * kDepth, 3), kRows, kDepth);
    std::vector<std::int32_t> targets;
    for (std::int32_t r = 0; r < kRows; ++r) targets.push_back(r * 7 % static_cast<std::int32_t>(vocab));
    std::vector<RowComparison> compared(kRows);
    const Compared one{&q, compared};
    backend->compare(p, {head.get()}, targets, false, {&one, 1});
    std::vector<float> losses(kRows);
    backend->losses(q, {head.get()}, targets, losses);
    for (std::size_t r = 0; r < losses.size(); ++r) EXPECT_EQ(compared[r].loss, losses[r]) << r;
  }
}

double apply(Activation activation, double x) {
  switch (activation) {
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::gelu:
      return x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::gelu_tanh:
      return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::clamped_swiglu:  // of two numbers: experts_test.cpp
      break;
  }
  return 0;
}

TEST_P(BackendTest, Activations) {
  for (const auto& [rows, out, depth] : kShapes) {
    const auto in = random_values(rows * depth, 1);
    const auto gate = random_values(out * depth, 2, 3 / std::sqrt(static_cast<double>(depth)));
    const auto up = random_values(out * depth, 3, 3 / std::sqrt(static_cast<double>(depth)));
    const auto bias = random_values(out, 4);
    const Array x = working(in, rows, depth);
    const auto gate_weight = backend->prepare(view_of(gate, out, depth), bias);
    const auto up_weight = backend->prepare(view_of(up, out, depth), {});
    const auto gates = product(in, gate, bias, rows, out, depth);
    const auto ups = product(in, up, {}, rows, out, depth);
    for (const Activation activation :
         {Activation::silu, Activation::relu, Activation::gelu, Activation::gelu_tanh}) {
      Array result = backend->allocate(rows, out, Element::working);
      std::vector<double> expected(ups.size());
      for (std::size_t i = 0; i < ups.size(); ++i) expected[i] = apply(activation, gates[i]) * ups[i];
      backend->activate(x, rows, gate_weight.get(), *up_weight, activation, result);
      EXPECT_LE(difference(values_of(result), expected), 3 * tolerance);
      for (std::size_t i = 0; i < ups.size(); ++i) expected[i] = apply(activation, gates[i]);
      backend->activate(x, rows, nullptr, *gate_weight, activation, result);
      EXPECT_LE(difference(values_of(result), expected), 3 * tolerance);
    }
  }
}

TEST_P(BackendTest, Norms) {
  for (const std::int64_t n : {1, 5, 16, 100, 1027}) {
    const std::int64_t rows = 131;
    auto x = random_values(rows * n, 1);
    for (float& value : x) value += 3;
    const auto scale = random_values(n, 2);
    const auto shift = random_values(n, 3);
    for (const Norm kind : {Norm::rms, Norm::layer}) {
      for (const bool affine : {false, true}) {
        if (kind == Norm::layer && n == 1) continue;  // (x - x) / sqrt(eps) is nothing but noise
        NormWeights weights{.kind = kind, .eps = 1e-5f, .scale = {}, .shift = {}};
        if (affine) weights.scale = backend->upload(scale, 1, n);
        if (affine && kind == Norm::layer) weights.shift = backend->upload(shift, 1, n);
        std::vector<double> expected;
        for (std::int64_t r = 0; r < rows; ++r) {
          const auto row = std::span(x).subspan(static_cast<std::size_t>(r * n), static_cast<std::size_t>(n));
          const double mean =
              kind == Norm::rms ? 0 : std::accumulate(row.begin(), row.end(), 0.0) / static_cast<double>(n);
          double squares = 0;
          for (const float value : row) squares += (value - mean) * (value - mean);
          const double inverse = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-5);
          for (std::size_t i = 0; i < row.size(); ++i) {
            double y = (row[i] - mean) * inverse;
            if (affine) y *= scale[i];
            if (!weights.shift.empty()) y += shift[i];
            expected.push_back(y);
          }
        }
        Array full = backend->upload(x, rows, n);
        Array half = backend->allocate(rows, n, Element::working);
        backend->norm(full, weights, rows, half);
        EXPECT_LE(difference(values_of(half), expected), std::max(tolerance, 4e-6)) << n;
        backend->norm(full, weights, rows, full);  // in place
        EXPECT_LE(difference(values_of(full), expected), 4e-6) << n;
      }
    }
  }
}

struct AttentionCase {
  std::int64_t windows, length, heads, kv_heads, head_dim, sliding;
};

std::vector<double> attention(const AttentionCase& a, const std::vector<float>& q,
                              const std::vector<float>& k, const std::vector<float>& v) {
  std::vector<double> out(q.size());
  std::vector<double> scores(static_cast<std::size_t>(a.length));
  for (std::int64_t w = 0; w < a.windows; ++w) {
    for (std::int64_t h = 0; h < a.heads; ++h) {
      const std::int64_t kv = h / (a.heads / a.kv_heads);
      const auto at = [&](const std::vector<float>& x, std::int64_t heads, std::int64_t head,
                          std::int64_t t) {
        return x.data() + ((w * a.length + t) * heads + head) * a.head_dim;
      };
      for (std::int64_t t = 0; t < a.length; ++t) {
        const std::int64_t first = a.sliding == 0 ? 0 : std::max<std::int64_t>(0, t - a.sliding + 1);
        double largest = -1e300;
        for (std::int64_t j = first; j <= t; ++j) {
          double sum = 0;
          for (std::int64_t d = 0; d < a.head_dim; ++d)
            sum += static_cast<double>(at(q, a.heads, h, t)[d]) * at(k, a.kv_heads, kv, j)[d];
          scores[static_cast<std::size_t>(j)] = sum / std::sqrt(static_cast<double>(a.head_dim));
          largest = std::max(largest, scores[static_cast<std::size_t>(j)]);
        }
        double total = 0;
        for (std::int64_t j = first; j <= t; ++j) {
          const double p = std::exp(scores[static_cast<std::size_t>(j)] - largest);
          total += p;
          for (std::int64_t d = 0; d < a.head_dim; ++d)
            out[static_cast<std::size_t>(((w * a.length + t) * a.heads + h) * a.head_dim + d)] +=
                p * at(v, a.kv_heads, kv, j)[d];
        }
        for (std::int64_t d = 0; d < a.head_dim; ++d)
          out[static_cast<std::size_t>(((w * a.length + t) * a.heads + h) * a.head_dim + d)] /= total;
      }
    }
  }
  return out;
}

TEST_P(BackendTest, Attention) {
  // Lengths around the tiles of queries (up to 72) and blocks of keys (up to 512), odd head sizes, windows
  // that start inside a block or hide whole blocks from the last queries.
  for (const AttentionCase& a : {AttentionCase{1, 1, 1, 1, 1, 0},
                                 {3, 5, 2, 1, 7, 0},
                                 {2, 96, 4, 2, 32, 0},
                                 {1, 97, 2, 2, 64, 0},
                                 {2, 257, 3, 1, 80, 0},
                                 {1, 600, 2, 1, 64, 0},
                                 {1, 300, 1, 1, 96, 0},
                                 {1, 130, 4, 1, 128, 0},
                                 {2, 300, 2, 1, 16, 1},
                                 {1, 700, 2, 2, 20, 64},
                                 {1, 700, 1, 1, 64, 300},
                                 {2, 100, 2, 1, 64, 1000}}) {
    const std::int64_t rows = a.windows * a.length;
    // Scores up to about +-10: the softmax is far from flat, and its maximum moves from block to block.
    const auto q = random_values(rows * a.heads * a.head_dim, 1, 2);
    const auto k = random_values(rows * a.kv_heads * a.head_dim, 2, 2);
    const auto v = random_values(rows * a.kv_heads * a.head_dim, 3);
    Array out = backend->allocate(rows, a.heads * a.head_dim, Element::working);
    AttentionShape shape;
    shape.windows = a.windows;
    shape.length = a.length;
    shape.heads = a.heads;
    shape.kv_heads = a.kv_heads;
    shape.head_dim = a.head_dim;
    shape.sliding_window = a.sliding;
    backend->attend(shape, working(q, rows, a.heads * a.head_dim), working(k, rows, a.kv_heads * a.head_dim),
                    working(v, rows, a.kv_heads * a.head_dim), out);
    // Probabilities follow errors of scores, which are 10 times those of numbers around 1.
    EXPECT_LE(difference(values_of(out), attention(a, q, k, v)), 5 * tolerance)
        << a.length << ' ' << a.head_dim << ' ' << a.sliding;
  }
}

// Token by token through a cache that is longer than the windows, rotation and norms of heads included: the
// rows of attend(), whose scores are summed in the same order.
TEST_P(BackendTest, AttentionOfOneTokenAtATime) {
  for (const AttentionCase& a : {AttentionCase{1, 1, 1, 1, 2, 0},
                                 {3, 5, 2, 1, 6, 0},
                                 {2, 150, 6, 2, 80, 0},
                                 {1, 600, 2, 1, 64, 0},
                                 {1, 140, 1, 1, 96, 33},
                                 {2, 300, 2, 1, 16, 1}}) {
    const std::int64_t rows = a.windows * a.length;
    const std::int64_t width = a.heads * a.head_dim;
    const std::int64_t kv_width = a.kv_heads * a.head_dim;
    const auto q = random_values(rows * width, 1, 2);
    const auto k = random_values(rows * kv_width, 2, 2);
    const auto v = random_values(rows * kv_width, 3);
    const Array angles =
        backend->upload(random_values(a.length * a.head_dim / 2, 4), a.length, a.head_dim / 2);
    const Array norm = backend->upload(random_values(a.head_dim, 5), 1, a.head_dim);
    AttentionShape shape;
    shape.windows = a.windows;
    shape.length = a.length;
    shape.heads = a.heads;
    shape.kv_heads = a.kv_heads;
    shape.head_dim = a.head_dim;
    shape.sliding_window = a.sliding;
    shape.cosines = shape.sines = &angles;
    shape.q_norm = shape.k_norm = &norm;
    Array together = backend->allocate(rows, width, Element::working);
    backend->attend(shape, working(q, rows, width), working(k, rows, kv_width), working(v, rows, kv_width),
                    together);
    const std::vector<float> values = values_of(together);

    AttentionShape room = shape;
    room.length = a.length + 9;
    const auto cache = backend->make_cache(room, CacheElement::working);
    Array out = backend->allocate(a.windows, width, Element::working);
    for (std::int64_t t = 0; t < a.length; ++t) {
      const auto rows_at = [&](const std::vector<float>& all, std::int64_t cols) {
        std::vector<float> some;
        for (std::int64_t w = 0; w < a.windows; ++w) {
          const auto from = all.begin() + (w * a.length + t) * cols;
          some.insert(some.end(), from, from + cols);
        }
        return some;
      };
      shape.length = 1;
      shape.past = t;
      backend->extend(shape, working(rows_at(q, width), a.windows, width),
                      working(rows_at(k, kv_width), a.windows, kv_width),
                      working(rows_at(v, kv_width), a.windows, kv_width), *cache, out);
      const std::vector<float> expected = rows_at(values, width);
      EXPECT_LE(difference(values_of(out), std::vector<double>(expected.begin(), expected.end())), tolerance)
          << t << ' ' << a.head_dim << ' ' << a.sliding;
    }
    shape.past = a.length + 9;
    EXPECT_THROW(backend->extend(shape, out, out, out, *cache, out), std::invalid_argument);
  }
}

TEST_P(BackendTest, LossesOfLargeVocabularies) {
  for (const auto& [rows, vocab, depth] : {Shape{1, 3, 8}, {150, 4500, 24}, {40, 2048, 24}, {5, 10000, 16}}) {
    const auto in = random_values(rows * depth, 1);
    const auto head = random_values(vocab * depth, 2);
    const auto logits = product(in, head, {}, rows, vocab, depth);
    std::vector<std::int32_t> targets;
    std::vector<double> expected;
    for (std::int64_t r = 0; r < rows; ++r) {
      // Every seventh row has no target; targets fall into all chunks of the vocabulary.
      targets.push_back(r % 7 == 3 ? -1 : static_cast<std::int32_t>(r * 997 % vocab));
      const double* row = logits.data() + r * vocab;
      const double largest = *std::max_element(row, row + vocab);
      double sum = 0;
      for (std::int64_t i = 0; i < vocab; ++i) sum += std::exp(row[i] - largest);
      expected.push_back(targets.back() < 0 ? 0 : largest + std::log(sum) - row[targets.back()]);
    }
    std::vector<float> losses(targets.size(), -1);
    const auto prepared = backend->prepare(view_of(head, vocab, depth), {});
    backend->losses(working(in, rows, depth), {prepared.get()}, targets, losses);
    EXPECT_LE(difference(losses, expected), tolerance) << rows << ' ' << vocab;
  }
}

TEST_P(BackendTest, LossesOfExtremeLogits) {
  // exp() of these overflows fp32 without the shift by the largest one.
  const std::vector<float> in = {1};
  const std::vector<float> head = {-30000, 20000, 19999, 0, -5};
  const std::vector<std::int32_t> targets = {1};
  std::vector<float> losses(1);
  const auto prepared = backend->prepare(view_of(head, 5, 1), {});
  backend->losses(working(in, 1, 1), {prepared.get()}, targets, losses);
  if (backend->precision() == Precision::fp32) {
    EXPECT_NEAR(losses[0], std::log1p(std::exp(-1.0)), 2e-3);  // the ulp of 20000 is 0.002
  } else {
    EXPECT_NEAR(losses[0], std::log(2.0), 2e-3);  // 19999 is 20000 in bf16
  }
}

/// What compare() is about, in double.
struct Expected {
  double kl = 0;
  double jsd = 0;
  double loss = 0;
  bool agrees = false;
};
std::vector<double> log_softmax(const double* row, std::int64_t n) {
  const double largest = *std::max_element(row, row + n);
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += std::exp(row[i] - largest);
  std::vector<double> logs;
  for (std::int64_t i = 0; i < n; ++i) logs.push_back(row[i] - largest - std::log(sum));
  return logs;
}
Expected expected_comparison(const double* reference, const double* candidate, std::int64_t n,
                             std::int32_t target) {
  const std::vector<double> p = log_softmax(reference, n);
  const std::vector<double> q = log_softmax(candidate, n);
  Expected expected;
  for (std::int64_t i = 0; i < n; ++i) {
    const double of_p = std::exp(p[static_cast<std::size_t>(i)]);
    const double of_q = std::exp(q[static_cast<std::size_t>(i)]);
    const double log_m = std::log((of_p + of_q) / 2);
    const auto add = [&](double weight, double difference) {
      return weight == 0 ? 0.0 : weight * difference;
    };
    const double log_p = p[static_cast<std::size_t>(i)];
    const double log_q = q[static_cast<std::size_t>(i)];
    expected.kl += add(of_p, log_p - log_q);
    expected.jsd += add(of_p, log_p - log_m) / 2 + add(of_q, log_q - log_m) / 2;
  }
  expected.loss = -q[static_cast<std::size_t>(target)];
  expected.agrees = std::max_element(reference, reference + n) - reference ==
                    std::max_element(candidate, candidate + n) - candidate;
  return expected;
}

/// Values that bf16 holds exactly, so that both precisions have the same logits: eighths.
std::vector<float> eighths(std::int64_t count, std::uint64_t seed, double deviation = 1) {
  std::vector<float> values = random_values(count, seed, deviation);
  for (float& value : values) value = std::round(std::clamp(value, -15.0f, 15.0f) * 8) / 8;
  return values;
}

TEST_P(BackendTest, ComparisonsOfDistributions) {
  for (const auto& [rows, vocab, depth] :
       {Shape{1, 3, 8}, {150, 4500, 24}, {40, 2048, 24}, {33, 257, 16}, {5, 10000, 16}}) {
    const auto head = eighths(vocab * depth, 2, 0.5);
    const auto reference = eighths(rows * depth, 1);
    const auto prepared = backend->prepare(view_of(head, vocab, depth), {});
    const auto p_logits = product(reference, head, {}, rows, vocab, depth);
    std::vector<std::int32_t> targets;
    for (std::int64_t r = 0; r < rows; ++r)
      targets.push_back(r % 7 == 3 ? -1 : static_cast<std::int32_t>(r * 997 % vocab));

    // From slightly off to something else altogether.
    std::vector<std::vector<float>> inputs;
    std::vector<Array> arrays;
    for (const double off : {0.02, 0.3, 3.0}) {
      std::vector<float> input = reference;
      const auto noise = random_values(rows * depth, 3, off);
      for (std::size_t i = 0; i < input.size(); ++i) input[i] = std::round((input[i] + noise[i]) * 8) / 8;
      inputs.push_back(input);
      arrays.push_back(working(input, rows, depth));
    }
    const Array base = working(reference, rows, depth);
    for (const bool jsd : {false, true}) {
      std::vector<std::vector<RowComparison>> found(inputs.size());
      std::vector<Compared> compared;
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        found[i].assign(targets.size(), {-1, -1, -1, true});
        compared.push_back({&arrays[i], found[i]});
      }
      backend->compare(base, {prepared.get()}, targets, jsd, compared);
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        const auto q_logits = product(inputs[i], head, {}, rows, vocab, depth);
        for (std::int64_t r = 0; r < rows; ++r) {
          const RowComparison& row = found[i][static_cast<std::size_t>(r)];
          const std::int32_t target = targets[static_cast<std::size_t>(r)];
          if (target < 0) {
            EXPECT_EQ(row.kl, -1) << "a row without a target was written to";
            continue;
          }
          const Expected expected =
              expected_comparison(&p_logits[static_cast<std::size_t>(r * vocab)],
                                  &q_logits[static_cast<std::size_t>(r * vocab)], vocab, target);
          // fp32 knows logits and their sums of up to 16 to 1e-6.
          EXPECT_NEAR(row.kl, expected.kl, 2e-6 + 2e-6 * expected.kl) << i << ' ' << r << ' ' << vocab;
          EXPECT_TRUE(!jsd || std::abs(row.jsd - expected.jsd) < 1e-6) << i << ' ' << r << ' ' << vocab;
          EXPECT_NEAR(row.loss, expected.loss, 3e-6 * (1 + expected.loss));
          EXPECT_EQ(row.agrees, expected.agrees) << i << ' ' << r << ' ' << vocab;
        }
        // Alone it is the same, to the last bit, and so are its losses.
        std::vector<RowComparison> alone(targets.size(), {-1, -1, -1, true});
        const Compared one{&arrays[i], alone};
        backend->compare(base, {prepared.get()}, targets, jsd, {&one, 1});
        std::vector<float> losses(targets.size());
        backend->losses(arrays[i], {prepared.get()}, targets, losses);
        for (std::size_t r = 0; r < targets.size(); ++r) {
          EXPECT_EQ(alone[r].kl, found[i][r].kl);
          EXPECT_TRUE(!jsd || alone[r].jsd == found[i][r].jsd);
          EXPECT_EQ(alone[r].loss, found[i][r].loss);
          if (targets[r] >= 0) {
            EXPECT_EQ(losses[r], found[i][r].loss);
          }
        }
      }
    }
    // The reference itself differs in nothing.
    std::vector<RowComparison> same(targets.size(), {0, 0, 0, true});
    const Compared one{&base, same};
    backend->compare(base, {prepared.get()}, targets, true, {&one, 1});
    for (const RowComparison& row : same) {
      EXPECT_EQ(row.kl, 0);
      EXPECT_EQ(row.jsd, 0);
      EXPECT_TRUE(row.agrees);
    }
  }
}

TEST_P(BackendTest, ComparisonsOfExtremeLogits) {
  // One row picks one logit column each: p and q sit on different tokens, on the same, on a tie.
  const std::vector<float> head = {-30000, 20000, 0,  // token 0
                                   30000,  20000, 0,  // token 1
                                   0,      -1,    0};
  const auto prepared = backend->prepare(view_of(head, 3, 3), {});
  const Array unit = working({1, 0, 0, 0, 1, 0, 0, 0, 1}, 3, 3);
  const Array other = working({-1, 0, 0, 1, 0, 0, 0, 1, 0}, 3, 3);
  const std::vector<std::int32_t> targets = {0, 1, 1};
  std::vector<RowComparison> rows(3);
  const Compared one{&other, rows};
  backend->compare(unit, {prepared.get()}, targets, true, {&one, 1});
  // p = token 1, q = token 0, 60000 apart.
  EXPECT_NEAR(rows[0].kl, 60000, 200);
  EXPECT_NEAR(rows[0].jsd, std::log(2.0), 1e-6);
  EXPECT_NEAR(rows[0].loss, 0, 1e-6);
  EXPECT_FALSE(rows[0].agrees);
  // p = tokens 0 and 1 alike, q = token 1.
  EXPECT_NEAR(rows[1].kl, 30000, 200);
  EXPECT_FALSE(rows[1].agrees) << "of equal ones the first counts";
  const double m = 0.75;
  // The ulp of 20000 is 0.002.
  EXPECT_NEAR(rows[1].jsd,
              0.5 * (0.5 * std::log(0.5 / 0.25) + 0.5 * std::log(0.5 / m)) + 0.5 * std::log(1 / m), 2e-4);
  // p uniform, q = tokens 0 and 1 alike.
  EXPECT_NEAR(rows[2].loss, std::log(2.0), 1e-6);
  EXPECT_TRUE(rows[2].agrees);
  EXPECT_GT(rows[2].kl, 6000);
}

TEST_P(BackendTest, ComparisonsDoNotDependOnThreads) {
  const std::int64_t rows = 200;
  const std::int64_t vocab = 3000;
  const std::int64_t depth = 32;
  const auto prepared = backend->prepare(view_of(random_values(vocab * depth, 2), vocab, depth), {});
  const Array p = working(random_values(rows * depth, 1), rows, depth);
  const Array q = working(random_values(rows * depth, 3), rows, depth);
  const std::vector<std::int32_t> targets(static_cast<std::size_t>(rows), 7);
  std::vector<std::vector<RowComparison>> found;
  for (const int threads : {1, 2, 3}) {
    work_with_threads(threads);
    found.emplace_back(targets.size());
    const Compared one{&q, found.back()};
    backend->compare(p, {prepared.get()}, targets, true, {&one, 1});
  }
  work_with_threads(0);
  for (std::size_t r = 0; r < targets.size(); ++r) {
    EXPECT_EQ(found[0][r].kl, found[1][r].kl);
    EXPECT_EQ(found[0][r].jsd, found[2][r].jsd);
    EXPECT_EQ(found[0][r].loss, found[2][r].loss);
  }
}

/// Comparisons in the kernels (maxima, bounds) are false with NaN: none of them may turn one into a number.
TEST_P(BackendTest, WhatIsNoNumberStaysNone) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  // Activations, at every place of a vector and behind the last whole one.
  for (const std::int64_t width : {5, 48, 67}) {
    std::vector<float> identity(static_cast<std::size_t>(width * width));
    for (std::int64_t i = 0; i < width; ++i) identity[static_cast<std::size_t>(i * width + i)] = 1;
    const auto one = backend->prepare(view_of(identity, width, width), {});
    std::vector<float> bias(static_cast<std::size_t>(width), 0.5f);
    bias[static_cast<std::size_t>(width - 2)] = nan;
    const auto broken = backend->prepare(view_of(identity, width, width), bias);
    const Array x = working(random_values(3 * width, 1), 3, width);
    Array out = backend->allocate(3, width, Element::working);
    for (const Activation activation :
         {Activation::silu, Activation::relu, Activation::gelu, Activation::gelu_tanh})
      for (const auto& [gate, up] :
           {std::pair<const Weight*, const Weight*>{nullptr, broken.get()}, {broken.get(), one.get()}}) {
        backend->activate(x, 3, gate, *up, activation, out);
        const auto found = values_of(out);
        for (std::int64_t i = 0; i < 3 * width; ++i)
          EXPECT_EQ(std::isnan(found[static_cast<std::size_t>(i)]), i % width == width - 2) << i;
      }
  }

  // A row whose squares overflow has no norm; its neighbours have.
  for (const Norm kind : {Norm::rms, Norm::layer})
    for (const Element element : {Element::full, Element::working}) {
      auto values = random_values(3 * 40, 1);
      values[40 + 17] = 1e25f;
      Array out = backend->allocate(3, 40, element);
      backend->norm(backend->upload(values, 3, 40), {.kind = kind, .scale = {}, .shift = {}}, 3, out);
      const auto found = values_of(out);
      for (std::int64_t i = 0; i < 3 * 40; ++i)
        EXPECT_EQ(std::isnan(found[static_cast<std::size_t>(i)]), i / 40 == 1) << i;
    }

  // Logits, divergences and losses.
  for (const std::int64_t vocab : {7, 64, 75}) {
    const std::int64_t depth = 16;
    const auto weights = random_values(vocab * depth, 2);
    const auto head = backend->prepare(view_of(weights, vocab, depth), {});
    for (const std::int64_t where : {std::int64_t{0}, vocab / 2, vocab - 1}) {
      std::vector<float> bias(static_cast<std::size_t>(vocab));
      bias[static_cast<std::size_t>(where)] = nan;
      const auto broken = backend->prepare(view_of(weights, vocab, depth), bias);
      const Array x = working(random_values(2 * depth, 3), 2, depth);
      const std::vector<std::int32_t> targets(2, static_cast<std::int32_t>((where + 1) % vocab));
      std::vector<float> losses(2);
      backend->losses(x, {broken.get()}, targets, losses);
      for (const float loss : losses) EXPECT_TRUE(std::isnan(loss)) << vocab << ' ' << where;
    }
    // A candidate whose input is broken, beside a sound reference.
    auto values = random_values(2 * depth, 3);
    const Array reference = working(values, 2, depth);
    values[3] = nan;
    const Array candidate = working(values, 2, depth);
    std::vector<RowComparison> rows(2);
    const std::vector<std::int32_t> targets(2, 1);
    const Compared compared{&candidate, rows};
    backend->compare(reference, {head.get()}, targets, true, {&compared, 1});
    EXPECT_TRUE(std::isnan(rows[0].kl));
    EXPECT_TRUE(std::isnan(rows[0].jsd)) << vocab;
    EXPECT_TRUE(std::isnan(rows[0].loss));
    EXPECT_FALSE(std::isnan(rows[1].jsd));
  }

  // Attention: of the token itself and of all that see it.
  const std::int64_t length = 21;
  const std::int64_t dim = 32;
  const AttentionShape shape{.windows = 1, .length = length, .heads = 1, .kv_heads = 1, .head_dim = dim};
  for (int broken = 0; broken < 3; ++broken) {
    std::vector<std::vector<float>> qkv;
    for (std::uint64_t seed = 1; seed <= 3; ++seed) qkv.push_back(random_values(length * dim, seed));
    constexpr std::int64_t kToken = 9;
    qkv[static_cast<std::size_t>(broken)][kToken * dim + 5] = nan;
    Array out = backend->allocate(length, dim, Element::working);
    backend->attend(shape, working(qkv[0], length, dim), working(qkv[1], length, dim),
                    working(qkv[2], length, dim), out);
    const auto found = values_of(out);
    for (std::int64_t t = 0; t < length; ++t) {
      const bool none = std::isnan(found[static_cast<std::size_t>(t * dim + 5)]);
      // A value that is no number spoils products of its tile with probabilities of 0 as well.
      if (broken == 2 && t < kToken) continue;
      EXPECT_EQ(none, broken == 0 ? t == kToken : t >= kToken) << broken << ' ' << t;
    }
  }
}

TEST_P(BackendTest, EmbeddingsInEveryType) {
  const std::int64_t rows = 9;
  const std::int64_t cols = 13;
  const std::vector<std::uint16_t> halves(static_cast<std::size_t>(rows * cols),
                                          0x3E00);  // 1.5; 0.125 in bf16
  const auto floats = random_values(rows * cols, 1);
  const std::vector<std::int32_t> ids = {8, 0, 3, 3};
  Array out = backend->allocate(4, cols, Element::full);
  backend->embed(*backend->prepare_table(view_of(floats, rows, cols)), ids, false, out);
  auto found = values_of(out);
  for (std::size_t i = 0; i < found.size(); ++i)
    EXPECT_EQ(found[i], floats[static_cast<std::size_t>(ids[i / 13] * 13) + i % 13]);
  const TensorView as_half{DType::F16, {rows, cols}, std::as_bytes(std::span(halves))};
  backend->embed(*backend->prepare_table(as_half), ids, true, out);
  const auto sum = values_of(out);
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_EQ(sum[i], found[i] + 1.5f);
  const TensorView as_bfloat{DType::BF16, {rows, cols}, std::as_bytes(std::span(halves))};
  backend->embed(*backend->prepare_table(as_bfloat), ids, false, out);
  EXPECT_EQ(values_of(out)[7], 0.125f);
}

TEST_P(BackendTest, RefusesWhatDoesNotFit) {
  const auto weight = backend->prepare(view_of(random_values(12, 1), 3, 4), {});
  Array in = backend->allocate(2, 5, Element::working);
  Array out = backend->allocate(2, 3, Element::full);
  const Product wrong{weight.get(), &out, false};
  EXPECT_THROW(backend->multiply(in, 2, {&wrong, 1}), std::invalid_argument);
  EXPECT_THROW(backend->view(in, 1, 2), std::invalid_argument);
  EXPECT_THROW(backend->upload(random_values(5, 1), 2, 3), std::invalid_argument);
  std::vector<float> too_many(11);
  EXPECT_THROW(backend->download(in, 0, too_many), std::invalid_argument);
}

std::string name_of_case(const ::testing::TestParamInfo<std::tuple<std::string, Precision>>& test) {
  return test::name_of(std::get<0>(test.param), std::get<1>(test.param));
}

INSTANTIATE_TEST_SUITE_P(Devices, BackendTest,
                         ::testing::Combine(::testing::ValuesIn(devices()),
                                            ::testing::Values(Precision::fp32, Precision::bf16)),
                         name_of_case);

}  // namespace
}  // namespace knapsaq
