#include "knapsaq/compute/cpu/code_levels.h"

#include <cmath>
#include <cstddef>
#include <map>
#include <set>

#include "knapsaq/compute/ggml_block.h"
#include "knapsaq/compute/nf4_matrix.h"

namespace knapsaq::cpu {
namespace {

void add(CodeLevels& to, float level, int integer) {
  const auto i = static_cast<std::size_t>(to.count++);
  to.levels.at(i) = level;
  to.signed_bytes[i] = static_cast<std::uint8_t>(integer);
  to.bytes[i] = static_cast<std::uint8_t>(integer + to.zero);
  to.index_of[static_cast<std::uint8_t>(integer)] = static_cast<std::uint8_t>(i);
}

/// What a code can be, ascending; empty where it can be anything between bounds.
std::set<int> values_of(const GgmlRule& rule) {
  std::set<int> values(rule.levels.begin(), rule.levels.end());
  if (rule.grid == nullptr) return values;
  for (const std::int8_t level : rule.grid->levels()) {
    const bool shifts = rule.grid->signs() == GgmlGrid::Signs::shift;
    values.insert(shifts ? 8 * level - 1 : -level);
    values.insert(shifts ? 8 * level + 1 : level);
  }
  return values;
}

std::map<GgmlType, CodeLevels> make_all() {
  std::map<GgmlType, CodeLevels> all;
  for (const GgmlTypeInfo& type : ggml_types()) {
    const std::set<int> values = values_of(rule(type.type));
    if (values.empty()) continue;
    CodeLevels& made = all[type.type];
    made.zero = -*values.begin();
    for (const int value : values) add(made, static_cast<float>(value), value);
  }
  return all;
}

}  // namespace

const CodeLevels* code_levels(GgmlType type) {
  static const std::map<GgmlType, CodeLevels> all = make_all();
  const auto found = all.find(type);
  return found == all.end() ? nullptr : &found->second;
}

const CodeLevels& nf4_levels() {
  static const CodeLevels made = [] {
    CodeLevels levels;
    levels.zero = 127;
    for (const float value : nf4_values()) add(levels, value, static_cast<int>(std::lround(127.0f * value)));
    return levels;
  }();
  return made;
}

}  // namespace knapsaq::cpu
