#include "knapsaq/export/quantized_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_map>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/base/atomic_folder.h"
#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/checkpoint/affine_layout.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/export/carried.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/quant/quantizer.h"
#include "knapsaq/quant/scheme_layout.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

StoredShape shape_of(const MatrixScheme& item) {
  return stored_shape(item.scheme, item.matrix.out, item.matrix.in);
}

/// A piece of the output: a tensor that is copied, or a matrix with all its tensors.
struct Piece {
  std::string source;                  ///< tensor that is read
  const MatrixScheme* item = nullptr;  ///< null: copied
  bool untouched = false;              ///< no part of the language model: copied as it is
};

struct Plan {
  std::vector<Piece> pieces;
  QuantizedLayout layout;
};

/// Matrices by the names of their weights, with their indices in the list.
template <class NameOf>
std::unordered_map<std::string, std::size_t> places_by_weight(const Checkpoint& checkpoint, std::size_t count,
                                                              const NameOf& name_of) {
  std::unordered_map<std::string, std::size_t> places;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string& name = name_of(i);
    if (checkpoint.packing(name))
      throw InputError(fmt::format("{}: {} is quantized already: start from the full-precision checkpoint",
                                   checkpoint.folder().string(), name));
    places[name + ".weight"] = i;
  }
  return places;
}

Plan make_plan(const Checkpoint& checkpoint, const ModelConfig& config,
               std::span<const MatrixScheme> allocation, const WriteOptions& options) {
  Plan plan;
  const auto place_of =
      places_by_weight(checkpoint, allocation.size(),
                       [&](std::size_t i) -> const std::string& { return allocation[i].matrix.name; });
  QuantizedLayout& layout = plan.layout;
  for (const ExpectedTensor& expected : stored_tensors(config)) {
    const auto found = place_of.find(expected.name);
    if (found == place_of.end()) {
      plan.pieces.push_back({expected.name});
      layout.tensors.push_back(carried_spec(checkpoint, expected.name, options.kept));
      continue;
    }
    const MatrixScheme& item = allocation[found->second];
    plan.pieces.push_back({expected.name, &item});
    for (TensorSpec& tensor : tensors_of(item.matrix.name, shape_of(item))) {
      layout.quantized_bytes += tensor.bytes();
      layout.tensors.push_back(std::move(tensor));
    }
  }
  for (const std::string& name : carried_tensors(checkpoint, config)) {
    plan.pieces.push_back({name, nullptr, true});
    layout.tensors.push_back(checkpoint.spec(name));
  }
  layout.bytes = checkpoint_bytes(layout.tensors, options.shard_bytes);
  return plan;
}

/// With this entry, Transformers loads a model whose linears are all NF4 through bitsandbytes; it cannot be
/// stated for some linears only. Computation uses the model's type, as is usual with bitsandbytes.
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

/// config.json of the source with MLX's entries (defaults, then one object for each linear) and, for people,
/// the schemes: an entry of MLX may hold nothing else.
std::string config_of(const Checkpoint& checkpoint, const ModelConfig& model,
                      std::span<const MatrixScheme> allocation) {
  std::map<std::pair<int, int>, int> uses;
  nlohmann::json quantization;
  for (const MatrixScheme& item : allocation) {
    const StoredShape shape = shape_of(item);
    const auto* affine = std::get_if<AffineShape>(&shape);
    if (affine == nullptr) continue;
    ++uses[{affine->bits, affine->effective_group()}];
    quantization[item.matrix.name] = affine_config(*affine);
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
  const auto nf4_linear = [](const MatrixScheme& item) {
    return item.matrix.in_block() && item.scheme == nf4_scheme();
  };
  if (allocation.size() == linears(model).size() && std::ranges::all_of(allocation, nf4_linear))
    config["quantization_config"] = bitsandbytes_config(config);
  if (!checkpoint.prefix().empty()) config["knapsaq"]["prefix"] = checkpoint.prefix();
  for (const MatrixScheme& item : allocation)
    config["knapsaq"]["schemes"][item.matrix.name] = to_string(item.scheme);
  return python_json_text(config, 2) + "\n";
}

/// A norm or bias with scales folded in, in its type in the checkpoint.
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
                                 std::span<const MatrixScheme> allocation, const WriteOptions& options) {
  return make_plan(checkpoint, config, allocation, options).layout;
}

std::shared_ptr<const FileSizes> checkpoint_sizes(const Checkpoint& checkpoint, const ModelConfig& config,
                                                  const ErrorTable& table, const WriteOptions& options,
                                                  const FormOf& form, const DenseForms& dense) {
  std::vector<std::string> names;
  for (const ErrorRow& row : table.rows) names.push_back(row.name);
  const std::vector<Matrix> all = find_matrices(config, names);
  const auto place_of = places_by_weight(checkpoint, names.size(),
                                         [&](std::size_t i) -> const std::string& { return names[i]; });
  const std::vector<ExpectedTensor> all_tensors = stored_tensors(config);
  std::vector<TensorSpec> carried;
  for (const ExpectedTensor& expected : all_tensors)
    if (!place_of.contains(expected.name))
      carried.push_back(carried_spec(checkpoint, expected.name, options.kept));
  std::map<std::string, TensorSpec> specs;
  if (dense) {
    specs = dense(carried);
  } else {
    for (const TensorSpec& spec : carried) specs[spec.name] = spec;
  }
  std::vector<FilePart> parts;
  for (const ExpectedTensor& expected : all_tensors) {
    const auto found = place_of.find(expected.name);
    if (found == place_of.end()) {
      if (const auto spec = specs.find(expected.name); spec != specs.end())
        parts.emplace_back().forms.push_back({spec->second});
      continue;
    }
    FilePart& part = parts.emplace_back();
    part.module = found->second;
    for (const ErrorCell& cell : table.rows[found->second].cells)
      part.forms.push_back(form(all[found->second], cell.scheme));
  }
  for (const std::string& name : carried_tensors(checkpoint, config))
    parts.emplace_back().forms.push_back({checkpoint.spec(name)});
  return std::make_shared<CheckpointSizes>(parts, options.shard_bytes);
}

std::shared_ptr<const FileSizes> quantized_file_sizes(const Checkpoint& checkpoint, const ModelConfig& config,
                                                      const ErrorTable& table, const WriteOptions& options) {
  return checkpoint_sizes(checkpoint, config, table, options, [](const Matrix& matrix, const Scheme& scheme) {
    return tensors_of(matrix.name, stored_shape(scheme, matrix.out, matrix.in));
  });
}

QuantizedModel write_quantized(const Checkpoint& checkpoint, const ModelConfig& config,
                               std::span<const MatrixScheme> allocation, const fs::path& out, bool replace,
                               Progress& progress, const WriteOptions& options) {
  return write_quantized(checkpoint, config, allocation, DirectSource(checkpoint), out, replace, progress,
                         options);
}

QuantizedModel write_quantized(const Checkpoint& checkpoint, const ModelConfig& config,
                               std::span<const MatrixScheme> allocation, const MatrixSource& source,
                               const fs::path& out, bool replace, Progress& progress,
                               const WriteOptions& options) {
  const Plan plan = make_plan(checkpoint, config, allocation, options);
  const CarriedFiles carried(checkpoint, FolderReader::knapsaq);
  AtomicFolder folder(out, replace);

  std::int64_t weights = 0;
  for (const MatrixScheme& item : allocation) weights += item.matrix.parameters();
  QuantizedModel model;
  model.bytes = plan.layout.bytes;
  model.bits = 8 * static_cast<double>(plan.layout.quantized_bytes) / static_cast<double>(weights);

  ProgressScope scope(progress, "quantizing", static_cast<std::uint64_t>(weights), "weights");
  CheckpointWriter writer(folder.staging(), plan.layout.tensors, options.shard_bytes);
  for (const Piece& piece : plan.pieces) {
    check_cancelled();
    if (piece.item != nullptr) {
      const QuantizedMatrix matrix = source.matrix(piece.item->matrix, piece.item->scheme);
      for (const std::span<const std::byte> bytes : bytes_of(matrix.stored)) writer.write(bytes);
      model.error += matrix.error;
      scope.advance(static_cast<std::uint64_t>(piece.item->matrix.parameters()));
    } else if (piece.untouched) {
      carry_untouched(checkpoint, piece.source, writer);
    } else {
      if (source.folding() != nullptr && source.folding()->touches(piece.source)) {
        write_folded(checkpoint, piece.source, *source.folding(), writer);
      } else {
        carry_tensor(checkpoint, piece.source, writer, options.kept);
      }
      checkpoint.release(piece.source);
    }
  }
  writer.commit();
  write_file(folder.staging() / "config.json", config_of(checkpoint, config, allocation));
  carried.write(folder.staging());
  folder.commit();
  return model;
}

}  // namespace knapsaq
