#include "knapsaq/export/affine_folder.h"

#include <unordered_map>

#include <fmt/format.h>

#include "knapsaq/base/atomic_folder.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/export/carried.h"
#include "knapsaq/export/tokenizer_check.h"
#include "knapsaq/model/stored_tensors.h"

namespace knapsaq {

std::vector<std::string> AffineFolderWriter::notes(const std::vector<PlannedLinear>&,
                                                   const ModelConfig&) const {
  return {};
}

ExportReport AffineFolderWriter::write(const Checkpoint& model, const ModelConfig& config,
                                       const std::filesystem::path& out, const ExportOptions& options,
                                       Progress& progress) const {
  refuse_existing(out, options.replace);
  check_architecture(config);
  ExportReport report;
  const std::vector<PlannedLinear> plan =
      plan_linears(model, config, name(), rules(), options, report.changes, progress);

  report.notes = notes(plan, config);

  /// A piece of the output: a tensor that is copied, or a linear with all its tensors.
  struct Piece {
    std::string source;
    const PlannedLinear* linear = nullptr;  ///< null: copied as it is
  };
  std::unordered_map<std::string, const PlannedLinear*> quantized;
  std::int64_t weights = 0;
  for (const PlannedLinear& planned : plan) {
    if (!planned.quantized) continue;
    quantized[planned.linear.name + ".weight"] = &planned;
    weights += planned.linear.parameters();
  }
  std::vector<Piece> pieces;
  std::vector<TensorSpec> specs;
  for (const ExpectedTensor& expected : stored_tensors(model, config)) {
    const auto found = quantized.find(expected.name);
    if (found != quantized.end()) {
      pieces.push_back({expected.name, found->second});
      for (TensorSpec& tensor : tensors(*found->second)) specs.push_back(std::move(tensor));
      continue;
    }
    pieces.push_back({expected.name, nullptr});
    const TensorView view = model.tensor(expected.name);
    // Readers look for the embedding of a tied model under its own name only.
    const bool tied_head = config.tied && expected.name == kHeadName;
    specs.push_back({tied_head ? embedding_name(config) : expected.name, view.type, view.shape});
  }
  report.bytes = checkpoint_bytes(specs, options.shard_bytes);

  AtomicFolder folder(out, options.replace);
  ProgressScope scope(progress, "exporting", static_cast<std::uint64_t>(weights), "weights");
  CheckpointWriter writer(folder.staging(), specs, options.shard_bytes);
  for (const Piece& piece : pieces) {
    check_cancelled();
    if (piece.linear != nullptr) {
      write_linear(*piece.linear, load_planned(model, *piece.linear), plan, writer);
      for (const TensorSpec& tensor :
           tensors_of(piece.linear->linear.name, model.packing(piece.linear->linear.name)->shape))
        model.release(tensor.name);
      scope.advance(static_cast<std::uint64_t>(piece.linear->linear.parameters()));
    } else {
      carry_tensor(model, piece.source, writer);
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
