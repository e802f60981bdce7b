#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/checkpoint/file_sizes.h"
#include "knapsaq/checkpoint/shards.h"
#include "knapsaq/export/linear_plan.h"
#include "knapsaq/export/writer.h"

namespace knapsaq {

/// The common part of formats that are Hugging Face folders: config.json, safetensors in shards, the
/// tokenizer's files. The formats differ in the tensors of the quantized linears and in the config's
/// description of them. In memory at a time: one linear.
class AffineFolderWriter : public Writer {
 public:
  ExportReport write(const Checkpoint& model, const ModelConfig& config, const std::filesystem::path& out,
                     const ExportOptions& options, Progress& progress) const final;
  std::shared_ptr<const FileSizes> file_sizes(const Checkpoint& model, const ModelConfig& config,
                                              const ErrorTable& table, const WriteOptions& options,
                                              std::string_view name) const final;

 private:
  virtual AffineRules rules() const = 0;
  /// Whether engines that run several linears as one matrix read the format; fusion_note() is for these
  /// engines.
  virtual bool some_readers_fuse() const { return false; }
  /// Notes for people about what the format's readers do with the plan; empty if there are none.
  virtual std::vector<std::string> notes(const std::vector<PlannedLinear>& plan,
                                         const ModelConfig& config) const;
  /// Throws InputError for an architecture that the format's readers do not support.
  virtual void check_architecture(const ModelConfig& config) const = 0;
  /// The tensors of a quantized linear in the order in which they are written.
  virtual std::vector<TensorSpec> tensors(const PlannedLinear& planned) const = 0;
  /// Their bytes, in that order. `plan` is the whole plan, of which `planned` is an element.
  virtual void write_linear(const PlannedLinear& planned, const PackedMatrix& matrix,
                            std::span<const PlannedLinear> plan, CheckpointWriter& writer) const = 0;
  /// Completes the source's config.json, from which every description of a quantization has been removed. May
  /// add further files to `folder`.
  virtual void describe(const std::vector<PlannedLinear>& plan, const ModelConfig& config,
                        nlohmann::ordered_json& json, const std::filesystem::path& folder) const = 0;
};

}  // namespace knapsaq
