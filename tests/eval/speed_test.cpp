#include "knapsaq/eval/speed.h"

#include <filesystem>
#include <memory>

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/memory.h"
#include "knapsaq/base/progress.h"
#include "knapsaq/model/architecture.h"

namespace knapsaq {
namespace {

// What it finds does not matter here.
constexpr std::uint64_t kBuffer = std::uint64_t{64} << 20;

struct Llama {
  Checkpoint checkpoint = Checkpoint::open(KNAPSAQ_SOURCE_DIR "/assets/wiki-llama-6m");
  ModelConfig config = parse_model_config(checkpoint.config());
  std::unique_ptr<Backend> backend = make_backend({.precision = Precision::fp32});
  Decoder decoder = Decoder::load(checkpoint, config, *backend);
};

TEST(ReadBandwidth, ReadsItsBuffer) {
  const ReadBandwidth bandwidth(kBuffer);
  EXPECT_EQ(bandwidth.bytes(), kBuffer);
  EXPECT_GT(bandwidth.measure(), 0);
}

TEST(ReadBandwidth, RefusesABufferThatACacheHolds) { EXPECT_THROW(ReadBandwidth(kBuffer - 1), InputError); }

TEST(MeasureSpeed, CountsMemoryByItsUse) {
  Llama llama;
  EXPECT_EQ(llama.decoder.memory().work, 0U);
  SpeedOptions options;
  options.prompt = 24;
  options.generate = 3;
  options.context = 40;
  options.repeats = 2;
  options.buffer = kBuffer;
  const Speed speed = measure_speed(llama.decoder, options, Progress::none());

  std::uint64_t parameters = 0;
  for (const Matrix& linear : linears(llama.config))
    parameters += static_cast<std::uint64_t>(linear.out * linear.in);
  const auto hidden = static_cast<std::uint64_t>(llama.config.hidden);
  const std::uint64_t norms = hidden * 2 * static_cast<std::uint64_t>(llama.config.layers);
  const std::uint64_t table = hidden * static_cast<std::uint64_t>(llama.config.vocab);
  // Rows and columns may be padded to whole vectors, but not by much.
  EXPECT_GE(speed.memory.weights, 4 * (parameters + norms));
  EXPECT_LE(speed.memory.weights, 5 * (parameters + norms));
  EXPECT_GE(speed.memory.head, 4 * (table + hidden));
  EXPECT_LE(speed.memory.head, 5 * (table + hidden));
  EXPECT_EQ(speed.memory.embedding, 2 * table);  // F16, as in the file
  EXPECT_EQ(speed.memory.read_per_token(), speed.memory.weights + speed.memory.head);
  EXPECT_GE(speed.memory.work, 4 * 24 * hidden);

  const KeyValueCache cache(llama.config, *llama.backend, 1, options.context, options.cache);
  EXPECT_EQ(speed.cache_bytes, cache.bytes());
  EXPECT_GE(speed.resident_bytes, speed.memory.weights + speed.memory.head);
  EXPECT_GE(speed.peak_resident_bytes, speed.memory.weights + speed.memory.head);
  EXPECT_LE(speed.peak_resident_bytes, peak_resident_memory());

  EXPECT_GT(speed.prompt_seconds, 0);
  EXPECT_GT(speed.generation_seconds, 0);
  EXPECT_GT(speed.dram_bytes_per_second, 0);
}

TEST(MeasureSpeed, RefusesAContextWithoutRoom) {
  Llama llama;
  SpeedOptions options;
  options.prompt = 24;
  options.generate = 3;
  options.context = 26;
  EXPECT_THROW(measure_speed(llama.decoder, options, Progress::none()), UsageError);
}

TEST(MeasureSpeed, RefusesACacheThatIsLargerThanMemory) {
  SpeedOptions options;
  options.context = std::int64_t{1} << 40;
  const Llama llama;
  EXPECT_THROW(check(options, llama.config, *llama.backend), InputError);
}

TEST(MeasureSpeed, MorePositionsThanTheModelKnowsAreRefused) {
  const Checkpoint checkpoint = Checkpoint::open(KNAPSAQ_SOURCE_DIR "/assets/wiki-opt-3m");
  const ModelConfig config = parse_model_config(checkpoint.config());
  const auto backend = make_backend({.precision = Precision::fp32});
  Decoder decoder = Decoder::load(checkpoint, config, *backend);
  SpeedOptions options;
  options.prompt = config.max_positions;
  options.generate = 1;
  EXPECT_THROW(measure_speed(decoder, options, Progress::none()), InputError);
}

}  // namespace
}  // namespace knapsaq
