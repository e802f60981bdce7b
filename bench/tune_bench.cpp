// A step of tuning against the bare products of the same shapes (forward, recomputed, back to the inputs,
// back to the weights; the head's also for the full model), alternating in one run; and what its parts take.
//
//   random_model /tmp/m && knapsaq quantize /tmp/m -o /tmp/q --scheme rtn:b4g64 && tune_bench /tmp/q /tmp/m

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "knapsaq/base/memory.h"
#include "knapsaq/base/random.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/eval/referenced_windows.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/tune/adam.h"
#include "knapsaq/tune/tunable_model.h"
#include "timing.h"
#include "work_with_threads.h"

namespace {

using namespace knapsaq;

struct Options {
  std::string quantized;
  std::string model;
  std::int64_t window = 512;
  std::int64_t windows = 4;
  int repeats = 5;
  int threads = 2;
};

/// The products of a step and nothing else.
class BareProducts {
 public:
  BareProducts(const Decoder& decoder, std::int64_t rows) : backend_(decoder.backend()), rows_(rows) {
    for (const Matrix& matrix : matrices(decoder.config())) {
      if (!matrix.is_multiplied()) continue;
      // The head in slices of rows, as the backward pass has it.
      const std::int64_t slice = matrix.in_block() ? rows : std::min<std::int64_t>(rows, 512);
      const std::shared_ptr<const Weight> weight = decoder.placed(matrix.number).weight;
      shapes_.push_back({weight, backend_.transposed(*weight), slice,
                         backend_.allocate(slice, matrix.in, Element::working),
                         backend_.allocate(slice, matrix.out, Element::working),
                         backend_.allocate(matrix.out, matrix.in, Element::full)});
    }
  }
  void run() {
    for (Shape& shape : shapes_) {
      const Product forward{shape.weight.get(), &shape.y, false};
      const Product backward{shape.back.get(), &shape.x, false};
      for (std::int64_t first = 0; first < rows_; first += shape.slice) {
        backend_.multiply(shape.x, shape.slice, {&forward, 1});
        backend_.multiply(shape.x, shape.slice, {&forward, 1});
        backend_.multiply(shape.y, shape.slice, {&backward, 1});
        backend_.add_product_of_columns(shape.y, shape.x, shape.slice, shape.sum);
      }
    }
  }

 private:
  struct Shape {
    std::shared_ptr<const Weight> weight;
    std::shared_ptr<const Weight> back;
    std::int64_t slice;
    Array x;
    Array y;
    Array sum;
  };
  Backend& backend_;
  std::int64_t rows_;
  std::vector<Shape> shapes_;
};

int run(const Options& options) {
  work_with_threads(options.threads);
  const Checkpoint full = Checkpoint::open(options.model);
  const Checkpoint quantized = Checkpoint::open(options.quantized);
  const ModelConfig config = parse_model_config(full.config());
  const auto backend = make_backend({.precision = Precision::bf16});
  Random random(1);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(options.windows * options.window));
  for (std::int32_t& id : ids)
    id = static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(config.vocab)));
  ReferencedWindows reference;
  {
    Decoder decoder = Decoder::load(full, config, *backend);
    reference = reference_windows(decoder, ids, options.windows, options.window);
  }
  Decoder decoder = Decoder::load(quantized, config, *backend);
  TunableModel model(quantized, decoder);
  std::vector<float> parameters(model.parameters());
  std::vector<float> gradient(model.parameters());
  Adam adam(model.parameters());
  BareProducts bare(decoder, std::ssize(ids));
  std::vector<double> step, set, pass, rest, products;
  for (int repeat = -1; repeat < options.repeats; ++repeat) {  // the first one warms up
    const double of_products = seconds_of([&] { bare.run(); });
    const double of_set = seconds_of([&] { model.set(parameters); });
    const double of_pass = seconds_of([&] { model.add_gradient(reference, 0, options.windows); });
    const double of_rest = seconds_of([&] {
      model.take_gradient(1e-3f, gradient);
      adam.step(gradient, 1e-3f, parameters);
    });
    if (repeat < 0) continue;
    products.push_back(of_products);
    set.push_back(of_set);
    pass.push_back(of_pass);
    rest.push_back(of_rest);
    step.push_back(of_set + of_pass + of_rest);
  }
  fmt::print(
      "{}, {} threads, {} windows of {}, {} numbers\nstep {:.3f} s: exchange of the weights {:.3f}, forward "
      "and "
      "backward {:.3f}, optimizer {:.3f}\nbare products {:.3f} s: {:.0f} % of the step, {:.0f} % of forward "
      "and "
      "backward; resident at most {} MiB\n",
      backend->description(), options.threads, options.windows, options.window, model.parameters(),
      median(step), median(set), median(pass), median(rest), median(products),
      100 * median(products) / median(step), 100 * median(products) / median(pass),
      peak_resident_memory() >> 20);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("A step of tuning against the bare products");
  app.add_option("quantized", options.quantized, "folder that knapsaq quantize wrote")->required();
  app.add_option("model", options.model, "what it was made from")->required();
  app.add_option("--window", options.window, "tokens of a window");
  app.add_option("--windows", options.windows, "windows of a step");
  app.add_option("--repeats", options.repeats, "repetitions, of which the median counts")
      ->check(CLI::PositiveNumber);
  app.add_option("--threads", options.threads, "threads")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  try {
    return run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "tune_bench: {}\n", error.what());
    return 1;
  }
}
