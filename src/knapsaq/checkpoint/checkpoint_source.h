#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/stored_layout.h"

namespace knapsaq {

/// The source of a Checkpoint: a folder or a GGUF file. All names are canonical and checked when the source
/// is opened. Checkpoint's functions document the rest, including errors.
class CheckpointSource {
 public:
  explicit CheckpointSource(std::filesystem::path path) : path_(std::move(path)) {}
  virtual ~CheckpointSource() = default;
  CheckpointSource(const CheckpointSource&) = delete;
  CheckpointSource& operator=(const CheckpointSource&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const nlohmann::json& config() const { return config_; }
  const std::vector<std::string>& notes() const { return notes_; }

  virtual std::vector<std::string> names() const = 0;
  virtual bool contains(std::string_view name) const = 0;
  virtual TensorSpec spec(std::string_view name) const = 0;
  virtual TensorView tensor(std::string_view name) const = 0;
  virtual void release(std::string_view name) const = 0;
  virtual std::uint64_t tensor_bytes() const = 0;
  virtual std::uint64_t file_bytes() const = 0;
  virtual std::optional<Checkpoint::Packing> packing(std::string_view module) const = 0;
  /// Of a linear that has a packing.
  virtual StoredMatrix stored(std::string_view module, const StoredShape& shape) const = 0;

 protected:
  [[noreturn]] void refuse_name(std::string_view name) const;

  std::filesystem::path path_;
  nlohmann::json config_;
  std::vector<std::string> notes_;
};

/// A model folder in Hugging Face layout.
std::unique_ptr<CheckpointSource> open_folder_source(const std::filesystem::path& folder);
/// A GGUF file, or the first of the files that llama.cpp's gguf-split made of one.
std::unique_ptr<CheckpointSource> open_gguf_source(const std::filesystem::path& file);

}  // namespace knapsaq
