#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "knapsaq/pipeline/memory_use.h"

namespace knapsaq {

class InfeasibleError;
class Listener;
struct Budget;
struct ModelConfig;
struct SearchSpace;

/// How large a model may be: one of the first three.
struct BudgetOptions {
  std::optional<std::uint64_t>
      bytes;                   ///< of all files, and with `context` of what the engine needs beside them
  double bits_per_weight = 0;  ///< of all files, per weight of the whole model (--bpw)
  double bits =
      0;  ///< average per weight of the linears in the blocks; embedding and head as stored (--bits)
  /// With `bytes`: tokens of a sequence whose keys and values, with the work space, fit too; 0: `bytes` are
  /// the files' alone.
  std::int64_t context = 0;
  std::string cache;  ///< with `context`: how the engine stores keys and values; empty: its default
  bool given() const { return bytes || bits > 0 || bits_per_weight > 0; }
};

/// Throws UsageError for `context` and `cache` without what they go with.
void check(const BudgetOptions& options);

/// Bytes of the files, or of the linears where bits are given, in the engine ("": Knapsaq itself). Throws
/// UsageError unless one of the three is given, and for what context_memory() refuses; InfeasibleError,
/// naming the smallest size (and with a context each of its parts, and what would fit), if nothing fits.
Budget resolve(const BudgetOptions& options, const SearchSpace& space, const ModelConfig& config,
               const std::string& engine);

/// Most bytes of all files, 0 where nothing is left for them; nothing for a budget of bits. Throws UsageError
/// as resolve() does.
std::optional<std::uint64_t> file_budget(const BudgetOptions& options, const ModelConfig& config,
                                         const std::string& engine);
/// Throws what file_budget() was too small for: with a context the error says what takes how much, and what
/// would fit.
[[noreturn]] void refuse(const InfeasibleError& error, const BudgetOptions& options,
                         const ModelConfig& config, const std::string& engine);

/// What a model with files of so many bytes takes; nothing without a context.
std::optional<MemoryUse> memory_use(const BudgetOptions& options, const ModelConfig& config,
                                    const std::string& engine, std::uint64_t weights);
/// Tells people what a context leaves of the budget for the files. Does nothing without a context.
void tell_file_budget(Listener& listener, const BudgetOptions& options, const ModelConfig& config,
                      const std::string& engine);

}  // namespace knapsaq
