// Attention of one new token (or some) to a cache: microseconds per call of Backend::extend(), and the bytes
// of keys and values that it reads over that time. Several caches are used in turn, as a model's layers are,
// so that they come from memory as they do there.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "knapsaq/base/random.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/compute/backend.h"
#include "work_with_threads.h"

namespace {

using namespace knapsaq;

struct Options {
  std::int64_t heads = 32;
  std::int64_t kv_heads = 4;
  std::int64_t head_dim = 64;
  std::int64_t layers = 24;
  std::int64_t fresh = 1;
  int repeats = 9;
};

Array random_array(Backend& backend, std::int64_t rows, std::int64_t cols) {
  Random random(1);
  std::vector<float> values(static_cast<std::size_t>(rows * cols));
  for (float& value : values) value = static_cast<float>(random.normal());
  Array array = backend.allocate(rows, cols, Element::working);
  backend.convert(backend.upload(values, rows, cols), rows, array);
  return array;
}

/// Seconds of a call, of the fastest round through all layers: other processes only ever add to the time.
double seconds_per_call(Backend& backend, const Options& options, std::int64_t context,
                        CacheElement element) {
  const std::vector<float> angles(static_cast<std::size_t>(context * (options.head_dim / 2)), 0.7f);
  const Array rotation = backend.upload(angles, context, options.head_dim / 2);
  AttentionShape shape;
  shape.windows = 1;
  shape.length = context;
  shape.heads = options.heads;
  shape.kv_heads = options.kv_heads;
  shape.head_dim = options.head_dim;
  shape.cosines = shape.sines = &rotation;
  std::vector<std::unique_ptr<AttentionCache>> caches;
  for (std::int64_t i = 0; i < options.layers; ++i) caches.push_back(backend.make_cache(shape, element));

  constexpr std::int64_t kChunk = 512;
  const std::int64_t width = options.heads * options.head_dim;
  const std::int64_t kv_width = options.kv_heads * options.head_dim;
  const Array q = random_array(backend, kChunk, width);
  const Array k = random_array(backend, kChunk, kv_width);
  const Array v = random_array(backend, kChunk, kv_width);
  Array out = backend.allocate(kChunk, width, Element::working);
  shape.sliding_window = 1;  // filling them is not what is measured
  for (auto& cache : caches) {
    for (shape.past = 0; shape.past < context - options.fresh; shape.past += shape.length) {
      shape.length = std::min(kChunk, context - options.fresh - shape.past);
      backend.extend(shape, q, k, v, *cache, out);
    }
  }
  shape.sliding_window = 0;
  shape.length = options.fresh;
  shape.past = context - options.fresh;
  double best = 1e30;
  for (int i = 0; i < options.repeats; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    for (auto& cache : caches) backend.extend(shape, q, k, v, *cache, out);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best / static_cast<double>(options.layers);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Attention of new tokens to caches of several lengths and elements.");
  Options options;
  int threads = 0;
  std::vector<std::int64_t> contexts = {128, 512, 2048, 8192};
  app.add_option("--threads", threads, "0: one per core")->capture_default_str();
  app.add_option("--repeats", options.repeats, "The fastest counts")->capture_default_str();
  app.add_option("--heads", options.heads)->capture_default_str();
  app.add_option("--kv-heads", options.kv_heads)->capture_default_str();
  app.add_option("--head-dim", options.head_dim)->capture_default_str();
  app.add_option("--layers", options.layers, "Caches that are used in turn")->capture_default_str();
  app.add_option("--new", options.fresh, "New tokens, at most 512")->capture_default_str();
  app.add_option("--contexts", contexts, "Tokens in the cache, new ones included");
  CLI11_PARSE(app, argc, argv);
  work_with_threads(threads);
  fmt::print("{} heads, {} of keys, {} dimensions, {} threads\n", options.heads, options.kv_heads,
             options.head_dim, current_pool().size());
  constexpr std::pair<CacheElement, std::string_view> kElements[] = {
      {CacheElement::working, "working"}, {CacheElement::half, "half"}, {CacheElement::int8, "int8"}};
  for (const std::string& device : devices()) {
    const auto backend = make_backend({.device = device});
    for (const std::int64_t context : contexts) {
      for (const auto& [element, name] : kElements) {
        AttentionShape shape;
        shape.windows = 1;
        shape.length = context;
        shape.heads = options.heads;
        shape.kv_heads = options.kv_heads;
        shape.head_dim = options.head_dim;
        const auto bytes = static_cast<double>(backend->make_cache(shape, element)->bytes());
        const double seconds = seconds_per_call(*backend, options, context, element);
        fmt::print("{:24} {:6} tokens {:8}: {:9.1f} us {:6.1f} GB/s\n", backend->description(), context, name,
                   seconds * 1e6, bytes / seconds * 1e-9);
        std::fflush(stdout);
      }
    }
  }
}
