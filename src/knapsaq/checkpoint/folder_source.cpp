// Folders in Hugging Face layout.

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <set>
#include <utility>
#include <variant>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/base/looks_like.h"
#include "knapsaq/checkpoint/checkpoint_source.h"
#include "knapsaq/checkpoint/foreign_format.h"
#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/checkpoint/shards.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/checkpoint/torch_file.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// Real ones have a few kilobytes, or a hundred with an entry for each of a thousand linears.
constexpr std::uint64_t kLargestConfig = std::uint64_t{16} << 20;
/// 100 bytes per tensor: room for a million of them.
constexpr std::uint64_t kLargestIndex = std::uint64_t{128} << 20;

using File = std::variant<SafetensorsFile, TorchFile>;

const std::map<std::string, TensorView, std::less<>>& tensors_of(const File& file) {
  return std::visit(
      [](const auto& opened) -> const auto& { return opened.tensors(); }, file);
}

const MappedFile& mapping_of(const File& file) {
  return std::visit(
      [](const auto& opened) -> const auto& { return opened.file(); }, file);
}

File open_file(const fs::path& path) {
  if (path.extension() == ".safetensors") return SafetensorsFile(path);
  return TorchFile(path);
}

/// Models that were saved without their head lack the outermost `model.`.
std::string canonical_name(const std::string& name) {
  constexpr std::array<std::string_view, 4> kWithout{"decoder.", "layers.", "embed_tokens.", "norm."};
  const bool lacks = std::ranges::any_of(kWithout, [&](auto prefix) { return name.starts_with(prefix); });
  return lacks ? "model." + name : name;
}

json read_json(const fs::path& path, std::uint64_t limit) {
  const std::string text = read_file(path, limit);
  try {
    return parse_python_json(text);
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", path.string(), why_no_json(text, error.what())));
  }
}

/// The object that describes the quantization; null for a full-precision model.
json find_quantization(const json& config, const fs::path& path) {
  for (const char* key : {"quantization", "quantization_config"}) {
    if (!config.contains(key) || config[key].is_null()) continue;
    const json& found = config[key];
    if (!found.is_object()) throw InputError(fmt::format("{}: {} is not an object", path.string(), key));
    // Transformers' entry for models that Knapsaq has written in NF4; knapsaq.schemes says the same.
    if (found.contains("quant_method") && found["quant_method"] == "bitsandbytes" &&
        config.contains("knapsaq"))
      return nullptr;
    if (found.contains("quant_method"))
      throw InputError(
          fmt::format("{}: the model is quantized by {} already, which Knapsaq does not read; give "
                      "the full-precision model",
                      path.string(), in_quotes(found["quant_method"].dump())));
    return found;
  }
  return nullptr;
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
    if (!fs::exists(config))
      throw InputError(folder.string() + ": has no config.json; give the folder of a Hugging Face model");
    config_ = read_json(config, kLargestConfig);
    if (!config_.is_object()) throw InputError(config.string() + ": is not a JSON object");
    quantization_ = find_quantization(config_, config);

    if (fs::exists(folder / "model.safetensors")) {
      open_single(folder / "model.safetensors");
    } else if (fs::exists(folder / "model.safetensors.index.json")) {
      open_sharded(folder / "model.safetensors.index.json");
    } else if (fs::exists(folder / "pytorch_model.bin")) {
      open_single(folder / "pytorch_model.bin");
    } else if (fs::exists(folder / "pytorch_model.bin.index.json")) {
      open_sharded(folder / "pytorch_model.bin.index.json");
    } else {
      const std::string reason = why_no_weights(folder);
      throw InputError(fmt::format(
          "{}: {}", folder.string(),
          reason.empty()
              ? "has neither model.safetensors nor pytorch_model.bin, whole or in shards with an index"
              : reason));
    }
    refuse_foreign();
    settle_head();
  }

  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, entry] : tensors_) names.push_back(name);
    return names;
  }
  bool contains(std::string_view name) const override { return tensors_.contains(name); }
  TensorSpec spec(std::string_view name) const override {
    const TensorView& view = find(name).view;
    return {std::string(name), view.type, view.shape};
  }
  TensorView tensor(std::string_view name) const override { return find(name).view; }

  void release(std::string_view name) const override {
    const Entry& entry = find(name);
    const MappedFile& mapping = mapping_of(files_[entry.file]);
    const std::span<const std::byte> all = mapping.bytes();
    const std::span<const std::byte> part = entry.view.bytes;
    // A copy of a tensor that was not contiguous in its file must not be released: it exists nowhere else.
    const std::less_equal<const std::byte*> at_most;
    if (at_most(all.data(), part.data()) && at_most(part.data() + part.size(), all.data() + all.size()))
      mapping.release(part);
  }

  std::uint64_t tensor_bytes() const override {
    std::uint64_t bytes = 0;
    std::set<const std::byte*> seen;
    for (const auto& [name, entry] : tensors_) {
      // An empty tensor begins where its neighbour does.
      if (!entry.view.bytes.empty() && seen.insert(entry.view.bytes.data()).second)
        bytes += entry.view.bytes.size();
    }
    return bytes;
  }

  std::uint64_t file_bytes() const override {
    std::uint64_t bytes = index_bytes_;
    for (const File& file : files_) bytes += mapping_of(file).bytes().size();
    return bytes;
  }

  std::optional<Checkpoint::Packing> packing(std::string_view module) const override {
    const std::string name(module);
    const auto pointer = json::json_pointer("/knapsaq/schemes") / name;
    const std::string scheme =
        config_.contains(pointer) && config_[pointer].is_string() ? config_[pointer].get<std::string>() : "";
    if (const auto type = parse_ggml_type(scheme))
      return Checkpoint::Packing{ggml_shape(name, *type), scheme};

    if (scheme == "nf4") return Checkpoint::Packing{nf4_shape(name), scheme};

    if (quantization_.is_null()) return std::nullopt;
    const auto entry = quantization_.find(name);
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
  struct Entry {
    TensorView view;
    std::size_t file;
  };

  void add(const std::string& name, const TensorView& view, std::size_t file) {
    const std::string canonical = canonical_name(name);
    if (!tensors_.emplace(canonical, Entry{view, file}).second)
      throw InputError(fmt::format("{}: tensor {} is there both with and without the prefix model.",
                                   path_.string(), in_quotes(canonical)));
  }

  void open_single(const fs::path& path) {
    files_.push_back(open_file(path));
    for (const auto& [name, view] : tensors_of(files_.back())) add(name, view, 0);
  }

  void open_sharded(const fs::path& index_path) {
    const std::string text = read_file(index_path, kLargestIndex);
    index_bytes_ = text.size();
    std::map<std::string, std::string> index;
    try {
      index = parse_shard_index(text);
    } catch (const InputError& error) {
      throw InputError(fmt::format("{}: {}", index_path.string(), why_no_json(text, error.what())));
    }
    std::map<std::string, std::size_t> opened;
    for (const auto& [name, file] : index) {
      const auto [slot, is_new] = opened.try_emplace(file, files_.size());
      if (is_new) {
        const fs::path path = path_ / file;
        if (!fs::exists(path))
          throw InputError(fmt::format("{}: the shard {} is missing; download it again", index_path.string(),
                                       in_quotes(file)));
        files_.push_back(open_file(path));
      }
      const auto& shard = tensors_of(files_[slot->second]);
      const auto found = shard.find(name);
      if (found == shard.end())
        throw InputError(fmt::format("{}: tensor {} is not in the shard {}", index_path.string(),
                                     in_quotes(name), in_quotes(file)));
      add(name, found->second, slot->second);
    }
  }

  /// Reports what the quantized model of another tool is, rather than which of its tensors is missing.
  void refuse_foreign() const {
    if (config_.contains("knapsaq")) return;
    const std::string tool = foreign_quantization(config_, names());
    if (!tool.empty())
      throw InputError(
          fmt::format("{}: the model is quantized already, by {}, which Knapsaq does not read; give "
                      "the full-precision model",
                      path_.string(), tool));
  }

  /// Corrects a config that ties a separate head (Checkpoint::config()). A tied model that was saved with its
  /// head only has it under the embedding's name.
  void settle_head() {
    const auto tie = config_.find("tie_word_embeddings");
    const bool given = tie != config_.end() && !tie->is_null();
    // Of the supported families, only OPT is tied by default.
    const auto type = config_.find("model_type");
    const bool tied = given ? *tie == true : type != config_.end() && *type == "opt";
    if (!tied) return;
    const std::vector<std::string> head = parts_of("lm_head");
    const auto decoder = tensors_.lower_bound("model.decoder.");
    const bool opt = decoder != tensors_.end() && decoder->first.starts_with("model.decoder.");
    const std::string usual = opt ? "model.decoder.embed_tokens" : "model.embed_tokens";
    if (!head.empty() && parts_of(usual).empty()) {
      for (const std::string& ending : head) {
        auto entry = tensors_.extract("lm_head" + ending);
        entry.key() = usual + ending;
        tensors_.insert(std::move(entry));
      }
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

  /// The endings of a module's tensors: ".weight" of a dense one.
  std::vector<std::string> parts_of(std::string_view module) const {
    const std::string begin = std::string(module) + ".";
    std::vector<std::string> endings;
    for (auto at = tensors_.lower_bound(begin); at != tensors_.end() && at->first.starts_with(begin); ++at)
      endings.push_back(at->first.substr(module.size()));
    return endings;
  }

  /// Whether two modules have the same tensors, byte for byte.
  bool same_module(const std::string& one, const std::vector<std::string>& parts, const std::string& other,
                   const std::vector<std::string>& other_parts) const {
    return parts == other_parts && std::ranges::all_of(parts, [&](const std::string& ending) {
             const TensorView& a = find(one + ending).view;
             const TensorView& b = find(other + ending).view;
             if (a.type != b.type || a.shape != b.shape || a.bytes.size() != b.bytes.size()) return false;
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
    const TensorView& view = find(module + ".weight").view;
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
      return parse_nf4_state(find(name).view);
    } catch (const InputError& error) {
      throw InputError(fmt::format("{}: tensor {}: {}", path_.string(), in_quotes(name), error.what()));
    }
  }

  const Entry& find(std::string_view name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) refuse_name(name);
    return found->second;
  }

  json quantization_;
  std::vector<File> files_;
  std::uint64_t index_bytes_ = 0;  ///< 0 without shards
  std::map<std::string, Entry, std::less<>> tensors_;
};

}  // namespace

std::unique_ptr<CheckpointSource> open_folder_source(const fs::path& folder) {
  return std::make_unique<FolderSource>(folder);
}

}  // namespace knapsaq
