// Backend::sum_inputs() against sums in double.

#include <cmath>
#include <limits>
#include <tuple>

#include <gtest/gtest.h>

#include "knapsaq/base/random.h"
#include "knapsaq/compute/backend.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

struct Inputs {
  Array array;
  std::vector<float> values;  ///< as the backend sees them
};

class InputSumsTest : public ::testing::TestWithParam<std::tuple<std::string, Precision>> {
 protected:
  void SetUp() override {
    const auto& [device, precision] = GetParam();
    backend_ = make_backend({.device = device, .precision = precision});
  }
  void TearDown() override { work_with_threads(0); }

  Inputs make(std::int64_t rows, std::int64_t width) {
    Random random(3);
    std::vector<float> values(static_cast<std::size_t>(rows * width));
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(random.normal() + 0.1 * static_cast<double>(i % 7));
    Array array = backend_->allocate(rows, width, Element::working);
    backend_->convert(backend_->upload(values, rows, width), rows, array);
    backend_->download(array, 0, values);
    return {array, values};
  }

  std::unique_ptr<Backend> backend_;
};

INSTANTIATE_TEST_SUITE_P(Kernels, InputSumsTest,
                         ::testing::Combine(::testing::ValuesIn(devices()),
                                            ::testing::Values(Precision::fp32, Precision::bf16)));

TEST_P(InputSumsTest, EqualSumsInDouble) {
  // Widths of one tile, of several with a narrow last one; rows of one product and of several.
  for (const auto& [rows, width] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {1, 1}, {19, 40}, {33, 256}, {130, 300}, {7, 577}, {4100, 65}}) {
    const Inputs in = make(rows, width);
    InputSums sums(width);
    const std::int64_t half = rows / 2;
    backend_->sum_inputs(in.array, half, sums);
    backend_->sum_inputs(backend_->view(in.array, half, rows - half), rows - half, sums);
    EXPECT_EQ(sums.rows, static_cast<std::uint64_t>(rows));
    std::vector<double> products(sums.products.size());
    for (std::int64_t r = 0; r < rows; ++r) {
      const float* x = in.values.data() + r * width;
      for (std::int64_t i = 0; i < width; ++i)
        for (std::int64_t j = 0; j <= i; ++j)
          products[static_cast<std::size_t>(i * (i + 1) / 2 + j)] += static_cast<double>(x[i]) * x[j];
    }
    for (std::int64_t i = 0; i < width; ++i) {
      double abs = 0;
      float largest = 0;
      for (std::int64_t r = 0; r < rows; ++r) {
        abs += std::abs(in.values[static_cast<std::size_t>(r * width + i)]);
        largest = std::max(largest, std::abs(in.values[static_cast<std::size_t>(r * width + i)]));
      }
      EXPECT_NEAR(sums.abs[static_cast<std::size_t>(i)], abs, 1e-6 * abs);
      EXPECT_EQ(sums.max_abs[static_cast<std::size_t>(i)], largest);
      const double own = products[static_cast<std::size_t>(i * (i + 1) / 2 + i)];
      for (std::int64_t j = 0; j <= i; ++j) {
        const auto at = static_cast<std::size_t>(i * (i + 1) / 2 + j);
        const double other = products[static_cast<std::size_t>(j * (j + 1) / 2 + j)];
        // Relative to the size of the terms; fp32 sums of up to 2048 of them.
        ASSERT_NEAR(sums.products[at], products[at], 3e-6 * std::sqrt(own * other))
            << rows << "x" << width << " at " << i << ", " << j;
      }
    }
  }
}

TEST_P(InputSumsTest, DoNotDependOnThreads) {
  const Inputs in = make(777, 700);
  std::vector<InputSums> results;
  for (const int threads : {1, 2, 5}) {
    work_with_threads(threads);
    results.emplace_back(700);
    backend_->sum_inputs(in.array, 777, results.back());
  }
  for (const InputSums& one : results) {
    EXPECT_EQ(one.products, results[0].products);
    EXPECT_EQ(one.abs, results[0].abs);
  }
}

TEST_P(InputSumsTest, WhatIsNotFiniteShows) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> values(10 * 40, 1.0f);
    values[203] = bad;
    Array array = backend_->allocate(10, 40, Element::working);
    backend_->convert(backend_->upload(values, 10, 40), 10, array);
    InputSums sums(40);
    backend_->sum_inputs(array, 10, sums);
    EXPECT_FALSE(std::isfinite(sums.abs[3]));
    EXPECT_TRUE(std::isfinite(sums.abs[4]));
  }
}

TEST_P(InputSumsTest, RefusesOtherWidths) {
  const Inputs in = make(4, 8);
  InputSums sums(9);
  EXPECT_THROW(backend_->sum_inputs(in.array, 4, sums), std::invalid_argument);
}

}  // namespace
}  // namespace knapsaq
