// Speed of packing, of every scheme on one matrix, and of the whole error table of one matrix.
//   quant_bench [--benchmark_filter=table]; threads: KNAPSAQ_THREADS (default: all cores)
// Bytes are fp32 weights (4 each), for packing codes (1 each). tools/bench_hqq.py runs the table beside the
// hqq library.

#include <cstdlib>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "knapsaq/bank/measure_linear.h"
#include "knapsaq/base/random.h"
#include "knapsaq/compute/packed_matrix.h"
#include "knapsaq/quant/quantizer.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

// The size of a projection of a 7 B model; 64 MiB of floats is far more than caches hold.
constexpr std::int64_t kRows = 4096;
constexpr std::int64_t kCols = 4096;

const std::vector<float>& values() {
  static const std::vector<float> made = [] {
    std::vector<float> weights(static_cast<std::size_t>(kRows * kCols));
    Random random(1);
    for (float& weight : weights) weight = static_cast<float>(0.02 * random.normal());
    return weights;
  }();
  return made;
}

MatrixView matrix() { return {kRows, kCols, values()}; }

void count_weights(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * kRows * kCols * 4);
  state.SetItemsProcessed(state.iterations() * kRows * kCols);
}

// One core, codes and words in the L2 cache.
constexpr std::size_t kCodes = 131072;

void pack(benchmark::State& state) {
  const int bits = static_cast<int>(state.range(0));
  std::vector<std::uint8_t> codes(kCodes);
  Random random(2);
  for (auto& code : codes) code = static_cast<std::uint8_t>(random.below(1u << bits));
  std::vector<std::uint32_t> words(kCodes * bits / 32);
  for (auto _ : state) {
    pack_codes(codes, bits, words);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(kCodes));
}

void unpack(benchmark::State& state) {
  const int bits = static_cast<int>(state.range(0));
  std::vector<std::uint8_t> codes(kCodes);
  const std::vector<std::uint32_t> words(kCodes * bits / 32, 0x9E3779B9u);
  for (auto _ : state) {
    unpack_codes(words, bits, codes);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(kCodes));
}

void dequantize(benchmark::State& state, const std::string& scheme) {
  const PackedMatrix packed = std::get<PackedMatrix>(quantize(matrix(), parse_scheme(scheme)));
  std::vector<float> row(kCols);
  std::int64_t r = 0;
  for (auto _ : state) {
    packed.dequantize_row(r, row);
    benchmark::ClobberMemory();
    r = (r + 1) % kRows;
  }
  state.SetBytesProcessed(state.iterations() * kCols * 4);
}

void quantize_matrix(benchmark::State& state, const std::string& scheme) {
  for (auto _ : state) benchmark::DoNotOptimize(quantize(matrix(), parse_scheme(scheme)));
  count_weights(state);
}

void table(benchmark::State& state, const std::string& menu) {
  const TensorView weights{DType::F32, {kRows, kCols}, std::as_bytes(std::span(values()))};
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        measure_linear(weights, parse_menu(menu).schemes, "weights", [](std::uint64_t) {}));
  }
  count_weights(state);
}

void register_all() {
  for (const int bits : kAffineWidths) {
    benchmark::RegisterBenchmark("pack", pack)->Arg(bits);
    benchmark::RegisterBenchmark("unpack", unpack)->Arg(bits);
  }
  for (const std::string scheme : {"b2g64", "b3g64", "b4g64", "b8g64", "b4g64/m8g128"}) {
    benchmark::RegisterBenchmark(("dequantize/" + scheme).c_str(),
                                 [scheme](benchmark::State& state) { dequantize(state, scheme); });
  }
  std::vector<Scheme> schemes = parse_menu("mxq-f16").schemes;
  for (const Scheme& scheme : parse_menu("mxq").schemes) schemes.push_back(scheme);
  for (const std::string scheme : {"rtn:b4g64", "rtn:b4g64s", "uniform:b4row", "hqq:b4row"}) {
    schemes.push_back(parse_scheme(scheme));
  }
  for (const Scheme& scheme : schemes) {
    const std::string text = to_string(scheme);
    benchmark::RegisterBenchmark(("quantize/" + text).c_str(), [text](benchmark::State& state) {
      quantize_matrix(state, text);
    })->UseRealTime();
  }
  for (const std::string menu : {"mxq", "mxq-f16"}) {
    benchmark::RegisterBenchmark(("table/" + menu).c_str(), [menu](benchmark::State& state) {
      table(state, menu);
    })->UseRealTime();
  }
}

}  // namespace
}  // namespace knapsaq

int main(int argc, char** argv) {
  if (const char* threads = std::getenv("KNAPSAQ_THREADS")) knapsaq::work_with_threads(std::atoi(threads));
  knapsaq::values();  // made before anything is timed
  knapsaq::register_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
