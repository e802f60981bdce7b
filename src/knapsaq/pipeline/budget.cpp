#include "knapsaq/pipeline/budget.h"

#include <algorithm>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/units.h"
#include "knapsaq/export/engine_memory.h"
#include "knapsaq/family/config.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/pipeline/listener.h"
#include "knapsaq/search/best_point.h"
#include "knapsaq/search/space.h"

namespace knapsaq {
namespace {

std::uint64_t beside(const ContextMemory& memory) { return memory.cache + memory.work_space.value_or(0); }

/// What the engine needs beside the files. Throws UsageError where that is not known.
ContextMemory known_memory(const BudgetOptions& options, const ModelConfig& config,
                           const std::string& engine) {
  const ContextMemory memory = context_memory(engine, config, options.context, options.cache);
  if (!memory.work_space)
    throw UsageError(
        fmt::format("--context: the work space of {} is not known: {}. Its cache takes {} bytes for {} "
                    "tokens ({}): leave "
                    "--context out and give the files a --budget that is smaller by this and more",
                    engine, engine_memory(engine).why_unknown, memory.cache, options.context, memory.type));
  return memory;
}

/// The most tokens for which files of this size fit too; 0: none.
std::int64_t largest_context(const BudgetOptions& options, const ModelConfig& config,
                             const std::string& engine, std::uint64_t files) {
  const auto fits = [&](std::int64_t context) {
    return files + beside(context_memory(engine, config, context, options.cache)) <= *options.bytes;
  };
  // The cache grows with the context; the work space may shrink a little on the way.
  const std::int64_t step = engine_memory(engine).step;
  std::int64_t least = 0;
  std::int64_t most = options.context / step;
  while (least < most) {
    const std::int64_t middle = (least + most + 1) / 2;
    if (fits(middle * step))
      least = middle;
    else
      most = middle - 1;
  }
  return least * step;
}

/// A type other than the wanted one with which everything fits; empty: none.
std::string_view smaller_cache(const BudgetOptions& options, const ModelConfig& config,
                               const std::string& engine, std::uint64_t files) {
  for (const CacheType& type : engine_memory(engine).caches) {
    if (type.group > 0 && config.head_dim % type.group != 0) continue;
    if (files + beside(context_memory(engine, config, options.context, type.name)) <= *options.bytes)
      return type.name;
  }
  return {};
}

}  // namespace

void check(const BudgetOptions& options) {
  if (options.context != 0 && !options.bytes) throw UsageError("--context goes with --budget");
  if (!options.cache.empty() && options.context == 0) throw UsageError("--cache goes with --context");
}

std::optional<std::uint64_t> file_budget(const BudgetOptions& options, const ModelConfig& config,
                                         const std::string& engine) {
  check(options);
  if (options.bits_per_weight > 0) return bits_budget(options.bits_per_weight, parameters(config)).bytes;
  if (options.context == 0) return options.bytes;
  return *options.bytes - std::min(*options.bytes, beside(known_memory(options, config, engine)));
}

void refuse(const InfeasibleError& error, const BudgetOptions& options, const ModelConfig& config,
            const std::string& engine) {
  if (options.context == 0) throw error;
  const ContextMemory memory = known_memory(options, config, engine);
  const auto files = static_cast<std::uint64_t>(error.smallest());
  const std::uint64_t least = files + beside(memory);
  std::string fits;
  if (const std::int64_t context = largest_context(options, config, engine, files); context > 0)
    fits = fmt::format("; this budget would do for {} tokens", context);
  if (const std::string_view type = smaller_cache(options, config, engine, files); !type.empty())
    fits += fmt::format("{} --cache {}", fits.empty() ? "; this budget would do with" : ", or with", type);
  throw InfeasibleError(
      fmt::format("a budget of {} bytes is too small: keys and values of {} tokens ({}) take {}, the work "
                  "space {}, the smallest model that this menu can make {}, together {} bytes ({}){}",
                  *options.bytes, options.context, memory.type, memory.cache, *memory.work_space, files,
                  least, format_bytes(least), fits),
      static_cast<double>(least));
}

Budget resolve(const BudgetOptions& options, const SearchSpace& space, const ModelConfig& config,
               const std::string& engine) {
  const int given = options.bytes.has_value() + (options.bits > 0) + (options.bits_per_weight > 0);
  if (given != 1) throw UsageError("give one of --budget, --bpw and --bits");
  const std::optional<std::uint64_t> files = file_budget(options, config, engine);
  const Budget budget =
      files ? Budget{*files, Budget::Of::files} : bits_budget(options.bits, space.parameters);
  try {
    require_feasible(space, budget);
  } catch (const InfeasibleError& error) {
    refuse(error, options, config, engine);
  }
  return budget;
}

std::optional<MemoryUse> memory_use(const BudgetOptions& options, const ModelConfig& config,
                                    const std::string& engine, std::uint64_t weights) {
  if (options.context == 0) return std::nullopt;
  const ContextMemory memory = context_memory(engine, config, options.context, options.cache);
  return MemoryUse{.context = options.context,
                   .cache_type = std::string(memory.type),
                   .weights = weights,
                   .cache = memory.cache,
                   .work_space = memory.work_space};
}

void tell_file_budget(Listener& listener, const BudgetOptions& options, const ModelConfig& config,
                      const std::string& engine) {
  if (options.context == 0) return;
  const ContextMemory memory = known_memory(options, config, engine);
  listener.note(
      fmt::format("of the budget of {}, keys and values of {} tokens ({}) take {} and the work space {}; "
                  "{} are left for the files",
                  format_bytes(*options.bytes), options.context, memory.type, format_bytes(memory.cache),
                  format_bytes(*memory.work_space), format_bytes(*options.bytes - beside(memory))));
}

}  // namespace knapsaq
