#include "knapsaq/bank/propagate.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/bank/folder_lock.h"
#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/bank/measure_linear.h"
#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/calib/calibrator.h"
#include "knapsaq/quant/local_errors.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// One for each of `all`.
std::vector<Scheme> schemes_of(const std::vector<Matrix>& all, std::span<const MatrixScheme> allocation) {
  std::vector<Scheme> schemes;
  for (const MatrixScheme& one : allocation)
    if (one.matrix.in_block()) schemes.push_back(one.scheme);
  if (schemes.size() != all.size())
    throw UsageError(
        fmt::format("{} schemes for {} linears: propagation needs one for each", schemes.size(), all.size()));
  bool looks = false;
  for (const Scheme& scheme : schemes) {
    quantizer(scheme.method).check(scheme);
    looks = looks || quantizer(scheme.method).needs() != Needs::nothing;
  }
  if (!looks)
    throw UsageError(
        fmt::format("{} does not look at the linears' inputs: there is nothing to propagate for it; use gptq",
                    schemes.empty() ? "" : schemes.front().method));
  return schemes;
}

constexpr std::string_view kExtension = ".safetensors";

/// Whether propagate() writes such a file: `<linear>.safetensors`, or a killed run's remainder of an
/// AtomicFile.
bool is_own(const fs::directory_entry& entry, const std::vector<Matrix>& all) {
  if (!fs::is_regular_file(entry.symlink_status())) return false;
  std::string name = entry.path().filename().string();
  const std::size_t partial = name.rfind(".partial-");
  if (partial != std::string::npos) name.resize(partial);
  if (!name.ends_with(kExtension)) return false;
  name.resize(name.size() - kExtension.size());
  return std::ranges::find(all, name, &Matrix::name) != all.end();
}

/// A linear's codes depend on the model, the samples, the arithmetic, and the schemes up to its own. The key
/// contains all schemes, so a folder serves one allocation.
std::string key_of(std::string_view fingerprint, std::span<const Scheme> schemes, const Samples& samples,
                   Precision precision) {
  Hasher hasher;
  const auto add = [&](std::string_view field) {
    hasher.update(fmt::format("{}:", field.size()));
    hasher.update(field);
  };
  add("knapsaq propagated linear 2");  // changes whenever the same arguments give other codes
  add(fingerprint);
  add(samples.hash);
  add(precision == Precision::bf16 ? "bf16" : "fp32");
  for (const Scheme& scheme : schemes) add(to_string(scheme));
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
                   const Matrix& linear, const InputStatistics& inputs) {
  const std::string tensor = linear.name + ".weight";
  const WeightStatistics statistics =
      measure_linear(checkpoint.tensor(tensor), {}, tensor, [](std::uint64_t) {}).statistics;
  const std::vector<float> values = checkpoint.floats(tensor);
  checkpoint.release(tensor);
  const MatrixView weights{linear.out, linear.in, values};
  const StoredMatrix stored = quantize(linear.name, weights, layout.schemes.front(), &inputs);
  LinearFileWriter writer(path, layout);
  writer.add(stored, local_errors(weights, stored, &inputs));
  writer.commit(statistics);
}

}  // namespace

std::vector<LinearFile> propagate(const Checkpoint& checkpoint, const ModelConfig& config,
                                  std::string_view fingerprint, std::span<const MatrixScheme> allocation,
                                  const Samples& samples, Backend& backend, const fs::path& folder,
                                  Progress& progress) {
  const std::vector<Matrix> all = linears(config);
  const std::vector<Scheme> schemes = schemes_of(all, allocation);
  check_propagation_folder(folder, config);
  fs::create_directory(folder);
  const FolderLock lock(folder);
  const std::string key = key_of(fingerprint, schemes, samples, backend.precision());

  const auto windows = static_cast<std::uint64_t>(samples.options.samples);
  // Each block processes the windows twice: to measure inputs, and to advance.
  ProgressScope scope(progress, "quantizing with propagated inputs",
                      2 * windows * static_cast<std::uint64_t>(config.layers), "windows");
  Calibrator calibrator(checkpoint, config, samples, backend, progress);
  std::vector<LinearFile> files;
  for (std::int64_t block = 0, next = 0; block < config.layers; ++block) {
    const std::vector<InputStatistics> inputs = calibrator.observe(block);
    auto input = inputs.begin();
    for (; next < std::ssize(all) && all[static_cast<std::size_t>(next)].block == block; ++next) {
      check_cancelled();
      const auto i = static_cast<std::size_t>(next);
      const Matrix& linear = all[i];
      if (const auto first = std::ranges::find(inputs, linear.name, &InputStatistics::name);
          first != inputs.end())
        input = first;
      const LinearFileLayout layout{hash_hex(key + linear.name), linear.out, linear.in, {schemes[i]}};
      const fs::path path = folder / (linear.name + std::string(kExtension));
      std::optional<LinearFile> file = finished(path, layout);
      if (!file) {
        quantize_into(path, layout, checkpoint, linear, *input);
        file.emplace(path, layout);
      }
      calibrator.decoder().replace(linear.name, file->matrix(0));
      files.push_back(*std::move(file));
    }
    calibrator.advance(block);
  }
  return files;
}

void check_propagation_folder(const fs::path& folder, const ModelConfig& config) {
  const fs::file_status status = fs::symlink_status(folder);
  if (!fs::exists(status)) return;
  if (!fs::is_directory(status))
    throw UsageError(fmt::format("{}: is in the way: propagation keeps a folder there", folder.string()));
  const std::vector<Matrix> all = linears(config);
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (!is_own(entry, all))
      throw UsageError(fmt::format(
          "{}: is not of a propagation of this model, which would keep its files there: move it away",
          entry.path().string()));
}

void remove_propagated(const fs::path& folder, const ModelConfig& config) {
  const std::vector<Matrix> all = linears(config);
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
