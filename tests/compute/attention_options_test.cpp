// The options of AttentionShape, in attend() of windows and of segments, extend() and attend_backward(),
// against attention in double.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <ostream>
#include <span>
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

enum class Norms { none, heads, rows };

struct Case {
  std::string name;
  std::int64_t heads = 4;
  std::int64_t kv_heads = 2;
  std::int64_t head_dim = 32;
  std::int64_t sliding = 0;
  float scale = 0;
  float softcap = 0;
  std::int64_t pairs = 0;  ///< of numbers that are rotated
  Norms norms = Norms::none;
  bool v_norm = false;
  bool sinks = false;
  bool query_scales = false;
  std::int64_t width() const { return heads * head_dim; }
  std::int64_t kv_width() const { return kv_heads * head_dim; }
};

const std::vector<Case>& cases() {
  static const std::vector<Case> kCases = {{.name = "nothing"},
                                           {.name = "scale", .scale = 0.6f},
                                           {.name = "soft cap", .scale = 0.6f, .softcap = 1.5f},
                                           {.name = "a soft cap above all scores", .softcap = 1000},
                                           {.name = "part of a head rotated", .pairs = 5},
                                           {.name = "norms of rows", .pairs = 16, .norms = Norms::rows},
                                           {.name = "norm of values", .head_dim = 7, .v_norm = true},
                                           {.name = "sinks", .heads = 6, .kv_heads = 2, .sinks = true},
                                           {.name = "scales of queries", .query_scales = true},
                                           {.name = "all, norms of heads",
                                            .heads = 6,
                                            .kv_heads = 3,
                                            .head_dim = 40,
                                            .sliding = 17,
                                            .scale = 0.3f,
                                            .softcap = 2,
                                            .pairs = 12,
                                            .norms = Norms::heads,
                                            .v_norm = true,
                                            .sinks = true,
                                            .query_scales = true},
                                           {.name = "all, norms of rows",
                                            .heads = 3,
                                            .kv_heads = 1,
                                            .head_dim = 20,
                                            .scale = 0.3f,
                                            .softcap = 2,
                                            .pairs = 3,
                                            .norms = Norms::rows,
                                            .v_norm = true,
                                            .sinks = true,
                                            .query_scales = true}};
  return kCases;
}

/// Inputs and vectors of an attention.
template <class Number>
struct Inputs {
  std::vector<Number> q, k, v, q_norm, k_norm, cosines, sines, sinks, scales;
};

Inputs<double> in_double(const Inputs<float>& in) {
  const auto of = [](const std::vector<float>& x) { return std::vector<double>(x.begin(), x.end()); };
  return {of(in.q),       of(in.k),     of(in.v),     of(in.q_norm), of(in.k_norm),
          of(in.cosines), of(in.sines), of(in.sinks), of(in.scales)};
}

/// Where a row is in its text, and the rows that it may see, itself included.
struct Row {
  std::int64_t position;
  std::vector<std::int64_t> seen;
};

std::vector<Row> windows_of(std::int64_t windows, std::int64_t length, std::int64_t sliding) {
  std::vector<Row> rows;
  for (std::int64_t w = 0; w < windows; ++w)
    for (std::int64_t t = 0; t < length; ++t) {
      Row row{t, {}};
      for (std::int64_t j = sliding == 0 ? 0 : std::max<std::int64_t>(0, t - sliding + 1); j <= t; ++j)
        row.seen.push_back(w * length + j);
      rows.push_back(row);
    }
  return rows;
}

std::vector<Row> rows_of(std::span<const Segment> segments, std::int64_t sliding) {
  std::vector<Row> rows;
  std::vector<std::int64_t> starts;
  for (const Segment& segment : segments) {
    const auto start = std::ssize(rows);
    std::vector<std::int64_t> text;
    if (segment.parent >= 0)
      for (std::int64_t i = 0; i < segments[static_cast<std::size_t>(segment.parent)].length; ++i)
        text.push_back(starts[static_cast<std::size_t>(segment.parent)] + i);
    for (std::int64_t i = 0; i < segment.length; ++i) {
      text.push_back(start + i);
      const auto seen = sliding == 0 ? std::ssize(text) : std::min(std::ssize(text), sliding);
      rows.push_back({std::ssize(text) - 1, {text.end() - seen, text.end()}});
    }
    starts.push_back(start);
  }
  return rows;
}

void rms_norm(double* x, std::int64_t n, const double* weights) {
  double squares = 0;
  for (std::int64_t i = 0; i < n; ++i) squares += x[i] * x[i];
  const double inverse = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-6);
  for (std::int64_t i = 0; i < n; ++i) x[i] *= inverse * (weights == nullptr ? 1 : weights[i]);
}

/// x [rows, heads * head_dim] of q or k after norms and rotation.
std::vector<double> transformed(const Case& c, std::vector<double> x, std::int64_t heads,
                                const std::vector<double>& norm, const Inputs<double>& in,
                                const std::vector<Row>& rows) {
  for (std::size_t r = 0; r < rows.size(); ++r) {
    double* row = x.data() + static_cast<std::int64_t>(r) * heads * c.head_dim;
    if (c.norms == Norms::rows) rms_norm(row, heads * c.head_dim, norm.data());
    for (std::int64_t h = 0; h < heads; ++h) {
      double* head = row + h * c.head_dim;
      if (c.norms == Norms::heads) rms_norm(head, c.head_dim, norm.data());
      for (std::int64_t i = 0; i < c.pairs; ++i) {
        const auto at = static_cast<std::size_t>(rows[r].position * c.pairs + i);
        const double a = head[i];
        const double b = head[c.pairs + i];
        head[i] = a * in.cosines[at] - b * in.sines[at];
        head[c.pairs + i] = b * in.cosines[at] + a * in.sines[at];
      }
    }
  }
  return x;
}

std::vector<double> attention(const Case& c, const Inputs<double>& in, const std::vector<Row>& rows) {
  const std::vector<double> q = transformed(c, in.q, c.heads, in.q_norm, in, rows);
  const std::vector<double> k = transformed(c, in.k, c.kv_heads, in.k_norm, in, rows);
  std::vector<double> v = in.v;
  if (c.v_norm)
    for (std::int64_t at = 0; at < std::ssize(v); at += c.head_dim)
      rms_norm(v.data() + at, c.head_dim, nullptr);
  std::vector<double> out(q.size());
  for (std::int64_t r = 0; r < std::ssize(rows); ++r) {
    const Row& row = rows[static_cast<std::size_t>(r)];
    double factor = c.scale == 0 ? 1 / std::sqrt(static_cast<double>(c.head_dim)) : c.scale;
    if (c.query_scales) factor *= in.scales[static_cast<std::size_t>(row.position)];
    for (std::int64_t h = 0; h < c.heads; ++h) {
      const double* query = q.data() + r * c.width() + h * c.head_dim;
      double* result = out.data() + r * c.width() + h * c.head_dim;
      const std::int64_t column = h / (c.heads / c.kv_heads) * c.head_dim;
      double total = c.sinks ? std::exp(in.sinks[static_cast<std::size_t>(h)]) : 0;
      for (const std::int64_t j : row.seen) {
        const double* key = k.data() + j * c.kv_width() + column;
        double score = 0;
        for (std::int64_t d = 0; d < c.head_dim; ++d) score += query[d] * key[d];
        score *= factor;
        if (c.softcap != 0) score = c.softcap * std::tanh(score / c.softcap);
        const double p = std::exp(score);
        total += p;
        for (std::int64_t d = 0; d < c.head_dim; ++d)
          result[d] += p * v[static_cast<std::size_t>(j * c.kv_width() + column + d)];
      }
      for (std::int64_t d = 0; d < c.head_dim; ++d) result[d] /= total;
    }
  }
  return out;
}

class AttentionOptions : public ::testing::TestWithParam<std::tuple<std::string, Precision>> {
 protected:
  void SetUp() override {
    const auto& [device, precision] = GetParam();
    backend = make_backend({.device = device, .precision = precision});
    rounds = backend->size_of(Element::working) == 2;
  }
  void TearDown() override { work_with_threads(0); }

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
  std::vector<float> values_of(const Array& array, std::int64_t rows) {
    std::vector<float> out(static_cast<std::size_t>(rows * array.cols()));
    backend->download(array, 0, out);
    return out;
  }
  std::vector<float> rounded(const std::vector<float>& values) {
    return values_of(working(values, std::ssize(values)), 1);
  }

  Inputs<float> inputs_of(const Case& c, std::int64_t rows, std::int64_t positions) {
    Inputs<float> in;
    in.q = rounded(random_values(rows * c.width(), 1.2));
    in.k = rounded(random_values(rows * c.kv_width(), 1.2));
    in.v = rounded(random_values(rows * c.kv_width()));
    in.q_norm = random_values(c.norms == Norms::rows ? c.width() : c.head_dim);
    in.k_norm = random_values(c.norms == Norms::rows ? c.kv_width() : c.head_dim);
    for (const float angle : random_values(positions * c.pairs, 3)) {
      in.cosines.push_back(1.2f * std::cos(angle));
      in.sines.push_back(1.2f * std::sin(angle));
    }
    in.sinks = random_values(c.heads, 2);
    for (const float some : random_values(positions, 0.3)) in.scales.push_back(1.4f + some);
    return in;
  }

  /// The vectors of an attention in the backend's memory, and the shape that refers to them.
  struct Prepared {
    Array cosines, sines, q_norm, k_norm, sinks, scales;
    AttentionShape shape;
    Prepared(Backend& backend, const Case& c, const Inputs<float>& in) {
      const auto upload = [&](const std::vector<float>& x, std::int64_t cols) {
        return backend.upload(x, std::ssize(x) / cols, cols);
      };
      shape.heads = c.heads;
      shape.kv_heads = c.kv_heads;
      shape.head_dim = c.head_dim;
      shape.sliding_window = c.sliding;
      shape.scale = c.scale;
      shape.softcap = c.softcap;
      shape.v_norm = c.v_norm;
      if (c.pairs > 0) {
        cosines = upload(in.cosines, c.pairs);
        sines = upload(in.sines, c.pairs);
        shape.cosines = &cosines;
        shape.sines = &sines;
      }
      if (c.norms != Norms::none) {
        q_norm = upload(in.q_norm, std::ssize(in.q_norm));
        k_norm = upload(in.k_norm, std::ssize(in.k_norm));
        shape.q_norm = &q_norm;
        shape.k_norm = &k_norm;
      }
      if (c.sinks) {
        sinks = upload(in.sinks, c.heads);
        shape.sinks = &sinks;
      }
      if (c.query_scales) {
        scales = upload(in.scales, 1);
        shape.query_scales = &scales;
      }
    }
    Prepared(const Prepared&) = delete;
    Prepared& operator=(const Prepared&) = delete;
  };

  void expect_close(const std::vector<float>& found, const std::vector<double>& expected, double tolerance) {
    ASSERT_EQ(found.size(), expected.size());
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      if (std::abs(static_cast<double>(found[i]) - expected[i]) <= tolerance * (1 + std::abs(expected[i])))
        continue;
      if (++wrong < 4) ADD_FAILURE() << "number " << i << ": " << found[i] << " for " << expected[i];
    }
    EXPECT_EQ(wrong, 0u);
  }

  /// Products of bf16 pairs round keys, queries, probabilities and outputs, by 2^-9 of their size each, of
  /// which scores of some units make twenty times as much of a probability; a wrong option changes outputs by
  /// their size.
  double tolerance() const { return rounds ? 0.06 : 1e-5; }

  Random random{11};
  std::unique_ptr<Backend> backend;
  bool rounds = false;
};

TEST_P(AttentionOptions, Windows) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    for (const auto& [windows, length] : {std::pair<std::int64_t, std::int64_t>{3, 19}, {1, 150}}) {
      const Inputs<float> in = inputs_of(c, windows * length, length);
      Prepared prepared(*backend, c, in);
      prepared.shape.windows = windows;
      prepared.shape.length = length;
      Array out = backend->allocate(windows * length, c.width(), Element::working);
      backend->attend(prepared.shape, working(in.q, c.width()), working(in.k, c.kv_width()),
                      working(in.v, c.kv_width()), out);
      expect_close(values_of(out, windows * length),
                   attention(c, in_double(in), windows_of(windows, length, c.sliding)), tolerance());
    }
  }
}

TEST_P(AttentionOptions, Segments) {
  const std::vector<Segment> segments = {{40, -1}, {1, 0}, {7, -1}, {33, 0}, {90, 2}, {5, -1}};
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const Inputs<float> in = inputs_of(c, 176, 97);
    Prepared prepared(*backend, c, in);
    Array out = backend->allocate(176, c.width(), Element::working);
    backend->attend(prepared.shape, segments, working(in.q, c.width()), working(in.k, c.kv_width()),
                    working(in.v, c.kv_width()), out);
    expect_close(values_of(out, 176), attention(c, in_double(in), rows_of(segments, c.sliding)), tolerance());
  }
}

TEST_P(AttentionOptions, Caches) {
  // Prompts, tokens one by one and a few at a time; then a second piece of the cache.
  const std::vector<std::int64_t> turns[] = {{30, 1, 1, 5, 20, 1}, {1, 1, 1}, {258, 1, 1}};
  for (const Case& c : cases()) {
    for (const CacheElement element : {CacheElement::working, CacheElement::half, CacheElement::int8}) {
      for (const std::vector<std::int64_t>& pieces : turns) {
        SCOPED_TRACE(c.name + ", element " + std::to_string(static_cast<int>(element)) + ", first " +
                     std::to_string(pieces[0]));
        constexpr std::int64_t kWindows = 2;
        std::int64_t length = 0;
        for (const std::int64_t piece : pieces) length += piece;
        const Inputs<float> in = inputs_of(c, kWindows * length, length);
        Prepared prepared(*backend, c, in);
        AttentionShape& shape = prepared.shape;
        shape.windows = kWindows;
        shape.length = length + 3;
        const auto cache = backend->make_cache(shape, element);
        std::vector<float> found(in.q.size());
        for (const std::int64_t piece : pieces) {
          shape.length = piece;
          const auto rows_at = [&](const std::vector<float>& all, std::int64_t cols) {
            std::vector<float> some;
            for (std::int64_t w = 0; w < kWindows; ++w) {
              const auto from = all.begin() + (w * length + shape.past) * cols;
              some.insert(some.end(), from, from + piece * cols);
            }
            return working(some, cols);
          };
          Array out = backend->allocate(kWindows * piece, c.width(), Element::working);
          backend->extend(shape, rows_at(in.q, c.width()), rows_at(in.k, c.kv_width()),
                          rows_at(in.v, c.kv_width()), *cache, out);
          const std::vector<float> values = values_of(out, kWindows * piece);
          for (std::int64_t w = 0; w < kWindows; ++w)
            std::copy_n(values.begin() + w * piece * c.width(), piece * c.width(),
                        found.begin() + (w * length + shape.past) * c.width());
          shape.past += piece;
        }
        // Keys and values in fp16 are off by 2^-12 of their size, in int8 by 1/254 of the largest of a head.
        double allowed = tolerance();
        if (element == CacheElement::half) allowed = std::max(allowed, 5e-3);
        if (element == CacheElement::int8) allowed = 0.1;
        expect_close(found, attention(c, in_double(in), windows_of(kWindows, length, c.sliding)), allowed);
      }
    }
  }
}

/// The sum of the outputs, weighted by `weights`.
double weighted(const std::vector<double>& outputs, const std::vector<float>& weights) {
  double sum = 0;
  for (std::size_t i = 0; i < outputs.size(); ++i) sum += outputs[i] * static_cast<double>(weights[i]);
  return sum;
}

// Every gradient along some directions, each a random sign for every number, against differences of the
// attention in double.
TEST_P(AttentionOptions, Gradients) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    for (const auto& [windows, length] : {std::pair<std::int64_t, std::int64_t>{2, 11}, {1, 140}}) {
      const std::int64_t rows = windows * length;
      const Inputs<float> in = inputs_of(c, rows, length);
      const std::vector<float> weights = rounded(random_values(rows * c.width()));
      Prepared prepared(*backend, c, in);
      prepared.shape.windows = windows;
      prepared.shape.length = length;
      AttentionGradient gradient{.q = backend->allocate(rows, c.width(), Element::working),
                                 .k = backend->allocate(rows, c.kv_width(), Element::working),
                                 .v = backend->allocate(rows, c.kv_width(), Element::working),
                                 .q_norm = {},
                                 .k_norm = {},
                                 .sinks = {}};
      if (c.norms != Norms::none) {
        gradient.q_norm.resize(in.q_norm.size(), 0.5);
        gradient.k_norm.resize(in.k_norm.size(), 0.5);
      }
      if (c.sinks) gradient.sinks.resize(in.sinks.size(), 0.5);
      backend->attend_backward(prepared.shape, working(in.q, c.width()), working(in.k, c.kv_width()),
                               working(in.v, c.kv_width()), working(weights, c.width()), gradient);

      const std::vector<Row> layout = windows_of(windows, length, c.sliding);
      Inputs<double> at = in_double(in);
      const auto check = [&](const char* what, std::vector<double>& x, const std::vector<double>& found) {
        ASSERT_EQ(found.size(), x.size()) << what;
        const std::vector<double> start = x;
        for (int repeat = 0; repeat < (length > 100 ? 1 : 3); ++repeat) {
          std::vector<double> direction(x.size());
          for (double& one : direction) one = random.below(2) == 0 ? 1 : -1;
          constexpr double kStep = 1e-5;
          double sums[2];
          for (const int side : {0, 1}) {
            for (std::size_t i = 0; i < x.size(); ++i)
              x[i] = start[i] + (side == 0 ? -kStep : kStep) * direction[i];
            sums[side] = weighted(attention(c, at, layout), weights);
          }
          x = start;
          double along = 0;
          double squares = 0;
          for (std::size_t i = 0; i < x.size(); ++i) {
            along += found[i] * direction[i];
            squares += found[i] * found[i];
          }
          // A sum of random signs has the size of the gradient; so have errors of its parts.
          EXPECT_NEAR(along, (sums[1] - sums[0]) / (2 * kStep),
                      (rounds ? 0.1 : 1e-4) * std::sqrt(squares) + 1e-6)
              << what << " of " << length;
        }
      };
      const auto doubles = [&](const Array& array) {
        const std::vector<float> values = values_of(array, rows);
        return std::vector<double>(values.begin(), values.end());
      };
      const auto without_half = [](std::vector<double> x) {
        for (double& one : x) one -= 0.5;
        return x;
      };
      check("q", at.q, doubles(gradient.q));
      check("k", at.k, doubles(gradient.k));
      check("v", at.v, doubles(gradient.v));
      if (c.norms != Norms::none) {
        check("q norm", at.q_norm, without_half(gradient.q_norm));
        check("k norm", at.k_norm, without_half(gradient.k_norm));
      }
      if (c.sinks) check("sinks", at.sinks, without_half(gradient.sinks));
    }
  }
}

TEST_P(AttentionOptions, DoNotDependOnThreads) {
  const Case& c = cases().back();
  constexpr std::int64_t kLength = 300;
  const Inputs<float> in = inputs_of(c, kLength, kLength);
  Prepared prepared(*backend, c, in);
  prepared.shape.windows = 1;
  prepared.shape.length = kLength;
  const Array q = working(in.q, c.width());
  const Array k = working(in.k, c.kv_width());
  const Array v = working(in.v, c.kv_width());
  const auto run = [&] {
    Array out = backend->allocate(kLength, c.width(), Element::working);
    backend->attend(prepared.shape, q, k, v, out);
    AttentionGradient gradient{.q = backend->allocate(kLength, c.width(), Element::working),
                               .k = backend->allocate(kLength, c.kv_width(), Element::working),
                               .v = backend->allocate(kLength, c.kv_width(), Element::working),
                               .q_norm = std::vector<double>(in.q_norm.size()),
                               .k_norm = std::vector<double>(in.k_norm.size()),
                               .sinks = std::vector<double>(in.sinks.size())};
    backend->attend_backward(prepared.shape, q, k, v, q, gradient);
    return std::tuple(values_of(out, kLength), values_of(gradient.q, kLength), values_of(gradient.k, kLength),
                      values_of(gradient.v, kLength), gradient.q_norm, gradient.k_norm, gradient.sinks);
  };
  work_with_threads(1);
  const auto expected = run();
  work_with_threads(3);
  EXPECT_TRUE(run() == expected);
}

TEST_P(AttentionOptions, ExtremeNumbers) {
  // A sink far above all scores takes everything, one far below nothing; a cap holds scores of any size.
  Case c{.name = "", .heads = 3, .kv_heads = 1, .head_dim = 16, .softcap = 3, .sinks = true};
  Inputs<float> in = inputs_of(c, 20, 20);
  in.sinks = {1e4f, -1e4f, 0};
  for (std::int64_t i = 0; i < 16; ++i) in.q[static_cast<std::size_t>(5 * c.width() + 16 + i)] *= 1e6f;
  in.q = rounded(in.q);
  const auto run = [&] {
    Prepared prepared(*backend, c, in);
    prepared.shape.windows = 1;
    prepared.shape.length = 20;
    Array out = backend->allocate(20, c.width(), Element::working);
    backend->attend(prepared.shape, working(in.q, c.width()), working(in.k, c.kv_width()),
                    working(in.v, c.kv_width()), out);
    return values_of(out, 20);
  };
  std::vector<float> found = run();
  for (std::int64_t r = 0; r < 20; ++r)
    for (std::int64_t i = 0; i < 16; ++i)
      EXPECT_LE(std::abs(found[static_cast<std::size_t>(r * c.width() + i)]), 1e-30f);
  in.sinks[0] = 0;
  found = run();
  expect_close(found, attention(c, in_double(in), windows_of(1, 20, 0)), tolerance());
  // What is no number stays none, for the rows that see it.
  in.k[9 * 16 + 3] = std::numeric_limits<float>::quiet_NaN();
  found = run();
  for (std::int64_t r = 0; r < 20; ++r)
    EXPECT_EQ(std::isnan(found[static_cast<std::size_t>(r * c.width() + 20)]), r >= 9) << r;
}

TEST_P(AttentionOptions, RefusesWhatDoesNotFit) {
  const Case c{.name = "", .heads = 4, .kv_heads = 2, .head_dim = 8, .pairs = 4};
  const Inputs<float> in = inputs_of(c, 6, 6);
  Prepared prepared(*backend, c, in);
  prepared.shape.windows = 1;
  prepared.shape.length = 6;
  Array q = working(in.q, c.width());
  const Array k = working(in.k, c.kv_width());
  const auto table = [&](std::int64_t rows, std::int64_t cols) {
    return backend->allocate(rows, cols, Element::full);
  };
  const auto refused = [&](const std::function<void(AttentionShape&)>& change) {
    AttentionShape shape = prepared.shape;
    Array out = backend->allocate(6, c.width(), Element::working);
    backend->attend(shape, q, k, k, out);
    change(shape);
    EXPECT_THROW(backend->attend(shape, q, k, k, out), std::invalid_argument);
  };
  const Array wide = table(6, 5);
  refused([&](AttentionShape& shape) { shape.cosines = shape.sines = &wide; });
  const Array narrow = table(6, 3);
  refused([&](AttentionShape& shape) { shape.sines = &narrow; });
  const Array few = table(5, 4);
  refused([&](AttentionShape& shape) { shape.cosines = shape.sines = &few; });
  const Array of_keys = table(1, 16);
  refused([&](AttentionShape& shape) { shape.q_norm = &of_keys; });
  const Array of_queries = table(1, 32);
  refused([&](AttentionShape& shape) { shape.k_norm = &of_queries; });
  const Array two = table(1, 2);
  refused([&](AttentionShape& shape) { shape.sinks = &two; });
  const Array five = table(5, 1);
  refused([&](AttentionShape& shape) { shape.query_scales = &five; });
  refused([&](AttentionShape& shape) { shape.softcap = -1; });
}

std::string name_of(const ::testing::TestParamInfo<AttentionOptions::ParamType>& info) {
  return test::name_of(std::get<0>(info.param), std::get<1>(info.param));
}

INSTANTIATE_TEST_SUITE_P(Devices, AttentionOptions,
                         ::testing::Combine(::testing::ValuesIn(devices()),
                                            ::testing::Values(Precision::fp32, Precision::bf16)),
                         name_of);

}  // namespace
}  // namespace knapsaq
