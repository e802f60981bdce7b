#pragma once

#include <cstdint>

#include "knapsaq/model/decoder.h"

namespace knapsaq {

/// Measures memory bandwidth: reads memory as fast as all threads of the default pool can. Generation, which
/// reads every weight once for each token, is compared with it. The buffer must be far larger than the
/// last-level cache, which on shared machines may be hundreds of MB.
class ReadBandwidth {
 public:
  static constexpr std::uint64_t kBuffer = std::uint64_t{1} << 30;
  /// `bytes`, or half of the available memory if that is less. Throws InputError if that is less than 64 MiB.
  explicit ReadBandwidth(std::uint64_t bytes = kBuffer);
  ~ReadBandwidth();
  ReadBandwidth(const ReadBandwidth&) = delete;
  ReadBandwidth& operator=(const ReadBandwidth&) = delete;

  std::uint64_t bytes() const { return bytes_; }
  /// One pass over the buffer: bytes per second.
  double measure() const;

 private:
  std::uint64_t bytes_;
  void* data_;
};

struct SpeedOptions {
  std::int64_t prompt = 512;    ///< tokens; at least 1
  std::int64_t generate = 128;  ///< tokens, from an empty cache and after the prompt; at least 1
  std::int64_t repeats = 3;     ///< number of repeats, of which medians are taken; at least 1
  std::int64_t context = 0;     ///< tokens that the cache can hold; 0: prompt + generate
  CacheElement cache = CacheElement::half;
  std::uint64_t buffer = ReadBandwidth::kBuffer;  ///< bytes of it
  std::uint64_t seed = 1;  ///< of the tokens, which are random: speed does not depend on them
};

/// Before a model is loaded: throws UsageError for a context without room for the tokens, InputError for a
/// cache that is larger than the free memory of the backend.
void check(const SpeedOptions& options, const ModelConfig& config, const Backend& backend);

/// The results of bench for a model. Times are medians of the repeats.
struct Speed {
  double prompt_seconds = 0;  ///< of the whole prompt, to the logits after it: the time to the first token
  /// Of all tokens, one by one, from an empty cache: the cost of the weights. llama-bench measures the same
  /// as `tg`.
  double generation_seconds = 0;
  double after_prompt_seconds = 0;   ///< the same after the prompt, whose keys and values every token reads
  double dram_bytes_per_second = 0;  ///< ReadBandwidth, measured between the repeats
  std::uint64_t cache_bytes = 0;
  std::uint64_t resident_bytes = 0;       ///< of the process, after the first repeat
  std::uint64_t peak_resident_bytes = 0;  ///< maximum until then, loading included
  DecoderMemory memory;                   ///< after the first repeat
};

/// Measures the decoder. Throws like check() and Decoder::next(); Cancelled between tokens.
Speed measure_speed(Decoder& decoder, const SpeedOptions& options, Progress& progress);

}  // namespace knapsaq
