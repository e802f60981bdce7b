#include <functional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/bank/match_table.h"
#include "knapsaq/bank/measure_linear.h"
#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/progress.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/lattice.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

namespace {

/// Errors of schemes that must be quantized to be measured, in their order.
std::vector<double> measure_others(const Checkpoint& checkpoint, const Matrix& linear,
                                   const std::vector<Scheme>& schemes) {
  std::vector<double> errors;
  std::vector<float> values;
  for (const Scheme& scheme : schemes) {
    check_cancelled();
    if (values.empty()) values = checkpoint.floats(linear.name + ".weight");
    const MatrixView weights{linear.out, linear.in, values};
    errors.push_back(frobenius_error(weights, quantize(linear.name, weights, scheme)));
  }
  return errors;
}

ErrorRow measure(const Checkpoint& checkpoint, const Matrix& linear, const Menu& menu,
                 const std::function<void(std::uint64_t)>& progress) {
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
  const std::vector<Scheme> schemes = schemes_for(linear, menu);
  // Where groups depend on each other, or on all of them lying on a lattice, only codes tell.
  const SampledRows sample = sample_rows(weights);
  std::vector<Scheme> by_group;
  std::vector<Scheme> by_codes;
  std::vector<bool> is_by_group;
  for (const Scheme& scheme : schemes) {
    is_by_group.push_back(quantizer(scheme.method).groupwise() != nullptr &&
                          !lies_on_lattice(sample.view(), scheme));
    (is_by_group.back() ? by_group : by_codes).push_back(scheme);
  }
  const LinearMeasurement measured = measure_linear(weights, by_group, tensor, progress);
  const std::vector<double> others = measure_others(checkpoint, linear, by_codes);
  checkpoint.release(tensor);

  ErrorRow row;
  row.layer = linear.block;
  row.module = linear.module;
  row.name = linear.name;
  row.tied = linear.tied;
  row.parameters = linear.parameters();
  row.statistics = measured.statistics;
  row.has_statistics = true;
  auto next_by_group = measured.fnorms.begin();
  auto next_other = others.begin();
  for (std::size_t i = 0; i < schemes.size(); ++i) {
    const Scheme& scheme = schemes[i];
    ErrorCell& cell = row.cells.emplace_back();
    cell.scheme = scheme;
    cell.fnorm = is_by_group[i] ? *next_by_group++ : *next_other++;
    cell.bytes = storage_bytes(scheme, linear.out, linear.in);
    cell.relative = measured.norm > 0 ? cell.fnorm / measured.norm : 0;
  }
  return row;
}

}  // namespace

ErrorTable build_error_table(const Checkpoint& checkpoint, std::span<const Matrix> matrices, const Menu& menu,
                             Progress& progress) {
  if (menu.schemes.empty()) throw UsageError("the menu has no schemes");
  for (const Scheme& scheme : menu.schemes) {
    quantizer(scheme.method).check(scheme);
    if (quantizer(scheme.method).needs() != Needs::nothing)
      throw UsageError(fmt::format(
          "{} needs to see the linears' inputs: build a bank of this menu (knapsaq bank MODEL -o BANK "
          "--text FILE) and work from it (--bank BANK)",
          to_string(scheme)));
  }
  std::uint64_t weights = 0;
  for (const Matrix& linear : matrices) weights += static_cast<std::uint64_t>(linear.parameters());

  ErrorTable table;
  table.menu = menu.schemes;
  ProgressScope scope(progress, "measuring errors", weights, "weights");
  const auto advance = [&](std::uint64_t done) { scope.advance(done); };
  for (const Matrix& linear : matrices) table.rows.push_back(measure(checkpoint, linear, menu, advance));
  return table;
}

}  // namespace knapsaq
