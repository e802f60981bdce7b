#include "knapsaq/export/rewrite_quantized.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <stdexcept>
#include <utility>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/atomic_folder.h"
#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/checkpoint/shards.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/export/carried.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/stored_tensors.h"

namespace knapsaq {
namespace {

/// A tensor that is copied, or a quantized matrix with all its tensors.
struct Piece {
  std::string tensor;
  std::string module;  ///< of a quantized matrix; empty: copied
};

bool same_tensors(std::span<const TensorSpec> a, std::span<const TensorSpec> b) {
  return std::ranges::equal(a, b, [](const TensorSpec& one, const TensorSpec& other) {
    return one.name == other.name && one.type == other.type && one.shape == other.shape;
  });
}

/// A folder's own; of a GGUF file, that of its metadata with the types of its matrices.
std::string config_of(const Checkpoint& checkpoint, std::span<const Piece> pieces) {
  if (std::filesystem::is_directory(checkpoint.folder()))
    return read_file(checkpoint.folder() / "config.json");
  nlohmann::json config = checkpoint.config();
  for (const Piece& piece : pieces)
    if (!piece.module.empty())
      config["knapsaq"]["schemes"][piece.module] = checkpoint.packing(piece.module)->scheme;
  return python_json_text(config, 2) + "\n";
}

void write_vector(const TensorSpec& spec, std::span<const float> values, CheckpointWriter& writer) {
  if (spec.bytes() != values.size() * size_of(spec.type))
    throw std::invalid_argument("rewrite_quantized: another shape of " + spec.name);
  if (const auto bad = first_not_finite(values))
    throw InputError(fmt::format("{}: {} at {} is not finite", spec.name, values[*bad], *bad));
  if (spec.type == DType::F32) return writer.write(std::as_bytes(values));
  std::vector<std::uint16_t> halves(values.size());
  std::ranges::transform(values, halves.begin(), spec.type == DType::F16 ? float_to_half : float_to_bfloat16);
  writer.write(std::as_bytes(std::span(halves)));
}

}  // namespace

std::uint64_t rewrite_quantized(const Checkpoint& checkpoint, const ModelConfig& config,
                                const Replacements& replacements, const std::filesystem::path& out,
                                bool replace, Progress& progress) {
  std::vector<Piece> pieces;
  std::vector<TensorSpec> tensors;
  std::size_t found = 0;
  for (const ExpectedTensor& expected : stored_tensors(config)) {
    const std::string module = expected.name.substr(0, expected.name.rfind('.'));
    const auto packing = expected.name.ends_with(".weight") ? checkpoint.packing(module) : std::nullopt;
    found += replacements.vectors.contains(expected.name) ? 1 : 0;
    if (!packing) {
      pieces.push_back({expected.name, {}});
      tensors.push_back(checkpoint.spec(expected.name));
      continue;
    }
    pieces.push_back({expected.name, module});
    const std::vector<TensorSpec> own = tensors_of(module, packing->shape);
    if (const auto other = replacements.matrices.find(module); other != replacements.matrices.end()) {
      ++found;
      if (!same_tensors(own, tensors_of(module, shape_of(*other->second))))
        throw std::invalid_argument("rewrite_quantized: another form of " + module);
    }
    tensors.insert(tensors.end(), own.begin(), own.end());
  }
  const std::vector<std::string> untouched = carried_tensors(checkpoint, config);
  for (const std::string& name : untouched) tensors.push_back(checkpoint.spec(name));
  if (found != replacements.matrices.size() + replacements.vectors.size())
    throw std::invalid_argument("rewrite_quantized: a replacement that is no tensor of the model");

  const CarriedFiles carried(checkpoint, FolderReader::knapsaq);
  AtomicFolder folder(out, replace);
  ProgressScope scope(progress, "writing", pieces.size(), "tensors");
  CheckpointWriter writer(folder.staging(), tensors);
  for (const Piece& piece : pieces) {
    check_cancelled();
    if (!piece.module.empty()) {
      const auto other = replacements.matrices.find(piece.module);
      const StoredMatrix own =
          other == replacements.matrices.end() ? checkpoint.stored(piece.module) : StoredMatrix();
      for (const auto part : bytes_of(other == replacements.matrices.end() ? own : *other->second))
        writer.write(part);
    } else if (const auto other = replacements.vectors.find(piece.tensor);
               other != replacements.vectors.end()) {
      write_vector(checkpoint.spec(piece.tensor), other->second, writer);
    } else {
      // All are kept as they are stored, also matrices in F32.
      const std::string kept = piece.tensor.substr(0, piece.tensor.rfind('.'));
      carry_tensor(checkpoint, piece.tensor, writer, std::span(&kept, 1));
      checkpoint.release(piece.tensor);
    }
    scope.advance();
  }
  for (const std::string& name : untouched) carry_untouched(checkpoint, name, writer);
  writer.commit();
  write_file(folder.staging() / "config.json", config_of(checkpoint, pieces));
  carried.write(folder.staging());
  folder.commit();
  return checkpoint_bytes(tensors);
}

}  // namespace knapsaq
