#include "knapsaq/export/quantized_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_map>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/atomic_folder.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/checkpoint/affine_layout.h"
#include "knapsaq/export/carried.h"
#include "knapsaq/export/tokenizer_check.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// One linear to be quantized.
struct Item {
  Linear linear;
  Scheme scheme;
  StoredShape shape() const { return stored_shape(scheme, linear.out, linear.in); }
};

/// A piece of the output: a tensor that is copied, or a linear with all its tensors.
struct Piece {
  std::string source;          ///< tensor that is read
  const Item* item = nullptr;  ///< null: copied as it is
};

struct Plan {
  std::vector<Item> items;
  std::vector<Piece> pieces;
  QuantizedLayout layout;
};

/// The linears by the names of their weights, with their numbers.
std::unordered_map<std::string, std::size_t> linears_by_weight(const Checkpoint& checkpoint,
                                                               std::span<const Linear> all,
                                                               std::size_t schemes) {
  if (all.size() != schemes)
    throw UsageError(fmt::format("{} schemes for {} linears: give one for each", schemes, all.size()));
  std::unordered_map<std::string, std::size_t> numbers;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (checkpoint.packing(all[i].name))
      throw InputError(fmt::format("{}: {} is quantized already: start from the full-precision checkpoint",
                                   checkpoint.folder().string(), all[i].name));
    numbers[all[i].name + ".weight"] = i;
  }
  return numbers;
}

Plan make_plan(const Checkpoint& checkpoint, const ModelConfig& config, std::span<const Scheme> schemes,
               std::uint64_t shard_bytes) {
  require_dense_ends(checkpoint, config);
  Plan plan;
  const std::vector<Linear> all = linears(config);
  const auto item_of = linears_by_weight(checkpoint, all, schemes.size());
  for (std::size_t i = 0; i < all.size(); ++i) plan.items.push_back({all[i], schemes[i]});
  QuantizedLayout& layout = plan.layout;
  for (const ExpectedTensor& expected : stored_tensors(checkpoint, config)) {
    const auto found = item_of.find(expected.name);
    if (found == item_of.end()) {
      plan.pieces.push_back({expected.name, nullptr});
      layout.tensors.push_back(checkpoint.spec(expected.name));
      continue;
    }
    const Item& item = plan.items[found->second];
    plan.pieces.push_back({expected.name, &item});
    for (TensorSpec& tensor : tensors_of(item.linear.name, item.shape())) {
      layout.linear_bytes += tensor.bytes();
      layout.tensors.push_back(std::move(tensor));
    }
  }
  layout.bytes = checkpoint_bytes(layout.tensors, shard_bytes);
  return plan;
}

/// With it Transformers has bitsandbytes load a model all of whose linears are in NF4; there is no way to say
/// so of only some. Computation is in the type of the model, as those who quantize with bitsandbytes choose
/// it.
nlohmann::json bitsandbytes_config(const nlohmann::json& config) {
  nlohmann::json type = "float32";
  for (const char* key : {"torch_dtype", "dtype"})
    if (config.contains(key) && config[key].is_string()) type = config[key];
  // The linears outside the blocks: the head, and the projections of OPT with a narrow embedding.
  return {{"quant_method", "bitsandbytes"},
          {"load_in_4bit", true},
          {"load_in_8bit", false},
          {"bnb_4bit_quant_type", "nf4"},
          {"bnb_4bit_use_double_quant", true},
          {"bnb_4bit_compute_dtype", type},
          {"bnb_4bit_quant_storage", "uint8"},
          {"llm_int8_skip_modules", {"lm_head", "project_in", "project_out"}}};
}

/// config.json of the source with the entries of MLX (defaults, then one object for each linear) and, for
/// people, the schemes: an entry of MLX may hold nothing else.
std::string config_of(const Checkpoint& checkpoint, const Plan& plan) {
  std::map<std::pair<int, int>, int> uses;
  nlohmann::json quantization;
  for (const Item& item : plan.items) {
    const StoredShape shape = item.shape();
    const auto* affine = std::get_if<AffineShape>(&shape);
    if (affine == nullptr) continue;
    ++uses[{affine->bits, affine->effective_group()}];
    quantization[item.linear.name] = affine_config(*affine);
  }
  nlohmann::json config = checkpoint.config();
  if (!uses.empty()) {
    const auto usual = std::max_element(uses.begin(), uses.end(),
                                        [](const auto& a, const auto& b) { return a.second < b.second; });
    quantization["bits"] = usual->first.first;
    quantization["group_size"] = usual->first.second;
    quantization["mode"] = "affine";
    config["quantization"] = quantization;
    config["quantization_config"] = quantization;
  }
  if (std::ranges::all_of(plan.items, [](const Item& item) { return item.scheme == nf4_scheme(); }))
    config["quantization_config"] = bitsandbytes_config(config);
  for (const Item& item : plan.items) config["knapsaq"]["schemes"][item.linear.name] = to_string(item.scheme);
  return python_json_text(config, 2) + "\n";
}

/// A norm or bias with scales folded in, in the type that it has in the checkpoint.
void write_folded(const Checkpoint& checkpoint, const std::string& name, const Folding& folding,
                  CheckpointWriter& writer) {
  std::vector<float> values = checkpoint.floats(name);
  folding.apply(name, values);
  const DType type = checkpoint.tensor(name).type;
  if (type == DType::F32) return writer.write(std::as_bytes(std::span(values)));
  std::vector<std::uint16_t> rounded(values.size());
  std::ranges::transform(values, rounded.begin(), type == DType::F16 ? float_to_half : float_to_bfloat16);
  for (std::size_t i = 0; i < values.size(); ++i)
    if (type == DType::F16 && !std::isfinite(half_to_float(rounded[i])))
      throw InputError(
          fmt::format("{}: with scales folded in, {} at {} is beyond what F16 holds", name, values[i], i));
  writer.write(std::as_bytes(std::span(rounded)));
}

}  // namespace

QuantizedLayout layout_quantized(const Checkpoint& checkpoint, const ModelConfig& config,
                                 std::span<const Scheme> schemes, std::uint64_t shard_bytes) {
  return make_plan(checkpoint, config, schemes, shard_bytes).layout;
}

FileSizes quantized_file_sizes(const Checkpoint& checkpoint, const ModelConfig& config,
                               const ErrorTable& table, std::uint64_t shard_bytes) {
  require_dense_ends(checkpoint, config);
  const std::vector<Linear> all = linears(config);
  const auto number_of = linears_by_weight(checkpoint, all, table.rows.size());
  std::vector<FilePart> parts;
  for (const ExpectedTensor& expected : stored_tensors(checkpoint, config)) {
    FilePart& part = parts.emplace_back();
    const auto found = number_of.find(expected.name);
    if (found == number_of.end()) {
      part.forms.push_back({checkpoint.spec(expected.name)});
      continue;
    }
    part.module = found->second;
    const Linear& linear = all[found->second];
    for (const ErrorCell& cell : table.rows[found->second].cells)
      part.forms.push_back(tensors_of(linear.name, stored_shape(cell.scheme, linear.out, linear.in)));
  }
  return FileSizes(parts, shard_bytes);
}

QuantizedModel write_quantized(const Checkpoint& checkpoint, const ModelConfig& config,
                               std::span<const Scheme> schemes, const fs::path& out, bool replace,
                               Progress& progress, std::uint64_t shard_bytes) {
  return write_quantized(checkpoint, config, schemes, DirectSource(checkpoint), out, replace, progress,
                         shard_bytes);
}

QuantizedModel write_quantized(const Checkpoint& checkpoint, const ModelConfig& config,
                               std::span<const Scheme> schemes, const MatrixSource& source,
                               const fs::path& out, bool replace, Progress& progress,
                               std::uint64_t shard_bytes) {
  const Plan plan = make_plan(checkpoint, config, schemes, shard_bytes);
  AtomicFolder folder(out, replace);

  std::int64_t weights = 0;
  for (const Item& item : plan.items) weights += item.linear.parameters();
  QuantizedModel model;
  model.bytes = plan.layout.bytes;
  model.bits = 8 * static_cast<double>(plan.layout.linear_bytes) / static_cast<double>(weights);

  ProgressScope scope(progress, "quantizing", static_cast<std::uint64_t>(weights), "weights");
  CheckpointWriter writer(folder.staging(), plan.layout.tensors, shard_bytes);
  for (const Piece& piece : plan.pieces) {
    check_cancelled();
    if (piece.item != nullptr) {
      const QuantizedLinear linear = source.linear(piece.item->linear, piece.item->scheme);
      for (const std::span<const std::byte> bytes : bytes_of(linear.stored)) writer.write(bytes);
      model.error += linear.error;
      scope.advance(static_cast<std::uint64_t>(piece.item->linear.parameters()));
    } else {
      if (source.folding() != nullptr && source.folding()->touches(piece.source)) {
        write_folded(checkpoint, piece.source, *source.folding(), writer);
      } else {
        carry_tensor(checkpoint, piece.source, writer);
      }
      checkpoint.release(piece.source);
    }
  }
  writer.commit();
  write_file(folder.staging() / "config.json", config_of(checkpoint, plan));
  carry_files(checkpoint.folder(), folder.staging());
  check_carried_tokenizer(checkpoint.folder(), folder.staging());
  folder.commit();
  return model;
}

}  // namespace knapsaq
