// NF4 with double quantization (QLoRA, Dettmers et al. 2023, sections 3.1 and 3.2), as bitsandbytes 0.50
// computes it on a CPU, to the bit. Weights of any float type are first widened to fp32. Its particularities:
// - A weight is multiplied by the reciprocal of its block's absmax, but in a last block that is shorter than
//   the others it is divided by it. An absmax below 1e-38 counts as 1e-38, and in a short last block it is
//   also stored as that. A weight exactly between two values gets the lower one.
// - The absmax minus their mean are rounded by a table of 2^16 entries: the number in [-1, 1] goes to the
//   nearest of 2^16 evenly spaced ones, and from there to the nearest of the 256 values. Near 0, where those
//   are closer together than the table's steps, this is not the nearest.
// - The mean is the sum in PyTorch's order of additions (4 x 8 parallel sums, cascaded), divided by the
//   number of blocks. With several threads, PyTorch divides sums of 2^15 or more numbers into as many parts,
//   so its result depends on the number of threads; here it is the result of one thread.
// - The code of a padding half byte is that of 0.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <vector>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/quant/methods.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

namespace {

constexpr float kSmallestAbsmax = 1e-38f;

// Blocks that a thread takes at a time: 16384 weights.
constexpr std::int64_t kChunkBlocks = 256;

/// The middles between neighbouring values.
std::array<float, 15> make_bounds() {
  std::array<float, 15> bounds{};
  for (std::size_t i = 0; i < bounds.size(); ++i) bounds[i] = (nf4_values()[i] + nf4_values()[i + 1]) / 2.0f;
  return bounds;
}

using Block = std::array<float, Nf4Matrix::kBlock>;
using Codes = std::array<std::int32_t, Nf4Matrix::kBlock>;

/// The number of bounds below each of `values`. Counted for the whole block, one bound after the other:
/// compilers vectorise these loops, which are ten times as fast as a search.
Codes codes_of(const Block& values, const std::array<float, 15>& bounds) {
  Codes codes{};
  for (const float bound : bounds)
    for (std::size_t i = 0; i < codes.size(); ++i) codes[i] += bound < values[i] ? 1 : 0;
  return codes;
}

/// Rounds x in [-1, 1] to one of the 256 values.
std::uint8_t absmax_code_of(float x) {
  constexpr float kSteps = 65535.0f;
  const float index = std::floor(std::fma((x + 1.0f) * 0.5f, kSteps, 0.5f));
  const double snapped = static_cast<double>(index) / static_cast<double>(kSteps) * 2.0 - 1.0;
  const std::span<const float> values = nf4_absmax_values();
  const auto above = std::ranges::lower_bound(values, snapped, {}, [](float v) { return double{v}; });
  const auto i = static_cast<std::size_t>(above - values.begin());
  if (i == 0) return 0;
  return static_cast<std::uint8_t>(double{values[i]} - snapped < snapped - double{values[i - 1]} ? i : i - 1);
}

using Lanes = std::array<float, 8>;

void add(Lanes& to, const Lanes& from) {
  for (std::size_t lane = 0; lane < to.size(); ++lane) to[lane] += from[lane];
}

/// The sum of `values` in the order in which PyTorch adds them on x86 with one thread: 4 vectors of 8 lanes
/// take turns; each is summed in up to 4 levels of blocks of at least 16, so that rounding errors grow
/// slowly.
float sum_as_pytorch(std::span<const float> values) {
  constexpr std::size_t kLanes = std::tuple_size_v<Lanes>;
  constexpr std::size_t kTurns = 4;
  constexpr std::size_t kLevels = 4;
  const std::size_t vectors = values.size() / kLanes;
  const std::size_t rounds = vectors / kTurns;
  const auto vector = [&](std::size_t i) {
    Lanes lanes;
    std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(i * kLanes), kLanes, lanes.begin());
    return lanes;
  };

  const auto log2 = static_cast<std::size_t>(rounds < 2 ? 0 : std::bit_width(rounds - 1));
  const std::size_t power = std::max<std::size_t>(4, log2 / kLevels);
  const std::size_t step = std::size_t{1} << power;
  std::array<std::array<Lanes, kTurns>, kLevels> sums{};
  std::size_t round = 0;
  while (round + step <= rounds) {
    for (std::size_t j = 0; j < step; ++j, ++round)
      for (std::size_t turn = 0; turn < kTurns; ++turn) add(sums[0][turn], vector(round * kTurns + turn));
    for (std::size_t level = 1; level < kLevels; ++level) {
      for (std::size_t turn = 0; turn < kTurns; ++turn) {
        add(sums[level][turn], sums[level - 1][turn]);
        sums[level - 1][turn] = {};
      }
      if ((round & ((step - 1) << (level * power))) != 0) break;
    }
  }
  for (; round < rounds; ++round)
    for (std::size_t turn = 0; turn < kTurns; ++turn) add(sums[0][turn], vector(round * kTurns + turn));
  for (std::size_t level = 1; level < kLevels; ++level)
    for (std::size_t turn = 0; turn < kTurns; ++turn) add(sums[0][turn], sums[level][turn]);

  Lanes& total = sums[0][0];
  for (std::size_t i = rounds * kTurns; i < vectors; ++i) add(total, vector(i));
  for (std::size_t turn = 1; turn < kTurns; ++turn) add(total, sums[0][turn]);
  float sum = 0;
  for (std::size_t i = vectors * kLanes; i < values.size(); ++i) sum += values[i];
  for (const float lane : total) sum += lane;
  return sum;
}

/// Codes of some blocks, the first of which begins with an even weight; their absmax go to `absmax`.
void encode(std::span<const float> weights, std::span<std::uint8_t> codes, std::span<float> absmax) {
  static const std::array<float, 15> bounds = make_bounds();
  for (std::size_t block = 0; block < absmax.size(); ++block) {
    const std::size_t first = block * Nf4Matrix::kBlock;
    const auto some =
        weights.subspan(first, std::min<std::size_t>(Nf4Matrix::kBlock, weights.size() - first));
    float largest = 0;
    for (const float w : some) largest = std::max(largest, std::fabs(w));
    const float divisor = std::max(largest, kSmallestAbsmax);
    Block values{};
    if (some.size() == Nf4Matrix::kBlock) {
      absmax[block] = largest;
      const float reciprocal = 1.0f / divisor;
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = some[i] * reciprocal;
    } else {
      absmax[block] = divisor;
      for (std::size_t i = 0; i < some.size(); ++i) values[i] = some[i] / divisor;
    }
    const Codes unpacked = codes_of(values, bounds);
    for (std::size_t i = 0; i < some.size(); i += 2)
      codes[(first + i) / 2] = static_cast<std::uint8_t>(unpacked[i] << 4 | unpacked[i + 1]);
  }
}

class NormalFloat final : public Quantizer {
 public:
  std::string_view name() const override { return "nf4"; }
  void check(const Scheme& scheme) const override {
    if (scheme != nf4_scheme())
      throw UsageError("nf4 has 4 bits and blocks of 64, nothing to choose: write nf4");
  }

  StoredMatrix quantize(const MatrixView& weights, const Scheme& scheme,
                        const InputStatistics* /*inputs*/) const override {
    check(scheme);
    const std::span<const float> values = weights.values;
    Nf4Matrix out;
    out.rows = weights.rows;
    out.cols = weights.cols;
    const auto blocks = static_cast<std::size_t>(out.blocks());
    out.codes.resize((values.size() + 1) / 2);
    out.absmax_codes.resize(blocks);
    std::vector<float> absmax(blocks);
    parallel_for((blocks + kChunkBlocks - 1) / kChunkBlocks, [&](std::size_t chunk) {
      const std::size_t first = chunk * kChunkBlocks;
      const std::size_t count = std::min<std::size_t>(kChunkBlocks, blocks - first);
      const std::size_t begin = first * Nf4Matrix::kBlock;
      const std::size_t size = std::min(count * Nf4Matrix::kBlock, values.size() - begin);
      encode(values.subspan(begin, size), std::span(out.codes).subspan(begin / 2, (size + 1) / 2),
             std::span(absmax).subspan(first, count));
    });

    if (const float largest = *std::ranges::max_element(absmax); largest > kLargestWeight)
      throw LargeWeightError(largest);
    out.offset = sum_as_pytorch(absmax) / static_cast<float>(blocks);
    for (std::size_t first = 0; first < blocks; first += Nf4Matrix::kNested) {
      const std::size_t end = std::min<std::size_t>(first + Nf4Matrix::kNested, blocks);
      float largest = 0;
      for (std::size_t i = first; i < end; ++i) {
        absmax[i] -= out.offset;
        largest = std::max(largest, std::fabs(absmax[i]));
      }
      out.nested_absmax.push_back(largest);
      // All equal: code 0, since 0 times any value is 0.
      if (largest == 0) continue;
      const float reciprocal = 1.0f / largest;
      for (std::size_t i = first; i < end; ++i)
        out.absmax_codes[i] = absmax_code_of(std::clamp(absmax[i] * reciprocal, -1.0f, 1.0f));
    }
    out.state = nf4_state(out.rows, out.cols, out.offset);
    return out;
  }
};

}  // namespace

const Quantizer& nf4_quantizer() {
  static const NormalFloat instance;
  return instance;
}

}  // namespace knapsaq
