#include "knapsaq/base/instruction_set.h"

#include <cstdlib>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {
namespace {

constexpr InstructionSet kSets[] = {InstructionSet::portable, InstructionSet::avx2, InstructionSet::avx512};

InstructionSet best_of_processor() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return InstructionSet::avx512;
  if (__builtin_cpu_supports("avx2")) return InstructionSet::avx2;
#endif
  return InstructionSet::portable;
}

}  // namespace

std::string_view name_of(InstructionSet set) {
  switch (set) {
    case InstructionSet::portable:
      return "portable";
    case InstructionSet::avx2:
      return "avx2";
    case InstructionSet::avx512:
      return "avx512";
  }
  return "";
}

InstructionSet parse_most_allowed(const char* value, InstructionSet best) {
  if (value == nullptr) return InstructionSet::avx512;
  for (const InstructionSet set : kSets) {
    if (name_of(set) != value) continue;
    if (set > best)
      throw UsageError(
          fmt::format("KNAPSAQ_ISA={}: this processor has no such instructions; the variable "
                      "only lowers what is used, here from {}",
                      value, name_of(best)));
    return set;
  }
  throw UsageError(
      fmt::format("KNAPSAQ_ISA={}: no such instruction set; choose portable, avx2 or avx512, or unset it",
                  in_quotes(value)));
}

InstructionSet most_allowed() {
  static const InstructionSet most = parse_most_allowed(std::getenv("KNAPSAQ_ISA"), best_of_processor());
  return most;
}

}  // namespace knapsaq
