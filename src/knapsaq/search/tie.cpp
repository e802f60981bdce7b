#include <algorithm>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/search/problem.h"

namespace knapsaq {
namespace {

struct Ties {
  bool qkv = false;
  bool gate_up = false;
  bool q_gate = false;
  bool experts = false;
  bool layer = false;
};

Ties parse(std::string_view specification) {
  Ties ties;
  for (std::size_t begin = 0; begin <= specification.size();) {
    const std::size_t end = std::min(specification.find(',', begin), specification.size());
    const std::string_view word = specification.substr(begin, end - begin);
    begin = end + 1;
    if (word == "qkv") {
      ties.qkv = true;
    } else if (word == "gate-up") {
      ties.gate_up = true;
    } else if (word == "q-gate") {
      ties.q_gate = true;
    } else if (word == "experts") {
      ties.experts = true;
    } else if (word == "layer") {
      ties.layer = true;
    } else if (word == "vllm") {
      ties.qkv = ties.gate_up = true;
    } else if (word != "none") {
      throw UsageError(
          fmt::format("unknown tie '{}' in '{}': use none, or some of qkv, gate-up, vllm, q-gate, experts, "
                      "layer with commas "
                      "between",
                      word, specification));
    }
  }
  return ties;
}

/// The path up to and including the first component that is a number: "model.layers.3". Empty if there is
/// none.
std::string_view layer_of(std::string_view name) {
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    const bool number =
        !part.empty() && std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (number) return name.substr(0, end);
    begin = end + 1;
  }
  return {};
}

/// The common property of linears in the same group, as text.
std::string group_key(const Ties& ties, std::string_view name) {
  if (ties.layer) {
    if (const std::string_view layer = layer_of(name); !layer.empty()) return std::string(layer);
  }
  std::string_view leaf = name.substr(name.rfind('.') + 1);
  std::string_view parent = name.substr(0, name.size() - leaf.size());
  const std::optional<Role> role = role_of(name);
  const Fusion fusion = role ? fusion_of(*role) : Fusion::none;
  const bool expert = role && is_of_expert(*role);
  // "model.layers.3.mlp.experts.7." without the number.
  if (ties.experts && expert) parent = parent.substr(0, parent.rfind('.', parent.size() - 2) + 1);
  // A space cannot occur in a module's name, so these keys are distinct from all others. OPT's fc1 has no
  // gate to be tied to.
  if (ties.qkv && fusion == Fusion::qkv) return fmt::format("{} qkv", parent);
  if (ties.gate_up && fusion == Fusion::gate_up) return fmt::format("{} gate-up", parent);
  if (ties.q_gate && (role == Role::q || role == Role::attention_gate))
    return fmt::format("{} q-gate", parent);
  if (ties.experts && expert) return fmt::format("{} {}", parent, leaf);
  return std::string(name);
}

}  // namespace

std::vector<std::size_t> tie_groups(const std::vector<std::string>& names, std::string_view specification) {
  const Ties ties = parse(specification);
  std::map<std::string, std::size_t> numbers;
  std::vector<std::size_t> groups;
  groups.reserve(names.size());
  for (const std::string& name : names) {
    groups.push_back(numbers.try_emplace(group_key(ties, name), numbers.size()).first->second);
  }
  return groups;
}

Problem tie(const Problem& problem, const std::vector<std::size_t>& groups) {
  if (groups.size() != problem.items.size()) {
    throw UsageError(
        fmt::format("ties: {} group numbers for {} linears", groups.size(), problem.items.size()));
  }
  Problem tied;
  tied.budget = problem.budget;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (groups[i] > tied.items.size())
      throw UsageError("ties: group numbers have to be in order of appearance");
    if (groups[i] == tied.items.size()) {
      tied.items.push_back(problem.items[i]);
      continue;
    }
    std::vector<Choice>& item = tied.items[groups[i]];
    if (item.size() != problem.items[i].size()) {
      throw UsageError(fmt::format("ties: linear {} has {} choices where the others of its group have {}", i,
                                   problem.items[i].size(), item.size()));
    }
    for (std::size_t c = 0; c < item.size(); ++c) {
      item[c].cost += problem.items[i][c].cost;
      item[c].size += problem.items[i][c].size;
    }
  }
  return tied;
}

}  // namespace knapsaq
