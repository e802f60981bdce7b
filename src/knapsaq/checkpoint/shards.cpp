#include "knapsaq/checkpoint/shards.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/json_text.h"

namespace knapsaq {
namespace {

using nlohmann::json;

/// A file of the index's own folder, by its plain name: anything else could lead out of the model's folder.
bool is_plain_name(std::string_view name) {
  constexpr std::size_t kLongestName = 255;  // of a file on every common file system
  return !name.empty() && name.size() <= kLongestName && name.front() != '.' &&
         std::ranges::none_of(
             name, [](char c) { return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20; });
}

/// Of shard 1 to `count`.
std::string shard_name(std::size_t shard, std::size_t count) {
  return fmt::format("model-{:05}-of-{:05}.safetensors", shard, count);
}

}  // namespace

std::map<std::string, std::string> parse_shard_index(std::string_view text) {
  const json index = parse_json(text);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    throw InputError("has no weight_map");
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    if (!file.is_string() || !is_plain_name(file.get_ref<const std::string&>()))
      throw InputError(fmt::format("puts tensor {} into {}, which is not the name of a file beside it",
                                   in_quotes(tensor), in_quotes(file.dump())));
    files.emplace(tensor, file.get<std::string>());
  }
  if (files.empty()) throw InputError("has an empty weight_map");
  return files;
}

std::vector<CheckpointWriter::Shard> CheckpointWriter::plan(std::span<const TensorSpec> tensors,
                                                            std::uint64_t shard_bytes) {
  std::vector<Shard> shards(1);
  for (const TensorSpec& tensor : tensors) {
    const std::uint64_t bytes = tensor.bytes();
    if (!shards.back().tensors.empty() && shards.back().bytes + bytes > shard_bytes) shards.emplace_back();
    shards.back().tensors.push_back(tensor);
    shards.back().bytes += bytes;
  }
  for (std::size_t i = 0; i < shards.size(); ++i) {
    shards[i].file = shards.size() == 1 ? "model.safetensors" : shard_name(i + 1, shards.size());
  }
  return shards;
}

std::string CheckpointWriter::index_text(std::span<const Shard> shards) {
  std::uint64_t total = 0;
  json files = json::object();
  for (const Shard& shard : shards) {
    total += shard.bytes;
    for (const TensorSpec& tensor : shard.tensors) files[tensor.name] = shard.file;
  }
  return json{{"metadata", {{"total_size", total}}}, {"weight_map", std::move(files)}}.dump(2) + "\n";
}

std::uint64_t index_entry_bytes(std::string_view tensor) {
  // Four spaces, the two names in quotes, a colon and a space, a comma and a line feed. Names of files have
  // one length for up to 99,999 files, which is 500 TB.
  return 4 + json(tensor).dump().size() + 2 + 2 + shard_name(1, 1).size() + 2;
}

std::uint64_t index_bytes(std::uint64_t entries, std::uint64_t tensor_bytes) {
  const json nothing = {{"metadata", {{"total_size", tensor_bytes}}}, {"weight_map", json::object()}};
  // Inside the braces: a line feed, the entries, of which the last has no comma, and two spaces.
  return nothing.dump(2).size() + 1 + (1 + entries - 1 + 2);
}

std::uint64_t checkpoint_bytes(std::span<const TensorSpec> tensors, std::uint64_t shard_bytes) {
  const std::vector<CheckpointWriter::Shard> shards = CheckpointWriter::plan(tensors, shard_bytes);
  std::uint64_t bytes = shards.size() == 1 ? 0 : CheckpointWriter::index_text(shards).size();
  for (const CheckpointWriter::Shard& shard : shards) bytes += safetensors_file_bytes(shard.tensors);
  return bytes;
}

CheckpointWriter::CheckpointWriter(std::filesystem::path folder, std::span<const TensorSpec> tensors,
                                   std::uint64_t shard_bytes)
    : folder_(std::move(folder)), shards_(plan(tensors, shard_bytes)) {
  open_next();
}

void CheckpointWriter::open_next() {
  if (writer_) writer_->commit();
  const Shard& shard = shards_[next_++];
  remaining_ = shard.bytes;
  writer_ = std::make_unique<SafetensorsWriter>(folder_ / shard.file, shard.tensors);
}

void CheckpointWriter::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    while (remaining_ == 0 && next_ < shards_.size()) open_next();
    // In the last shard, the writer itself reports bytes that were not declared.
    const std::size_t size =
        next_ < shards_.size() ? std::min<std::uint64_t>(bytes.size(), remaining_) : bytes.size();
    writer_->write(bytes.first(size));
    remaining_ -= size;
    bytes = bytes.subspan(size);
  }
}

void CheckpointWriter::commit() {
  while (remaining_ == 0 && next_ < shards_.size()) open_next();
  writer_->commit();
  if (shards_.size() > 1) write_file(folder_ / "model.safetensors.index.json", index_text(shards_));
}

}  // namespace knapsaq
