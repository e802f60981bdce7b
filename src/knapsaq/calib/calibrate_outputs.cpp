#include "knapsaq/calib/calibrate_outputs.h"

#include <string>
#include <utility>
#include <vector>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/calib/write_values.h"
#include "knapsaq/checkpoint/safetensors.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// Tensors NAME.gradient_second_moment (lower triangle, row by row, where there are products) and
/// NAME.gradient_mean_square, F32, for each output.
Manifest::OutputFile write_outputs(const fs::path& path, std::span<const ObservedOutput> outputs) {
  std::vector<TensorSpec> specs;
  Manifest::OutputFile entry;
  for (const ObservedOutput& output : outputs) {
    const std::int64_t width = output.width;
    if (output.products)
      specs.push_back({output.name + std::string(kGradientMoment), DType::F32, {width * (width + 1) / 2}});
    specs.push_back({output.name + std::string(kGradientSquare), DType::F32, {width}});
    entry.outputs.push_back({output.name, width, output.products.has_value()});
  }
  {
    SafetensorsWriter writer(path, specs);
    for (const ObservedOutput& output : outputs) {
      const auto width = static_cast<std::size_t>(output.width);
      const double share = 1.0 / static_cast<double>(output.tokens);
      const auto mean = [&](double sum) { return static_cast<float>(sum * share); };
      if (output.products) {
        const std::vector<double>& sums = output.products->products;
        write_values(writer, sums.size(), [&](std::size_t i) { return mean(sums[i]); });
        write_values(writer, width, [&](std::size_t i) { return mean(sums[i * (i + 1) / 2 + i]); });
      } else {
        write_values(writer, width, [&](std::size_t i) { return mean(output.squares[i]); });
      }
    }
    writer.commit();
  }
  const MappedFile written(path);
  entry.bytes = written.bytes().size();
  entry.hash = hash_hex(written.bytes());
  return entry;
}

}  // namespace

std::size_t count_whole_outputs(const fs::path& folder, const Manifest& manifest) {
  if (!manifest.outputs) return 0;
  const std::vector<Manifest::OutputFile>& files = manifest.outputs->files;
  for (std::size_t i = 0; i < files.size(); ++i) {
    check_cancelled();
    const fs::path path = folder / output_file_name(manifest.place_of_output(i));
    if (!fs::is_regular_file(path)) return i;
    const MappedFile file(path);
    if (file.bytes().size() != files[i].bytes || hash_hex(file.bytes()) != files[i].hash) return i;
  }
  return files.size();
}

void add_outputs(const fs::path& folder, Manifest& manifest,
                 const std::function<std::unique_ptr<GradientCalibrator>()>& make_calibrator) {
  if (manifest.has_outputs()) return;
  std::vector<Manifest::OutputFile>& files = manifest.outputs->files;
  const std::size_t whole = files.size();
  const auto add = [&](std::size_t at, std::span<const ObservedOutput> outputs) {
    if (at < whole) return;
    files.push_back(write_outputs(folder / output_file_name(manifest.place_of_output(at)), outputs));
    write_file(folder / kManifestName, to_json(manifest));
  };
  const std::unique_ptr<GradientCalibrator> calibrator = make_calibrator();
  const std::vector<ObservedOutput> head = {calibrator->head()};
  add(0, head);
  for (std::size_t at = 1; at <= static_cast<std::size_t>(manifest.layers); ++at)
    add(at, calibrator->block(static_cast<std::int64_t>(manifest.place_of_output(at)), at >= whole));
  const std::vector<ObservedOutput> embedding = {calibrator->embedding()};
  add(static_cast<std::size_t>(manifest.layers) + 1, embedding);
}

}  // namespace knapsaq
