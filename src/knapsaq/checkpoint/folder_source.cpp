// Folders in Hugging Face layout.

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/base/looks_like.h"
#include "knapsaq/checkpoint/canonical_tensors.h"
#include "knapsaq/checkpoint/checkpoint_source.h"
#include "knapsaq/checkpoint/foreign/foreign.h"
#include "knapsaq/checkpoint/foreign_format.h"
#include "knapsaq/checkpoint/model_folder.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/checkpoint/tensor_table.h"
#include "knapsaq/family/family.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// Real ones have a few kilobytes, or a hundred with an entry for each of a thousand linears.
constexpr std::uint64_t kLargestConfig = std::uint64_t{16} << 20;

/// Models that were saved without their head lack the outermost `model.`; language models within a multimodal
/// one have a prefix more.
std::string canonical_name(const std::string& name) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kPrefixes{
      {{"decoder.", "model.decoder."},
       {"layers.", "model.layers."},
       {"embed_tokens.", "model.embed_tokens."},
       {"norm.", "model.norm."},
       {"model.language_model.", "model."},
       {"language_model.model.", "model."},
       {"language_model.lm_head.", "lm_head."}}};
  for (const auto& [published, own] : kPrefixes)
    if (name.starts_with(published))
      return fmt::format("{}{}", own, std::string_view(name).substr(published.size()));
  return name;
}

json read_json(const fs::path& path, std::uint64_t limit) {
  const std::string text = read_file(path, limit);
  try {
    return parse_python_json(text);
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", path.string(), why_no_json(text, error.what())));
  }
}

/// The object that describes the quantization in Knapsaq's and MLX's notation; null for a dense model.
json find_quantization(const json& config, const fs::path& path) {
  for (const char* key : {"quantization", "quantization_config"}) {
    if (!config.contains(key) || config[key].is_null()) continue;
    const json& found = config[key];
    if (!found.is_object()) throw InputError(fmt::format("{}: {} is not an object", path.string(), key));
    // Transformers' entry for models that Knapsaq has written in NF4; knapsaq.schemes says the same.
    if (found.contains("quant_method") && found["quant_method"] == "bitsandbytes") return nullptr;
    return found;
  }
  return nullptr;
}

/// The type of a model's weights.
DType model_type(const json& config) {
  const json* text = &config;
  for (int level = 0; level < 2; ++level) {
    for (const char* key : {"dtype", "torch_dtype"}) {
      const auto type = text->find(key);
      if (type == text->end() || !type->is_string()) continue;
      if (*type == "float16") return DType::F16;
      if (*type == "float32") return DType::F32;
      return DType::BF16;
    }
    const auto part = text->find("text_config");
    if (part == text->end() || !part->is_object()) break;
    text = &*part;
  }
  return DType::BF16;
}

/// Of something that is not a folder.
[[noreturn]] void refuse_file(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored))
    throw InputError(path.string() +
                     ": is neither a folder nor a GGUF file; give the folder of a Hugging Face model");
  const MappedFile file(path);
  const std::string look = looks_like(file.bytes());
  if (look.empty())
    throw InputError(path.string() + ": is no GGUF file; give one, or the folder of a Hugging Face model");
  throw InputError(fmt::format("{}: {}{}", path.string(), look,
                               look == "is a safetensors file" ? "; give the folder that it lies in" : ""));
}

class FolderSource final : public CheckpointSource {
 public:
  explicit FolderSource(const fs::path& folder) : CheckpointSource(folder) {
    if (!fs::is_directory(folder)) refuse_file(folder);
    const fs::path config = folder / "config.json";
    if (!fs::exists(config)) throw InputError(fmt::format("{}: {}", folder.string(), why_no_config(folder)));
    config_ = read_json(config, kLargestConfig);
    if (!config_.is_object()) throw InputError(config.string() + ": is not a JSON object");
    files_.emplace(folder, tensors_);
    // What Knapsaq wrote says so, and is its own even if others can load it.
    if (!config_.contains("knapsaq")) take_foreign();
    quantization_ = find_quantization(config_, config);
    name_tensors();
    settle_head();
  }

  std::vector<std::string> names() const override { return canonical_.names(); }
  bool contains(std::string_view name) const override { return canonical_.contains(name); }
  TensorSpec spec(std::string_view name) const override { return canonical_.spec(known(name)); }
  TensorView tensor(std::string_view name) const override { return canonical_.tensor(known(name)); }
  void release(std::string_view name) const override { canonical_.release(known(name)); }
  std::uint64_t tensor_bytes() const override { return tensors_.bytes(); }
  const Checkpoint::Foreign* foreign() const override { return foreign_ ? &*foreign_ : nullptr; }

  void visit_stored(const Visit& visit) const override {
    // The names of a model that is stored as it is read are canonical, so that its fingerprint does not
    // depend on how it was saved.
    if (!foreign_) return CheckpointSource::visit_stored(visit);
    visit("quantization", {DType::U8,
                           {static_cast<std::int64_t>(description_.size())},
                           std::as_bytes(std::span(description_))});
    tensors_.visit_stored(visit);
  }
  std::uint64_t file_bytes() const override { return files_->bytes(); }

  std::optional<Checkpoint::Packing> packing(std::string_view module) const override {
    const std::string name(module);
    const auto pointer = json::json_pointer("/knapsaq/schemes") / name;
    const std::string scheme =
        config_.contains(pointer) && config_[pointer].is_string() ? config_[pointer].get<std::string>() : "";
    if (const auto type = parse_ggml_type(scheme))
      return Checkpoint::Packing{ggml_shape(name, *type), scheme};

    if (scheme == "nf4") return Checkpoint::Packing{nf4_shape(name), scheme};

    if (quantization_.is_null()) return std::nullopt;
    auto entry = quantization_.find(name);
    if (entry == quantization_.end())
      entry = quantization_.find(std::string(canonical_.published_name(name)));
    // As in MLX: an entry decides. Without an entry, a linear with scales is quantized as the top level says.
    if (entry == quantization_.end() ? !contains(name + ".scales") : *entry == false) return std::nullopt;
    const json own = entry == quantization_.end() ? json(true) : *entry;

    const auto where = [&] { return (path_ / "config.json").string() + ": quantization of " + name; };
    if (!own.is_object() && own != true)
      throw InputError(where() + ": is neither an object nor true or false");
    if (!contains(name + ".weight")) throw InputError(where() + ": there is no such linear");
    AffineShape shape;
    try {
      shape = parse_affine_config(own, quantization_, tensor(name + ".weight"));
    } catch (const InputError& error) {
      throw InputError(where() + ": " + error.what());
    }
    if (!scheme.empty()) return Checkpoint::Packing{shape, scheme};
    std::string made_up =
        shape.group == 0 ? fmt::format("b{}row", shape.bits) : fmt::format("b{}g{}", shape.bits, shape.group);
    if (shape.meta_bits == 8) made_up += fmt::format("/m8g{}", shape.meta_group);
    return Checkpoint::Packing{shape, made_up};
  }

  StoredMatrix stored(std::string_view module, const StoredShape& shape) const override {
    try {
      StoredMatrix matrix =
          read_stored(module, shape, [this](const std::string& name) { return tensor(name); });
      // It has copies of its own.
      for (const TensorSpec& part : knapsaq::tensors_of(module, shape)) release(part.name);
      return matrix;
    } catch (const InputError& error) {
      throw InputError(path_.string() + ": " + error.what());
    }
  }

 private:
  /// Gives the tensors of the table their canonical names.
  void name_tensors() {
    for (const std::string& name : tensors_.names()) {
      canonical_.add(canonical_name(name), name);
      for (const std::string_view prefix : {"model.language_model.", "language_model.model."})
        if (name.starts_with(prefix)) prefix_ = prefix;
    }
    const auto given = json::json_pointer("/knapsaq/prefix");
    if (config_.contains(given) && config_[given].is_string()) prefix_ = config_[given].get<std::string>();
    ModelConfig model;
    try {
      model = parse_model_config(config_);
    } catch (const InputError&) {
      // Whoever needs the model's configuration learns why there is none.
      return;
    }
    const Family& family = family_of(model);
    for (const auto published : {family.published, family.also_read}) {
      if (published == nullptr) continue;
      for (const PublishedModule& module : published(model)) canonical_.take_apart(module);
    }
  }

  /// If another tool has quantized the model, puts the tensors that its reader would make in their place.
  void take_foreign() {
    const json description = foreign_description(config_, path_);
    const ForeignFormat* format = foreign_format(description);
    if (format == nullptr) return;
    ForeignModel model;
    try {
      const json nothing = json::object();
      model = format->read({description.is_null() ? nothing : description, model_type(config_), tensors_});
    } catch (const InputError& error) {
      throw InputError(fmt::format("{}: {}", path_.string(), error.what()));
    }
    std::uint64_t bytes = 0;
    std::uint64_t weights = 0;
    std::set<std::string_view> types;
    for (const std::string& name : model.unused) tensors_.hide(name);
    for (DerivedTensor& tensor : model.tensors) {
      for (const std::string& source : tensor.sources) bytes += tensors_.spec(source).bytes();
      weights += tensor.spec.bytes() / size_of(tensor.spec.type);
      types.insert(name_of(tensor.spec.type));
      const std::string name = tensor.spec.name;
      if (!tensors_.derive(std::move(tensor)))
        throw InputError(
            fmt::format("{}: tensor {} is there both quantized and not", path_.string(), in_quotes(name)));
    }
    description_ = description.dump(-1, ' ', false, json::error_handler_t::replace);
    foreign_ = {model.format, 8 * static_cast<double>(bytes) / static_cast<double>(weights)};
    for (const char* key : {"quantization_config", "compression_config"}) {
      config_.erase(key);
      if (const auto part = config_.find("text_config"); part != config_.end() && part->is_object())
        part->erase(key);
    }
    notes_.push_back(
        fmt::format("the model is quantized already ({}): it is read as the {} that its own reader makes "
                    "of it, and what it has lost stays lost when it is quantized again",
                    model.format, fmt::join(types, " and ")));
  }

  /// The format of another tool; null for a model that is dense, or in Knapsaq's and MLX's notation.
  const ForeignFormat* foreign_format(const json& description) const {
    for (const ForeignFormat* format : foreign_formats())
      if (!description.is_null() && format->recognises(description)) return format;
    const std::vector<std::string> names = tensors_.names();
    const auto refuse = [&](const std::string& tool) {
      throw InputError(
          fmt::format("{}: the model is quantized already, by {}, which Knapsaq does not read; give the "
                      "full-precision model, or one in {}",
                      path_.string(), tool, foreign_format_names()));
    };
    if (!description.is_null() && description.contains("quant_method"))
      refuse(in_quotes(description["quant_method"].is_string()
                           ? description["quant_method"].get<std::string>()
                           : description["quant_method"].dump()));
    for (const std::string& name : names)
      if (tensors_.spec(name).type == DType::F8_E4M3) return &fp8_format();
    if (const std::string tool = foreign_quantization(config_, names); !tool.empty()) refuse(tool);
    return nullptr;
  }

  /// Corrects a config that ties a separate head (Checkpoint::config()). A tied model that was saved with its
  /// head only has it under the embedding's name.
  void settle_head() {
    if (!is_tied()) return;
    const std::vector<std::string> head = parts_of("lm_head");
    const bool opt = !canonical_.endings("model.decoder.").empty();
    const std::string usual = opt ? "model.decoder.embed_tokens" : "model.embed_tokens";
    if (!head.empty() && parts_of(usual).empty()) {
      for (const std::string& ending : head) canonical_.rename("lm_head" + ending, usual + ending);
      return;
    }
    for (const char* embedding : {"model.embed_tokens", "model.decoder.embed_tokens"}) {
      const std::vector<std::string> table = parts_of(embedding);
      if (head.empty() || table.empty() || same_module(embedding, table, "lm_head", head)) continue;
      config_["tie_word_embeddings"] = false;
      notes_.push_back(fmt::format(
          "config.json says that the head is the embedding (tie_word_embeddings), but lm_head.weight "
          "is there and differs from {}.weight: the head that is there is used",
          embedding));
    }
  }

  /// According to config.json, of whatever family.
  bool is_tied() const {
    try {
      return parse_model_config(config_).tied;
    } catch (const InputError&) {
      return config_.value("tie_word_embeddings", json(false)) == true;
    }
  }

  /// The endings of a module's tensors: ".weight" of a dense one.
  std::vector<std::string> parts_of(std::string_view module) const {
    std::vector<std::string> endings = canonical_.endings(std::string(module) + ".");
    for (std::string& ending : endings) ending = fmt::format(".{}", ending);
    return endings;
  }

  /// Whether two modules have the same tensors, byte for byte.
  bool same_module(const std::string& one, const std::vector<std::string>& parts, const std::string& other,
                   const std::vector<std::string>& other_parts) const {
    return parts == other_parts && std::ranges::all_of(parts, [&](const std::string& ending) {
             const TensorSpec one_spec = spec(one + ending);
             const TensorSpec other_spec = spec(other + ending);
             if (one_spec.type != other_spec.type || one_spec.shape != other_spec.shape) return false;
             const TensorView a = tensor(one + ending);
             const TensorView b = tensor(other + ending);
             // Tied ones in a pytorch_model.bin are one storage.
             if (a.bytes.data() == b.bytes.data()) return true;
             const bool same = std::ranges::equal(a.bytes, b.bytes);
             release(one + ending);
             release(other + ending);
             return same;
           });
  }

  /// The type that follows from the size of the linear's only tensor; [rows, row_bytes] bytes.
  GgmlShape ggml_shape(const std::string& module, GgmlType type) const {
    const TensorSpec view = spec(module + ".weight");
    const GgmlTypeInfo& facts = info(type);
    if (view.type != DType::U8 || view.shape.size() != 2 || view.shape[1] % facts.bytes != 0)
      throw InputError(fmt::format("{}: tensor {} is not U8 with rows of whole {} blocks", path_.string(),
                                   in_quotes(module + ".weight"), facts.name));
    return {view.shape[0], view.shape[1] / facts.bytes * facts.block, type};
  }

  /// The content of bitsandbytes' description of the linear.
  Nf4Shape nf4_shape(const std::string& module) const {
    const std::string name = nf4_state_name(module);
    try {
      return parse_nf4_state(tensor(name));
    } catch (const InputError& error) {
      throw InputError(fmt::format("{}: tensor {}: {}", path_.string(), in_quotes(name), error.what()));
    }
  }

  std::string_view known(std::string_view name) const {
    if (!canonical_.contains(name)) refuse_name(name);
    return name;
  }

  json quantization_;
  std::string description_;  ///< what another tool wrote about its quantization
  std::optional<Checkpoint::Foreign> foreign_;
  TensorTable tensors_;               ///< by the names that the files use
  std::optional<ModelFolder> files_;  ///< always there once the source is open
  CanonicalTensors canonical_{tensors_, path_.string()};
};

}  // namespace

std::unique_ptr<CheckpointSource> open_folder_source(const fs::path& folder) {
  return std::make_unique<FolderSource>(folder);
}

}  // namespace knapsaq
