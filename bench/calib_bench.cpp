// What gathering second moments costs: Backend::sum_inputs() beside a dense product with a square weight on
// the same rows, in one run. Half of X^T X is computed, so half of the product's time is the least it can
// take.

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "knapsaq/base/random.h"
#include "knapsaq/compute/backend.h"
#include "work_with_threads.h"

namespace {

using namespace knapsaq;

/// Seconds of the fastest of several calls: other processes only ever add to the time.
template <class Work>
double best_of(int repeats, Work&& work) {
  double best = 1e30;
  for (int i = 0; i < repeats; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

void measure(Backend& backend, std::int64_t width, int repeats) {
  constexpr std::int64_t kRows = 2048;  // what the decoder runs at once
  Random random(1);
  std::vector<float> values(static_cast<std::size_t>(kRows * width));
  for (float& value : values) value = static_cast<float>(random.uniform() - 0.5);
  Array input = backend.allocate(kRows, width, Element::working);
  backend.convert(backend.upload(values, kRows, width), kRows, input);
  const std::vector<float> weights(static_cast<std::size_t>(width * width), 0.5f);
  const auto weight = backend.prepare({DType::F32, {width, width}, std::as_bytes(std::span(weights))}, {});
  Array out = backend.allocate(kRows, width, Element::working);
  const Product product{weight.get(), &out, false};
  InputSums sums(width);

  const double moments = best_of(repeats, [&] { backend.sum_inputs(input, kRows, sums); });
  const double dense = best_of(repeats, [&] { backend.multiply(input, kRows, {&product, 1}); });
  const double flops = static_cast<double>(width) * static_cast<double>(width) * kRows;
  fmt::print(
      "{:28} width {:5}: moments {:8.2f} ms {:5.0f} GFLOP/s   product {:8.2f} ms {:5.0f} GFLOP/s   ratio "
      "{:.2f}\n",
      backend.description(), width, moments * 1e3, flops / moments * 1e-9, dense * 1e3,
      2 * flops / dense * 1e-9, moments / dense);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Second moments of inputs against dense products.");
  int threads = 0;
  int repeats = 7;
  std::vector<std::int64_t> widths = {256, 688, 1024, 2816, 4096};
  app.add_option("--threads", threads, "0: one per core")->capture_default_str();
  app.add_option("--repeats", repeats, "The fastest counts")->capture_default_str();
  app.add_option("--widths", widths, "Values per input");
  CLI11_PARSE(app, argc, argv);
  work_with_threads(threads);
  for (const Precision precision : {Precision::bf16, Precision::fp32}) {
    const auto backend = make_backend({.precision = precision});
    for (const std::int64_t width : widths) measure(*backend, width, repeats);
  }
}
