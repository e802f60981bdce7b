#include "knapsaq/pipeline/bench.h"

#include "knapsaq/eval/speed.h"
#include "knapsaq/pipeline/model_memory.h"
#include "knapsaq/pipeline/runtime.h"
#include "knapsaq/pipeline/stopwatch.h"

namespace knapsaq {

BenchResult bench(Session& session, const BenchOptions& options) {
  const ExecutionScope scope(session.execution());
  check(options.runtime);
  SpeedOptions how;
  how.prompt = options.prompt;
  how.generate = options.generate;
  how.repeats = options.repeats;
  how.cache = cache_element(options.runtime);
  how.context = options.runtime.context;
  const Stopwatch watch;
  const auto backend = make_runtime_backend(options.runtime);
  check(how, session.config(), *backend);
  Decoder decoder = Decoder::load(session.checkpoint(), session.config(), *backend, session.listener());
  BenchResult result;
  result.load_seconds = watch.seconds();
  result.backend = backend->description();
  const Speed speed = measure_speed(decoder, how, session.listener());
  const auto generated = static_cast<double>(how.generate);
  result.prompt_tokens_per_second = static_cast<double>(how.prompt) / speed.prompt_seconds;
  result.generation_tokens_per_second = generated / speed.generation_seconds;
  result.generation_after_prompt_tokens_per_second = generated / speed.after_prompt_seconds;
  result.first_token_seconds = speed.prompt_seconds;
  result.weight_bytes = speed.memory.read_per_token();
  result.dram_bytes_per_second = speed.dram_bytes_per_second;
  result.bandwidth_fraction = static_cast<double>(result.weight_bytes) * result.generation_tokens_per_second /
                              speed.dram_bytes_per_second;
  result.memory = memory_of(speed.memory);
  result.cache_bytes = speed.cache_bytes;
  result.resident_bytes = speed.resident_bytes;
  result.peak_resident_bytes = speed.peak_resident_bytes;
  return result;
}

}  // namespace knapsaq
