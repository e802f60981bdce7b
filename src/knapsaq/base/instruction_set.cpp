#include "knapsaq/base/instruction_set.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {

std::span<const InstructionSet> instruction_sets() {
// KNAPSAQ_SETS is the list of cmake/KnapsaqKernels.cmake: KNAPSAQ_SET(name, HAS(feature)...) for each.
#define HAS(feature) &&__builtin_cpu_supports(#feature)
#define KNAPSAQ_SET(name, features) {#name, true features},
  static const std::vector<InstructionSet> sets = {KNAPSAQ_SETS};
#undef KNAPSAQ_SET
#undef HAS
  return sets;
}

std::string_view parse_most_allowed(const char* value, std::span<const InstructionSet> sets) {
  if (value == nullptr) return sets.front().name;
  const auto supported =
      std::find_if(sets.begin(), sets.end(), [](const auto& set) { return set.supported; });
  for (const InstructionSet& set : sets) {
    if (set.name != value) continue;
    if (!set.supported)
      throw UsageError(
          fmt::format("KNAPSAQ_ISA={}: this processor has no such instructions; the variable "
                      "only lowers what is used, here from {}",
                      value, supported->name));
    return set.name;
  }
  std::vector<std::string_view> names;
  for (const InstructionSet& set : sets) names.push_back(set.name);
  throw UsageError(fmt::format("KNAPSAQ_ISA={}: no such instruction set; choose one of {}, or unset it",
                               in_quotes(value), fmt::join(names, ", ")));
}

bool allowed(std::string_view set, std::string_view most, std::span<const InstructionSet> sets) {
  if (set.starts_with(std::string(most) + '_')) return true;
  const auto place = [&](std::string_view name) {
    return std::find_if(sets.begin(), sets.end(), [&](const auto& one) { return one.name == name; });
  };
  return place(set) != sets.end() && place(set) >= place(most);
}

std::string_view most_allowed() {
  static const std::string_view most = parse_most_allowed(std::getenv("KNAPSAQ_ISA"), instruction_sets());
  return most;
}

bool allowed(std::string_view set) { return allowed(set, most_allowed(), instruction_sets()); }

bool usable(std::string_view set) {
  const auto sets = instruction_sets();
  return allowed(set) && std::any_of(sets.begin(), sets.end(), [&](const InstructionSet& one) {
           return one.name == set && one.supported;
         });
}

}  // namespace knapsaq
