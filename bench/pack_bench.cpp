// Speed on one core of what turns codes into the words of files and back, in GB/s of codes (a byte each), for
// every width. Everything is larger than caches: the codes of a 4096 x 4096 linear.
//   pack_bench [--benchmark_filter=transpose]

#include <vector>

#include <benchmark/benchmark.h>

#include "knapsaq/base/random.h"
#include "knapsaq/compute/packed_matrix.h"
#include "knapsaq/export/words.h"

namespace knapsaq {
namespace {

constexpr std::int64_t kRows = 4096;
constexpr std::int64_t kCols = 4096;

std::vector<std::uint8_t> codes(int bits) {
  std::vector<std::uint8_t> made(kRows * kCols);
  Random random(1);
  for (std::uint8_t& code : made) code = static_cast<std::uint8_t>(random.below(std::uint64_t{1} << bits));
  return made;
}

void count(benchmark::State& state) { state.SetBytesProcessed(state.iterations() * kRows * kCols); }

void pack(benchmark::State& state) {
  const int bits = static_cast<int>(state.range(0));
  const std::vector<std::uint8_t> from = codes(bits);
  std::vector<std::uint32_t> words(from.size() * static_cast<std::size_t>(bits) / 32);
  for (auto _ : state) {
    pack_codes(from, bits, words);
    benchmark::ClobberMemory();
  }
  count(state);
}
BENCHMARK(pack)->Arg(2)->Arg(3)->Arg(4)->Arg(5)->Arg(6)->Arg(8);

void unpack(benchmark::State& state) {
  const int bits = static_cast<int>(state.range(0));
  std::vector<std::uint8_t> to = codes(bits);
  std::vector<std::uint32_t> words(to.size() * static_cast<std::size_t>(bits) / 32);
  pack_codes(to, bits, words);
  for (auto _ : state) {
    unpack_codes(words, bits, to);
    benchmark::ClobberMemory();
  }
  count(state);
}
BENCHMARK(unpack)->Arg(2)->Arg(3)->Arg(4)->Arg(5)->Arg(6)->Arg(8);

void transpose(benchmark::State& state) {
  const int bits = static_cast<int>(state.range(0));
  const std::int64_t columns = kCols * bits / 32;
  std::vector<std::uint32_t> words(static_cast<std::size_t>(kRows * columns), 0x12345678);
  std::vector<std::uint32_t> out(words.size());
  for (auto _ : state) {
    transpose_words(words, kRows, columns, out);
    benchmark::ClobberMemory();
  }
  count(state);
}
BENCHMARK(transpose)->Arg(2)->Arg(3)->Arg(4)->Arg(5)->Arg(6)->Arg(8);

}  // namespace
}  // namespace knapsaq

BENCHMARK_MAIN();
