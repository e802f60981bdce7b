#include "knapsaq/export/affine_folder.h"

#include <algorithm>
#include <map>
#include <set>
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
#include "knapsaq/export/publication.h"
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
  const Publication publication(model, config);
  const auto dense = [&](const std::vector<TensorSpec>& tensors) {
    std::map<std::string, TensorSpec> specs;
    for (DenseTensor& one : publish_dense(tensors, publication))
      specs.try_emplace(one.parts.front().tensor, std::move(one.spec));
    return specs;
  };
  const auto form = [&](const Matrix& matrix, const Scheme& scheme) {
    PlannedLinear planned;
    planned.linear = matrix;
    planned.quantized = true;
    planned.form = {scheme.bits, scheme.group >= matrix.in ? 0 : scheme.group,
                    scheme.zero == ZeroPoint::symmetric};
    const PublishedModule* module = publication.of(matrix.name);
    if (module == nullptr) {
      planned.linear.name = publication.prefixed(matrix.name);
      return tensors(planned);
    }
    // The first part in the order of names counts what all are stored in together: they have one scheme.
    const auto first = std::ranges::min_element(module->parts, {}, &PublishedModule::Part::name);
    if (first->name != matrix.name) return std::vector<TensorSpec>();
    planned.linear.name = publication.prefixed(module->name);
    if (module->parts.size() > 1) planned.linear.out = 0;
    for (const PublishedModule::Part& part : module->parts)
      if (part.rows.count > 0) planned.linear.out += part.rows.rows();
    return tensors(planned);
  };
  return checkpoint_sizes(model, config, table, options, form, dense);
}

ExportReport AffineFolderWriter::write(const Checkpoint& model, const ModelConfig& config,
                                       const std::filesystem::path& out, const ExportOptions& options,
                                       Progress& progress) const {
  refuse_existing(out, options.replace);
  check_architecture(config);
  const CarriedFiles carried(model, FolderReader::others);
  ExportReport report;
  const std::vector<PlannedLinear> plan =
      plan_linears(model, config, name(), rules(), options, report.changes, progress);

  if (options.fusing_readers && some_readers_fuse())
    if (std::string line = fusion_note(plan); !line.empty()) report.notes.push_back(std::move(line));
  for (std::string& line : notes(plan, config)) report.notes.push_back(std::move(line));

  const Publication publication(model, config);
  const std::vector<PublishedLinear> published = publish(plan, publication);
  std::vector<PlannedLinear> as_published;
  for (const PublishedLinear& linear : published) as_published.push_back(linear.planned);

  /// A piece of the output: tensors that are copied, or a linear with all its tensors.
  struct Piece {
    DenseTensor dense;
    const PublishedLinear* linear = nullptr;  ///< null: copied
  };
  std::unordered_map<std::string, const PublishedLinear*> of_weight;  // by the parts' weights
  std::int64_t weights = 0;
  for (const PublishedLinear& linear : published) {
    if (!linear.planned.quantized && !linear.planned.unpacked) continue;
    for (const PublishedLinear::Part& part : linear.parts)
      of_weight[part.planned.linear.name + ".weight"] = &linear;
    weights += linear.planned.linear.parameters();
  }
  std::vector<TensorSpec> copied;
  for (const ExpectedTensor& expected : stored_tensors(config))
    if (!of_weight.contains(expected.name)) copied.push_back(model.spec(expected.name));
  std::unordered_map<std::string, DenseTensor> dense;  // by the first part
  for (DenseTensor& one : publish_dense(copied, publication))
    dense.try_emplace(one.parts.front().tensor, std::move(one));
  std::vector<Piece> pieces;
  std::vector<TensorSpec> specs;
  std::set<const PublishedLinear*> planned_already;
  for (const ExpectedTensor& expected : stored_tensors(config)) {
    const auto found = of_weight.find(expected.name);
    if (found == of_weight.end()) {
      const auto first = dense.find(expected.name);
      if (first == dense.end()) continue;
      specs.push_back(first->second.spec);
      pieces.push_back({.dense = std::move(first->second)});
      continue;
    }
    const PublishedLinear& linear = *found->second;
    if (!planned_already.insert(&linear).second) continue;
    pieces.push_back({.dense = {}, .linear = &linear});
    if (linear.planned.unpacked) {
      specs.push_back({linear.planned.linear.name + ".weight",
                       DType::F16,
                       {linear.planned.linear.out, linear.planned.linear.in}});
    } else {
      for (TensorSpec& tensor : tensors(linear.planned)) specs.push_back(std::move(tensor));
    }
  }
  const std::vector<std::string> untouched = carried_tensors(model, config);
  for (const std::string& name : untouched) specs.push_back(model.spec(name));
  report.bytes = checkpoint_bytes(specs, options.shard_bytes);

  AtomicFolder folder(out, options.replace);
  ProgressScope scope(progress, "exporting", static_cast<std::uint64_t>(weights), "weights");
  CheckpointWriter writer(folder.staging(), specs, options.shard_bytes);
  for (const Piece& piece : pieces) {
    check_cancelled();
    if (piece.linear == nullptr) {
      write_dense(piece.dense, model, writer);
      continue;
    }
    const PublishedLinear& linear = *piece.linear;
    if (linear.planned.unpacked) {
      for (const PublishedLinear::Part& part : linear.parts)
        write_unpacked(model.stored(part.planned.linear.name), writer);
    } else {
      write_linear(linear.planned, load_published(model, linear), as_published, writer);
    }
    for (const PublishedLinear::Part& part : linear.parts)
      for (const TensorSpec& tensor :
           tensors_of(part.planned.linear.name, model.packing(part.planned.linear.name)->shape))
        model.release(tensor.name);
    scope.advance(static_cast<std::uint64_t>(linear.planned.linear.parameters()));
  }
  for (const std::string& name : untouched) carry_untouched(model, name, writer);
  writer.commit();
  nlohmann::ordered_json json = model.config();
  for (const char* key : {"quantization", "quantization_config", "knapsaq"}) json.erase(key);
  describe(as_published, config, json, folder.staging());
  write_file(folder.staging() / "config.json", python_json_text(json, 2) + "\n");
  carried.write(folder.staging());
  folder.commit();
  return report;
}

}  // namespace knapsaq
