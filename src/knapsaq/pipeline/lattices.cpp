#include "knapsaq/pipeline/lattices.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/quant/lattice.h"

namespace knapsaq {

namespace {

bool is_affine(const Scheme& scheme) { return !ggml_type(scheme) && scheme != nf4_scheme(); }

/// The menu's first scheme of the same kind: a GGML type, or an affine one with such zero points.
const Scheme* kind_in(const Menu& menu, const Scheme& scheme) {
  const auto found = std::ranges::find_if(menu.schemes, [&](const Scheme& other) {
    return is_affine(scheme) ? is_affine(other) && other.zero == scheme.zero : ggml_type(other).has_value();
  });
  return found == menu.schemes.end() ? nullptr : &*found;
}

}  // namespace

std::vector<std::optional<Scheme>> find_lattices(const Checkpoint& checkpoint,
                                                 std::span<const Matrix> matrices,
                                                 const std::function<bool(const Scheme&)>& is_allowed) {
  std::vector<std::optional<Scheme>> found;
  for (const Matrix& matrix : matrices) {
    check_cancelled();
    std::optional<Scheme>& one = found.emplace_back();
    if (checkpoint.packing(matrix.name)) continue;
    const std::string tensor = matrix.name + ".weight";
    const SampledRows sample = sample_rows(checkpoint.tensor(tensor));
    checkpoint.release(tensor);
    for (const Scheme& scheme : lattice_schemes()) {
      if (!is_allowed(scheme) || !lies_on_lattice(sample.view(), scheme)) continue;
      one = scheme;
      break;
    }
  }
  return found;
}

std::string add_lattices(const Checkpoint& checkpoint, std::span<const Matrix> matrices, const Engine* engine,
                         Menu& menu) {
  const auto is_allowed = [&](const Scheme& scheme) {
    return kind_in(menu, scheme) != nullptr && (engine == nullptr || engine->obstacle(scheme).empty());
  };
  std::map<std::string, std::size_t> added;
  for (const std::optional<Scheme>& lattice : find_lattices(checkpoint, matrices, is_allowed)) {
    if (!lattice) continue;
    Scheme scheme = *lattice;
    if (is_affine(scheme)) scheme.method = kind_in(menu, scheme)->method;
    const std::string name = to_string(scheme);
    if (const auto place = added.find(name); place != added.end()) {
      ++place->second;
    } else if (std::ranges::find(menu.schemes, scheme) == menu.schemes.end()) {
      menu.schemes.push_back(scheme);
      added.emplace(name, 1);
    }
  }
  if (added.empty()) return {};
  std::vector<std::string> parts;
  for (const auto& [name, count] : added) parts.push_back(fmt::format("{} ({} matrices)", name, count));
  return fmt::format("the weights lie on lattices that the menu does not hold: it gets {}",
                     fmt::join(parts, ", "));
}

}  // namespace knapsaq
