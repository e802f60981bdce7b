#include "knapsaq/export/module_patterns.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <tuple>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace knapsaq {
namespace {

constexpr std::array<FusedModule, 2> kFused{
    {{Fusion::qkv, "qkv_proj", 3}, {Fusion::gate_up, "gate_up_proj", 2}}};

/// Dots are the only characters in a module's name with a meaning in regular expressions.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '.') out += '\\';
    out += c;
  }
  return out;
}

template <class Range>
std::string one_of(const Range& alternatives) {
  if (alternatives.size() == 1) return fmt::format("{}", *alternatives.begin());
  return fmt::format("({})", fmt::join(alternatives, "|"));
}

}  // namespace

const FusedModule* fused_module(std::string_view leaf) {
  const std::optional<Role> role = role_of(leaf);
  const auto* found = std::ranges::find(kFused, role ? fusion_of(*role) : Fusion::none, &FusedModule::fusion);
  return found == kFused.end() ? nullptr : found;
}

BlockModule take_apart(std::string_view name) {
  for (std::size_t begin = 0; begin < name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    BlockModule module;
    const auto [stop, error] = std::from_chars(name.data() + begin, name.data() + end, module.block);
    if (error == std::errc() && stop == name.data() + end && end < name.size()) {
      module.before = name.substr(0, begin);
      const std::string_view rest = name.substr(end + 1);
      const std::size_t dot = rest.rfind('.');
      const std::size_t leaf = dot == rest.npos ? 0 : dot + 1;
      module.parent = rest.substr(0, leaf);
      module.leaf = rest.substr(leaf);
      return module;
    }
    begin = end + 1;
  }
  throw std::logic_error(fmt::format("the module {} is in no numbered block", name));
}

std::vector<std::string> block_patterns(std::span<const BlockModule> modules, std::int64_t blocks,
                                        std::string_view before) {
  using Place = std::tuple<std::string, std::string>;  // before, parent
  std::map<Place, std::map<std::string, std::set<std::int64_t>>> blocks_of;
  for (const BlockModule& module : modules)
    blocks_of[{module.before, module.parent}][module.leaf].insert(module.block);
  std::vector<std::string> patterns;
  for (const auto& [place, leaves] : blocks_of) {
    std::map<std::set<std::int64_t>, std::vector<std::string>> leaves_of;
    for (const auto& [leaf, numbers] : leaves) leaves_of[numbers].push_back(leaf);
    for (const auto& [numbers, names] : leaves_of) {
      const bool all = static_cast<std::int64_t>(numbers.size()) == blocks;
      patterns.push_back(fmt::format("{}{}\\.{}{}", before.empty() ? escaped(std::get<0>(place)) : before,
                                     all ? "\\d+" : one_of(numbers), escaped(std::get<1>(place)),
                                     one_of(names)));
    }
  }
  std::ranges::sort(patterns);
  return patterns;
}

}  // namespace knapsaq
