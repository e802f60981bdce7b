#include "knapsaq/export/quantized_checkpoint.h"

#include <algorithm>
#include <map>
#include <unordered_map>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/checkpoint/affine_layout.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

// Floats that are checked and copied at a time when a tensor is carried over as it is.
constexpr std::int64_t kCopyElements = std::int64_t{1} << 20;

// What makes the folder a whole model besides its weights and config.json.
constexpr const char* kCarriedFiles[] = {"tokenizer.json",
                                         "tokenizer.model",
                                         "tokenizer_config.json",
                                         "vocab.json",
                                         "merges.txt",
                                         "added_tokens.json",
                                         "special_tokens_map.json",
                                         "generation_config.json",
                                         "chat_template.jinja",
                                         "chat_template.json",
                                         "LICENSE",
                                         "LICENSE.txt",
                                         "NOTICE",
                                         "USE_POLICY.md"};

/// One linear to be quantized.
struct Item {
  Linear linear;
  Scheme scheme;
  AffineShape shape() const {
    return {linear.out, linear.in, scheme.bits, scheme.group, scheme.meta_bits, scheme.meta_group};
  }
};

/// A piece of the output: a tensor that is copied, or a linear with all its tensors.
struct Piece {
  std::string source;          ///< tensor that is read
  const Item* item = nullptr;  ///< null: copied as it is
  std::vector<TensorSpec> tensors;

  std::uint64_t bytes() const {
    std::uint64_t sum = 0;
    for (const TensorSpec& tensor : tensors) sum += tensor.bytes();
    return sum;
  }
};

using Shard = std::vector<Piece>;

struct Plan {
  std::vector<Item> items;
  std::vector<Shard> shards;
  QuantizedLayout layout;
};

std::string shard_name(std::size_t shard, std::size_t count) {
  return count == 1 ? "model.safetensors" : fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, count);
}

std::string index_of(const QuantizedLayout& layout) {
  if (layout.files.size() == 1) return {};
  std::uint64_t total = 0;
  nlohmann::json map = nlohmann::json::object();
  for (const QuantizedLayout::File& file : layout.files) {
    for (const TensorSpec& tensor : file.tensors) {
      map[tensor.name] = file.name;
      total += tensor.bytes();
    }
  }
  return nlohmann::json{{"metadata", {{"total_size", total}}}, {"weight_map", map}}.dump(2) + "\n";
}

Plan make_plan(const Checkpoint& checkpoint, const ModelConfig& config, std::span<const Scheme> schemes,
               std::uint64_t shard_bytes) {
  Plan plan;
  std::unordered_map<std::string, std::size_t> item_of;
  const std::vector<Linear> all = linears(config);
  if (all.size() != schemes.size())
    throw UsageError(fmt::format("{} schemes for {} linears: give one for each", schemes.size(), all.size()));
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (checkpoint.packing(all[i].name))
      throw InputError(fmt::format("{}: {} is quantized already: start from the full-precision checkpoint",
                                   checkpoint.folder().string(), all[i].name));
    plan.items.push_back({all[i], schemes[i]});
    item_of[all[i].name + ".weight"] = i;
  }

  std::vector<Piece> pieces;
  for (const ExpectedTensor& expected : stored_tensors(checkpoint, config)) {
    Piece piece{expected.name, nullptr, {}};
    if (const auto found = item_of.find(expected.name); found != item_of.end()) {
      const Item& item = plan.items[found->second];
      piece.item = &item;
      piece.tensors = affine_tensors(item.linear.name, item.shape());
      plan.layout.linear_bytes += piece.bytes();
    } else {
      const TensorView view = checkpoint.tensor(expected.name);
      piece.tensors = {{expected.name, view.type, view.shape}};
    }
    pieces.push_back(std::move(piece));
  }

  std::uint64_t filled = 0;
  for (Piece& piece : pieces) {
    if (plan.shards.empty() || filled + piece.bytes() > shard_bytes) {
      plan.shards.emplace_back();
      filled = 0;
    }
    filled += piece.bytes();
    plan.shards.back().push_back(std::move(piece));
  }
  for (std::size_t s = 0; s < plan.shards.size(); ++s) {
    QuantizedLayout::File file{shard_name(s, plan.shards.size()), {}};
    for (const Piece& piece : plan.shards[s])
      file.tensors.insert(file.tensors.end(), piece.tensors.begin(), piece.tensors.end());
    plan.layout.bytes += safetensors_file_bytes(file.tensors);
    plan.layout.files.push_back(std::move(file));
  }
  plan.layout.index = index_of(plan.layout);
  plan.layout.bytes += plan.layout.index.size();
  return plan;
}

/// config.json of the source with the entries of MLX: defaults, then one object for each linear.
std::string config_of(const Checkpoint& checkpoint, const Plan& plan) {
  std::map<std::pair<int, int>, int> uses;
  for (const Item& item : plan.items) ++uses[{item.scheme.bits, item.shape().effective_group()}];
  const auto usual = std::max_element(uses.begin(), uses.end(),
                                      [](const auto& a, const auto& b) { return a.second < b.second; });

  nlohmann::json quantization = {
      {"bits", usual->first.first}, {"group_size", usual->first.second}, {"mode", "affine"}};
  for (const Item& item : plan.items) quantization[item.linear.name] = affine_config(item.shape());
  nlohmann::json config = checkpoint.config();
  config["quantization"] = quantization;
  config["quantization_config"] = quantization;
  return config.dump(2) + "\n";
}

void copy_tensor(const Checkpoint& checkpoint, const std::string& name, SafetensorsWriter& writer) {
  const TensorView view = checkpoint.tensor(name);
  std::vector<float> values;
  for (std::int64_t first = 0; first < view.elements(); first += kCopyElements) {
    const std::int64_t count = std::min(kCopyElements, view.elements() - first);
    values.resize(static_cast<std::size_t>(count));
    read_floats(view, first, values);
    check_finite({1, count, values}, name);
    writer.write(view.bytes.subspan(static_cast<std::size_t>(first) * size_of(view.type),
                                    static_cast<std::size_t>(count) * size_of(view.type)));
  }
}

double quantize_linear(const Checkpoint& checkpoint, const Piece& piece, SafetensorsWriter& writer) {
  const Linear& linear = piece.item->linear;
  const std::vector<float> values = read_floats(checkpoint.tensor(piece.source));
  // The pages of the file are not needed beside the floats.
  checkpoint.release(piece.source);
  const MatrixView weights{linear.out, linear.in, values};
  check_finite(weights, piece.source);
  const PackedMatrix packed = quantize(weights, piece.item->scheme);
  for (const std::span<const std::byte> bytes : affine_bytes(packed)) writer.write(bytes);
  return frobenius_error(weights, packed);
}

}  // namespace

QuantizedLayout layout_quantized(const Checkpoint& checkpoint, const ModelConfig& config,
                                 std::span<const Scheme> schemes, std::uint64_t shard_bytes) {
  return make_plan(checkpoint, config, schemes, shard_bytes).layout;
}

QuantizedModel write_quantized(const Checkpoint& checkpoint, const ModelConfig& config,
                               std::span<const Scheme> schemes, const fs::path& out, bool replace,
                               Progress& progress, std::uint64_t shard_bytes) {
  const Plan plan = make_plan(checkpoint, config, schemes, shard_bytes);
  AtomicFolder folder(out, replace);

  std::int64_t weights = 0;
  for (const Item& item : plan.items) weights += item.linear.parameters();
  QuantizedModel model;
  model.bytes = plan.layout.bytes;
  model.bits = 8 * static_cast<double>(plan.layout.linear_bytes) / static_cast<double>(weights);

  ProgressScope scope(progress, "quantizing", static_cast<std::uint64_t>(weights), "weights");
  for (std::size_t s = 0; s < plan.shards.size(); ++s) {
    const QuantizedLayout::File& file = plan.layout.files[s];
    SafetensorsWriter writer(folder.staging() / file.name, file.tensors);
    for (const Piece& piece : plan.shards[s]) {
      check_cancelled();
      if (piece.item != nullptr) {
        model.error += quantize_linear(checkpoint, piece, writer);
        scope.advance(static_cast<std::uint64_t>(piece.item->linear.parameters()));
      } else {
        copy_tensor(checkpoint, piece.source, writer);
        checkpoint.release(piece.source);
      }
    }
    writer.commit();
  }
  if (!plan.layout.index.empty())
    write_file(folder.staging() / "model.safetensors.index.json", plan.layout.index);
  write_file(folder.staging() / "config.json", config_of(checkpoint, plan));
  for (const char* name : kCarriedFiles)
    if (fs::exists(checkpoint.folder() / name))
      write_file(folder.staging() / name, read_file(checkpoint.folder() / name));
  folder.commit();
  return model;
}

}  // namespace knapsaq
