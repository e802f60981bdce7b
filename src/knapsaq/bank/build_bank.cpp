#include "knapsaq/bank/build_bank.h"

#include <chrono>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/bank/folded_inputs.h"
#include "knapsaq/bank/linear_file.h"
#include "knapsaq/bank/match_table.h"
#include "knapsaq/bank/measure_linear.h"
#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/local_errors.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

BankIndex index_of(const BankRecipe& recipe) {
  BankIndex index;
  index.model = recipe.model;
  index.menu = recipe.menu;
  if (recipe.inputs != nullptr) {
    index.inputs = recipe.inputs->identity();
    index.fisher = recipe.inputs->has_outputs();
  }
  if (recipe.folding != nullptr) index.folding = recipe.folding->identity();
  for (const Matrix& matrix : recipe.matrices)
    index.linears.push_back({matrix, schemes_for(matrix, recipe.menu)});
  return index;
}

/// Whether an earlier run finished the linear. A damaged file is removed and will be rebuilt.
bool is_finished(const fs::path& path, const LinearFileLayout& layout, BankReport& report) {
  if (!fs::exists(path)) return false;
  try {
    LinearFile(path, layout).verify();
    return true;
  } catch (const InputError&) {
    fs::remove(path);
    ++report.damaged;
    return false;
  }
}

/// The input of the current linear, and what the methods prepared for it: consecutive linears often have the
/// same one.
class CurrentInput {
 public:
  explicit CurrentInput(const BankRecipe& recipe) : recipe_(recipe) {}

  void move_to(const Matrix& linear) {
    if (recipe_.inputs == nullptr) return;
    // Never two at a time: a Hessian may be the largest object in memory.
    statistics_.reset();
    InputStatistics next = linear.is_multiplied() ? recipe_.inputs->inputs(linear.name, linear.in)
                                                  : columns_alike(linear.name, linear.in);
    if (next.name != name_ || next.width != width_) prepared_.clear();
    name_ = next.name;
    width_ = next.width;
    if (recipe_.folding != nullptr)
      next = scaled(std::move(next), recipe_.folding->input_scales(linear.name));
    statistics_ = std::move(next);
  }
  /// Null if there are none.
  const InputStatistics* statistics() const { return statistics_ ? &*statistics_ : nullptr; }
  const PreparedInputs* prepared(const Quantizer& method) {
    const auto [place, is_new] = prepared_.try_emplace(method.preparation());
    if (is_new) place->second = method.prepare(statistics());
    return place->second.get();
  }

 private:
  const BankRecipe& recipe_;
  std::string name_;  ///< of the input that `prepared_` belongs to
  std::int64_t width_ = 0;
  std::optional<InputStatistics> statistics_;
  std::map<std::string_view, std::unique_ptr<const PreparedInputs>> prepared_;  ///< by preparation()
};

/// How often the rows are looked up: equal shares if unknown. Empty for a matrix that is not looked up.
RowShares row_shares_of(const Matrix& matrix, const InputSource* inputs) {
  if (!matrix.is_looked_up()) return {};
  RowShares shares;
  if (inputs != nullptr) shares = inputs->row_shares(matrix.out);
  if (shares.empty())
    shares.assign(static_cast<std::size_t>(matrix.out), 1.0f / static_cast<float>(matrix.out));
  return shares;
}

/// What the methods prepared for the outputs of one linear, read when the first of them asks.
class LinearOutputs {
 public:
  LinearOutputs(const Matrix& linear, const InputSource* inputs, const Folding* folding)
      : linear_(linear), inputs_(inputs), folding_(folding) {}

  /// Null if the method has no use for them or they are unknown.
  const PreparedOutputs* prepared(const Quantizer& method) {
    const auto [place, is_new] = prepared_.try_emplace(method.preparation());
    if (is_new) {
      const auto outputs = weighed_outputs(method, linear_, inputs_, folding_);
      if (outputs) place->second = method.prepare_outputs(&*outputs);
    }
    return place->second.get();
  }

 private:
  const Matrix& linear_;
  const InputSource* inputs_;
  const Folding* folding_;
  std::map<std::string_view, std::unique_ptr<const PreparedOutputs>> prepared_;  ///< by preparation()
};

/// Mean squares of the gradients by what a matrix gives, as far as the source has them.
struct OutputSquares {
  std::vector<float> product;
  std::vector<float> lookup;
};
OutputSquares output_squares_of(const Matrix& matrix, const InputSource* inputs) {
  OutputSquares squares;
  if (inputs == nullptr || !inputs->has_outputs()) return squares;
  const auto ask = [&](std::string_view name, std::int64_t width) {
    std::optional<OutputStatistics> found = inputs->outputs(name, width);
    return found ? std::move(found->mean_square) : std::vector<float>();
  };
  if (matrix.is_multiplied()) squares.product = ask(matrix.tied ? kHeadModule : matrix.name, matrix.out);
  if (matrix.is_looked_up()) squares.lookup = ask(matrix.name, matrix.in);
  return squares;
}

void build_linear(const Checkpoint& checkpoint, const Matrix& linear, const InputSource* inputs,
                  const Folding* folding, CurrentInput& input, const fs::path& path, LinearFileLayout layout,
                  ProgressScope& progress) {
  const std::string tensor = linear.name + ".weight";
  const WeightStatistics statistics =
      measure_linear(checkpoint.tensor(tensor), {}, tensor, [](std::uint64_t) {}).statistics;
  std::vector<float> values = checkpoint.floats(tensor);
  checkpoint.release(tensor);
  if (folding != nullptr) folding->apply(tensor, values);
  const std::vector<float> output_scales = scales_of_outputs(folding, linear);
  const RowShares row_shares = row_shares_of(linear, inputs);
  const OutputSquares squares = output_squares_of(linear, inputs);
  const MatrixView weights{linear.out, linear.in, values};
  LinearOutputs outputs(linear, inputs, folding);
  input.move_to(linear);
  const std::vector<Scheme> schemes = layout.schemes;
  LinearFileWriter writer(path, std::move(layout));
  for (const Scheme& scheme : schemes) {
    check_cancelled();
    const Quantizer& method = quantizer(scheme.method);
    const StoredMatrix stored = method.quantize_for_outputs(weights, scheme, input.statistics(),
                                                            input.prepared(method), outputs.prepared(method));
    LocalErrors errors = local_errors(weights, stored, input.statistics(), output_scales, row_shares,
                                      {squares.product, squares.lookup});
    const auto require_finite = [&](double error, std::string_view which) {
      if (!std::isfinite(error))
        throw NotFiniteError(fmt::format(
            "{}{}: its error in {}{} is not finite: its weights or inputs are broken or too large",
            linear.name, linear.in_block() ? fmt::format(" in block {}", linear.block) : "",
            to_string(scheme), which));
    };
    require_finite(errors.fnorm, "");
    require_finite(errors.relative, ", beside its weights,");
    if (input.statistics() == nullptr) {
      errors.hessian = ErrorCell::kUnknown;
    } else {
      // A matrix that is only looked up has no inputs of its own.
      if (!linear.is_multiplied()) errors.hessian = 0;
      require_finite(errors.hessian, ", weighted by its inputs,");
    }
    require_finite(errors.lookup, ", weighted by how often its rows are looked up,");
    if (!squares.product.empty() || !squares.lookup.empty())
      require_finite(errors.fisher, ", weighted by gradients,");
    writer.add(stored, errors);
    progress.advance(static_cast<std::uint64_t>(linear.parameters()));
  }
  writer.commit(statistics);
}

}  // namespace

void check_recipe(const BankRecipe& recipe) {
  if (recipe.menu.schemes.empty()) throw UsageError("the menu has no schemes");
  for (const Scheme& scheme : recipe.menu.schemes) {
    const Quantizer& method = quantizer(scheme.method);
    method.check(scheme);
    if (method.needs() == Needs::nothing) continue;
    if (recipe.inputs == nullptr)
      throw UsageError(fmt::format("{} needs to see the linears' inputs: give --text or --calibration",
                                   to_string(scheme)));
    if (method.needs() == Needs::second_moments && !recipe.inputs->has_second_moments())
      throw UsageError(
          fmt::format("{} needs second moments, which {} does not have: give --text or --calibration",
                      to_string(scheme), recipe.inputs->identity()));
  }
}

void check_full_precision(const Checkpoint& checkpoint, std::span<const Matrix> matrices) {
  for (const Matrix& linear : matrices)
    if (checkpoint.packing(linear.name))
      throw InputError(
          fmt::format("{}: {} is quantized already; a bank is built from the full-precision model",
                      checkpoint.folder().string(), linear.name));
}

BankReport build_bank(const Checkpoint& checkpoint, const BankRecipe& recipe, const BankFolder& folder,
                      Progress& progress) {
  const auto begin = std::chrono::steady_clock::now();
  check_recipe(recipe);
  check_full_precision(checkpoint, recipe.matrices);
  const BankIndex index = index_of(recipe);
  folder.claim(index);

  BankReport report;
  report.linears = index.linears.size();
  report.schemes = recipe.menu.schemes.size();
  std::vector<const BankedLinear*> unfinished;
  std::uint64_t work = 0;
  {
    ProgressScope scope(progress, "checking what is there", index.linears.size(), "linears");
    for (const BankedLinear& banked : index.linears) {
      check_cancelled();
      if (is_finished(folder.path() / file_of(banked), layout_of(index, banked), report)) {
        ++report.kept;
      } else {
        unfinished.push_back(&banked);
        work += static_cast<std::uint64_t>(banked.linear.parameters()) * banked.distinct().size();
      }
      scope.advance();
    }
  }

  ProgressScope scope(progress, "quantizing", work, "weights");
  CurrentInput input(recipe);
  for (const BankedLinear* banked : unfinished) {
    check_cancelled();
    build_linear(checkpoint, banked->linear, recipe.inputs, recipe.folding, input,
                 folder.path() / file_of(*banked), layout_of(index, *banked), scope);
  }
  for (const BankedLinear& banked : index.linears)
    report.bytes += fs::file_size(folder.path() / file_of(banked));
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return report;
}

}  // namespace knapsaq
