// GGUF files as checkpoints.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/checkpoint_source.h"
#include "knapsaq/checkpoint/gguf_config.h"
#include "knapsaq/checkpoint/gguf_fields.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/checkpoint/gguf_heads.h"
#include "knapsaq/checkpoint/gguf_names.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/compute/ggml_matrix.h"
#include "knapsaq/family/family.h"

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
    const ModelConfig model = parse_config();
    rotated_ = family_of(model).gguf.rotated_rows;
    norm_offset_ = model.norm_offset;
    heads_.emplace(model);
    const GgufNames names(model);
    for (auto& [name, entry] : in_files_) take(names, name, std::move(entry));
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
    const Entry& entry = find(name);
    const GgufTensor& tensor = entry.tensor;
    if (const auto* dense = std::get_if<DType>(&tensor.type))
      return {std::string(name), *dense, tensor.shape};
    return {std::string(name),
            DType::U8,
            {tensor.shape[0], row_bytes(entry.rows.count != 0 ? entry.fused : tensor)}};
  }

  TensorView tensor(std::string_view name) const override {
    const Entry& entry = find(name);
    const TensorSpec spec = this->spec(name);
    if (entry.is_whole()) return {spec.type, spec.shape, entry.tensor.bytes};
    const std::lock_guard lock(mutex_);
    std::vector<std::byte>& copy = ordered_[std::string(name)];
    if (copy.empty()) copy = in_order(entry);
    return {spec.type, spec.shape, copy};
  }

  void release(std::string_view name) const override {
    const Entry& entry = find(name);
    files_[entry.file].file().release(entry.rows.count == 0 ? entry.tensor.bytes : entry.fused.bytes);
    const std::lock_guard lock(mutex_);
    ordered_.erase(std::string(name));
  }

  std::uint64_t tensor_bytes() const override {
    std::uint64_t bytes = 0;
    for (const auto& [name, entry] : tensors_)
      bytes += entry.rows.count == 0 ? entry.tensor.bytes.size()
                                     : static_cast<std::uint64_t>(entry.rows.rows() * row_bytes(entry.fused));
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
    if (entry.is_whole()) {
      matrix.blocks.assign(entry.tensor.bytes.begin(), entry.tensor.bytes.end());
    } else {
      matrix.blocks = in_order(entry);
    }
    try {
      matrix.check();
    } catch (const InputError& error) {
      throw InputError(fmt::format("{}: tensor {}: {}", where_, in_quotes(name), error.what()));
    }
    files_[entry.file].file().release(entry.rows.count == 0 ? entry.tensor.bytes : entry.fused.bytes);
    return matrix;
  }

 private:
  struct Entry {
    GgufTensor tensor;
    std::size_t file = 0;
    std::int64_t heads = 0;  ///< rows in llama.cpp's order for this many heads; 0: unchanged
    RowPattern rows = {};    ///< of `fused`, which rows it is; count 0: all of `tensor`
    GgufTensor fused = {};   ///< the tensor of the file where the rows do not lie together
    float added = 0;         ///< to a norm's weights, in the file
    /// The file's rows and columns as indices of Hugging Face's; empty: as they are.
    std::vector<std::int64_t> row_order = {};
    std::vector<std::int64_t> column_order = {};
    bool is_rate = false;  ///< a rate where Hugging Face has the logarithm of its size
    bool is_whole() const {
      return heads == 0 && rows.count == 0 && added == 0 && row_order.empty() && column_order.empty() &&
             !is_rate;
    }
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
  void take(const GgufNames& names, const std::string& name, Entry entry) {
    // Part of config(). The other one is from old converters; llama.cpp does not read it.
    if (name == "rope_freqs.weight" || name.starts_with("rope_factors_") ||
        name.ends_with(".attn_rot_embd.weight"))
      return;
    if (const auto alone = names.own_module(name)) return take_alone(*alone, name, std::move(entry));
    const std::size_t dot = std::min(name.rfind('.'), name.size());
    const std::string ending = name.substr(dot);
    if (const PublishedModule* fused = names.fused_as(std::string_view(name).substr(0, dot)))
      return take_apart(*fused, name, ending, entry);
    const auto module = names.own_module(std::string_view(name).substr(0, dot));
    if (!module || (ending != ".weight" && ending != ".bias"))
      throw InputError(
          fmt::format("{}: tensor {} has no place in models of this architecture that are "
                      "supported",
                      where_, in_quotes(name)));
    check_shape(name, entry);
    const std::vector<std::int64_t>& shape = entry.tensor.shape;
    entry.heads = rotated_heads(*module);
    if (entry.heads != 0 && shape[0] % (2 * entry.heads) != 0)
      throw InputError(fmt::format("{}: tensor {} of {} rows is not {} heads of an even number of rows",
                                   where_, in_quotes(name), shape[0], entry.heads));
    if (norm_offset_ != 0 && ending == ".weight" && has_offset(*module)) {
      require_floats(name, entry);
      entry.added = norm_offset_;
    }
    if (module->ends_with("conv1d") || module->ends_with("conv.conv")) {
      // Hugging Face's kernels have a dimension of one.
      if (ending == ".weight" && shape.size() == 2)
        entry.tensor.shape.insert(entry.tensor.shape.begin() + 1, 1);
    }
    // The one vector with an ending that is no module's weight.
    const std::string own = module->ends_with(".self_attn.sinks") ? *module : *module + ending;
    put_heads_in_order(own, name, entry);
    tensors_.emplace(own, std::move(entry));
  }

  /// Of a family whose norms multiply by their weight and a number. llama.cpp's converter adds the number,
  /// except to norms inside of mixers.
  static bool has_offset(std::string_view module) {
    return module == "model.norm" || module.ends_with("layernorm") || module.ends_with(".q_norm") ||
           module.ends_with(".k_norm");
  }

  void require_floats(const std::string& name, const Entry& entry) const {
    if (entry.tensor.type != GgufType(DType::F32))
      throw InputError(fmt::format("{}: tensor {} is not F32", where_, in_quotes(name)));
  }

  /// A vector that is no part of a module.
  void take_alone(const std::string& own, const std::string& name, Entry entry) {
    check_shape(name, entry);
    entry.is_rate = own.ends_with(".A_log");
    if (entry.is_rate) require_floats(name, entry);
    put_heads_in_order(own, name, entry);
    tensors_.emplace(own, std::move(entry));
  }

  /// Of the value heads of a delta rule.
  void put_heads_in_order(const std::string& own, const std::string& name, Entry& entry) const {
    entry.row_order = heads_->rows(own);
    entry.column_order = heads_->columns(own);
    const std::vector<std::int64_t>& shape = entry.tensor.shape;
    const bool fits =
        (entry.row_order.empty() || std::ssize(entry.row_order) == shape.front()) &&
        (entry.column_order.empty() || (shape.size() == 2 && std::ssize(entry.column_order) == shape[1]));
    if (!fits)
      throw InputError(
          fmt::format("{}: tensor {} of shape [{}] does not have the value heads of the metadata", where_,
                      in_quotes(name), fmt::join(shape, ", ")));
    const auto* type = std::get_if<GgmlType>(&entry.tensor.type);
    const std::int64_t block = type == nullptr ? 1 : info(*type).block;
    for (std::size_t c = 0; c < entry.column_order.size(); c += static_cast<std::size_t>(block))
      if (entry.column_order[c] % block != 0 ||
          entry.column_order[c + static_cast<std::size_t>(block) - 1] != entry.column_order[c] + block - 1)
        throw InputError(
            fmt::format("{}: tensor {} has blocks of {} columns across heads, which cannot be put into "
                        "Hugging Face's order; give the model in another type, or its folder",
                        where_, in_quotes(name), block));
  }

  void check_shape(const std::string& name, const Entry& entry) const {
    const std::vector<std::int64_t>& shape = entry.tensor.shape;
    if (std::ranges::find(shape, 0) != shape.end())
      throw InputError(fmt::format("{}: tensor {} is empty", where_, in_quotes(name)));
    if (std::holds_alternative<GgmlType>(entry.tensor.type) && shape.size() != 2)
      throw InputError(fmt::format("{}: tensor {} of type {} is not a matrix", where_, in_quotes(name),
                                   knapsaq::name_of(entry.tensor.type)));
  }

  /// Gives the parts of a tensor that holds several their names: rows of a matrix, or of a stack of matrices.
  void take_apart(const PublishedModule& fused, const std::string& name, const std::string& ending,
                  Entry entry) {
    GgufTensor& tensor = entry.tensor;
    const std::size_t dimensions = ending == ".weight" ? 2 : 1;
    if (fused.stacked && tensor.shape.size() == dimensions + 1) {
      tensor.shape[1] *= tensor.shape[0];  // both are those of bytes in the file
      tensor.shape.erase(tensor.shape.begin());
    }
    std::int64_t end = 0;
    for (const PublishedModule::Part& part : fused.parts)
      end = std::max(end, part.rows.first + part.rows.stride * (part.rows.repeats - 1) + part.rows.count);
    if (tensor.shape.size() != dimensions || tensor.shape[0] != end)
      throw InputError(
          fmt::format("{}: tensor {} of shape [{}] does not have the {} rows that the metadata ask for",
                      where_, in_quotes(name), fmt::join(tensor.shape, ", "), end));
    check_shape(name, entry);
    const auto bytes = static_cast<std::size_t>(row_bytes(tensor));
    for (const PublishedModule::Part& part : fused.parts) {
      Entry one{.tensor = {tensor.type, tensor.shape, {}}, .file = entry.file};
      one.tensor.shape[0] = part.rows.rows();
      if (part.rows.is_run()) {
        one.tensor.bytes = tensor.bytes.subspan(static_cast<std::size_t>(part.rows.first) * bytes,
                                                static_cast<std::size_t>(part.rows.count) * bytes);
      } else {
        one.rows = part.rows;
        one.fused = tensor;
      }
      tensors_.emplace(part.name + ending, std::move(one));
    }
  }

  /// What is wrong with it is said of the file.
  ModelConfig parse_config() const {
    try {
      return parse_model_config(config_);
    } catch (const InputError& error) {
      throw InputError(fmt::format("{}: {}", where_, error.what()));
    }
  }

  std::int64_t rotated_heads(std::string_view module) const {
    if (!rotated_) return 0;
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

  /// The tensor's bytes as Hugging Face has them: with rows in its order, and norms without what was added.
  static std::vector<std::byte> in_order(const Entry& entry) {
    if (entry.rows.count != 0) return gathered(entry);
    if (entry.heads == 0) return heads_in_order(entry);
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

  static std::vector<std::byte> heads_in_order(const Entry& entry) {
    const std::int64_t rows = entry.tensor.shape[0];
    const auto bytes = static_cast<std::size_t>(row_bytes(entry.tensor));
    std::vector<std::byte> out(entry.tensor.bytes.size());
    const std::size_t columns = entry.column_order.size();
    for (std::int64_t row = 0; row < rows; ++row) {
      const auto at = static_cast<std::size_t>(row);
      const std::byte* const from = entry.tensor.bytes.data() + at * bytes;
      std::byte* const to =
          out.data() + (entry.row_order.empty() ? at : static_cast<std::size_t>(entry.row_order[at])) * bytes;
      if (columns == 0) {
        std::memcpy(to, from, bytes);
        continue;
      }
      const auto* type = std::get_if<GgmlType>(&entry.tensor.type);
      const auto block = static_cast<std::size_t>(type == nullptr ? 1 : info(*type).block);
      const std::size_t block_bytes = bytes / (columns / block);
      for (std::size_t c = 0; c < columns; c += block)
        std::memcpy(to + static_cast<std::size_t>(entry.column_order[c]) / block * block_bytes,
                    from + c / block * block_bytes, block_bytes);
    }
    if (!entry.is_rate && entry.added == 0) return out;
    for (std::size_t i = 0; i + sizeof(float) <= out.size(); i += sizeof(float)) {
      float value = 0;
      std::memcpy(&value, out.data() + i, sizeof(value));
      value = entry.is_rate ? std::log(-value) : value - entry.added;
      std::memcpy(out.data() + i, &value, sizeof(value));
    }
    return out;
  }

  static std::vector<std::byte> gathered(const Entry& entry) {
    const auto bytes = static_cast<std::size_t>(row_bytes(entry.fused));
    std::vector<std::byte> out;
    out.reserve(static_cast<std::size_t>(entry.rows.rows()) * bytes);
    for (std::int64_t repeat = 0; repeat < entry.rows.repeats; ++repeat) {
      const auto first = static_cast<std::size_t>(entry.rows.first + repeat * entry.rows.stride);
      const auto run =
          entry.fused.bytes.subspan(first * bytes, static_cast<std::size_t>(entry.rows.count) * bytes);
      out.insert(out.end(), run.begin(), run.end());
    }
    return out;
  }

  const Entry& find(std::string_view name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) refuse_name(name);
    return found->second;
  }

  std::string where_;
  std::optional<GgufHeads> heads_;
  bool rotated_ = false;   ///< rows of q and k are in llama.cpp's order
  float norm_offset_ = 0;  ///< what norms add to their weights, and files have added
  std::vector<GgufFile> files_;
  Entries in_files_;  ///< during opening: by the names of the file
  Entries tensors_;
  mutable std::mutex mutex_;
  /// Dense tensors that were changed, until they are released.
  mutable std::map<std::string, std::vector<std::byte>, std::less<>> ordered_;
};

}  // namespace

std::unique_ptr<CheckpointSource> open_gguf_source(const fs::path& file) {
  return std::make_unique<GgufSource>(file);
}

}  // namespace knapsaq
