// GPTQ of one 4096 x 4096 linear given its Hessian, beside the machine's fp32 peak in the same run.
//   gptq_bench [--scheme b4g128] [--rows 4096] [--cols 4096] [--repeat 5] [--outputs]; threads:
//   KNAPSAQ_THREADS (default: all cores)
// --outputs: codes that know which outputs matter (two_sided.h).
// tools/bench_gptq.py runs it beside the standard column loop in PyTorch.
//
// What is counted: cols^3 / 3 floating-point operations for the Cholesky factor (there is no inverse: see
// HessianFactor) and rows * cols^2 for adding every error to every later column, in the block's inner loop
// and in the products between blocks; with --outputs, rows^3 / 3 and rows^2 * cols more. Finding scales and
// biases is timed but counts nothing. The peak is what fused multiply-adds on registers reach on all threads;
// the large product says what OpenBLAS reaches.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#if defined(__x86_64__)
#  include <immintrin.h>
#endif

#include "knapsaq/base/random.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/quant/blas.h"
#include "knapsaq/quant/local_errors.h"
#include "knapsaq/quant/quantizer.h"
#include "work_with_threads.h"

namespace {

using namespace knapsaq;

/// Elapsed time, and the processor time of all threads over their number: what would have elapsed on an idle
/// machine if no thread waited for another.
struct Seconds {
  double wall = 1e9;
  double busy = 1e9;
};

double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

Seconds seconds_of(const auto& work) {
  const double busy = processor_seconds();
  const auto start = std::chrono::steady_clock::now();
  work();
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
  return {wall.count(), (processor_seconds() - busy) / current_pool().size()};
}

Seconds least(const Seconds& a, const Seconds& b) {
  return {std::min(a.wall, b.wall), std::min(a.busy, b.busy)};
}

// Twelve independent sums: more than the latency of a multiply-add times what starts per cycle.
#if defined(__x86_64__)
constexpr std::int64_t kSteps = 20'000'000;
__attribute__((target("avx512f"))) double multiply_add_avx512() {
  __m512 sums[12] = {};
  const __m512 a = _mm512_set1_ps(0.5f);
  for (std::int64_t i = 0; i < kSteps; ++i) {
    for (__m512& sum : sums) {
      sum = _mm512_fmadd_ps(sum, a, a);
      asm volatile("" : "+v"(sum));
    }
  }
  for (const __m512& sum : sums) {
    volatile float sink = _mm512_cvtss_f32(sum);
    static_cast<void>(sink);
  }
  return 2.0 * 16 * 12 * kSteps;
}
__attribute__((target("avx2,fma"))) double multiply_add_avx2() {
  __m256 sums[12] = {};
  const __m256 a = _mm256_set1_ps(0.5f);
  for (std::int64_t i = 0; i < kSteps; ++i) {
    for (__m256& sum : sums) {
      sum = _mm256_fmadd_ps(sum, a, a);
      asm volatile("" : "+x"(sum));
    }
  }
  for (const __m256& sum : sums) {
    volatile float sink = _mm256_cvtss_f32(sum);
    static_cast<void>(sink);
  }
  return 2.0 * 8 * 12 * kSteps;
}
double multiply_adds() {
  if (__builtin_cpu_supports("avx512f")) return multiply_add_avx512();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return multiply_add_avx2();
  return 0;
}
#else
double multiply_adds() { return 0; }  // the product stands for the peak
#endif

/// How long 1e9 multiply-adds on registers take on all threads.
Seconds peak() {
  const int threads = current_pool().size();
  std::vector<double> operations(static_cast<std::size_t>(threads));
  const Seconds seconds = seconds_of(
      [&] { parallel_for(operations.size(), [&](std::size_t i) { operations[i] = multiply_adds(); }); });
  double sum = 0;
  for (const double x : operations) sum += x;
  return {1e9 * seconds.wall / sum, 1e9 * seconds.busy / sum};
}

std::vector<float> normals(std::int64_t count, double size, std::uint64_t seed) {
  std::vector<float> values(static_cast<std::size_t>(count));
  Random random(seed);
  for (float& value : values) value = static_cast<float>(size * random.normal());
  return values;
}

/// X^T X / tokens with a quarter as many tokens as inputs (correlated inputs, as a model has), plus noise.
InputStatistics made_inputs(std::int64_t width) {
  const std::int64_t tokens = width / 4;
  const std::vector<float> x = normals(tokens * width, 1.0, 2);
  InputStatistics inputs;
  inputs.name = "made.input";
  inputs.width = width;
  inputs.tokens = static_cast<std::uint64_t>(tokens);
  inputs.second_moment.resize(static_cast<std::size_t>(width * width));
  constexpr std::int64_t kRows = 256;
  parallel_for(static_cast<std::size_t>((width + kRows - 1) / kRows), [&](std::size_t piece) {
    const std::int64_t first = static_cast<std::int64_t>(piece) * kRows;
    blas::add_transposed_product(std::min(kRows, width - first), width, tokens,
                                 1.0f / static_cast<float>(tokens), x.data() + first, width, x.data(), width,
                                 inputs.second_moment.data() + first * width, width);
  });
  for (std::int64_t k = 0; k < width; ++k) {
    inputs.second_moment[k * width + k] += 0.1f;
    inputs.mean_square.push_back(inputs.second_moment[k * width + k]);
  }
  return inputs;
}

/// How long 1e9 operations of a large product take, rows in parallel as the quantizers do it.
Seconds product(std::int64_t size) {
  const std::vector<float> a = normals(size * size, 1.0, 3);
  std::vector<float> c(a.size());
  constexpr std::int64_t kRows = 256;
  const auto work = [&] {
    parallel_for(static_cast<std::size_t>((size + kRows - 1) / kRows), [&](std::size_t piece) {
      const std::int64_t first = static_cast<std::int64_t>(piece) * kRows;
      blas::add_product(std::min(kRows, size - first), size, size, 1.0f, a.data() + first * size, size,
                        a.data(), size, c.data() + first * size, size);
    });
  };
  work();
  const auto n = static_cast<double>(size);
  const Seconds seconds = seconds_of(work);
  const double billions = 2e-9 * n * n * n;
  return {seconds.wall / billions, seconds.busy / billions};
}

double load_average() {
  double load = 0;
  return getloadavg(&load, 1) == 1 ? load : 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("GPTQ of one linear given its Hessian");
  std::string scheme = "b4g128";
  std::int64_t rows = 4096;
  std::int64_t cols = 4096;
  int repeat = 5;
  bool outputs = false;
  app.add_option("--scheme", scheme);
  app.add_option("--rows", rows);
  app.add_option("--cols", cols);
  app.add_option("--repeat", repeat);
  app.add_flag("--outputs", outputs, "Codes that know which outputs matter");
  CLI11_PARSE(app, argc, argv);
  if (const char* threads = std::getenv("KNAPSAQ_THREADS")) work_with_threads(std::atoi(threads));

  const std::vector<float> values = normals(rows * cols, 0.02, 1);
  const MatrixView weights{rows, cols, values};
  const InputStatistics inputs = made_inputs(cols);
  OutputStatistics gradients;
  if (outputs) {
    InputStatistics made = made_inputs(rows);
    gradients = {made.name, rows, made.tokens, std::move(made.mean_square), std::move(made.second_moment)};
  }
  const Quantizer& gptq = quantizer("gptq");
  const Scheme wanted = parse_scheme("gptq:" + scheme);

  const auto m = static_cast<double>(rows);
  const auto n = static_cast<double>(cols);
  const double factor_operations = n * n * n / 3;
  const double output_operations = outputs ? m * m * m / 3 : 0;
  const double error_operations = m * n * n;
  const double code_operations = outputs ? m * n * (m + n) : error_operations;
  Seconds fastest;
  Seconds large_product;
  Seconds factor;
  Seconds output_factor = outputs ? Seconds{} : Seconds{0, 0};
  Seconds codes;
  Seconds errors;
  LocalErrors found;
  for (int i = 0; i < repeat; ++i) {
    fastest = least(fastest, peak());
    large_product = least(large_product, product(std::min<std::int64_t>(cols, 4096)));
    std::unique_ptr<const PreparedInputs> prepared;
    factor = least(factor, seconds_of([&] { prepared = gptq.prepare(&inputs); }));
    std::unique_ptr<const PreparedOutputs> ends;
    if (outputs)
      output_factor = least(output_factor, seconds_of([&] { ends = gptq.prepare_outputs(&gradients); }));
    StoredMatrix stored;
    codes = least(codes, seconds_of([&] {
                    stored = gptq.quantize_for_outputs(weights, wanted, &inputs, prepared.get(), ends.get());
                  }));
    errors = least(errors, seconds_of([&] { found = local_errors(weights, stored, &inputs); }));
  }
  fastest = least(fastest, large_product);
  fmt::print("{} x {}, {}, {} threads; the best of {} runs each; load average {:.1f}\n", rows, cols,
             to_string(wanted), current_pool().size(), repeat, load_average());
  fmt::print("{:32}    elapsed  GFLOP/s  of the peak | processor time: the same\n", "");
  const auto line = [&](const char* what, const Seconds& seconds, double operations) {
    const double billions = operations / 1e9;
    fmt::print("{:32} {:8.3f} s {:8.1f} {:12.2f} | {:8.3f} s {:8.1f} {:8.2f}\n", what, seconds.wall,
               billions / seconds.wall, billions * fastest.wall / seconds.wall, seconds.busy,
               billions / seconds.busy, billions * fastest.busy / seconds.busy);
  };
  line("1e9 multiply-adds", fastest, 1e9);
  line("1e9 operations of a product", large_product, 1e9);
  line("factor of the Hessian", factor, factor_operations);
  if (outputs) line("factor of the outputs", output_factor, output_operations);
  line("scales and codes", codes, code_operations);
  line("both", {factor.wall + output_factor.wall + codes.wall, factor.busy + output_factor.busy + codes.busy},
       factor_operations + output_operations + code_operations);
  line("local errors of the result", errors, error_operations);
  fmt::print("relative error {:.4f}, Hessian error {:.6g}\n", found.relative, found.hessian);
}
