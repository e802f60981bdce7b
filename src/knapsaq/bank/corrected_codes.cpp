#include "knapsaq/bank/corrected_codes.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/bank/folder_lock.h"
#include "knapsaq/bank/measure_linear.h"
#include "knapsaq/bank/paired_streams.h"
#include "knapsaq/bank/stage_correction.h"
#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/quant/local_errors.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kExtension = ".safetensors";

std::unordered_set<std::string> linear_names(const ModelConfig& config) {
  std::unordered_set<std::string> names;
  for (const Matrix& linear : linears(config)) names.insert(linear.name);
  return names;
}

/// Whether correct_codes() writes such a file: `<linear>.safetensors`, or a killed run's remainder of an
/// AtomicFile.
bool is_own(const fs::directory_entry& entry, const std::unordered_set<std::string>& linears) {
  if (!fs::is_regular_file(entry.symlink_status())) return false;
  std::string name = entry.path().filename().string();
  const std::size_t partial = name.rfind(".partial-");
  if (partial != std::string::npos) name.resize(partial);
  if (!name.ends_with(kExtension)) return false;
  name.resize(name.size() - kExtension.size());
  return linears.contains(name);
}

/// Whether it is a part of the MLP of a layer of experts.
bool is_of_mixture(const ModelConfig& config, const Matrix& linear) {
  const Stage stage = stage_of(linear.role);
  return (stage == Stage::activate || stage == Stage::mlp_output) &&
         layer_config(config, linear.block).is_mixture();
}

/// The codes of a linear depend on the model, the folding, the samples, the arithmetic, the embedding, and
/// the schemes of the matrices before it. The key contains all schemes, so a folder serves one allocation.
std::string key_of(const CorrectionRecipe& recipe, const StoredMatrix* embedding, Precision precision) {
  Hasher hasher;
  const auto add = [&](std::string_view field) {
    hasher.update(fmt::format("{}:", field.size()));
    hasher.update(field);
  };
  add("knapsaq corrected linear 2");  // changes whenever the same arguments give other codes
  add(fmt::format("{}", recipe.most_share));
  add(recipe.model);
  add(recipe.folding == nullptr ? "" : recipe.folding->identity());
  add(recipe.samples.hash);
  add(recipe.outputs == nullptr ? "" : recipe.outputs->identity());
  add(precision == Precision::bf16 ? "bf16" : "fp32");
  for (const MatrixScheme& one : recipe.allocation) {
    if (!one.matrix.in_block()) continue;
    add(one.matrix.name);
    add(to_string(one.scheme));
  }
  if (embedding != nullptr)
    for (const std::span<const std::byte> part : bytes_of(*embedding)) hasher.update(part);
  return hasher.hex();
}

/// The file of one linear that an earlier run finished.
std::optional<LinearFile> finished(const fs::path& path, const LinearFileLayout& layout) {
  if (!fs::exists(path)) return std::nullopt;
  try {
    LinearFile file(path, layout);
    file.verify();
    return file;
  } catch (const InputError&) {
    fs::remove(path);
    return std::nullopt;
  }
}

void quantize_into(const fs::path& path, const LinearFileLayout& layout, const Checkpoint& checkpoint,
                   const CorrectionRecipe& recipe, const Matrix& linear, StageCorrection& correction) {
  const std::string tensor = linear.name + ".weight";
  const WeightStatistics statistics =
      measure_linear(checkpoint.tensor(tensor), {}, tensor, [](std::uint64_t) {}).statistics;
  std::vector<float> values = checkpoint.floats(tensor);
  checkpoint.release(tensor);
  if (recipe.folding != nullptr) recipe.folding->apply(tensor, values);
  const MatrixView weights{linear.out, linear.in, values};
  std::optional<OutputStatistics> outputs;
  if (recipe.outputs != nullptr && recipe.folding == nullptr &&
      quantizer(layout.schemes.front().method).uses_outputs())
    outputs = recipe.outputs->outputs(linear.name, linear.out);
  const StoredMatrix stored = [&] {
    try {
      return correction.quantize(weights, layout.schemes.front(), outputs ? &*outputs : nullptr);
    } catch (const LargeWeightError& error) {
      throw InputError(fmt::format("{}, corrected: {}", linear.name, error.what()));
    }
  }();
  LocalErrors errors = local_errors(weights, stored, nullptr);
  errors.hessian = ErrorCell::kUnknown;  // of the corrected weights it would say nothing about the model
  LinearFileWriter writer(path, layout);
  writer.add(stored, errors);
  writer.commit(statistics);
}

/// As the recipe has it, not corrected.
void keep_in(const fs::path& path, const LinearFileLayout& layout, const Checkpoint& checkpoint,
             const CorrectionRecipe& recipe, const Matrix& linear) {
  const std::string tensor = linear.name + ".weight";
  const WeightStatistics statistics =
      measure_linear(checkpoint.tensor(tensor), {}, tensor, [](std::uint64_t) {}).statistics;
  std::vector<float> values = checkpoint.floats(tensor);
  checkpoint.release(tensor);
  if (recipe.folding != nullptr) recipe.folding->apply(tensor, values);
  const StoredMatrix stored = recipe.embedding(linear, layout.schemes.front());
  LocalErrors errors = local_errors({linear.out, linear.in, values}, stored, nullptr);
  errors.hessian = ErrorCell::kUnknown;
  LinearFileWriter writer(path, layout);
  writer.add(stored, errors);
  writer.commit(statistics);
}

std::optional<StoredMatrix> embedding_of(const CorrectionRecipe& recipe) {
  for (const MatrixScheme& one : recipe.allocation)
    if (one.matrix.is_looked_up()) return recipe.embedding(one.matrix, one.scheme);
  return std::nullopt;
}

}  // namespace

std::vector<LinearFile> correct_codes(const Checkpoint& checkpoint, const ModelConfig& config,
                                      const CorrectionRecipe& recipe, Backend& backend,
                                      const fs::path& folder, Progress& progress) {
  for (const MatrixScheme& one : recipe.allocation) quantizer(one.scheme.method).check(one.scheme);
  check_corrected_folder(folder, config);
  fs::create_directory(folder);
  const FolderLock lock(folder);
  const std::optional<StoredMatrix> embedding = embedding_of(recipe);
  const std::string key = key_of(recipe, embedding ? &*embedding : nullptr, backend.precision());

  const auto windows = static_cast<std::uint64_t>(recipe.samples.options.samples);
  // Each stage processes the windows twice: to measure inputs, and to advance.
  ProgressScope scope(progress, "correcting codes",
                      2 * kStages.size() * windows * static_cast<std::uint64_t>(config.layers), "windows");
  PairedStreams streams(checkpoint, config, recipe.samples, backend, recipe.folding,
                        embedding ? &*embedding : nullptr);
  std::vector<LinearFile> files;
  for (std::int64_t block = 0; block < config.layers; ++block) {
    streams.begin_block(block);
    for (const Stage stage : kStages) {
      std::optional<StageCorrection> correction;
      for (const MatrixScheme& one : recipe.allocation) {
        const Matrix& linear = one.matrix;
        if (linear.block != block || stage_of(linear.role) != stage) continue;
        check_cancelled();
        const LinearFileLayout layout{hash_hex(key + linear.name), linear.out, linear.in, {one.scheme}};
        const fs::path path = folder / (linear.name + std::string(kExtension));
        std::optional<LinearFile> file = finished(path, layout);
        if (!file && is_of_mixture(config, linear)) {
          keep_in(path, layout, checkpoint, recipe, linear);
          file.emplace(path, layout);
        }
        if (!file) {
          if (!correction) correction.emplace(streams.measure(stage, progress), recipe.most_share);
          quantize_into(path, layout, checkpoint, recipe, linear, *correction);
          file.emplace(path, layout);
        }
        streams.replace(linear, file->matrix(0));
        files.push_back(*std::move(file));
      }
      if (!correction) progress.advance(windows);
      streams.advance(stage, progress);
    }
    streams.end_block();
  }
  return files;
}

void check_corrected_folder(const fs::path& folder, const ModelConfig& config) {
  const fs::file_status status = fs::symlink_status(folder);
  if (!fs::exists(status)) return;
  if (!fs::is_directory(status))
    throw UsageError(
        fmt::format("{}: is in the way: corrected codes are kept in a folder there", folder.string()));
  const std::unordered_set<std::string> all = linear_names(config);
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (!is_own(entry, all))
      throw UsageError(fmt::format(
          "{}: is not of corrected codes of this model, whose files would be kept there: move it away",
          entry.path().string()));
}

void remove_corrected(const fs::path& folder, const ModelConfig& config) {
  const std::unordered_set<std::string> all = linear_names(config);
  std::vector<fs::path> own;
  bool others = false;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (is_own(entry, all))
      own.push_back(entry.path());
    else
      others = true;
  }
  for (const fs::path& path : own) fs::remove(path);
  if (!others) fs::remove(folder);
}

}  // namespace knapsaq
