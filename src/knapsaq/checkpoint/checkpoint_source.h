#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
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
  const std::string& prefix() const { return prefix_; }

  virtual std::vector<std::string> names() const = 0;
  virtual bool contains(std::string_view name) const = 0;
  virtual TensorSpec spec(std::string_view name) const = 0;
  virtual TensorView tensor(std::string_view name) const = 0;
  virtual void release(std::string_view name) const = 0;
  virtual std::uint64_t tensor_bytes() const = 0;
  virtual std::uint64_t file_bytes() const = 0;
  /// Null for a model that is stored as it is read.
  virtual const Checkpoint::Foreign* foreign() const { return nullptr; }
  using Visit = std::function<void(const std::string& name, const TensorView&)>;
  virtual void visit_stored(const Visit& visit) const;
  virtual std::optional<Checkpoint::Packing> packing(std::string_view module) const = 0;
  /// As Checkpoint has it.
  virtual bool is_decoded(std::string_view /*name*/) const { return false; }
  /// Of a linear that has a packing.
  virtual StoredMatrix stored(std::string_view module, const StoredShape& shape) const = 0;

 protected:
  [[noreturn]] void refuse_name(std::string_view name) const;

  std::filesystem::path path_;
  nlohmann::json config_;
  std::vector<std::string> notes_;
  std::string prefix_;
};

/// A model folder in Hugging Face layout.
std::unique_ptr<CheckpointSource> open_folder_source(const std::filesystem::path& folder);
/// A GGUF file, or the first of the files that llama.cpp's gguf-split made of one.
std::unique_ptr<CheckpointSource> open_gguf_source(const std::filesystem::path& file);
/// Of a GGUF file, a source without quantized matrices: their weights decoded, in F32, and a note that says
/// so. A source that has none is returned as it is.
std::unique_ptr<CheckpointSource> decoded_source(std::unique_ptr<CheckpointSource> stored);

}  // namespace knapsaq
