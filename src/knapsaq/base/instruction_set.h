#pragma once

#include <cstdint>
#include <string_view>

namespace knapsaq {

/// Instruction sets for which kernels are written, weakest first. A kernel may need more than the name of its
/// set says, and then asks the processor itself.
enum class InstructionSet : std::uint8_t { portable, avx2, avx512 };

std::string_view name_of(InstructionSet set);  ///< in KNAPSAQ_ISA's notation

/// The strongest set from which kernels may be chosen. The environment variable KNAPSAQ_ISA (portable, avx2
/// or avx512) lowers it, for all kernels of the process: a processor with AVX-512 can thus test the behaviour
/// of one without it. Without the variable: avx512, that is, whatever the processor has.
///
/// Read once. Throws UsageError for another name and for a set that this processor does not have: the
/// variable lowers and never raises.
InstructionSet most_allowed();

/// Whether KNAPSAQ_ISA allows kernels of this set.
inline bool allowed(InstructionSet set) { return set <= most_allowed(); }

/// most_allowed() for a value of KNAPSAQ_ISA on a processor with sets up to `best`; null: not set.
InstructionSet parse_most_allowed(const char* value, InstructionSet best);

}  // namespace knapsaq
