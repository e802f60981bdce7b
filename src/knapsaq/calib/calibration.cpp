#include "knapsaq/calib/calibration.h"

#include <cmath>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/calib/manifest.h"
#include "knapsaq/checkpoint/safetensors.h"

namespace knapsaq {

namespace fs = std::filesystem;

struct Calibration::Impl {
  struct Place {
    std::size_t block;
    const Manifest::Input* input;
  };

  fs::path folder;
  Manifest manifest;
  std::map<std::string, Place, std::less<>> places;
  mutable std::mutex mutex;
  /// Guarded by mutex; null until used. The blocks', then those of outputs in the order of the manifest.
  mutable std::vector<std::unique_ptr<const SafetensorsFile>> files;
  /// [matrix]: where the gradients by its output are; block: index into Outputs::files.
  struct OutputPlace {
    std::size_t file;
    const Manifest::Output* output;
  };
  std::map<std::string, OutputPlace, std::less<>> outputs;

  const SafetensorsFile& file(std::size_t block) const {
    const Manifest::Block& expected = manifest.blocks[block];
    return file(block, block_file_name(block), expected.bytes, expected.hash);
  }
  const SafetensorsFile& output_file(std::size_t at) const {
    const Manifest::OutputFile& expected = manifest.outputs->files[at];
    return file(manifest.blocks.size() + at, output_file_name(manifest.place_of_output(at)), expected.bytes,
                expected.hash);
  }

  const SafetensorsFile& file(std::size_t number, const std::string& name, std::uint64_t bytes,
                              const std::string& hash) const {
    const std::lock_guard lock(mutex);
    if (files[number] == nullptr) {
      const fs::path path = folder / name;
      {
        // The checksum is compared first: data that passes it is what was written.
        const MappedFile mapped(path);
        if (mapped.bytes().size() != bytes || hash_hex(mapped.bytes()) != hash)
          throw InputError(
              fmt::format("{}: is damaged (another checksum than calibration.json says); calibrate again",
                          path.string()));
      }
      files[number] = std::make_unique<const SafetensorsFile>(path);
    }
    return *files[number];
  }

  /// Both halves of a symmetric matrix [width, width] whose lower triangle is stored.
  std::vector<float> symmetric(const SafetensorsFile& file, const std::string& name,
                               std::int64_t width) const {
    const std::vector<float> lower = floats(file, name, width * (width + 1) / 2, true);
    const auto n = static_cast<std::size_t>(width);
    std::vector<float> whole(n * n);
    const float* value = lower.data();
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j <= i; ++j) {
        whole[i * n + j] = *value;
        whole[j * n + i] = *value++;
      }
      if (whole[i * n + i] < 0)
        throw InputError(fmt::format("{}: tensor {} has a negative value on its diagonal; calibrate again",
                                     file.file().path().string(), in_quotes(name)));
    }
    return whole;
  }

  std::vector<float> floats(const SafetensorsFile& file, const std::string& name, std::int64_t count,
                            bool may_be_negative) const {
    const auto fail = [&](const std::string& reason) {
      throw InputError(fmt::format("{}: tensor {} {}; calibrate again", file.file().path().string(),
                                   in_quotes(name), reason));
    };
    const auto found = file.tensors().find(name);
    if (found == file.tensors().end()) fail("is missing");
    const TensorView& view = found->second;
    if (view.type != DType::F32 || view.shape != std::vector<std::int64_t>{count})
      fail(fmt::format("is not F32 [{}]", count));
    std::vector<float> values = read_floats(view);
    for (const float value : values) {
      if (!std::isfinite(value)) fail("holds NaN or infinity");
      if (value < 0 && !may_be_negative) fail("holds a negative value");
    }
    file.file().release(view.bytes);
    return values;
  }
};

Calibration::Calibration(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Calibration::Calibration(Calibration&&) noexcept = default;
Calibration& Calibration::operator=(Calibration&&) noexcept = default;
Calibration::~Calibration() = default;

Calibration Calibration::open(const fs::path& folder) {
  if (!has_calibration(folder))
    throw InputError(
        fmt::format("{}: holds no calibration; make one with knapsaq calibrate", folder.string()));
  auto impl = std::make_unique<Impl>();
  impl->folder = folder;
  impl->manifest = read_manifest(folder);
  const Manifest& manifest = impl->manifest;
  if (std::ssize(manifest.blocks) < manifest.layers)
    throw InputError(
        fmt::format("{}: the calibration is unfinished ({} of {} blocks); run the knapsaq "
                    "calibrate that began it again",
                    folder.string(), manifest.blocks.size(), manifest.layers));
  for (std::size_t block = 0; block < manifest.blocks.size(); ++block) {
    for (const Manifest::Input& input : manifest.blocks[block].inputs) {
      for (const std::string& linear : input.linears)
        impl->places.emplace(linear, Impl::Place{block, &input});
    }
  }
  impl->files.resize(manifest.blocks.size());
  if (manifest.has_outputs()) {
    const std::vector<Manifest::OutputFile>& files = manifest.outputs->files;
    for (std::size_t at = 0; at < files.size(); ++at)
      for (const Manifest::Output& output : files[at].outputs)
        impl->outputs.emplace(output.matrix, Impl::OutputPlace{at, &output});
    impl->files.resize(manifest.blocks.size() + files.size());
  }
  return Calibration(std::move(impl));
}

const fs::path& Calibration::folder() const { return impl_->folder; }
const CalibrationSource& Calibration::source() const { return impl_->manifest.source; }

InputStatistics Calibration::inputs(std::string_view matrix, std::int64_t width) const {
  const auto place = impl_->places.find(matrix);
  if (place == impl_->places.end() && !impl_->manifest.has_ends())
    throw InputError(
        fmt::format("{}: was made by Knapsaq 0.1, which did not look at {}: run the `knapsaq calibrate` "
                    "that made it again, which adds that",
                    impl_->folder.string(), in_quotes(matrix)));
  if (place == impl_->places.end())
    throw InputError(fmt::format("{}: the calibration knows no linear {}; it is of another model",
                                 impl_->folder.string(), in_quotes(matrix)));
  const auto& [block, input] = place->second;
  if (input->width != width)
    throw InputError(
        fmt::format("{}: the input of linear {} has {} values here and {} in the model; it is "
                    "of another model",
                    impl_->folder.string(), in_quotes(matrix), input->width, width));
  const SafetensorsFile& file = impl_->file(block);
  const std::string& name = input->linears.front();
  InputStatistics statistics{.name = name,
                             .width = width,
                             .tokens = input->tokens.value_or(impl_->manifest.tokens()),
                             .mean_square = impl_->floats(file, name + ".mean_square", width, false),
                             .mean_abs = impl_->floats(file, name + ".mean_abs", width, false),
                             .max_abs = impl_->floats(file, name + ".max_abs", width, false),
                             .second_moment = {}};
  statistics.second_moment = impl_->symmetric(file, name + ".second_moment", width);
  return statistics;
}

RowShares Calibration::row_shares(std::int64_t rows) const {
  const Manifest& manifest = impl_->manifest;
  if (!manifest.has_ends()) return {};
  const auto ends = static_cast<std::size_t>(manifest.layers);
  if (manifest.blocks[ends].rows != rows)
    throw InputError(
        fmt::format("{}: the embedding has {} rows here and {} in the model; it is of another model",
                    impl_->folder.string(), manifest.blocks[ends].rows, rows));
  return impl_->floats(impl_->file(ends), std::string(kRowSharesName), rows, false);
}

std::vector<std::string> Calibration::notes() const {
  std::size_t experts = 0;
  std::size_t few = 0;
  const Manifest::Input* fewest = nullptr;
  for (const Manifest::Block& block : impl_->manifest.blocks)
    for (const Manifest::Input& input : block.inputs) {
      if (!input.tokens) continue;
      ++experts;
      if (*input.tokens < static_cast<std::uint64_t>(input.width)) ++few;
      if (fewest == nullptr || *input.tokens < *fewest->tokens) fewest = &input;
    }
  if (few == 0) return {};
  return {
      fmt::format("{} of {} inputs of experts have fewer tokens than they are wide ({} has {}) and are "
                  "completed by what the "
                  "layer's experts have on average; more text (--samples) covers them better",
                  few, experts, fewest->linears.front(), *fewest->tokens)};
}

std::optional<OutputStatistics> Calibration::outputs(std::string_view matrix, std::int64_t width) const {
  if (!has_outputs()) return std::nullopt;
  const auto place = impl_->outputs.find(matrix);
  if (place == impl_->outputs.end())
    throw InputError(fmt::format("{}: the calibration knows no output of {}; it is of another model",
                                 impl_->folder.string(), in_quotes(matrix)));
  const auto& [at, output] = place->second;
  if (output->width != width)
    throw InputError(
        fmt::format("{}: the output of {} has {} values here and {} in the model; it is of another "
                    "model",
                    impl_->folder.string(), in_quotes(matrix), output->width, width));
  const Manifest& manifest = impl_->manifest;
  const SafetensorsFile& file = impl_->output_file(at);
  OutputStatistics statistics{
      .name = output->matrix,
      .width = width,
      .tokens = static_cast<std::uint64_t>(manifest.outputs->windows) *
                static_cast<std::uint64_t>(manifest.source.options.window),
      .mean_square = impl_->floats(file, output->matrix + std::string(kGradientSquare), width, false),
      .second_moment = {}};
  if (output->products)
    statistics.second_moment = impl_->symmetric(file, output->matrix + std::string(kGradientMoment), width);
  return statistics;
}

bool Calibration::has_outputs() const { return !impl_->outputs.empty(); }

void Calibration::forget_outputs() { impl_->outputs.clear(); }

std::string Calibration::identity() const {
  return calibration_identity(impl_->manifest.source, impl_->manifest.tokens_hash,
                              has_outputs() ? impl_->manifest.outputs->windows : 0);
}

std::string calibration_identity(const CalibrationSource& source, std::string_view tokens_hash,
                                 std::int64_t gradient_windows) {
  return fmt::format("calibration {}x{} seed {} {}, tokens {}, model {}{}", source.options.samples,
                     source.options.window, source.options.seed,
                     source.precision == Precision::bf16 ? "bf16" : "fp32", tokens_hash, source.model,
                     gradient_windows > 0 ? fmt::format(", gradients of {}", gradient_windows) : "");
}

bool has_calibration(const fs::path& folder) {
  std::error_code ignored;
  return fs::is_regular_file(folder / kManifestName, ignored);
}

bool is_calibration_of(const fs::path& folder, const CalibrationSource& source) {
  return has_calibration(folder) && read_manifest(folder).source == source;
}

void require_same_model(const Calibration& calibration, std::string_view fingerprint) {
  if (calibration.source().model == fingerprint) return;
  throw InputError(
      fmt::format("{}: is the calibration of another model (fingerprint {}, this one has {}); "
                  "calibrate this one",
                  calibration.folder().string(), in_quotes(calibration.source().model), fingerprint));
}

}  // namespace knapsaq
