#pragma once

#include <cstdint>
#include <string_view>

namespace knapsaq {

/// Families of instructions that kernels are written for, weakest first. A kernel may need more than its
/// family's name says and asks the processor for that itself.
enum class InstructionSet : std::uint8_t { portable, avx2, avx512 };

std::string_view name_of(InstructionSet set);  ///< as KNAPSAQ_ISA spells it

/// The strongest family that kernels may be chosen from. The environment variable KNAPSAQ_ISA (portable, avx2
/// or avx512) lowers it, for all kernels of the process: so a processor without AVX-512 is tested on one that
/// has it. Without the variable: avx512, that is, whatever the processor has.
///
/// Read once. Throws UsageError for another name and for a family that this processor does not have: the
/// variable lowers and never raises.
InstructionSet most_allowed();

/// Whether kernels of this family may be chosen, as far as KNAPSAQ_ISA goes.
inline bool allowed(InstructionSet set) { return set <= most_allowed(); }

/// What most_allowed() makes of a value of KNAPSAQ_ISA on a processor that has families up to `best`; null:
/// not set.
InstructionSet parse_most_allowed(const char* value, InstructionSet best);

}  // namespace knapsaq
