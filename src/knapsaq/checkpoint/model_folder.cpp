#include "knapsaq/checkpoint/model_folder.h"

#include <map>
#include <string>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/base/looks_like.h"
#include "knapsaq/checkpoint/foreign_format.h"
#include "knapsaq/checkpoint/shards.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// 100 bytes per tensor: room for a million of them.
constexpr std::uint64_t kLargestIndex = std::uint64_t{128} << 20;

template <class File>
const auto& tensors_of(const File& file) {
  return std::visit(
      [](const auto& opened) -> const auto& { return opened.tensors(); }, file);
}

template <class File>
const MappedFile& mapping_of(const File& file) {
  return std::visit(
      [](const auto& opened) -> const auto& { return opened.file(); }, file);
}

}  // namespace

ModelFolder::ModelFolder(const fs::path& folder, TensorTable& tensors) {
  if (fs::exists(folder / "model.safetensors")) {
    open_single(folder / "model.safetensors", tensors);
  } else if (fs::exists(folder / "model.safetensors.index.json")) {
    open_sharded(folder / "model.safetensors.index.json", tensors);
  } else if (fs::exists(folder / "pytorch_model.bin")) {
    open_single(folder / "pytorch_model.bin", tensors);
  } else if (fs::exists(folder / "pytorch_model.bin.index.json")) {
    open_sharded(folder / "pytorch_model.bin.index.json", tensors);
  } else {
    const std::string reason = why_no_weights(folder);
    throw InputError(fmt::format(
        "{}: {}", folder.string(),
        reason.empty()
            ? "has neither model.safetensors nor pytorch_model.bin, whole or in shards with an index"
            : reason));
  }
}

std::uint64_t ModelFolder::bytes() const {
  std::uint64_t bytes = index_bytes_;
  for (const File& file : files_) bytes += mapping_of(file).bytes().size();
  return bytes;
}

const ModelFolder::File& ModelFolder::open(const fs::path& path) {
  if (path.extension() == ".safetensors") return files_.emplace_back(SafetensorsFile(path));
  return files_.emplace_back(TorchFile(path));
}

void ModelFolder::open_single(const fs::path& path, TensorTable& tensors) {
  const File& file = open(path);
  for (const auto& [name, view] : tensors_of(file)) tensors.add(name, view, mapping_of(file));
}

void ModelFolder::open_sharded(const fs::path& index_path, TensorTable& tensors) {
  const std::string text = read_file(index_path, kLargestIndex);
  index_bytes_ = text.size();
  std::map<std::string, std::string> index;
  try {
    index = parse_shard_index(text);
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", index_path.string(), why_no_json(text, error.what())));
  }
  std::map<std::string, const File*> opened;
  for (const auto& [name, file] : index) {
    const File*& shard = opened[file];
    if (shard == nullptr) {
      const fs::path path = index_path.parent_path() / file;
      if (!fs::exists(path))
        throw InputError(fmt::format("{}: the shard {} is missing; download it again", index_path.string(),
                                     in_quotes(file)));
      shard = &open(path);
    }
    const auto found = tensors_of(*shard).find(name);
    if (found == tensors_of(*shard).end())
      throw InputError(fmt::format("{}: tensor {} is not in the shard {}", index_path.string(),
                                   in_quotes(name), in_quotes(file)));
    tensors.add(name, found->second, mapping_of(*shard));
  }
}

}  // namespace knapsaq
