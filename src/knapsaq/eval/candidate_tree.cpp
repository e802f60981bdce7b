#include "knapsaq/eval/candidate_tree.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <stdexcept>
#include <utility>

namespace knapsaq {
namespace {

CandidateTree tree_from(const StageMap& map, std::span<const Choices> candidates,
                        std::vector<std::size_t> members, std::size_t stage) {
  CandidateTree tree{std::move(members), map.stages(), {}};
  const Choices& first = candidates[tree.candidates.front()];
  for (const std::size_t other : tree.candidates)
    tree.split = std::min(tree.split, map.difference(first, candidates[other], stage));
  if (tree.split == map.stages()) return tree;

  const auto begin = static_cast<std::ptrdiff_t>(map.begin(tree.split));
  const auto end = static_cast<std::ptrdiff_t>(map.begin(tree.split + 1));
  std::map<Choices, std::vector<std::size_t>> groups;
  for (const std::size_t candidate : tree.candidates) {
    const auto choices = candidates[candidate].begin();
    groups[Choices(choices + begin, choices + end)].push_back(candidate);
  }
  for (auto& [choices, group] : groups)
    tree.branches.push_back(tree_from(map, candidates, std::move(group), tree.split));
  std::ranges::sort(tree.branches, [](const CandidateTree& a, const CandidateTree& b) {
    return std::pair(a.candidates.size(), a.candidates.front()) <
           std::pair(b.candidates.size(), b.candidates.front());
  });
  return tree;
}

/// Of everything from `stage` on.
double cost_from(const CandidateTree& tree, const StageMap& map, std::int64_t length, std::size_t stage) {
  const double own = map.share_from(stage, length);
  if (tree.branches.empty()) return own;
  double sum = own - map.share_from(tree.split, length);
  for (const CandidateTree& branch : tree.branches) sum += cost_from(branch, map, length, tree.split);
  return sum;
}

}  // namespace

StageMap::StageMap(const ModelConfig& config, std::span<const Matrix> chosen)
    : config_(config),
      work_(2 + static_cast<std::size_t>(config.layers) * kStages.size()),
      first_(work_.size() + 1) {
  for (const Matrix& matrix : matrices(config)) {
    // Looking up costs nothing beside a product.
    if (matrix.is_looked_up() && !matrix.tied) continue;
    const std::size_t stage = matrix.tied ? work_.size() - 1 : stage_of_matrix(matrix);
    work_[stage] += static_cast<double>(matrix.parameters());
  }
  if (config.embedding != config.hidden) {
    const auto projection = static_cast<double>(config.embedding * config.hidden);
    work_.front() += projection;
    work_.back() += projection;
  }
  std::size_t next = 0;
  for (std::size_t stage = 0; stage < work_.size(); ++stage) {
    first_[stage] = next;
    while (next < chosen.size() && stage_of_matrix(chosen[next]) == stage) ++next;
  }
  first_.back() = next;
  if (next != chosen.size()) throw std::invalid_argument("StageMap: matrices in another order");
}

std::size_t StageMap::stage_of_matrix(const Matrix& matrix) const {
  if (!matrix.in_block()) return matrix.role == Role::embedding ? 0 : work_.size() - 1;
  const auto in_block = std::ranges::find(kStages, stage_of(matrix.role)) - kStages.begin();
  return 1 + static_cast<std::size_t>(matrix.block) * kStages.size() + static_cast<std::size_t>(in_block);
}

std::size_t StageMap::difference(const Choices& a, const Choices& b, std::size_t stage) const {
  if (a.size() != first_.back() || b.size() != first_.back())
    throw std::invalid_argument("candidates need one choice for every matrix");
  const auto start = static_cast<std::ptrdiff_t>(first_[stage]);
  const auto [in_a, in_b] = std::mismatch(a.begin() + start, a.end(), b.begin() + start);
  const auto linear = static_cast<std::size_t>(in_a - a.begin());
  if (linear == a.size()) return stages();
  const auto after = std::upper_bound(first_.begin(), first_.end(), linear);
  return static_cast<std::size_t>(after - first_.begin()) - 1;
}

double StageMap::attention_work(std::int64_t block, std::int64_t length) const {
  const LayerConfig layer = layer_config(config_, block);
  // The delta rule reads and changes every number of its states; convolutions cost nothing beside products.
  if (!layer.is_attention())
    return 3 * static_cast<double>(layer.recurrence.key_dim) *
           static_cast<double>(layer.recurrence.value_width());
  const std::int64_t seen = layer.sliding_window > 0 ? std::min(layer.sliding_window, length) : length;
  // Token t sees min(t + 1, seen) keys: two products with each, of the width of all heads.
  const double keys = static_cast<double>(seen) * static_cast<double>(seen + 1) / 2 +
                      static_cast<double>(length - seen) * static_cast<double>(seen);
  return 2 * keys / static_cast<double>(length) * static_cast<double>(layer.q_width());
}

double StageMap::share_from(std::size_t stage, std::int64_t length) const {
  double rest = 0;
  double total = 0;
  for (std::size_t i = 0; i < work_.size(); ++i) {
    const double own = work_[i] + (this->stage(i) == Stage::attend ? attention_work(block(i), length) : 0);
    total += own;
    if (i >= stage) rest += own;
  }
  return rest / total;
}

CandidateTree candidate_tree(const StageMap& map, std::span<const Choices> candidates) {
  if (candidates.empty()) return {{}, map.stages(), {}};
  std::vector<std::size_t> all(candidates.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  return tree_from(map, candidates, std::move(all), 0);
}

double cost_of(const CandidateTree& tree, const StageMap& map, std::int64_t length) {
  return tree.candidates.empty() ? 0 : cost_from(tree, map, length, 0);
}

}  // namespace knapsaq
