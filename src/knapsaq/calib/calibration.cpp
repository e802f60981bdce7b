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
  mutable std::vector<std::unique_ptr<const SafetensorsFile>> files;  ///< guarded by mutex; null until used

  const SafetensorsFile& file(std::size_t block) const {
    const std::lock_guard lock(mutex);
    if (files[block] == nullptr) {
      const fs::path path = folder / block_file_name(block);
      const Manifest::Block& expected = manifest.blocks[block];
      {
        // The checksum is compared first: data that passes it is what was written.
        const MappedFile mapped(path);
        if (mapped.bytes().size() != expected.bytes || hash_hex(mapped.bytes()) != expected.hash)
          throw InputError(
              fmt::format("{}: is damaged (another checksum than calibration.json says); calibrate again",
                          path.string()));
      }
      files[block] = std::make_unique<const SafetensorsFile>(path);
    }
    return *files[block];
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
                             .tokens = impl_->manifest.tokens(),
                             .mean_square = impl_->floats(file, name + ".mean_square", width, false),
                             .mean_abs = impl_->floats(file, name + ".mean_abs", width, false),
                             .max_abs = impl_->floats(file, name + ".max_abs", width, false),
                             .second_moment = {}};
  const std::vector<float> lower =
      impl_->floats(file, name + ".second_moment", width * (width + 1) / 2, true);
  const auto n = static_cast<std::size_t>(width);
  statistics.second_moment.resize(n * n);
  const float* value = lower.data();
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      statistics.second_moment[i * n + j] = *value;
      statistics.second_moment[j * n + i] = *value++;
    }
    if (statistics.second_moment[i * n + i] < 0)
      throw InputError(
          fmt::format("{}: the second moments of linear {} have a negative value on their diagonal; "
                      "calibrate again",
                      file.file().path().string(), in_quotes(matrix)));
  }
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

std::string Calibration::identity() const {
  return calibration_identity(impl_->manifest.source, impl_->manifest.tokens_hash);
}

std::string calibration_identity(const CalibrationSource& source, std::string_view tokens_hash) {
  return fmt::format("calibration {}x{} seed {} {}, tokens {}, model {}", source.options.samples,
                     source.options.window, source.options.seed,
                     source.precision == Precision::bf16 ? "bf16" : "fp32", tokens_hash, source.model);
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
