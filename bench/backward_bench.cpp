// A backward pass (forward pass, recomputation and weight gradients on request) against the forward pass
// alone, alternating in one run.
//
//   random_model /tmp/random-0.37b && backward_bench /tmp/random-0.37b

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "knapsaq/base/random.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/model/decoder.h"
#include "timing.h"
#include "work_with_threads.h"

namespace {

using namespace knapsaq;

struct Options {
  std::string folder;
  std::int64_t window = 512;
  std::int64_t windows = 4;
  int repeats = 7;
  int threads = 2;
  bool fp32 = false;
};

int run(const Options& options) {
  work_with_threads(options.threads);
  const Checkpoint checkpoint = Checkpoint::open(options.folder);
  const ModelConfig config = parse_model_config(checkpoint.config());
  const auto backend = make_backend({.precision = options.fp32 ? Precision::fp32 : Precision::bf16});
  Decoder decoder = Decoder::load(checkpoint, config, *backend);
  Random random(1);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(options.windows * options.window));
  for (std::int32_t& id : ids)
    id = static_cast<std::int32_t>(random.uniform() * static_cast<double>(config.vocab));
  std::vector<double> draws(ids.size());
  for (double& draw : draws) draw = random.uniform();
  std::vector<float> forward_losses(static_cast<std::size_t>(options.windows * (options.window - 1)));
  std::vector<float> losses(ids.size());
  GradientObserver weights;
  std::vector<Array> sums(matrices(config).size());
  weights.matrix = [&](const Matrix& matrix, const Array& x, const Array& gradient, std::int64_t,
                       std::int64_t rows) {
    if (x.empty()) return;
    Array& sum = sums[matrix.number];
    if (sum.empty()) sum = backend->allocate(matrix.out, matrix.in, Element::full);
    backend->add_product_of_columns(gradient, x, rows, sum);
  };
  std::vector<double> forward, backward, with_weights;
  for (int repeat = -1; repeat < options.repeats; ++repeat) {  // the first one warms up
    const double of_forward =
        seconds_of([&] { decoder.losses(ids, options.windows, options.window, forward_losses); });
    const double of_backward =
        seconds_of([&] { decoder.backward(ids, options.windows, options.window, {.draws = draws}, losses); });
    const double of_weights = seconds_of(
        [&] { decoder.backward(ids, options.windows, options.window, {.draws = draws}, losses, weights); });
    if (repeat < 0) continue;
    forward.push_back(of_forward);
    backward.push_back(of_backward);
    with_weights.push_back(of_weights);
  }
  fmt::print(
      "{}, {} threads, {} windows of {}\nforward {:.3f} s, gradients {:.3f} s ({:.2f} forward passes), "
      "with weights' {:.3f} s ({:.2f})\n",
      backend->description(), options.threads, options.windows, options.window, median(forward),
      median(backward), median(backward) / median(forward), median(with_weights),
      median(with_weights) / median(forward));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("A backward pass against the forward pass");
  app.add_option("checkpoint", options.folder, "model folder, e.g. one that random_model wrote")->required();
  app.add_option("--window", options.window, "tokens of a window");
  app.add_option("--windows", options.windows, "windows of a batch");
  app.add_option("--repeats", options.repeats, "repetitions, of which the median counts")
      ->check(CLI::PositiveNumber);
  app.add_option("--threads", options.threads, "threads")->check(CLI::PositiveNumber);
  app.add_flag("--fp32", options.fp32, "fp32 instead of bf16");
  CLI11_PARSE(app, argc, argv);
  try {
    return run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "backward_bench: {}\n", error.what());
    return 1;
  }
}
