#include "knapsaq/pipeline/info.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/pipeline/budget.h"
#include "knapsaq/pipeline/lattices.h"

namespace knapsaq {
namespace {

std::string storage_of(const Checkpoint& checkpoint, const Matrix& matrix) {
  if (const auto packing = checkpoint.packing(matrix.name)) return packing->scheme;
  std::string name(name_of(checkpoint.spec(matrix.name + ".weight").type));
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name;
}

/// Without the method, which has nothing to choose.
std::string lattice_name(const std::optional<Scheme>& scheme) {
  if (!scheme) return {};
  const std::string name = to_string(*scheme);
  return name.substr(name.find(':') + 1);
}

std::string mixer_of(const ModelConfig& config, const LayerConfig& layer) {
  if (layer.mixer == Mixer::delta) return "gated delta rule";
  if (layer.mixer == Mixer::convolution) return "short convolution";
  std::string text = "full attention";
  if (layer.sliding_window > 0) text = fmt::format("attention in a window of {}", layer.sliding_window);
  if (layer.rope < 0 && config.positions == Positions::rotary) text += " without positions";
  return text;
}

std::string kind_of(const ModelConfig& config, const LayerConfig& layer) {
  std::string text = mixer_of(config, layer);
  if (!layer.is_mixture()) return text;
  text += fmt::format(", {} experts ({} for a token", layer.experts.count, layer.experts.chosen);
  if (layer.experts.shared_ffn > 0) text += ", and one for all";
  return text + ")";
}

std::vector<ModelInfo::LayerKind> kinds_of(const ModelConfig& config) {
  std::vector<ModelInfo::LayerKind> kinds;
  for (std::int64_t block = 0; block < config.layers; ++block) {
    const std::string what = kind_of(config, layer_config(config, block));
    auto found = std::ranges::find(kinds, what, &ModelInfo::LayerKind::what);
    if (found == kinds.end()) found = kinds.insert(found, {what, 0});
    ++found->count;
  }
  return kinds;
}

template <class Names, class NameOf>
ModelInfo::Carried count(const Checkpoint& checkpoint, const Names& names, const NameOf& name_of) {
  ModelInfo::Carried carried;
  for (const auto& one : names) {
    ++carried.tensors;
    carried.bytes += checkpoint.spec(name_of(one)).bytes();
  }
  return carried;
}

}  // namespace

ModelInfo info(const Session& session, const InfoOptions& options) {
  const Checkpoint& checkpoint = session.checkpoint();
  const ModelConfig& config = session.config();
  check_shapes(checkpoint, config);
  if (options.context == 0 && !(options.cache.empty() && options.engine.empty()))
    throw UsageError("--cache and --for go with --context");
  ModelInfo info;
  info.architecture = config.architecture;
  info.wrapper = config.wrapper;
  info.layer_kinds = kinds_of(config);
  info.dense = count(checkpoint, dense_tensors(config), [](const ExpectedTensor& one) { return one.name; });
  info.others =
      count(checkpoint, carried_tensors(checkpoint, config), [](const std::string& name) { return name; });
  if (const Checkpoint::Foreign* foreign = checkpoint.foreign()) {
    info.quantized_as = foreign->format;
    info.quantized_bits = foreign->bits;
  }
  info.parameters = parameters(config);
  info.bytes = checkpoint.tensor_bytes();
  info.layers = config.layers;
  info.hidden = config.hidden;
  info.heads = config.heads;
  info.kv_heads = config.kv_heads;
  info.head_dim = config.head_dim;
  info.ffn = config.ffn;
  info.vocabulary = config.vocab;
  info.positions = config.max_positions;
  info.tied = config.tied;
  info.notes = notes_about(checkpoint, config);
  info.unread_tensors = unread_tensors(checkpoint, config);
  const std::vector<Matrix> all = matrices(config);
  const auto lattices = find_lattices(checkpoint, all, [](const Scheme&) { return true; });
  for (std::size_t i = 0; i < all.size(); ++i)
    info.matrices.push_back({all[i].name, all[i].out, all[i].in, storage_of(checkpoint, all[i]),
                             lattice_name(lattices[i]), all[i].in_block(),
                             std::string(name_of(all[i].role))});
  BudgetOptions budget;
  budget.context = options.context;
  budget.cache = options.cache;
  info.memory = memory_use(budget, config, options.engine, checkpoint.tensor_bytes());
  return info;
}

}  // namespace knapsaq
