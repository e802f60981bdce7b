#include "runtime_options.h"

namespace knapsaq::command {

void add_runtime_options(Verb verb, RuntimeOptions& options) {
  verb.option("--activations", options.activations,
              "What packed weights are multiplied by: int8 (fastest), bf16, or fp32 (exact)")
      .one_of({"int8", "bf16", "fp32"})
      .show_default();
  verb.option("--cache", options.cache, "Keys and values of the tokens so far: fp16 or int8")
      .one_of({"fp16", "int8"})
      .show_default();
  verb.option("--context", options.context, "Tokens that the cache has room for; default: what is needed")
      .range(0);
}

std::unique_ptr<Backend> make_runtime_backend(const RuntimeOptions& options) {
  CpuOptions cpu;
  cpu.precision = options.activations == "fp32" ? Precision::fp32 : Precision::bf16;
  cpu.packed = options.activations == "int8" ? Packed::int8 : Packed::exact;
  return make_cpu_backend(cpu);
}

CacheElement cache_element(const RuntimeOptions& options) {
  return options.cache == "int8" ? CacheElement::int8 : CacheElement::half;
}

}  // namespace knapsaq::command
