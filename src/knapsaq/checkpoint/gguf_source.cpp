// GGUF files as checkpoints.

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <utility>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/checkpoint_source.h"
#include "knapsaq/checkpoint/gguf_config.h"
#include "knapsaq/checkpoint/gguf_fields.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/checkpoint/gguf_names.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/compute/ggml_matrix.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// Five digits in gguf-split's names.
constexpr std::int64_t kMostParts = 99'999;

/// The files of a split model, of which `first` is the first; gguf-split's names end in -00001-of-0000N.gguf.
std::vector<fs::path> parts_of(const fs::path& first, std::int64_t count) {
  const std::string name = first.filename().string();
  const std::string ending = fmt::format("-00001-of-{:05}.gguf", count);
  if (count > kMostParts || !name.ends_with(ending))
    throw InputError(
        fmt::format("{}: is one of {} files of a model; the first of them is expected, with its "
                    "name ending in {}",
                    first.string(), count, ending));
  std::vector<fs::path> paths;
  for (std::int64_t i = 1; i <= count; ++i) {
    paths.push_back(first.parent_path() / fmt::format("{}-{:05}-of-{:05}.gguf",
                                                      name.substr(0, name.size() - ending.size()), i, count));
    if (!fs::exists(paths.back()))
      throw InputError(
          fmt::format("{}: is missing; the model is split into {} files", paths.back().string(), count));
  }
  return paths;
}

class GgufSource final : public CheckpointSource {
 public:
  explicit GgufSource(const fs::path& path) : CheckpointSource(path), where_(path.string()) {
    open_files();
    config_ = config_of_gguf(
        files_.front().metadata(),
        [this](std::string_view name) -> const GgufTensor* {
          const auto found = in_files_.find(name);
          return found == in_files_.end() ? nullptr : &found->second.tensor;
        },
        where_);
    for (auto& [name, entry] : in_files_) take(name, std::move(entry));
    in_files_.clear();
  }

  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, entry] : tensors_) names.push_back(name);
    return names;
  }
  bool contains(std::string_view name) const override { return tensors_.contains(name); }

  /// Tensors in blocks are rows of bytes, as in folders.
  TensorSpec spec(std::string_view name) const override {
    const GgufTensor& tensor = find(name).tensor;
    if (const auto* dense = std::get_if<DType>(&tensor.type))
      return {std::string(name), *dense, tensor.shape};
    return {std::string(name), DType::U8, {tensor.shape[0], row_bytes(tensor)}};
  }

  TensorView tensor(std::string_view name) const override {
    const Entry& entry = find(name);
    const TensorSpec spec = this->spec(name);
    if (entry.heads == 0) return {spec.type, spec.shape, entry.tensor.bytes};
    const std::lock_guard lock(mutex_);
    std::vector<std::byte>& copy = ordered_[std::string(name)];
    if (copy.empty()) copy = in_order(entry);
    return {spec.type, spec.shape, copy};
  }

  void release(std::string_view name) const override {
    const Entry& entry = find(name);
    files_[entry.file].file().release(entry.tensor.bytes);
    const std::lock_guard lock(mutex_);
    ordered_.erase(std::string(name));
  }

  std::uint64_t tensor_bytes() const override {
    std::uint64_t bytes = 0;
    for (const auto& [name, entry] : tensors_) bytes += entry.tensor.bytes.size();
    return bytes;
  }

  std::uint64_t file_bytes() const override {
    std::uint64_t bytes = 0;
    for (const GgufFile& part : files_) bytes += part.file().bytes().size();
    return bytes;
  }
  std::optional<Checkpoint::Packing> packing(std::string_view module) const override {
    const auto found = tensors_.find(std::string(module) + ".weight");
    if (found == tensors_.end()) return std::nullopt;
    const GgufTensor& tensor = found->second.tensor;
    const auto* type = std::get_if<GgmlType>(&tensor.type);
    if (type == nullptr) return std::nullopt;
    return Checkpoint::Packing{GgmlShape{tensor.shape[0], tensor.shape[1], *type},
                               std::string(info(*type).name)};
  }

  StoredMatrix stored(std::string_view module, const StoredShape& shape) const override {
    const std::string name = std::string(module) + ".weight";
    const Entry& entry = find(name);
    const auto& [rows, cols, type] = std::get<GgmlShape>(shape);
    GgmlMatrix matrix{type, rows, cols, {}};
    if (entry.heads == 0) {
      matrix.blocks.assign(entry.tensor.bytes.begin(), entry.tensor.bytes.end());
    } else {
      matrix.blocks = in_order(entry);
    }
    try {
      matrix.check();
    } catch (const InputError& error) {
      throw InputError(fmt::format("{}: tensor {}: {}", where_, in_quotes(name), error.what()));
    }
    files_[entry.file].file().release(entry.tensor.bytes);
    return matrix;
  }

 private:
  struct Entry {
    GgufTensor tensor;
    std::size_t file = 0;
    std::int64_t heads = 0;  ///< rows in llama.cpp's order for this many heads; 0: unchanged
  };
  using Entries = std::map<std::string, Entry, std::less<>>;

  void open_files() {
    files_.emplace_back(path_);
    const GgufFields fields(files_.front().metadata(), where_);
    const std::int64_t count = fields.integer("split.count").value_or(1);
    if (count > 1) {
      const std::vector<fs::path> paths = parts_of(path_, count);
      for (std::size_t i = 1; i < paths.size(); ++i) files_.emplace_back(paths[i]);
    }
    for (std::size_t i = 0; i < files_.size(); ++i) {
      for (const auto& [name, tensor] : files_[i].tensors()) {
        if (!in_files_.emplace(name, Entry{tensor, i}).second)
          throw InputError(fmt::format("{}: tensor {} is in an earlier file of the model too",
                                       files_[i].file().path().string(), in_quotes(name)));
      }
    }
  }

  /// Gives a tensor its canonical name.
  void take(const std::string& name, Entry entry) {
    // Part of config(). The other one is from old converters; llama.cpp does not read it.
    if (name == "rope_freqs.weight" || name.ends_with(".attn_rot_embd.weight")) return;
    const std::size_t dot = std::min(name.rfind('.'), name.size());
    const std::string ending = name.substr(dot);
    const auto module = module_of_gguf(std::string_view(name).substr(0, dot));
    if (!module || (ending != ".weight" && ending != ".bias"))
      throw InputError(
          fmt::format("{}: tensor {} has no place in models of this architecture that are "
                      "supported",
                      where_, in_quotes(name)));
    const std::vector<std::int64_t>& shape = entry.tensor.shape;
    if (std::ranges::find(shape, 0) != shape.end())
      throw InputError(fmt::format("{}: tensor {} is empty", where_, in_quotes(name)));
    if (std::holds_alternative<GgmlType>(entry.tensor.type) && shape.size() != 2)
      throw InputError(fmt::format("{}: tensor {} of type {} is not a matrix", where_, in_quotes(name),
                                   knapsaq::name_of(entry.tensor.type)));
    entry.heads = rotated_heads(*module);
    if (entry.heads != 0 && shape[0] % (2 * entry.heads) != 0)
      throw InputError(fmt::format("{}: tensor {} of {} rows is not {} heads of an even number of rows",
                                   where_, in_quotes(name), shape[0], entry.heads));
    tensors_.emplace(*module + ending, std::move(entry));
  }

  std::int64_t rotated_heads(std::string_view module) const {
    const std::string& type = config_.at("model_type").get_ref<const std::string&>();
    if (type != "llama" && type != "mistral") return 0;
    const bool q = module.ends_with(".self_attn.q_proj");
    if (!q && !module.ends_with(".self_attn.k_proj")) return 0;
    const auto heads = config_.at(q ? "num_attention_heads" : "num_key_value_heads").get<std::int64_t>();
    // Bounded, so that twice as many is a valid number too.
    if (heads < 1 || heads > (std::int64_t{1} << 24))
      throw InputError(fmt::format("{}: {} heads are not possible", where_, heads));
    return heads;
  }

  static std::int64_t row_bytes(const GgufTensor& tensor) {
    return static_cast<std::int64_t>(tensor.bytes.size()) / tensor.shape[0];
  }

  /// The tensor's bytes with its rows in Hugging Face's order.
  static std::vector<std::byte> in_order(const Entry& entry) {
    const std::int64_t rows = entry.tensor.shape[0];
    const auto bytes = static_cast<std::size_t>(row_bytes(entry.tensor));
    std::vector<std::byte> out(entry.tensor.bytes.size());
    std::size_t from = 0;
    for (const std::int64_t row : rotated_rows(entry.heads, rows / entry.heads)) {
      std::memcpy(out.data() + static_cast<std::size_t>(row) * bytes, entry.tensor.bytes.data() + from,
                  bytes);
      from += bytes;
    }
    return out;
  }

  const Entry& find(std::string_view name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) refuse_name(name);
    return found->second;
  }

  std::string where_;
  std::vector<GgufFile> files_;
  Entries in_files_;  ///< during opening: by the names of the file
  Entries tensors_;
  mutable std::mutex mutex_;
  /// Dense tensors whose rows were reordered, until they are released.
  mutable std::map<std::string, std::vector<std::byte>, std::less<>> ordered_;
};

}  // namespace

std::unique_ptr<CheckpointSource> open_gguf_source(const fs::path& file) {
  return std::make_unique<GgufSource>(file);
}

}  // namespace knapsaq
