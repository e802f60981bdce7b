// Products from packed weights: bytes of weights per second, from the cache by one thread's CPU time (what
// the kernels can do at all) or from memory by all threads (what generation sees).
//   packed_bench [--cached] [--rows 1] [--mode int8|bf16|fp32] [FORM...]

#include <algorithm>
#include <chrono>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "compute/stored_forms.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/compute/backend.h"
#include "work_with_threads.h"

namespace {

using namespace knapsaq;

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}
double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Median seconds of some runs.
template <class Clock, class Function>
double median_of(Clock clock, int runs, Function run) {
  std::vector<double> times;
  for (int i = 0; i < runs; ++i) {
    const double begin = clock();
    run();
    times.push_back(clock() - begin);
  }
  std::nth_element(times.begin(), times.begin() + runs / 2, times.end());
  return times[static_cast<std::size_t>(runs / 2)];
}

}  // namespace

int main(int argc, char** argv) {
  bool cached = false;
  std::int64_t rows = 1;
  std::string mode = "int8";
  std::int64_t in = 0;
  std::vector<std::string> names;
  CLI::App app("Products from packed weights");
  app.add_flag("--cached", cached, "One thread, weights in the L2 cache");
  app.add_option("--rows", rows, "Rows of inputs");
  app.add_option("--in", in, "Columns of the weights; default 1024 cached, 4096 else");
  app.add_option("--mode", mode, "int8, bf16 or fp32")->check(CLI::IsMember({"int8", "bf16", "fp32"}));
  app.add_option("forms", names, "Which; default: all");
  CLI11_PARSE(app, argc, argv);
  if (cached) work_with_threads(1);
  if (in == 0) in = cached ? 1024 : 4096;

  BackendOptions options;
  options.precision = mode == "fp32" ? Precision::fp32 : Precision::bf16;
  options.packed = mode == "int8" ? Packed::int8 : Packed::exact;
  const auto backend = make_backend(options);
  fmt::print("{}, {} rows, {} threads\n", mode, rows, current_pool().size());
  for (const test::StoredForm& form : test::stored_forms()) {
    if (!names.empty() && std::find(names.begin(), names.end(), form.name) == names.end()) continue;
    const std::int64_t out = cached ? 1024 : 4096;
    const StoredMatrix matrix = form.make(out, in, test::Codes::random, 1);
    std::vector<std::unique_ptr<Weight>> weights;
    std::uint64_t bytes = 0;
    // Far more than the caches, or one matrix.
    while (bytes < (cached ? 1u : 600u << 20)) {
      weights.push_back(backend->prepare(matrix, {}));
      bytes += weights.back()->bytes();
    }
    Array x = backend->allocate(rows, in, Element::working);
    Array y = backend->allocate(rows, out, Element::full);
    const int loops = cached ? 50 : 1;
    const auto pass = [&] {
      for (int i = 0; i < loops; ++i)
        for (const auto& weight : weights) {
          const Product product{weight.get(), &y, false};
          backend->multiply(x, rows, {&product, 1});
        }
    };
    pass();
    const double time = cached ? median_of(thread_seconds, 9, pass) : median_of(seconds, 5, pass);
    fmt::print("{:10} {:7.2f} GB/s {:8.3f} bits/weight {:8.2f} Gweights/s\n", form.name,
               static_cast<double>(bytes) * loops / time * 1e-9,
               8.0 * static_cast<double>(bytes) / static_cast<double>(out * in * std::ssize(weights)),
               static_cast<double>(out * in * std::ssize(weights)) * loops / time * 1e-9);
  }
}
