// Prompts: a quantized model with packed weights, whose pieces are dequantized on the way, against the same
// model dequantized when it was loaded. Alternating in one run.
//   prompt_bench MODEL [--prompt 512] [--repeats 9] [--threads N]

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "knapsaq/base/random.h"
#include "knapsaq/model/decoder.h"
#include "work_with_threads.h"

namespace {

using namespace knapsaq;

struct Model {
  std::unique_ptr<Backend> backend;
  Decoder decoder;
  KeyValueCache cache;
  std::vector<double> seconds = {};
};

Model load(const Checkpoint& checkpoint, Packed packed, std::int64_t tokens) {
  BackendOptions options;
  options.packed = packed;
  auto backend = make_backend(options);
  const ModelConfig config = parse_model_config(checkpoint.config());
  Decoder decoder = Decoder::load(checkpoint, config, *backend);
  KeyValueCache cache(config, *backend, 1, tokens, CacheElement::half);
  return {std::move(backend), std::move(decoder), std::move(cache)};
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + std::ssize(values) / 2, values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  std::string folder;
  std::int64_t tokens = 512;
  int repeats = 9;
  int threads = 0;
  CLI::App app("Prompts from packed weights against dense ones");
  app.add_option("model", folder, "Quantized model")->required();
  app.add_option("--prompt", tokens, "Tokens");
  app.add_option("--repeats", repeats, "Repeats, of which the median counts");
  app.add_option("--threads", threads, "Threads");
  CLI11_PARSE(app, argc, argv);
  work_with_threads(threads);

  const Checkpoint checkpoint = Checkpoint::open(folder);
  std::vector<Model> models;
  for (const Packed packed : {Packed::off, Packed::int8}) models.push_back(load(checkpoint, packed, tokens));
  Random random(1);
  std::vector<std::int32_t> prompt(static_cast<std::size_t>(tokens));
  for (std::int32_t& id : prompt)
    id = static_cast<std::int32_t>(
        random.below(static_cast<std::uint64_t>(models.front().decoder.config().vocab)));
  std::vector<float> logits(static_cast<std::size_t>(models.front().decoder.config().vocab));
  for (int repeat = -1; repeat < repeats; ++repeat) {
    for (Model& model : models) {
      model.cache.clear();
      const auto begin = std::chrono::steady_clock::now();
      model.decoder.next(prompt, model.cache, logits);
      const double taken = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      if (repeat >= 0) model.seconds.push_back(taken);
    }
  }
  const double dense = median(models[0].seconds);
  const double packed = median(models[1].seconds);
  const auto count = static_cast<double>(tokens);
  fmt::print("{} tokens: dense {:.0f} tokens/s, packed {:.0f} tokens/s, ratio {:.3f}\n", tokens,
             count / dense, count / packed, dense / packed);
}
