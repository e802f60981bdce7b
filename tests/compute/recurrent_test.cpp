// Short convolutions, the gated delta rule and the gated norm against step by step computation in double, and
// against themselves in other batches; their gradients against differences of the double computation.

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <stdexcept>
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

class Recurrent : public ::testing::TestWithParam<std::tuple<std::string, Precision>> {
 protected:
  void SetUp() override {
    const auto& [device, precision] = GetParam();
    backend = make_backend({.device = device, .precision = precision});
    // bf16: the results' own rounding, 2^-9 of a value; inputs are rounded before either computation.
    tolerance = precision == Precision::fp32 ? 3e-6 : 4e-3;
  }

  std::vector<float> random_values(std::int64_t count, double deviation = 1) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = static_cast<float>(deviation * random.normal());
    return values;
  }
  Array working(const std::vector<float>& values, std::int64_t cols) {
    const std::int64_t rows = std::ssize(values) / cols;
    Array out = backend->allocate(rows, cols, Element::working);
    backend->convert(backend->upload(values, rows, cols), rows, out);
    return out;
  }
  Array full(const std::vector<float>& values, std::int64_t cols) {
    return backend->upload(values, std::ssize(values) / cols, cols);
  }
  std::vector<float> values_of(const Array& array) {
    std::vector<float> out(static_cast<std::size_t>(array.rows() * array.cols()));
    backend->download(array, 0, out);
    return out;
  }
  /// Values that the backend holds exactly.
  std::vector<float> held_values(std::int64_t count, double deviation = 1) {
    return values_of(working(random_values(count, deviation), count));
  }

  Random random{5};
  std::unique_ptr<Backend> backend;
  double tolerance = 0;
};

Doubles in_double(const std::vector<float>& values) { return {values.begin(), values.end()}; }

/// Largest difference as a share of the largest value.
double difference(const std::vector<float>& found, const Doubles& expected) {
  EXPECT_EQ(found.size(), expected.size());
  double worst = 0, largest = 1e-30;
  for (std::size_t i = 0; i < std::min(found.size(), expected.size()); ++i) {
    // Not std::max, which would drop a NaN.
    const double d = std::abs(static_cast<double>(found[i]) - expected[i]);
    if (!(d <= worst)) worst = d;
    largest = std::max(largest, std::abs(expected[i]));
  }
  return worst / largest;
}

std::vector<float> some_rows(const std::vector<float>& all, std::int64_t cols, std::int64_t first,
                             std::int64_t count) {
  return {all.begin() + first * cols, all.begin() + (first + count) * cols};
}

double silu(double x) { return x / (1 + std::exp(-x)); }

// ---- the computations in double ---------------------------------------------------------------------------

struct ConvolutionCase {
  std::int64_t channels, taps;
  bool biased, silu, gated;
};

/// One sequence; in [length, channels or 3 channels].
Doubles convolve(const ConvolutionCase& c, const Doubles& kernel, const Doubles& bias, const Doubles& in) {
  const std::int64_t pitch = (c.gated ? 3 : 1) * c.channels;
  const std::int64_t length = std::ssize(in) / pitch;
  const auto at = [&](const Doubles& from, std::int64_t i) { return from[static_cast<std::size_t>(i)]; };
  Doubles out;
  for (std::int64_t t = 0; t < length; ++t)
    for (std::int64_t i = 0; i < c.channels; ++i) {
      double sum = c.biased ? at(bias, i) : 0;
      for (std::int64_t j = 0; j < c.taps; ++j) {
        const std::int64_t row = t - c.taps + 1 + j;
        if (row < 0) continue;
        const double x = c.gated ? at(in, row * pitch + i) * at(in, row * pitch + 2 * c.channels + i)
                                 : at(in, row * pitch + i);
        sum += at(kernel, j * c.channels + i) * x;
      }
      if (c.silu) sum = silu(sum);
      out.push_back(c.gated ? sum * at(in, t * pitch + c.channels + i) : sum);
    }
  return out;
}

struct DeltaCase {
  std::int64_t key_heads, value_heads, key_dim, value_dim;
  std::int64_t channels() const { return 2 * key_heads * key_dim + value_heads * value_dim; }
  std::int64_t out() const { return value_heads * value_dim; }
};

struct DeltaInputs {
  Doubles qkv, a, b;  ///< of one sequence
};

/// One sequence, as Transformers' torch_recurrent_gated_delta_rule() computes it, with g and beta of a and b.
Doubles delta_rule(const DeltaCase& c, const Doubles& rates, const Doubles& dt_bias, const DeltaInputs& in) {
  const std::int64_t length = std::ssize(in.a) / c.value_heads;
  Doubles out(static_cast<std::size_t>(length * c.out()));
  for (std::int64_t h = 0; h < c.value_heads; ++h) {
    const std::int64_t key_head = h / (c.value_heads / c.key_heads);
    Doubles state(static_cast<std::size_t>(c.key_dim * c.value_dim));
    for (std::int64_t t = 0; t < length; ++t) {
      const double* row = in.qkv.data() + t * c.channels();
      const auto normed = [&](const double* x, double factor) {
        double squares = 0;
        for (std::int64_t i = 0; i < c.key_dim; ++i) squares += x[i] * x[i];
        Doubles y(x, x + c.key_dim);
        for (double& value : y) value *= factor / std::sqrt(squares + 1e-6);
        return y;
      };
      const Doubles q = normed(row + key_head * c.key_dim, 1 / std::sqrt(static_cast<double>(c.key_dim)));
      const Doubles k = normed(row + (c.key_heads + key_head) * c.key_dim, 1);
      const double* v = row + 2 * c.key_heads * c.key_dim + h * c.value_dim;
      const auto i_head = static_cast<std::size_t>(t * c.value_heads + h);
      const double beta = 1 / (1 + std::exp(-in.b[i_head]));
      const double x = in.a[i_head] + dt_bias[static_cast<std::size_t>(h)];
      const double decay = std::exp(rates[static_cast<std::size_t>(h)] * std::log1p(std::exp(x)));
      for (double& s : state) s *= decay;
      for (std::int64_t j = 0; j < c.value_dim; ++j) {
        const auto at = [&](std::int64_t i) -> double& {
          return state[static_cast<std::size_t>(i * c.value_dim + j)];
        };
        double memory = 0;
        for (std::int64_t i = 0; i < c.key_dim; ++i) memory += at(i) * k[static_cast<std::size_t>(i)];
        const double delta = (v[j] - memory) * beta;
        double read = 0;
        for (std::int64_t i = 0; i < c.key_dim; ++i) {
          at(i) += k[static_cast<std::size_t>(i)] * delta;
          read += at(i) * q[static_cast<std::size_t>(i)];
        }
        out[static_cast<std::size_t>(t * c.out() + h * c.value_dim + j)] = read;
      }
    }
  }
  return out;
}

Doubles gated_norm(const Doubles& scale, double eps, const Doubles& in, const Doubles& gate) {
  Doubles out(in.size());
  const std::size_t n = scale.size();
  for (std::size_t start = 0; start < in.size(); start += n) {
    double squares = 0;
    for (std::size_t i = 0; i < n; ++i) squares += in[start + i] * in[start + i];
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(n) + eps);
    for (std::size_t i = 0; i < n; ++i)
      out[start + i] = scale[i] * in[start + i] * inverse * silu(gate[start + i]);
  }
  return out;
}

double dot(const Doubles& a, const Doubles& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// The gradient of dot(weights, f(x)) by x, by differences.
Doubles gradient_of(const Doubles& x, const Doubles& weights,
                    const std::function<Doubles(const Doubles&)>& f) {
  constexpr double kStep = 1e-4;
  Doubles gradient;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto moved = [&](double by) {
      Doubles y = x;
      y[i] += by;
      return dot(weights, f(y));
    };
    // Exact up to the fifth derivative.
    gradient.push_back((8 * (moved(kStep) - moved(-kStep)) - (moved(2 * kStep) - moved(-2 * kStep))) /
                       (12 * kStep));
  }
  return gradient;
}

// ---- rows in every layout ---------------------------------------------------------------------------------

// Parents with several children, with an empty and a short one, and segments on their own.
const std::vector<Segment> kSegments = {{5, -1}, {1, 0},  {9, 0}, {1, -1}, {40, -1}, {0, 4},
                                        {3, 4},  {17, 4}, {2, 3}, {0, -1}, {2, 9}};
constexpr std::int64_t kSegmentRows = 80;

/// Calls check(rows of the parent and the segment, rows of the segment's result) for every segment.
void for_segments(const std::function<void(std::vector<std::int64_t>, std::int64_t, std::int64_t)>& check) {
  std::vector<std::int64_t> starts;
  std::int64_t start = 0;
  for (const Segment& segment : kSegments) {
    std::vector<std::int64_t> rows;
    if (segment.parent >= 0)
      for (std::int64_t i = 0; i < kSegments[static_cast<std::size_t>(segment.parent)].length; ++i)
        rows.push_back(starts[static_cast<std::size_t>(segment.parent)] + i);
    for (std::int64_t i = 0; i < segment.length; ++i) rows.push_back(start + i);
    check(rows, start, segment.length);
    starts.push_back(start);
    start += segment.length;
  }
}

std::vector<float> gathered(const std::vector<float>& all, std::int64_t cols,
                            const std::vector<std::int64_t>& rows) {
  std::vector<float> result;
  for (const std::int64_t row : rows)
    result.insert(result.end(), all.begin() + row * cols, all.begin() + (row + 1) * cols);
  return result;
}

/// A recurrent operation: result rows of input rows.
struct Operation {
  std::int64_t in = 0;  ///< numbers of an input row
  std::int64_t out = 0;
  RecurrentShape shape;  ///< of its state
  std::function<std::vector<float>(const RowSequences&, const std::vector<float>&)> run;
  std::function<Doubles(const std::vector<float>&)> reference;  ///< of one sequence
};

void check_layouts(Backend& backend, Operation operation, double tolerance,
                   const std::function<std::vector<float>(std::int64_t)>& inputs) {
  // Windows.
  constexpr std::int64_t kWindows = 3;
  constexpr std::int64_t kLength = 37;
  const std::vector<float> in = inputs(kWindows * kLength * operation.in);
  const std::vector<float> all = operation.run({.windows = kWindows, .length = kLength}, in);
  for (std::int64_t w = 0; w < kWindows; ++w)
    EXPECT_LE(difference(some_rows(all, operation.out, w * kLength, kLength),
                         operation.reference(some_rows(in, operation.in, w * kLength, kLength))),
              tolerance)
        << "window " << w;
  // Whatever the number of threads and the neighbours, to the bit.
  work_with_threads(1);
  EXPECT_EQ(operation.run({.windows = kWindows, .length = kLength}, in), all);
  work_with_threads(0);
  EXPECT_EQ(operation.run({.windows = 1, .length = kLength}, some_rows(in, operation.in, kLength, kLength)),
            some_rows(all, operation.out, kLength, kLength));

  // Continued in pieces: the same bits as the windows.
  operation.shape.sequences = kWindows;
  const auto state = backend.make_state(operation.shape);
  EXPECT_EQ(state->bytes() > 0, operation.shape.taps > 1 || operation.shape.value_heads > 0);
  const auto pieces = [&](std::int64_t first, std::int64_t count) {
    std::vector<std::int64_t> rows;
    for (std::int64_t w = 0; w < kWindows; ++w)
      for (std::int64_t t = first; t < first + count; ++t) rows.push_back(w * kLength + t);
    return rows;
  };
  const auto advance = [&](std::int64_t first, std::int64_t count) {
    const std::vector<std::int64_t> rows = pieces(first, count);
    EXPECT_EQ(operation.run({.windows = kWindows, .length = count, .state = state.get()},
                            gathered(in, operation.in, rows)),
              gathered(all, operation.out, rows))
        << "tokens " << first << " and " << count - 1 << " more";
  };
  advance(0, 1);
  advance(1, 1);
  advance(2, 20);
  const auto kept = state->copy();
  advance(22, 15);
  state->assign(*kept);
  advance(22, 2);
  advance(24, 1);
  state->clear();
  advance(0, kLength);

  // Segments: the bits of the window that parent and child make.
  const std::vector<float> rows = inputs(kSegmentRows * operation.in);
  const std::vector<float> together = operation.run({.segments = kSegments}, rows);
  for_segments([&](const std::vector<std::int64_t>& seen, std::int64_t start, std::int64_t length) {
    const std::vector<float> alone =
        operation.run({.windows = 1, .length = std::ssize(seen)}, gathered(rows, operation.in, seen));
    EXPECT_EQ(some_rows(together, operation.out, start, length),
              some_rows(alone, operation.out, std::ssize(seen) - length, length))
        << "segment at row " << start;
  });
}

// ---- tests ------------------------------------------------------------------------------------------------

TEST_P(Recurrent, ShortConvolutions) {
  for (const ConvolutionCase& c : {ConvolutionCase{7, 4, false, true, false},
                                   {40, 3, true, false, true},
                                   {1030, 4, true, true, false},
                                   {16, 1, false, false, false},
                                   {33, 5, true, true, true}}) {
    SCOPED_TRACE(c.channels);
    const auto kernel = random_values(c.taps * c.channels);
    const auto bias = random_values(c.channels);
    const Array kernel_array = full(kernel, c.channels);
    const Array bias_array = full(bias, c.channels);
    const ShortConvolution convolution{
        .kernel = &kernel_array, .bias = c.biased ? &bias_array : nullptr, .silu = c.silu, .gated = c.gated};
    const std::int64_t cols = (c.gated ? 3 : 1) * c.channels;
    check_layouts(*backend,
                  {.in = cols,
                   .out = c.channels,
                   .shape = {.channels = c.channels, .taps = c.taps},
                   .run =
                       [&](const RowSequences& sequences, const std::vector<float>& in) {
                         Array out = backend->allocate(std::ssize(in) / cols, c.channels, Element::working);
                         backend->short_convolution(sequences, convolution, working(in, cols), out);
                         return values_of(out);
                       },
                   .reference =
                       [&](const std::vector<float>& in) {
                         return convolve(c, in_double(kernel), in_double(bias), in_double(in));
                       }},
                  tolerance, [&](std::int64_t count) { return held_values(count); });
  }
}

const DeltaCase kDeltaCases[] = {{1, 1, 5, 7}, {2, 4, 16, 8}, {1, 3, 33, 40}, {2, 2, 128, 128}};

TEST_P(Recurrent, GatedDeltaRule) {
  for (const DeltaCase& c : kDeltaCases) {
    SCOPED_TRACE(c.key_dim);
    std::vector<float> rates = random_values(c.value_heads);
    for (float& rate : rates) rate = -std::exp(rate);
    const std::vector<float> dt_bias = random_values(c.value_heads);
    const Array rates_array = full(rates, c.value_heads);
    const Array bias_array = full(dt_bias, c.value_heads);
    const DeltaShape shape{.key_heads = c.key_heads,
                           .value_heads = c.value_heads,
                           .key_dim = c.key_dim,
                           .value_dim = c.value_dim,
                           .rates = &rates_array,
                           .dt_bias = &bias_array};
    ASSERT_EQ(shape.channels(), c.channels());
    // A row: q, k and v, then a and b.
    const std::int64_t cols = c.channels() + 2 * c.value_heads;
    const auto parts = [&](const std::vector<float>& in) {
      std::array<std::vector<float>, 3> result;
      for (std::int64_t start = 0; start < std::ssize(in); start += cols) {
        std::int64_t at = start;
        for (std::size_t i = 0; i < 3; ++i) {
          const std::int64_t width = i == 0 ? c.channels() : c.value_heads;
          result[i].insert(result[i].end(), in.begin() + at, in.begin() + at + width);
          at += width;
        }
      }
      return result;
    };
    check_layouts(*backend,
                  {.in = cols,
                   .out = c.out(),
                   .shape = {.channels = c.channels(),
                             .taps = 4,
                             .value_heads = c.value_heads,
                             .key_dim = c.key_dim,
                             .value_dim = c.value_dim},
                   .run =
                       [&](const RowSequences& sequences, const std::vector<float>& in) {
                         const auto [qkv, a, b] = parts(in);
                         Array out = backend->allocate(std::ssize(in) / cols, c.out(), Element::working);
                         backend->gated_delta_rule(sequences, shape, working(qkv, c.channels()),
                                                   full(a, c.value_heads), full(b, c.value_heads), out);
                         return values_of(out);
                       },
                   .reference =
                       [&](const std::vector<float>& in) {
                         const auto [qkv, a, b] = parts(in);
                         return delta_rule(c, in_double(rates), in_double(dt_bias),
                                           {in_double(qkv), in_double(a), in_double(b)});
                       }},
                  2 * tolerance, [&](std::int64_t count) { return held_values(count, 1.5); });
  }
}

TEST_P(Recurrent, GatedNorms) {
  for (const std::int64_t n : {1, 7, 64, 130}) {
    SCOPED_TRACE(n);
    constexpr std::int64_t kHeads = 3;
    constexpr std::int64_t kRows = 19;
    const auto scale = random_values(n);
    const auto in = held_values(kRows * kHeads * n);
    const auto gate = held_values(kRows * kHeads * n, 2);
    const NormWeights weights{.kind = Norm::rms, .eps = 1e-5f, .scale = full(scale, n), .shift = {}};
    Array out = backend->allocate(kRows, kHeads * n, Element::working);
    backend->gated_norm(working(in, kHeads * n), working(gate, kHeads * n), weights, kRows, out);
    EXPECT_LE(difference(values_of(out), gated_norm(in_double(scale), 1e-5, in_double(in), in_double(gate))),
              tolerance);
  }
}

TEST_P(Recurrent, GradientsOfShortConvolutions) {
  for (const ConvolutionCase& c : {ConvolutionCase{5, 4, false, true, false},
                                   {3, 3, true, false, true},
                                   {2, 6, true, true, true},
                                   {4, 1, true, true, false}}) {
    SCOPED_TRACE(c.channels);
    // More rows than a task has, and windows shorter than the kernel.
    for (const std::int64_t length : {35, 2}) {
      const std::int64_t cols = (c.gated ? 3 : 1) * c.channels;
      const auto kernel = random_values(c.taps * c.channels);
      const auto bias = random_values(c.channels);
      const Array kernel_array = full(kernel, c.channels);
      const Array bias_array = full(bias, c.channels);
      const ShortConvolution convolution{.kernel = &kernel_array,
                                         .bias = c.biased ? &bias_array : nullptr,
                                         .silu = c.silu,
                                         .gated = c.gated};
      const auto in = held_values(2 * length * cols);
      const auto gradient = held_values(2 * length * c.channels);
      Array of_in = backend->allocate(2 * length, cols, Element::working);
      backend->short_convolution_backward({.windows = 2, .length = length}, convolution, working(in, cols),
                                          working(gradient, c.channels), of_in);
      for (std::int64_t w = 0; w < 2; ++w)
        EXPECT_LE(difference(some_rows(values_of(of_in), cols, w * length, length),
                             gradient_of(in_double(some_rows(in, cols, w * length, length)),
                                         in_double(some_rows(gradient, c.channels, w * length, length)),
                                         [&](const Doubles& x) {
                                           return convolve(c, in_double(kernel), in_double(bias), x);
                                         })),
                  tolerance);
    }
  }
}

TEST_P(Recurrent, GradientsOfTheGatedDeltaRule) {
  for (const DeltaCase& c : {DeltaCase{1, 1, 3, 2}, {2, 4, 5, 3}, {1, 2, 17, 2}}) {
    SCOPED_TRACE(c.key_dim);
    constexpr std::int64_t kLength = 6;
    std::vector<float> rates = random_values(c.value_heads);
    for (float& rate : rates) rate = -0.3f * std::exp(rate);
    const std::vector<float> dt_bias = random_values(c.value_heads);
    const Array rates_array = full(rates, c.value_heads);
    const Array bias_array = full(dt_bias, c.value_heads);
    const DeltaShape shape{.key_heads = c.key_heads,
                           .value_heads = c.value_heads,
                           .key_dim = c.key_dim,
                           .value_dim = c.value_dim,
                           .rates = &rates_array,
                           .dt_bias = &bias_array};
    const auto qkv = held_values(2 * kLength * c.channels());
    const auto a = random_values(2 * kLength * c.value_heads);
    const auto b = random_values(2 * kLength * c.value_heads);
    const auto gradient = held_values(2 * kLength * c.out());
    DeltaGradient out{.qkv = backend->allocate(2 * kLength, c.channels(), Element::working),
                      .a = backend->allocate(2 * kLength, c.value_heads, Element::working),
                      .b = backend->allocate(2 * kLength, c.value_heads, Element::working)};
    backend->gated_delta_rule_backward({.windows = 2, .length = kLength}, shape, working(qkv, c.channels()),
                                       full(a, c.value_heads), full(b, c.value_heads),
                                       working(gradient, c.out()), out);
    for (std::int64_t w = 0; w < 2; ++w) {
      const auto window = [&](const std::vector<float>& all, std::int64_t cols) {
        return some_rows(all, cols, w * kLength, kLength);
      };
      const DeltaInputs in{in_double(window(qkv, c.channels())), in_double(window(a, c.value_heads)),
                           in_double(window(b, c.value_heads))};
      const Doubles weights = in_double(window(gradient, c.out()));
      const auto expected = [&](Doubles DeltaInputs::*part) {
        return gradient_of(in.*part, weights, [&](const Doubles& x) {
          DeltaInputs moved = in;
          moved.*part = x;
          return delta_rule(c, in_double(rates), in_double(dt_bias), moved);
        });
      };
      EXPECT_LE(difference(window(values_of(out.qkv), c.channels()), expected(&DeltaInputs::qkv)), tolerance);
      EXPECT_LE(difference(window(values_of(out.a), c.value_heads), expected(&DeltaInputs::a)), tolerance);
      EXPECT_LE(difference(window(values_of(out.b), c.value_heads), expected(&DeltaInputs::b)), tolerance);
    }
  }
}

TEST_P(Recurrent, GradientsOfGatedNorms) {
  for (const std::int64_t n : {3, 18}) {
    SCOPED_TRACE(n);
    constexpr std::int64_t kRows = 2;
    const auto scale = random_values(n);
    const auto in = held_values(kRows * 2 * n);
    const auto gate = held_values(kRows * 2 * n);
    const auto gradient = held_values(kRows * 2 * n);
    const NormWeights weights{.kind = Norm::rms, .eps = 1e-5f, .scale = full(scale, n), .shift = {}};
    Array of_in = backend->allocate(kRows, 2 * n, Element::working);
    Array of_gate = backend->allocate(kRows, 2 * n, Element::working);
    NormGradient sums;
    sums.scale.assign(static_cast<std::size_t>(n), 1);
    backend->gated_norm_backward(working(in, 2 * n), working(gate, 2 * n), weights, kRows,
                                 working(gradient, 2 * n), of_in, of_gate, &sums);
    const Doubles w = in_double(gradient), x = in_double(in), z = in_double(gate), s = in_double(scale);
    EXPECT_LE(difference(values_of(of_in),
                         gradient_of(x, w, [&](const Doubles& y) { return gated_norm(s, 1e-5, y, z); })),
              tolerance);
    EXPECT_LE(difference(values_of(of_gate),
                         gradient_of(z, w, [&](const Doubles& y) { return gated_norm(s, 1e-5, x, y); })),
              tolerance);
    Doubles of_scale = gradient_of(s, w, [&](const Doubles& y) { return gated_norm(y, 1e-5, x, z); });
    for (double& value : of_scale) value += 1;  // it is added
    EXPECT_LE(difference({sums.scale.begin(), sums.scale.end()}, of_scale), tolerance);
  }
}

TEST_P(Recurrent, WhatIsNoNumberStaysNone) {
  const Array rates = full({-1}, 1);
  const Array bias = full({0}, 1);
  const DeltaShape shape{
      .key_heads = 1, .value_heads = 1, .key_dim = 4, .value_dim = 3, .rates = &rates, .dt_bias = &bias};
  std::vector<float> qkv = random_values(3 * 11);
  qkv[11 + 9] = NAN;  // v of the second token
  Array out = backend->allocate(3, 3, Element::working);
  const Array zeros = full({0, 0, 0}, 1);
  backend->gated_delta_rule({.windows = 1, .length = 3}, shape, working(qkv, 11), zeros, zeros, out);
  const auto values = values_of(out);
  EXPECT_TRUE(std::isfinite(values[0]) && std::isfinite(values[1]) && std::isfinite(values[2]));
  EXPECT_TRUE(std::isnan(values[4]) && std::isnan(values[7]));
}

TEST_P(Recurrent, RefusesWhatDoesNotFit) {
  const Array kernel = full(random_values(12), 4);
  const ShortConvolution convolution{.kernel = &kernel};
  const Array in = working(random_values(24), 4);
  Array out = backend->allocate(6, 4, Element::working);
  const auto refused = [&](const RowSequences& sequences) {
    EXPECT_THROW(backend->short_convolution(sequences, convolution, in, out), std::invalid_argument);
  };
  refused({.windows = 2, .length = 4});  // more rows than there are
  const std::vector<Segment> own_parent = {{2, 0}};
  refused({.segments = own_parent});
  const std::vector<Segment> nested = {{2, -1}, {2, 0}, {2, 1}};
  refused({.segments = nested});
  const auto state = backend->make_state({.sequences = 1, .channels = 4, .taps = 3});
  refused({.windows = 2, .length = 3, .state = state.get()});  // of other sequences
  const auto other = backend->make_state({.sequences = 2, .channels = 4, .taps = 4});
  refused({.windows = 2, .length = 3, .state = other.get()});
  EXPECT_THROW(state->assign(*other), std::invalid_argument);
  Array narrow = backend->allocate(6, 3, Element::working);
  EXPECT_THROW(backend->short_convolution({.windows = 1, .length = 6}, convolution, in, narrow),
               std::invalid_argument);
  EXPECT_THROW(backend->make_state({.sequences = 0, .channels = 4, .taps = 3}), std::invalid_argument);
}

INSTANTIATE_TEST_SUITE_P(Devices, Recurrent,
                         ::testing::Combine(::testing::ValuesIn(devices()),
                                            ::testing::Values(Precision::fp32, Precision::bf16)),
                         [](const auto& one) {
                           return test::name_of(std::get<0>(one.param), std::get<1>(one.param));
                         });

}  // namespace
}  // namespace knapsaq
