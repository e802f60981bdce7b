// Backend::extend(): caches of all elements, one token and many at a time, against attention in double.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <ostream>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "compute/device_names.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/random.h"
#include "knapsaq/compute/backend.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

struct Case {
  std::int64_t windows, length, heads, kv_heads, head_dim, sliding;
  bool transformed;                  ///< heads of q and k are normed and rotated
  std::vector<std::int64_t> pieces;  ///< tokens that come at once; the last number goes on for ever
  std::int64_t rows() const { return windows * length; }
  std::int64_t width() const { return heads * head_dim; }
  std::int64_t kv_width() const { return kv_heads * head_dim; }
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  out << c.windows << 'x' << c.length << " heads " << c.heads << '/' << c.kv_heads << " of " << c.head_dim
      << " sliding " << c.sliding << (c.transformed ? " transformed" : "") << " pieces";
  for (const std::int64_t piece : c.pieces) out << ' ' << piece;
  return out;
}

std::vector<float> random_values(std::int64_t count, std::uint64_t seed, double deviation = 1) {
  Random random(seed);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(deviation * random.normal());
  return values;
}

/// RMS norm and rotation of every head of every row, in double.
std::vector<double> transformed(const Case& c, const std::vector<float>& x, std::int64_t heads,
                                const std::vector<float>& norm, const std::vector<float>& cosines,
                                const std::vector<float>& sines) {
  std::vector<double> out(x.begin(), x.end());
  if (!c.transformed) return out;
  const std::int64_t half = c.head_dim / 2;
  for (std::int64_t r = 0; r < c.rows(); ++r) {
    const std::int64_t position = r % c.length;
    for (std::int64_t h = 0; h < heads; ++h) {
      double* one = out.data() + (r * heads + h) * c.head_dim;
      double squares = 0;
      for (std::int64_t d = 0; d < c.head_dim; ++d) squares += one[d] * one[d];
      const double inverse = 1 / std::sqrt(squares / static_cast<double>(c.head_dim) + 1e-6);
      for (std::int64_t d = 0; d < c.head_dim; ++d) one[d] *= inverse * norm[static_cast<std::size_t>(d)];
      for (std::int64_t d = 0; d < half; ++d) {
        const double cosine = cosines[static_cast<std::size_t>(position * half + d)];
        const double sine = sines[static_cast<std::size_t>(position * half + d)];
        const double a = one[d];
        const double b = one[half + d];
        one[d] = a * cosine - b * sine;
        one[half + d] = b * cosine + a * sine;
      }
    }
  }
  return out;
}

/// What a cache makes of one head of a token.
void round_head(CacheElement element, double* x, std::int64_t n) {
  if (element == CacheElement::working) return;
  float largest = 0;
  for (std::int64_t d = 0; d < n; ++d) largest = std::max(largest, std::abs(static_cast<float>(x[d])));
  for (std::int64_t d = 0; d < n; ++d) {
    if (element == CacheElement::half) {
      x[d] = half_to_float(float_to_half(static_cast<float>(x[d])));
    } else if (largest > 0) {
      x[d] = std::nearbyint(x[d] * 127 / largest) * (largest / 127);
    }
  }
}

/// No numbers so near the middle of two codes that fp32 may round them to either.
void avoid_ties(std::vector<float>& x, std::int64_t head_dim) {
  for (std::int64_t i = 0; i < std::ssize(x); i += head_dim) {
    const std::span<float> head(x.data() + i, static_cast<std::size_t>(head_dim));
    float largest = 0;
    for (const float one : head) largest = std::max(largest, std::abs(one));
    for (float& one : head) {
      const double code = one * 127.0 / largest;
      if (std::abs(code - std::floor(code) - 0.5) < 1e-3) one = 0;
    }
  }
}

struct Reference {
  std::vector<double> values;  ///< [rows, width]
  /// How far rounding of keys and values, as the cache does it, can carry each of them.
  std::vector<double> bounds;
};

/// Attention in double. A relative error e of every key number moves a score by at most e sum |q| |k|, and
/// scores that are off by s at most make probabilities of a sum of 1 whose differences sum up to e^2s - 1;
/// values add their own error. int8 keeps numbers to 1/254 of the largest of the head, fp16 to 2^-11 of
/// themselves. `inputs`: another relative error, of everything.
Reference attention(const Case& c, const std::vector<double>& q, const std::vector<double>& k,
                    const std::vector<float>& v, CacheElement element, double inputs) {
  Reference out;
  out.values.resize(q.size());
  out.bounds.resize(q.size());
  const double root = std::sqrt(static_cast<double>(c.head_dim));
  const auto n = static_cast<std::size_t>(c.head_dim);
  std::vector<double> scores(static_cast<std::size_t>(c.length));
  for (std::int64_t w = 0; w < c.windows; ++w) {
    for (std::int64_t h = 0; h < c.heads; ++h) {
      const std::int64_t kv = h / (c.heads / c.kv_heads);
      for (std::int64_t t = 0; t < c.length; ++t) {
        const std::int64_t row = ((w * c.length + t) * c.heads + h) * c.head_dim;
        const double* query = q.data() + row;
        const std::int64_t first = c.sliding == 0 ? 0 : std::max<std::int64_t>(0, t - c.sliding + 1);
        double largest = -1e300;
        double furthest = 0;
        double largest_value = 0;
        for (std::int64_t j = first; j <= t; ++j) {
          const std::int64_t at = ((w * c.length + j) * c.kv_heads + kv) * c.head_dim;
          double sum = 0;
          double magnitudes = 0;
          double query_sum = 0;
          double largest_key = 0;
          for (std::size_t d = 0; d < n; ++d) {
            const double key = k[static_cast<std::size_t>(at) + d];
            sum += query[d] * key;
            magnitudes += std::abs(query[d] * key);
            query_sum += std::abs(query[d]);
            largest_key = std::max(largest_key, std::abs(key));
            largest_value =
                std::max(largest_value, static_cast<double>(std::abs(v[static_cast<std::size_t>(at) + d])));
          }
          double error = inputs * magnitudes;
          if (element == CacheElement::half) error += 0x1p-11 * magnitudes;
          if (element == CacheElement::int8) error += query_sum * largest_key / 254;
          furthest = std::max(furthest, error / root);
          scores[static_cast<std::size_t>(j)] = sum / root;
          largest = std::max(largest, sum / root);
        }
        double total = 0;
        for (std::int64_t j = first; j <= t; ++j) {
          const std::int64_t at = ((w * c.length + j) * c.kv_heads + kv) * c.head_dim;
          const double p = std::exp(scores[static_cast<std::size_t>(j)] - largest);
          total += p;
          for (std::size_t d = 0; d < n; ++d)
            out.values[static_cast<std::size_t>(row) + d] += p * v[static_cast<std::size_t>(at) + d];
        }
        double of_value = inputs;
        if (element == CacheElement::half) of_value += 0x1p-11;
        if (element == CacheElement::int8) of_value += 1.0 / 254;
        for (std::size_t d = 0; d < n; ++d) {
          out.values[static_cast<std::size_t>(row) + d] /= total;
          out.bounds[static_cast<std::size_t>(row) + d] =
              (std::exp(2 * furthest) - 1 + of_value) * largest_value;
        }
      }
    }
  }
  return out;
}

class CachedAttentionTest
    : public ::testing::TestWithParam<std::tuple<std::string, Precision, CacheElement>> {
 protected:
  void SetUp() override {
    const auto& [device, precision, cached] = GetParam();
    backend = make_backend({.device = device, .precision = precision});
    element = cached;
    rounds = backend->size_of(Element::working) == 2;
  }
  void TearDown() override { work_with_threads(0); }

  Array working(const std::vector<float>& values, std::int64_t rows, std::int64_t cols) {
    Array out = backend->allocate(rows, cols, Element::working);
    backend->convert(backend->upload(values, rows, cols), rows, out);
    return out;
  }
  /// As they are once they are `working`.
  std::vector<float> rounded(const std::vector<float>& values) {
    std::vector<float> out(values.size());
    backend->download(working(values, 1, std::ssize(values)), 0, out);
    return out;
  }

  /// Rows [first, first + count) of every window.
  static std::vector<float> some_rows(const Case& c, const std::vector<float>& all, std::int64_t cols,
                                      std::int64_t first, std::int64_t count) {
    std::vector<float> some;
    for (std::int64_t w = 0; w < c.windows; ++w) {
      const auto from = all.begin() + (w * c.length + first) * cols;
      some.insert(some.end(), from, from + count * cols);
    }
    return some;
  }

  struct Inputs {
    std::vector<float> q, k, v, norm, cosines, sines;
  };
  Inputs inputs_of(const Case& c) {
    Inputs in;
    // Scores of some units: the softmax is far from flat.
    in.q = rounded(random_values(c.rows() * c.width(), 1, 1.5));
    in.k = rounded(random_values(c.rows() * c.kv_width(), 2, 1.5));
    in.v = rounded(random_values(c.rows() * c.kv_width(), 3));
    in.norm = random_values(c.head_dim, 4);
    const auto angles = random_values(c.length * (c.head_dim / 2), 5, 3);
    for (const float angle : angles) {
      in.cosines.push_back(std::cos(angle));
      in.sines.push_back(std::sin(angle));
    }
    return in;
  }

  /// All rows of the output, computed in the case's pieces.
  std::vector<float> extend(const Case& c, const Inputs& in) {
    Array cosines;
    Array sines;
    Array norm;
    AttentionShape shape;
    shape.windows = c.windows;
    shape.length = c.length + 5;  // more room than needed
    shape.heads = c.heads;
    shape.kv_heads = c.kv_heads;
    shape.head_dim = c.head_dim;
    shape.sliding_window = c.sliding;
    if (c.transformed) {
      cosines = backend->upload(in.cosines, c.length, c.head_dim / 2);
      sines = backend->upload(in.sines, c.length, c.head_dim / 2);
      norm = backend->upload(in.norm, 1, c.head_dim);
      shape.cosines = &cosines;
      shape.sines = &sines;
      shape.q_norm = shape.k_norm = &norm;
    }
    const auto cache = backend->make_cache(shape, element);
    std::vector<float> all(static_cast<std::size_t>(c.rows() * c.width()));
    std::size_t piece = 0;
    for (shape.past = 0; shape.past < c.length; shape.past += shape.length) {
      shape.length = std::min(c.pieces[piece], c.length - shape.past);
      piece = std::min(piece + 1, c.pieces.size() - 1);
      const std::int64_t rows = c.windows * shape.length;
      Array out = backend->allocate(rows, c.width(), Element::working);
      backend->extend(shape,
                      working(some_rows(c, in.q, c.width(), shape.past, shape.length), rows, c.width()),
                      working(some_rows(c, in.k, c.kv_width(), shape.past, shape.length), rows, c.kv_width()),
                      working(some_rows(c, in.v, c.kv_width(), shape.past, shape.length), rows, c.kv_width()),
                      *cache, out);
      std::vector<float> values(static_cast<std::size_t>(rows * c.width()));
      backend->download(out, 0, values);
      for (std::int64_t w = 0; w < c.windows; ++w)
        std::copy_n(values.begin() + w * shape.length * c.width(), shape.length * c.width(),
                    all.begin() + (w * c.length + shape.past) * c.width());
    }
    return all;
  }

  void expect_close(const Case& c, const std::vector<float>& found, const Reference& expected,
                    double tolerance) {
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      const double allowed = expected.bounds[i] + tolerance * (1 + std::abs(expected.values[i]));
      if (std::abs(found[i] - expected.values[i]) <= allowed) continue;
      if (++wrong < 4)
        ADD_FAILURE() << backend->description() << ": " << c << ": row "
                      << i / static_cast<std::size_t>(c.width()) << " column "
                      << i % static_cast<std::size_t>(c.width()) << ": " << found[i] << " for "
                      << expected.values[i] << ", allowed " << allowed;
    }
    EXPECT_EQ(wrong, 0u);
  }

  std::unique_ptr<Backend> backend;
  CacheElement element = CacheElement::working;
  bool rounds = false;  ///< products read bf16
};

// One token at a time reads the cache as it is. Keys and values that are rounded here as the cache says leave
// only fp32 arithmetic: any token too many or too few shows.
TEST_P(CachedAttentionTest, OneTokenReadsWhatTheCacheKeeps) {
  for (const Case& c : {Case{1, 1, 1, 1, 1, 0, false, {1}},
                        {3, 19, 2, 1, 7, 0, false, {1}},
                        {1, 40, 3, 1, 32, 0, false, {1}},
                        {2, 33, 8, 2, 64, 0, false, {1}},
                        {1, 50, 5, 1, 80, 0, false, {1}},
                        {1, 50, 6, 1, 96, 17, false, {1}},
                        {1, 36, 7, 1, 128, 1, false, {1}},
                        {2, 35, 8, 1, 256, 16, false, {1}},
                        {1, 30, 22, 2, 48, 0, false, {1}},
                        // Several pieces, whole ones and parts, and windows that begin in any of them.
                        {1, 530, 4, 2, 16, 0, false, {1}},
                        {1, 530, 2, 1, 20, 259, false, {1}},
                        {2, 1030, 4, 4, 64, 0, false, {1000, 1}},
                        {1, 1030, 8, 1, 64, 511, false, {1020, 1}}}) {
    Inputs in = inputs_of(c);
    if (element == CacheElement::int8) {
      avoid_ties(in.k, c.head_dim);
      avoid_ties(in.v, c.head_dim);
    }
    std::vector<double> k(in.k.begin(), in.k.end());
    std::vector<double> v(in.v.begin(), in.v.end());
    for (std::int64_t i = 0; i < c.rows() * c.kv_heads; ++i) {
      round_head(element, k.data() + i * c.head_dim, c.head_dim);
      round_head(element, v.data() + i * c.head_dim, c.head_dim);
    }
    // A `working` cache of bf16 rounds queries and probabilities, too.
    const double inputs = rounds && element == CacheElement::working ? 3 * 0x1p-8 : 0;
    Reference expected =
        attention(c, {in.q.begin(), in.q.end()}, k, {v.begin(), v.end()}, CacheElement::working, inputs);
    const std::vector<float> found = extend(c, in);
    // What came before the single tokens is the next test's.
    const std::int64_t before = c.pieces[0] == 1 ? 0 : c.pieces[0];
    for (std::int64_t r = 0; r < c.rows(); ++r) {
      if (r % c.length >= before) continue;
      for (std::int64_t i = r * c.width(); i < (r + 1) * c.width(); ++i)
        expected.bounds[static_cast<std::size_t>(i)] = 100;
    }
    // Outputs are rounded to bf16, by 2^-8 of them at most; fp32: scores of up to 20 with an error of 2^-24
    // for each of some hundred terms.
    expect_close(c, found, expected, rounds ? 0x1p-8 + 2e-5 : 2e-5);
  }
}

TEST_P(CachedAttentionTest, IsAttentionToTheRoundingOfTheCache) {
  for (const Case& c : {Case{1, 5, 1, 1, 2, 0, true, {1}},
                        {3, 41, 6, 2, 80, 0, true, {1}},
                        {2, 70, 4, 1, 64, 9, true, {1}},
                        {1, 300, 2, 2, 32, 0, true, {1}},
                        {1, 90, 3, 3, 128, 0, true, {89, 1}},
                        // More tokens than a tile of queries, a block of keys; turns of a conversation.
                        {2, 300, 4, 2, 64, 0, true, {300}},
                        {2, 131, 4, 2, 64, 0, true, {1, 2, 3, 64, 5, 1, 7}},
                        {1, 700, 2, 1, 80, 0, true, {65, 1, 513, 2, 1, 50}},
                        {1, 400, 2, 1, 64, 100, true, {150, 130, 1, 40}},
                        {2, 560, 6, 2, 32, 0, true, {3, 490, 16, 17, 2, 32}},
                        {3, 150, 8, 1, 32, 3, false, {17, 16, 15, 1, 31}},
                        {2, 60, 2, 1, 20, 0, false, {16, 32}},
                        {1, 100, 1, 1, 7, 0, false, {3, 60, 9}},
                        {1, 90, 2, 1, 256, 0, true, {30, 20, 1, 20}}}) {
    const Inputs in = inputs_of(c);
    const auto q = transformed(c, in.q, c.heads, in.norm, in.cosines, in.sines);
    const auto k = transformed(c, in.k, c.kv_heads, in.norm, in.cosines, in.sines);
    // bf16 panels round keys, values, queries, probabilities and the output by 2^-8 each.
    const Reference expected = attention(c, q, k, in.v, element, rounds ? 3 * 0x1p-8 : 0);
    expect_close(c, extend(c, in), expected, rounds ? 0x1p-8 : 2e-5);
  }
}

TEST_P(CachedAttentionTest, RandomPiecesAreTokenByToken) {
  Random random(7);
  for (int repeat = 0; repeat < 4; ++repeat) {
    Case c{1 + static_cast<std::int64_t>(random.below(3)),
           200 + static_cast<std::int64_t>(random.below(150)),
           4,
           2,
           16 * (1 + static_cast<std::int64_t>(random.below(4))),
           random.below(2) == 0 ? 0 : 1 + static_cast<std::int64_t>(random.below(120)),
           true,
           {}};
    for (std::int64_t sum = 0; sum < c.length; sum += c.pieces.back())
      c.pieces.push_back(1 + static_cast<std::int64_t>(random.below(random.below(2) == 0 ? 4 : 90)));
    const Inputs in = inputs_of(c);
    const std::vector<float> found = extend(c, in);
    const auto q = transformed(c, in.q, c.heads, in.norm, in.cosines, in.sines);
    const auto k = transformed(c, in.k, c.kv_heads, in.norm, in.cosines, in.sines);
    Reference one_by_one = attention(c, q, k, in.v, element, rounds ? 3 * 0x1p-8 : 0);
    c.pieces = {1};
    const std::vector<float> expected = extend(c, in);
    one_by_one.values.assign(expected.begin(), expected.end());
    expect_close(c, found, one_by_one, rounds ? 0x1p-7 : 4e-5);
  }
}

TEST_P(CachedAttentionTest, DoesNotDependOnTheThreads) {
  for (const Case& c :
       {Case{1, 900, 4, 1, 64, 0, true, {600, 1, 1, 140, 1, 1}}, {2, 520, 4, 2, 32, 300, true, {500, 1}}}) {
    const Inputs in = inputs_of(c);
    work_with_threads(1);
    const std::vector<float> expected = extend(c, in);
    for (const int threads : {2, 5}) {
      work_with_threads(threads);
      EXPECT_EQ(extend(c, in), expected) << c << ' ' << threads;
    }
  }
}

TEST_P(CachedAttentionTest, ExtremeNumbers) {
  // The first of two tokens: beyond fp16, zeros, or NaN; a query of zeros weighs both alike.
  const Case c{1, 2, 1, 1, 16, 0, false, {1}};
  Inputs in = inputs_of(c);
  std::fill(in.q.begin(), in.q.end(), 0.0f);
  const auto second = std::vector<float>(in.v.begin() + 16, in.v.end());
  const auto expect_mean = [&](float first) {
    std::fill_n(in.v.begin(), 16, first);
    std::fill_n(in.k.begin(), 16, first);
    const auto found = extend(c, in);
    const float kept = element == CacheElement::half ? std::clamp(first, -65504.0f, 65504.0f) : first;
    for (std::size_t d = 0; d < 16; ++d)
      EXPECT_NEAR(found[16 + d], (kept + second[d]) / 2, 0.02 + 0.01 * std::abs(kept)) << first;
  };
  expect_mean(0);
  expect_mean(1e-38f);
  expect_mean(60000);
  expect_mean(-1e20f);
  std::fill_n(in.v.begin(), 16, 1.0f);
  in.v[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(extend(c, in)[16 + 3]));
}

TEST_P(CachedAttentionTest, RefusesWhatDoesNotFit) {
  AttentionShape shape;
  shape.windows = 2;
  shape.length = 10;
  shape.heads = shape.kv_heads = 2;
  shape.head_dim = 8;
  const auto cache = backend->make_cache(shape, element);
  Array x = backend->allocate(8, 16, Element::working);
  shape.length = 4;
  shape.past = 6;
  backend->extend(shape, x, x, x, *cache, x);
  shape.past = 7;  // 11 tokens
  EXPECT_THROW(backend->extend(shape, x, x, x, *cache, x), std::invalid_argument);
  shape.length = 5;
  shape.past = 0;  // 10 rows
  EXPECT_THROW(backend->extend(shape, x, x, x, *cache, x), std::invalid_argument);
  shape.length = 0;
  EXPECT_THROW(backend->extend(shape, x, x, x, *cache, x), std::invalid_argument);
  shape.length = 1;
  shape.past = -1;
  EXPECT_THROW(backend->extend(shape, x, x, x, *cache, x), std::invalid_argument);
  shape.past = 0;
  shape.windows = 1;
  EXPECT_THROW(backend->extend(shape, x, x, x, *cache, x), std::invalid_argument);
  shape.windows = 2;
  shape.length = std::int64_t{1} << 60;
  EXPECT_THROW(backend->make_cache(shape, element), std::bad_alloc);
}

TEST_P(CachedAttentionTest, TakesTheBytesThatItSays) {
  AttentionShape shape;
  shape.windows = 3;
  shape.length = 64;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.head_dim = 64;
  const auto cache = backend->make_cache(shape, element);
  const std::uint64_t numbers = 2 * 3 * 64 * 2 * 64;
  std::uint64_t expected = numbers * (rounds ? 2 : 4);
  if (element == CacheElement::half) expected = numbers * 2;
  if (element == CacheElement::int8) expected = numbers + numbers / 64 * 4;
  EXPECT_EQ(cache->bytes(), expected);
}

std::string name_of(const ::testing::TestParamInfo<CachedAttentionTest::ParamType>& info) {
  const auto& [device, precision, element] = info.param;
  return test::name_of(device, precision) + (element == CacheElement::half   ? "_half"
                                             : element == CacheElement::int8 ? "_int8"
                                                                             : "_working");
}

INSTANTIATE_TEST_SUITE_P(
    Devices, CachedAttentionTest,
    ::testing::Combine(::testing::ValuesIn(devices()), ::testing::Values(Precision::fp32, Precision::bf16),
                       ::testing::Values(CacheElement::working, CacheElement::half, CacheElement::int8)),
    name_of);

}  // namespace
}  // namespace knapsaq
