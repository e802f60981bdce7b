#include "knapsaq/export/affine_folder.h"

#include <algorithm>
#include <unordered_map>

#include <fmt/format.h>

#include "knapsaq/base/atomic_folder.h"
#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/export/carried.h"
#include "knapsaq/export/tokenizer_check.h"
#include "knapsaq/model/stored_tensors.h"

namespace knapsaq {

namespace {

/// A quantized matrix as F16 [rows, cols].
void write_unpacked(const StoredMatrix& stored, CheckpointWriter& writer) {
  std::vector<float> row(static_cast<std::size_t>(cols_of(stored)));
  std::vector<std::uint16_t> halves(row.size());
  for (std::int64_t r = 0; r < rows_of(stored); ++r) {
    dequantize_row(stored, r, row);
    std::ranges::transform(row, halves.begin(), float_to_half);
    writer.write(std::as_bytes(std::span(halves)));
  }
}

}  // namespace

std::vector<std::string> AffineFolderWriter::notes(const std::vector<PlannedLinear>&,
                                                   const ModelConfig&) const {
  return {};
}

std::shared_ptr<const FileSizes> AffineFolderWriter::file_sizes(const Checkpoint& model,
                                                                const ModelConfig& config,
                                                                const ErrorTable& table,
                                                                const WriteOptions& options,
                                                                std::string_view /*name*/) const {
  check_architecture(config);
  return checkpoint_sizes(model, config, table, options, [&](const Matrix& matrix, const Scheme& scheme) {
    PlannedLinear planned;
    planned.linear = matrix;
    planned.quantized = true;
    planned.form = {scheme.bits, scheme.group >= matrix.in ? 0 : scheme.group,
                    scheme.zero == ZeroPoint::symmetric};
    return tensors(planned);
  });
}

ExportReport AffineFolderWriter::write(const Checkpoint& model, const ModelConfig& config,
                                       const std::filesystem::path& out, const ExportOptions& options,
                                       Progress& progress) const {
  refuse_existing(out, options.replace);
  check_architecture(config);
  ExportReport report;
  const std::vector<PlannedLinear> plan =
      plan_linears(model, config, name(), rules(), options, report.changes, progress);

  if (options.fusing_readers && some_readers_fuse())
    if (std::string line = fusion_note(plan); !line.empty()) report.notes.push_back(std::move(line));
  for (std::string& line : notes(plan, config)) report.notes.push_back(std::move(line));

  /// A piece of the output: a tensor that is copied, or a linear with all its tensors.
  struct Piece {
    std::string source;
    const PlannedLinear* linear = nullptr;  ///< null: copied as it is
  };
  std::unordered_map<std::string, const PlannedLinear*> of_weight;
  std::int64_t weights = 0;
  for (const PlannedLinear& planned : plan) {
    if (!planned.quantized && !planned.unpacked) continue;
    of_weight[planned.linear.name + ".weight"] = &planned;
    weights += planned.linear.parameters();
  }
  std::vector<std::string> kept;  // all: a quantized model's dense tensors are carried as they are
  std::vector<Piece> pieces;
  std::vector<TensorSpec> specs;
  for (const ExpectedTensor& expected : stored_tensors(config)) {
    const auto found = of_weight.find(expected.name);
    if (found == of_weight.end()) {
      pieces.push_back({expected.name, nullptr});
      specs.push_back(model.spec(expected.name));
      kept.push_back(expected.name.substr(0, expected.name.rfind('.')));
      continue;
    }
    const PlannedLinear& planned = *found->second;
    pieces.push_back({expected.name, &planned});
    if (planned.unpacked) {
      specs.push_back({expected.name, DType::F16, {planned.linear.out, planned.linear.in}});
    } else {
      for (TensorSpec& tensor : tensors(planned)) specs.push_back(std::move(tensor));
    }
  }
  report.bytes = checkpoint_bytes(specs, options.shard_bytes);

  AtomicFolder folder(out, options.replace);
  ProgressScope scope(progress, "exporting", static_cast<std::uint64_t>(weights), "weights");
  CheckpointWriter writer(folder.staging(), specs, options.shard_bytes);
  for (const Piece& piece : pieces) {
    check_cancelled();
    if (piece.linear != nullptr) {
      if (piece.linear->unpacked) {
        write_unpacked(model.stored(piece.linear->linear.name), writer);
      } else {
        write_linear(*piece.linear, load_planned(model, *piece.linear), plan, writer);
      }
      for (const TensorSpec& tensor :
           tensors_of(piece.linear->linear.name, model.packing(piece.linear->linear.name)->shape))
        model.release(tensor.name);
      scope.advance(static_cast<std::uint64_t>(piece.linear->linear.parameters()));
    } else {
      carry_tensor(model, piece.source, writer, kept);
      model.release(piece.source);
    }
  }
  writer.commit();
  nlohmann::ordered_json json = model.config();
  for (const char* key : {"quantization", "quantization_config", "knapsaq"}) json.erase(key);
  describe(plan, config, json, folder.staging());
  write_file(folder.staging() / "config.json", python_json_text(json, 2) + "\n");
  carry_files(model.folder(), folder.staging());
  check_carried_tokenizer(model.folder(), folder.staging());
  folder.commit();
  return report;
}

}  // namespace knapsaq
