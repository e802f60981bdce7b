#include "knapsaq/eval/speed.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <vector>

#include <fmt/core.h>
#include <sys/mman.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/memory.h"
#include "knapsaq/base/random.h"
#include "knapsaq/base/threads.h"

namespace knapsaq {
namespace {

using Clock = std::chrono::steady_clock;

// Less might fit the last-level cache of a large machine.
constexpr std::uint64_t kLeastBuffer = std::uint64_t{64} << 20;
// Long enough for the prefetchers to be at full speed most of the time, short enough for threads to end
// together.
constexpr std::uint64_t kPiece = std::uint64_t{1} << 20;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*std::max_element(values.begin(), middle) + *middle) / 2;
}

std::int64_t context_of(const SpeedOptions& options) {
  return options.context == 0 ? options.prompt + options.generate : options.context;
}

}  // namespace

ReadBandwidth::ReadBandwidth(std::uint64_t bytes)
    : bytes_(std::min(bytes, available_memory().value_or(2 * bytes) / 2) / kPiece * kPiece) {
  if (bytes_ < kLeastBuffer)
    throw InputError("not enough memory left to measure the memory's speed; close something and try again");
  data_ = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data_ == MAP_FAILED) throw std::bad_alloc();
  // With pages of 4 KiB, address translation is slower than the memory (24 against 29 GB/s where this was
  // written). The buffer is written because pages that nobody wrote are all the same page of zeros.
  ::madvise(data_, bytes_, MADV_HUGEPAGE);
  parallel_for(bytes_ / kPiece, [&](std::size_t piece) {
    std::memset(static_cast<char*>(data_) + piece * kPiece, 1, kPiece);
  });
}

ReadBandwidth::~ReadBandwidth() { ::munmap(data_, bytes_); }

double ReadBandwidth::measure() const {
  // The result must be used, or the compiler drops the reads. It makes 16 bytes per step of this loop, which
  // is as fast as 64 by hand: the memory is slower than either.
  std::vector<std::uint64_t> sums(bytes_ / kPiece);
  const auto begin = Clock::now();
  parallel_for(sums.size(), [&](std::size_t piece) {
    const auto* words =
        reinterpret_cast<const std::uint64_t*>(static_cast<const char*>(data_) + piece * kPiece);
    sums[piece] = std::accumulate(words, words + kPiece / sizeof *words, std::uint64_t{0});
  });
  const double seconds = seconds_since(begin);
  if (std::ranges::count(sums, sums.front()) != std::ssize(sums))
    throw std::logic_error("the memory's speed: sums differ");
  return static_cast<double>(bytes_) / seconds;
}

void check(const SpeedOptions& options, const ModelConfig& config, const Backend& backend) {
  if (context_of(options) < options.prompt + options.generate)
    throw UsageError(fmt::format("a context of {} tokens has no room for {} of the prompt and {} after it",
                                 options.context, options.prompt, options.generate));
  check_cache_memory(config, options.cache, 1, context_of(options), backend.available_memory());
}

Speed measure_speed(Decoder& decoder, const SpeedOptions& options, Progress& progress) {
  const ModelConfig& config = decoder.config();
  check(options, config, decoder.backend());
  const std::int64_t tokens = options.prompt + options.generate;
  decoder.check_length(tokens);

  Random random(options.seed);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens));
  for (std::int32_t& id : ids)
    id = static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(config.vocab)));
  const auto prompt = std::span(ids).first(static_cast<std::size_t>(options.prompt));
  const auto after = std::span(ids).subspan(static_cast<std::size_t>(options.prompt));

  KeyValueCache cache(config, decoder.backend(), 1, context_of(options), options.cache);
  std::vector<float> logits(static_cast<std::size_t>(config.vocab));
  std::optional<ReadBandwidth> bandwidth;
  std::vector<double> prompts;
  std::vector<double> generations;
  std::vector<double> after_prompts;
  std::vector<double> reads;
  Speed speed;
  ProgressScope scope(progress, "measuring",
                      static_cast<std::uint64_t>(options.repeats * (tokens + options.generate)), "tokens");
  for (std::int64_t repeat = 0; repeat < options.repeats; ++repeat) {
    cache.clear();
    auto begin = Clock::now();
    decoder.next(prompt, cache, logits);
    prompts.push_back(seconds_since(begin));
    scope.advance(static_cast<std::uint64_t>(options.prompt));
    for (std::vector<double>* times : {&after_prompts, &generations}) {
      if (times == &generations) cache.clear();
      begin = Clock::now();
      for (const std::int32_t& id : after) {
        check_cancelled();
        decoder.next({&id, 1}, cache, logits);
        scope.advance();
      }
      times->push_back(seconds_since(begin));
    }
    if (!bandwidth) {
      speed.memory = decoder.memory();
      speed.cache_bytes = cache.bytes();
      speed.resident_bytes = resident_memory();
      speed.peak_resident_bytes = peak_resident_memory();
      bandwidth.emplace(options.buffer);  // only now, because it is not part of those
    }
    // Twice, because one pass takes only about 40 ms.
    for (int pass = 0; pass < 2; ++pass) reads.push_back(bandwidth->measure());
  }
  speed.prompt_seconds = median(prompts);
  speed.generation_seconds = median(generations);
  speed.after_prompt_seconds = median(after_prompts);
  speed.dram_bytes_per_second = median(reads);
  return speed;
}

}  // namespace knapsaq
