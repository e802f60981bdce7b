// Attention of segments against attention of whole windows, and against itself in other batches.

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/random.h"
#include "knapsaq/compute/backend.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

struct Shape {
  std::int64_t heads;
  std::int64_t kv_heads;
  std::int64_t head_dim;
  std::int64_t sliding;
};

class SegmentAttention : public ::testing::TestWithParam<std::tuple<std::string, Precision>> {
 protected:
  void SetUp() override {
    const auto& [device, precision] = GetParam();
    backend = make_backend({.device = device, .precision = precision});
    // The same scores and values, summed from another first block of keys on where windows slide.
    tolerance = precision == Precision::fp32 ? 2e-6 : 6e-3;
  }

  std::vector<float> random_values(std::int64_t count, double deviation) {
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
  std::vector<float> values_of(const Array& array) {
    std::vector<float> out(static_cast<std::size_t>(array.rows() * array.cols()));
    backend->download(array, 0, out);
    return out;
  }
  AttentionShape attention_shape(const Shape& s, std::int64_t positions) {
    angles = backend->upload(random_values(positions * s.head_dim / 2, 1), positions, s.head_dim / 2);
    norm = backend->upload(random_values(s.head_dim, 1), 1, s.head_dim);
    AttentionShape shape;
    shape.heads = s.heads;
    shape.kv_heads = s.kv_heads;
    shape.head_dim = s.head_dim;
    shape.sliding_window = s.sliding;
    shape.cosines = shape.sines = &angles;
    shape.q_norm = shape.k_norm = &norm;
    return shape;
  }

  Random random{3};
  std::unique_ptr<Backend> backend;
  Array angles;
  Array norm;
  double tolerance = 0;
};

std::vector<float> some_rows(const std::vector<float>& all, std::int64_t cols, std::int64_t first,
                             std::int64_t count) {
  return {all.begin() + first * cols, all.begin() + (first + count) * cols};
}

double difference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    worst = std::max(worst, static_cast<double>(std::abs(a[i] - b[i])));
  return worst;
}

// Parents with several children, with none, and segments on their own; lengths around the panels of keys and
// the tiles of queries. Every child has to come out as the end of the window that parent and child make.
TEST_P(SegmentAttention, IsAttentionOfTheWholeWindows) {
  const std::vector<Segment> segments = {{70, -1}, {1, 0},   {65, 0}, {5, -1},   {300, -1}, {0, 4},
                                         {17, 4},  {140, 4}, {3, 3},  {129, -1}, {1, -1},   {2, 10}};
  for (const Shape& s : {Shape{4, 2, 32, 0}, {2, 1, 80, 0}, {3, 3, 6, 0}, {2, 1, 64, 40}, {1, 1, 16, 1}}) {
    SCOPED_TRACE(std::to_string(s.head_dim) + " " + std::to_string(s.sliding));
    std::int64_t rows = 0;
    for (const Segment& segment : segments) rows += segment.length;
    const std::int64_t width = s.heads * s.head_dim;
    const std::int64_t kv_width = s.kv_heads * s.head_dim;
    const auto q = random_values(rows * width, 2);
    const auto k = random_values(rows * kv_width, 2);
    const auto v = random_values(rows * kv_width, 1);
    AttentionShape shape = attention_shape(s, 441);
    Array out = backend->allocate(rows, width, Element::working);
    backend->attend(shape, segments, working(q, width), working(k, kv_width), working(v, kv_width), out);
    const std::vector<float> together = values_of(out);

    std::vector<std::int64_t> starts;
    std::int64_t start = 0;
    for (const Segment& segment : segments) {
      const std::int64_t parent_start =
          segment.parent < 0 ? start : starts[static_cast<std::size_t>(segment.parent)];
      const std::int64_t before =
          segment.parent < 0 ? 0 : segments[static_cast<std::size_t>(segment.parent)].length;
      const auto window = [&](const std::vector<float>& all, std::int64_t cols) {
        std::vector<float> result = some_rows(all, cols, parent_start, before);
        const std::vector<float> own = some_rows(all, cols, start, segment.length);
        result.insert(result.end(), own.begin(), own.end());
        return working(result, cols);
      };
      shape.windows = 1;
      shape.length = before + segment.length;
      Array alone = backend->allocate(shape.length, width, Element::working);
      backend->attend(shape, window(q, width), window(k, kv_width), window(v, kv_width), alone);
      EXPECT_LE(difference(some_rows(together, width, start, segment.length),
                           some_rows(values_of(alone), width, before, segment.length)),
                tolerance)
          << "segment at row " << start;
      starts.push_back(start);
      start += segment.length;
    }
  }
}

TEST_P(SegmentAttention, DoesNotDependOnThreadsOrNeighbours) {
  const Shape s{4, 2, 48, 0};
  const std::vector<Segment> segments = {{33, -1}, {20, 0}, {50, 0}, {100, -1}, {7, 3}};
  const std::int64_t rows = 210;
  const auto q = random_values(rows * 192, 2);
  const auto k = random_values(rows * 96, 2);
  const auto v = random_values(rows * 96, 1);
  const AttentionShape shape = attention_shape(s, 200);
  const auto run = [&](std::span<const Segment> some, std::int64_t first) {
    std::int64_t count = 0;
    for (const Segment& segment : some) count += segment.length;
    Array out = backend->allocate(count, 192, Element::working);
    backend->attend(shape, some, working(some_rows(q, 192, first, count), 192),
                    working(some_rows(k, 96, first, count), 96), working(some_rows(v, 96, first, count), 96),
                    out);
    return values_of(out);
  };
  const std::vector<float> all = run(segments, 0);
  work_with_threads(1);
  EXPECT_EQ(run(segments, 0), all);
  work_with_threads(0);
  const std::vector<Segment> last = {{100, -1}, {7, 0}};
  EXPECT_EQ(run(last, 103), some_rows(all, 192, 103, 107));
}

TEST_P(SegmentAttention, RefusesWhatDoesNotFit) {
  const Shape s{2, 1, 8, 0};
  const AttentionShape shape = attention_shape(s, 10);
  const Array q = working(random_values(12 * 16, 1), 16);
  const Array k = working(random_values(12 * 8, 1), 8);
  Array out = backend->allocate(12, 16, Element::working);
  const auto refused = [&](const std::vector<Segment>& segments) {
    EXPECT_THROW(backend->attend(shape, segments, q, k, k, out), std::invalid_argument);
  };
  refused({{4, 0}});                   // its own parent
  refused({{4, 1}, {4, -1}});          // a parent behind it
  refused({{2, -1}, {2, 0}, {2, 1}});  // a parent with a parent
  refused({{-1, -1}});
  refused({{13, -1}});         // more rows than there are
  refused({{6, -1}, {5, 0}});  // more positions than the rotation has
  backend->attend(shape, std::vector<Segment>{}, q, k, k, out);
}

INSTANTIATE_TEST_SUITE_P(Kernels, SegmentAttention,
                         ::testing::Combine(::testing::ValuesIn(devices()),
                                            ::testing::Values(Precision::fp32, Precision::bf16)));

}  // namespace
}  // namespace knapsaq
