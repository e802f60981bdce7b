// Prefill of a checkpoint, end to end with attention and losses, against oneDNN's products of the same shapes
// alone, alternating in one run.
//
//   random_model /tmp/random-0.37b && prefill_bench /tmp/random-0.37b
//
// The bare products run as oneDNN is meant to be used: prepacked weights, its own OpenMP threads, one call
// per linear (with separate weights for every block, in the order of the forward pass) and one for the head,
// on all tokens of a batch or window by window, whichever is faster.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <dnnl.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>
#include <omp.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/random.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/decoder.h"
#include "timing.h"
#include "work_with_threads.h"

namespace {

using namespace knapsaq;
using dnnl::memory;

/// The products of one forward pass of `rows` tokens through oneDNN alone.
class BareProducts {
 public:
  BareProducts(const ModelConfig& config, std::int64_t rows, memory::data_type type) : stream_(engine_) {
    for (const Matrix& linear : linears(config)) add(rows, linear.out, linear.in, type);
    add(rows, config.vocab, config.embedding, type);
  }

  void run() {
    for (Product& product : products_) product.primitive.execute(stream_, product.arguments);
    stream_.wait();
  }

 private:
  struct Product {
    dnnl::matmul primitive;
    std::unordered_map<int, memory> arguments;
  };

  void add(std::int64_t rows, std::int64_t out, std::int64_t in, memory::data_type type) {
    const memory::desc source({rows, in}, type, memory::format_tag::ab);
    const memory::desc weight({in, out}, type, memory::format_tag::any);
    const memory::desc target({rows, out}, type, memory::format_tag::ab);
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::matmul::primitive_desc description(engine_, source, weight, target);
#else
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(source, weight, target), engine_);
#endif
    products_.push_back({dnnl::matmul(description),
                         {{DNNL_ARG_SRC, shared(inputs_, source)},
                          {DNNL_ARG_WEIGHTS, filled(description.weights_desc())},
                          {DNNL_ARG_DST, shared(outputs_, target)}}});
  }

  /// One activation buffer per width, as a decoder would have.
  memory shared(std::vector<memory>& pool, const memory::desc& layout) {
    for (const memory& one : pool) {
      if (one.get_desc() == layout) return one;
    }
    return pool.emplace_back(filled(layout));
  }

  memory filled(const memory::desc& layout) {
    memory made(layout, engine_);
    // Small ordinary numbers in either type: bytes 0x3c3c are 0.0115 in bf16.
    auto* bytes = static_cast<unsigned char*>(made.get_data_handle());
    std::fill_n(bytes, layout.get_size(), static_cast<unsigned char>(0x3c));
    return made;
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_;
  std::vector<memory> inputs_, outputs_;
  std::vector<Product> products_;
};

/// Floating-point operations of all products per token.
double product_flops(const ModelConfig& config) {
  double sum = static_cast<double>(config.vocab) * static_cast<double>(config.embedding);
  for (const Matrix& linear : linears(config)) sum += static_cast<double>(linear.parameters());
  return 2 * sum;
}

/// Operations of causal attention per token of a window: two products over half of the window on average.
double attention_flops(const ModelConfig& config, std::int64_t length) {
  return 2.0 * static_cast<double>(config.layers * config.heads * config.head_dim) *
         static_cast<double>(length + 1);
}

struct Options {
  std::string folder;
  std::vector<std::int64_t> windows{512, 2048};
  std::int64_t tokens = 4096;
  int repeats = 7;
  int threads = 2;
  bool fp32 = false;
  bool json = false;
};

nlohmann::json measure(Decoder& decoder, const Options& options, std::int64_t length) {
  const ModelConfig& config = decoder.config();
  const std::int64_t batch_windows = decoder.windows_per_batch(length);
  const std::int64_t batch = batch_windows * length;
  const std::int64_t batches = std::max<std::int64_t>(1, options.tokens / batch);
  const std::int64_t tokens = batches * batch;
  Random random(1);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens));
  for (std::int32_t& id : ids)
    id = static_cast<std::int32_t>(random.uniform() * static_cast<double>(config.vocab));
  std::vector<float> losses(static_cast<std::size_t>(tokens / length * (length - 1)));

  const auto type = options.fp32 ? memory::data_type::f32 : memory::data_type::bf16;
  omp_set_num_threads(options.threads);
  BareProducts whole(config, batch, type);
  BareProducts single(config, length, type);
  std::vector<double> end_to_end, bare_batch, bare_window;
  for (int repeat = -1; repeat < options.repeats; ++repeat) {  // the first one warms up
    const double ours = seconds_of([&] { decoder.losses(ids, tokens / length, length, losses); });
    const double by_batch = seconds_of([&] {
      for (std::int64_t i = 0; i < batches; ++i) whole.run();
    });
    const double by_window = seconds_of([&] {
      for (std::int64_t i = 0; i < tokens / length; ++i) single.run();
    });
    if (repeat < 0) continue;
    end_to_end.push_back(ours);
    bare_batch.push_back(by_batch);
    bare_window.push_back(by_window);
  }
  const double ours = median(end_to_end);
  const double bare = std::min(median(bare_batch), median(bare_window));
  const auto count = static_cast<double>(tokens);
  return {
      {"window", length},
      {"tokens", tokens},
      {"seconds", ours},
      {"bare_seconds", bare},
      {"ratio", bare / ours},
      {"tokens_per_second", count / ours},
      {"gflops_products", count * product_flops(config) / ours * 1e-9},
      {"gflops_with_attention",
       count * (product_flops(config) + attention_flops(config, length)) / ours * 1e-9},
      {"bare_gflops", count * product_flops(config) / bare * 1e-9},
      {"bare_batch_gflops", count * product_flops(config) / median(bare_batch) * 1e-9},
      {"bare_window_gflops", count * product_flops(config) / median(bare_window) * 1e-9},
      {"mean_loss", std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(losses.size())}};
}

int run(const Options& options) {
  work_with_threads(options.threads);
  const Checkpoint checkpoint = Checkpoint::open(options.folder);
  const ModelConfig config = parse_model_config(checkpoint.config());
  const auto backend = make_backend({.precision = options.fp32 ? Precision::fp32 : Precision::bf16});
  Decoder decoder = Decoder::load(checkpoint, config, *backend);
  nlohmann::json results = nlohmann::json::array();
  if (!options.json)
    fmt::print("{}, {} threads\nwindow  tok/s  GFLOP/s  (+attention)  bare GFLOP/s (batch, window)  ratio\n",
               backend->description(), options.threads);
  for (const std::int64_t length : options.windows) {
    const nlohmann::json& one = results.emplace_back(measure(decoder, options, length));
    if (!options.json) {
      fmt::print("{:6}  {:5.0f}  {:7.0f}  {:12.0f}  {:12.0f} ({:5.0f}, {:6.0f})  {:.3f}\n", length,
                 one["tokens_per_second"].get<double>(), one["gflops_products"].get<double>(),
                 one["gflops_with_attention"].get<double>(), one["bare_gflops"].get<double>(),
                 one["bare_batch_gflops"].get<double>(), one["bare_window_gflops"].get<double>(),
                 one["ratio"].get<double>());
      std::fflush(stdout);
    }
  }
  if (options.json)
    fmt::print("{}\n",
               nlohmann::json{
                   {"backend", backend->description()}, {"threads", options.threads}, {"results", results}}
                   .dump(2));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Prefill end to end against oneDNN's products alone");
  app.add_option("checkpoint", options.folder, "model folder, e.g. one that random_model wrote")->required();
  app.add_option("--window", options.windows, "window lengths");
  app.add_option("--tokens", options.tokens, "tokens per repetition");
  app.add_option("--repeats", options.repeats, "repetitions, of which the median counts")
      ->check(CLI::PositiveNumber);
  app.add_option("--threads", options.threads, "threads")->check(CLI::PositiveNumber);
  app.add_flag("--fp32", options.fp32, "fp32 instead of bf16");
  app.add_flag("--json", options.json, "results as JSON");
  CLI11_PARSE(app, argc, argv);
  try {
    return run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "prefill_bench: {}\n", error.what());
    return 1;
  }
}
