#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <fmt/core.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/exchange.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/made_folder.h"
#include "knapsaq/base/partial_output.h"
#include "knapsaq/calib/calibrate_outputs.h"
#include "knapsaq/calib/calibration.h"
#include "knapsaq/calib/calibrator.h"
#include "knapsaq/calib/gradient_calibrator.h"
#include "knapsaq/calib/manifest.h"
#include "knapsaq/calib/write_values.h"
#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/model/architecture.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// Whether a file has a name like `pattern`, whose zeros stand for digits, or that of its AtomicFile.
bool is_numbered(const std::string& name, const std::string& pattern) {
  if (name.size() < pattern.size()) return false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const bool digit = name[i] >= '0' && name[i] <= '9';
    if (pattern[i] == '0' ? !digit : name[i] != pattern[i]) return false;
  }
  return name.size() == pattern.size() || name.substr(pattern.size()).starts_with(".partial-");
}

/// Whether a file holds statistics, or what was written of them.
bool is_block_file(const std::string& name) {
  return is_numbered(name, block_file_name(0)) || is_numbered(name, output_file_name(0));
}

bool is_manifest_file(const std::string& name) {
  return name == kManifestName || name.starts_with(std::string(kManifestName) + ".partial-");
}

/// Removes the files of a calibration from its folder, or only the partial files of a killed one.
void clean(const fs::path& folder, bool everything) {
  // The description first: blocks without a description belong to nobody.
  if (everything) fs::remove(folder / kManifestName);
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!is_block_file(name) && !is_manifest_file(name)) continue;
    if (everything || name.find(".partial-") != name.npos) fs::remove(entry.path());
  }
}

/// The finished blocks, from the first one on, whose files are whole.
std::size_t count_whole(const fs::path& folder, const Manifest& manifest) {
  for (std::size_t i = 0; i < manifest.blocks.size(); ++i) {
    check_cancelled();
    const fs::path path = folder / block_file_name(i);
    if (!fs::is_regular_file(path)) return i;
    const MappedFile file(path);
    if (file.bytes().size() != manifest.blocks[i].bytes || hash_hex(file.bytes()) != manifest.blocks[i].hash)
      return i;
  }
  return manifest.blocks.size();
}

/// The description of the calibration in the folder if it is `wanted`, finished or not.
std::optional<Manifest> find_same(const fs::path& folder, const Manifest& wanted) {
  Manifest found = read_manifest(folder);
  if (found.source == wanted.source && found.tokens_hash == wanted.tokens_hash &&
      found.layers == wanted.layers &&
      (!found.outputs || !wanted.outputs || found.outputs->windows == wanted.outputs->windows))
    return found;
  return std::nullopt;
}

/// find_same(), except that a damaged description counts as that of another calibration.
std::optional<Manifest> find_whole(const fs::path& folder, const Manifest& wanted) {
  try {
    return find_same(folder, wanted);
  } catch (const InputError&) {
    return std::nullopt;
  }
}

bool holds_others(const fs::path& folder) {
  return std::any_of(fs::directory_iterator(folder), fs::directory_iterator(), [](const auto& entry) {
    const std::string name = entry.path().filename().string();
    return !is_block_file(name) && !is_manifest_file(name);
  });
}

/// The finished blocks in the folder, which contains the beginning of `wanted` or something that `wanted`
/// replaces.
void take_up(const fs::path& folder, Manifest& wanted) {
  std::optional<Manifest> found;
  if (has_calibration(folder)) found = find_whole(folder, wanted);
  clean(folder, !found);
  if (!found) return;
  found->blocks.resize(count_whole(folder, *found));
  if (found->outputs) {
    found->outputs->files.resize(count_whole_outputs(folder, *found));
    // What is there stays, whether it is asked for or not.
    wanted.outputs = std::move(found->outputs);
  }
  wanted.blocks = std::move(found->blocks);
}

/// The folder for building a calibration that will replace the one in `folder`.
fs::path place_of_next(const fs::path& folder) {
  fs::path next = folder;
  next += ".new";
  return next;
}

/// Removes a folder with a calibration that is no longer needed.
void discard(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::exists(folder, ignored)) return;
  clean(folder, true);
  fs::remove(folder, ignored);
}

/// Whether the folder has another calibration than `wanted`, which `wanted` replaces when it is finished.
/// Throws UsageError if it would have to be replaced and may not be.
bool gives_way(const fs::path& folder, const Manifest& wanted, bool replace) {
  check_calibration_place(folder);
  if (!has_calibration(folder) || (replace ? find_whole(folder, wanted) : find_same(folder, wanted)))
    return false;
  if (!replace)
    throw UsageError(
        fmt::format("{}: holds a calibration made from something else (model, text, tokenizer or options); "
                    "give another name, or --force to replace it",
                    folder.string()));
  if (holds_others(folder))
    throw UsageError(
        fmt::format("{}: holds more than a calibration, which --force does not replace; give another name",
                    folder.string()));
  return true;
}

/// Tensors NAME.second_moment (lower triangle, row by row), .mean_square, .mean_abs and .max_abs, F32, for
/// each input, NAME being its first matrix; and `shares`, if there are any.
Manifest::Block write_block(const fs::path& path, std::span<const ObservedInput> inputs,
                            std::span<const float> shares = {}) {
  std::vector<TensorSpec> specs;
  for (const ObservedInput& input : inputs) {
    const std::int64_t width = input.sums.width;
    specs.push_back({input.first.name + ".second_moment", DType::F32, {width * (width + 1) / 2}});
    for (const char* name : {".mean_square", ".mean_abs", ".max_abs"})
      specs.push_back({input.first.name + name, DType::F32, {width}});
  }
  if (!shares.empty()) specs.push_back({std::string(kRowSharesName), DType::F32, {std::ssize(shares)}});
  {
    SafetensorsWriter writer(path, specs);
    for (const ObservedInput& input : inputs) {
      const InputSums& sums = input.sums;
      const auto width = static_cast<std::size_t>(sums.width);
      const double share = input.share();
      const auto mean = [&](double sum) { return static_cast<float>(sum * share); };
      write_values(writer, sums.products.size(), [&](std::size_t i) { return mean(sums.products[i]); });
      write_values(writer, width, [&](std::size_t i) { return mean(sums.products[i * (i + 1) / 2 + i]); });
      write_values(writer, width, [&](std::size_t i) { return mean(sums.abs[i]); });
      write_values(writer, width, [&](std::size_t i) { return sums.max_abs[i]; });
    }
    if (!shares.empty()) writer.write(std::as_bytes(shares));
    writer.commit();
  }
  const MappedFile written(path);
  return {.bytes = written.bytes().size(),
          .hash = hash_hex(written.bytes()),
          .inputs = {},
          .rows = std::ssize(shares)};
}

/// [vocab] how often each token occurs.
std::vector<std::int64_t> count_tokens(std::span<const std::int32_t> tokens, std::int64_t vocab) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(vocab));
  for (const std::int32_t token : tokens) ++counts[static_cast<std::size_t>(token)];
  return counts;
}

}  // namespace

void check_calibration_place(const fs::path& folder) {
  if (!fs::exists(folder) || has_calibration(folder)) return;
  if (!fs::is_directory(folder))
    throw UsageError(fmt::format("{}: is not a folder; give another name", folder.string()));
  if (holds_others(folder))
    throw UsageError(
        fmt::format("{}: holds something else than a calibration; give another name", folder.string()));
}

namespace {

/// Makes calibrators of the model, whatever it is in.
struct MakeCalibrators {
  std::function<std::unique_ptr<Calibrator>()> of_inputs;
  std::function<std::unique_ptr<GradientCalibrator>()> of_gradients;
};

Calibration calibrate_with(const MakeCalibrators& make, const ModelConfig& config, Precision precision,
                           std::string_view fingerprint, const Samples& samples, const fs::path& folder,
                           bool replace, Progress& progress, std::int64_t gradient_windows) {
  Manifest manifest;
  manifest.source = {std::string(fingerprint), samples.text, samples.options, precision};
  manifest.tokens_hash = samples.hash;
  manifest.layers = config.layers;
  if (gradient_windows > 0) manifest.outputs = Manifest::Outputs{.windows = gradient_windows, .files = {}};
  restore_waiting(folder);
  const bool exchanges = gives_way(folder, manifest, replace);
  const fs::path next = place_of_next(folder);
  if (replace) check_calibration_place(next);
  const MadeFolder place(exchanges ? next : folder);
  take_up(place.path(), manifest);

  const std::vector<Matrix> all = matrices(config);
  if (!manifest.has_ends()) {
    const auto total = static_cast<std::uint64_t>((config.layers + 1) * samples.options.samples);
    const auto add = [&](std::int64_t block, std::span<const ObservedInput> inputs, const RowShares& shares) {
      Manifest::Block written =
          write_block(place.path() / block_file_name(static_cast<std::size_t>(block)), inputs, shares);
      for (const ObservedInput& input : inputs) {
        Manifest::Input entry{.linears = {}, .width = input.sums.width};
        if (input.first.expert >= 0) entry.tokens = input.sums.rows;
        // Those that share an input follow each other.
        for (std::size_t i = input.first.number; i < all.size() && all[i].input == input.first.number; ++i)
          entry.linears.push_back(all[i].name);
        written.inputs.push_back(std::move(entry));
      }
      manifest.blocks.push_back(std::move(written));
      write_file(place.path() / kManifestName, to_json(manifest));
    };
    ProgressScope scope(progress, "calibrating", total, "windows");
    const std::unique_ptr<Calibrator> calibrator = make.of_inputs();
    for (std::int64_t block = 0; block < config.layers; ++block) {
      if (block < std::ssize(manifest.blocks)) {
        calibrator->advance(block);
        continue;
      }
      add(block, calibrator->measure(block), {});
    }
    const Matrix& head = config.tied ? all.front() : all.back();
    const std::vector<ObservedInput> of_head = {calibrator->measure_head(head)};
    add(config.layers, of_head, shares_of(count_tokens(samples.tokens, config.vocab)));
  }
  // An unfinished part that is not asked for waits until it is.
  if (gradient_windows > 0 && !manifest.has_outputs()) {
    const auto passes = static_cast<std::uint64_t>((2 * config.layers + 2) * gradient_windows);
    ProgressScope scope(progress, "gradients", passes, "windows");
    add_outputs(place.path(), manifest, make.of_gradients);
  }
  if (exchanges) exchange_folders(next, folder);
  if (replace) {
    discard(next);
    remove_waited(folder, [](const fs::path& old) { return !holds_others(old); });
  }
  return Calibration::open(folder);
}

}  // namespace

Calibration calibrate(const Checkpoint& checkpoint, const ModelConfig& config, std::string_view fingerprint,
                      const Samples& samples, Backend& backend, const fs::path& folder, bool replace,
                      Progress& progress, std::int64_t gradient_windows) {
  const MakeCalibrators make{
      .of_inputs =
          [&] { return std::make_unique<Calibrator>(checkpoint, config, samples, backend, progress); },
      .of_gradients =
          [&] {
            return std::make_unique<GradientCalibrator>(checkpoint, config, samples, gradient_windows,
                                                        backend, progress);
          }};
  return calibrate_with(make, config, backend.precision(), fingerprint, samples, folder, replace, progress,
                        gradient_windows);
}

Calibration calibrate(Decoder& decoder, std::string_view fingerprint, const Samples& samples,
                      const fs::path& folder, bool replace, Progress& progress,
                      std::int64_t gradient_windows) {
  const MakeCalibrators make{
      .of_inputs = [&] { return std::make_unique<Calibrator>(decoder, samples, progress); },
      .of_gradients =
          [&] { return std::make_unique<GradientCalibrator>(decoder, samples, gradient_windows, progress); }};
  return calibrate_with(make, decoder.config(), decoder.backend().precision(), fingerprint, samples, folder,
                        replace, progress, gradient_windows);
}

}  // namespace knapsaq
