#include "knapsaq/bank/build_bank.h"

#include <chrono>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "knapsaq/bank/folded_inputs.h"
#include "knapsaq/bank/linear_file.h"
#include "knapsaq/bank/match_table.h"
#include "knapsaq/bank/measure_linear.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/quant/local_errors.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

BankIndex index_of(const ModelConfig& config, const BankRecipe& recipe) {
  BankIndex index;
  index.model = recipe.model;
  index.menu = recipe.menu;
  if (recipe.inputs != nullptr) index.inputs = recipe.inputs->identity();
  if (recipe.folding != nullptr) index.folding = recipe.folding->identity();
  for (const Linear& linear : linears(config))
    index.linears.push_back({linear, schemes_for(linear, recipe.menu)});
  return index;
}

/// Whether a run before this one finished the linear. What is damaged is removed, to be made anew.
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

/// The input of the linear at hand, and what the methods prepared for it: linears that follow each other
/// often see the same one.
class CurrentInput {
 public:
  explicit CurrentInput(const BankRecipe& recipe) : recipe_(recipe) {}

  void move_to(const Linear& linear) {
    if (recipe_.inputs == nullptr) return;
    // Never two at a time: a Hessian may be the largest thing in memory.
    statistics_.reset();
    InputStatistics next = recipe_.inputs->inputs(linear.name, linear.in);
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
    const auto [place, is_new] = prepared_.try_emplace(&method);
    if (is_new) place->second = method.prepare(statistics());
    return place->second.get();
  }

 private:
  const BankRecipe& recipe_;
  std::string name_;  ///< of the input that `prepared_` belongs to
  std::int64_t width_ = 0;
  std::optional<InputStatistics> statistics_;
  std::map<const Quantizer*, std::unique_ptr<const PreparedInputs>> prepared_;
};

/// What a folding divides the linear's outputs by; empty if by nothing.
std::vector<float> scales_of_outputs(const Folding* folding, const Linear& linear) {
  const std::string bias = linear.name + ".bias";
  if (folding == nullptr || !folding->touches(bias)) return {};
  // A bias is divided as the outputs are.
  std::vector<float> scales(static_cast<std::size_t>(linear.out), 1.0f);
  folding->apply(bias, scales);
  for (float& scale : scales) scale = 1 / scale;
  return scales;
}

void build_linear(const Checkpoint& checkpoint, const Linear& linear, const Folding* folding,
                  CurrentInput& input, const fs::path& path, LinearFileLayout layout,
                  ProgressScope& progress) {
  const std::string tensor = linear.name + ".weight";
  const WeightStatistics statistics =
      measure_linear(checkpoint.tensor(tensor), {}, tensor, [](std::uint64_t) {}).statistics;
  std::vector<float> values = checkpoint.floats(tensor);
  checkpoint.release(tensor);
  if (folding != nullptr) folding->apply(tensor, values);
  const std::vector<float> output_scales = scales_of_outputs(folding, linear);
  const MatrixView weights{linear.out, linear.in, values};
  input.move_to(linear);
  const std::vector<Scheme> schemes = layout.schemes;
  LinearFileWriter writer(path, std::move(layout));
  for (const Scheme& scheme : schemes) {
    check_cancelled();
    const Quantizer& method = quantizer(scheme.method);
    const StoredMatrix stored =
        method.quantize_prepared(weights, scheme, input.statistics(), input.prepared(method));
    LocalErrors errors = local_errors(weights, stored, input.statistics(), output_scales);
    const auto require_finite = [&](double error, std::string_view which) {
      if (!std::isfinite(error))
        throw NotFiniteError(
            fmt::format("{} in block {}: its error in {}{} is not finite: its weights or inputs "
                        "are broken or too large",
                        linear.name, linear.block, to_string(scheme), which));
    };
    require_finite(errors.fnorm, "");
    require_finite(errors.relative, ", beside its weights,");
    if (input.statistics() == nullptr) {
      errors.hessian = ErrorCell::kUnknown;
    } else {
      require_finite(errors.hessian, ", weighted by its inputs,");
    }
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

void check_full_precision(const Checkpoint& checkpoint, const ModelConfig& config) {
  for (const Linear& linear : linears(config))
    if (checkpoint.packing(linear.name))
      throw InputError(
          fmt::format("{}: {} is quantized already; a bank is built from the full-precision model",
                      checkpoint.folder().string(), linear.name));
}

BankReport build_bank(const Checkpoint& checkpoint, const ModelConfig& config, const BankRecipe& recipe,
                      const BankFolder& folder, Progress& progress) {
  const auto begin = std::chrono::steady_clock::now();
  check_recipe(recipe);
  check_full_precision(checkpoint, config);
  const BankIndex index = index_of(config, recipe);
  folder.claim(index);

  BankReport report;
  report.linears = index.linears.size();
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
    build_linear(checkpoint, banked->linear, recipe.folding, input, folder.path() / file_of(*banked),
                 layout_of(index, *banked), scope);
  }
  for (const BankedLinear& banked : index.linears)
    report.bytes += fs::file_size(folder.path() / file_of(banked));
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return report;
}

}  // namespace knapsaq
