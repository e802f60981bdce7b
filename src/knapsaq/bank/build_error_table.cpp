#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/bank/measure_linear.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/progress.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

namespace {

ErrorRow measure(const Checkpoint& checkpoint, const Linear& linear, const Menu& menu,
                 ProgressScope& progress) {
  const std::string tensor = linear.name + ".weight";
  if (checkpoint.packing(linear.name)) {
    throw InputError(fmt::format("{}: {} is quantized already; tables are made from the full-precision model",
                                 checkpoint.folder().string(), linear.name));
  }
  const TensorView weights = checkpoint.tensor(tensor);
  if (weights.shape != std::vector<std::int64_t>{linear.out, linear.in}) {
    throw InputError(fmt::format("{}: {} has the shape [{}] where config.json asks for [{}, {}]",
                                 checkpoint.folder().string(), tensor, fmt::join(weights.shape, ", "),
                                 linear.out, linear.in));
  }
  const LinearMeasurement measured =
      measure_linear(weights, menu.schemes, tensor, [&](std::uint64_t done) { progress.advance(done); });
  checkpoint.release(tensor);

  ErrorRow row;
  row.layer = linear.block;
  row.module = linear.module;
  row.name = linear.name;
  row.parameters = linear.parameters();
  row.statistics = measured.statistics;
  row.has_statistics = true;
  for (std::size_t s = 0; s < menu.schemes.size(); ++s) {
    const Scheme& scheme = menu.schemes[s];
    row.cells.push_back({scheme, measured.fnorms[s], storage_bytes(scheme, linear.out, linear.in)});
  }
  return row;
}

}  // namespace

ErrorTable build_error_table(const Checkpoint& checkpoint, const ModelConfig& config, const Menu& menu,
                             Progress& progress) {
  if (menu.schemes.empty()) throw UsageError("the menu has no schemes");
  for (const Scheme& scheme : menu.schemes) quantizer(scheme.method).check(scheme);
  const std::vector<Linear> all = linears(config);
  std::uint64_t weights = 0;
  for (const Linear& linear : all) weights += static_cast<std::uint64_t>(linear.parameters());

  ErrorTable table;
  table.menu = menu.schemes;
  ProgressScope scope(progress, "measuring errors", weights, "weights");
  for (const Linear& linear : all) table.rows.push_back(measure(checkpoint, linear, menu, scope));
  return table;
}

}  // namespace knapsaq
