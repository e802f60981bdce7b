#pragma once

#include <span>
#include <string_view>

namespace knapsaq {

/// A set of instructions that kernels are compiled for (cmake/KnapsaqKernels.cmake).
struct InstructionSet {
  std::string_view name;
  bool supported = false;  ///< by this processor
};

/// All of them, the best first; the last one is "portable", which every processor has.
std::span<const InstructionSet> instruction_sets();

/// The best set that kernels may be chosen from. The environment variable KNAPSAQ_ISA lowers it, for all
/// kernels of the process, to the set that it names and those that refine it (avx512: avx512_bf16, too): so a
/// processor without AVX-512 is tested on one that has it. Without the variable: the best of all.
///
/// Read once. Throws UsageError for another name and for a set that this processor does not have: the
/// variable lowers and never raises.
std::string_view most_allowed();

/// Whether kernels of this set may be chosen, as far as KNAPSAQ_ISA goes.
bool allowed(std::string_view set);
/// Whether this processor has it, too.
bool usable(std::string_view set);

// What the functions above do with a value of KNAPSAQ_ISA (null: not set) and other sets:
std::string_view parse_most_allowed(const char* value, std::span<const InstructionSet> sets);
bool allowed(std::string_view set, std::string_view most, std::span<const InstructionSet> sets);

}  // namespace knapsaq
