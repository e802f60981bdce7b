#include "knapsaq/pipeline/quantize.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/bank/bank.h"
#include "knapsaq/bank/corrected_codes.h"
#include "knapsaq/bank/error_table.h"
#include "knapsaq/bank/match_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/export/carried.h"
#include "knapsaq/export/matrix_source.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/pipeline/found_inputs.h"
#include "knapsaq/pipeline/read_allocation.h"
#include "knapsaq/pipeline/solve_options.h"
#include "knapsaq/pipeline/stopwatch.h"
#include "knapsaq/quant/quantizer.h"
#include "knapsaq/search/mxq.h"
#include "knapsaq/search/pins.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// What is to be written, and what the search knows about it (nothing for a uniform or given allocation).
struct Plan {
  std::vector<MatrixScheme> allocation;
  WriteOptions writing;
  std::optional<Allocation> solved;
  Cost cost = Cost::fnorm;
};

/// What runs the result: Knapsaq itself.
const std::string kRunsOn;

void note_fallbacks(const Session& session, std::span<const Matrix> matrices,
                    std::span<const Scheme> schemes) {
  if (const std::string line = fallback_note(matrices, schemes); !line.empty()) session.listener().note(line);
}

/// The errors to choose by. An impossible budget is refused before they are measured, not after it.
ErrorTable table_of(Session& session, const QuantizeOptions& options, const MatrixSelection& selection,
                    const Bank* bank, const std::function<void(const ErrorTable&)>& check_budget) {
  if (bank != nullptr) return without(bank->table(), selection.kept);
  if (!options.table.empty()) return match_table(read_csv(options.table), selection.quantized, options.table);
  const Menu menu = parse_menu(options.menu);
  note_fallbacks(session, selection.quantized, menu.schemes);
  check_budget(size_table(selection.quantized, menu));
  return build_error_table(session.checkpoint(), selection.quantized, menu, session.listener());
}

/// `scheme` for the linears of the blocks, and what pins say about single matrices.
std::vector<MatrixScheme> given_allocation(const Session& session, const QuantizeOptions& options,
                                           const MatrixSelection& selection) {
  const Scheme scheme = parse_scheme(options.scheme);
  std::vector<MatrixScheme> allocation = uniform_allocation(selection.quantized, scheme);
  note_fallbacks(session, selection.quantized, {&scheme, 1});
  for (const std::string& text : options.pins) {
    const Pin pin = parse_pin(text);
    if (pin.relation != Pin::Relation::equal)
      throw UsageError(
          fmt::format("--pin {}: with --scheme a pin names a scheme: PATTERN=SCHEME", in_quotes(text)));
    const Scheme pinned_scheme = parse_scheme(pin.scheme);
    std::vector<Matrix> matched;
    for (const Matrix& matrix : matrices(session.config())) {
      if (!is_named(matrix, pin.pattern)) continue;
      matched.push_back(matrix);
      const auto place = std::ranges::find_if(
          allocation, [&](const MatrixScheme& one) { return one.matrix.number >= matrix.number; });
      const MatrixScheme pinned = {matrix, scheme_for(matrix, pinned_scheme)};
      if (place != allocation.end() && place->matrix.number == matrix.number) {
        *place = pinned;
      } else {
        allocation.insert(place, pinned);
      }
    }
    if (matched.empty()) refuse_without_match(pin);
    note_fallbacks(session, matched, {&pinned_scheme, 1});
  }
  return allocation;
}

Plan plan_model(Session& session, const QuantizeOptions& options, const Bank* bank) {
  const ModelConfig& config = session.config();
  Plan planned;
  if (!options.allocation.empty()) {
    planned.allocation = read_allocation(options.allocation, config);
    return planned;
  }
  // Without a budget for all that is written, embedding and head stay as they are stored.
  const std::optional<std::uint64_t> bytes = file_budget(options.budget, config, kRunsOn);
  const MatrixSelection selection = select_matrices(config, options.keep, bytes.has_value());
  planned.writing.kept = selection.kept;
  if (!options.scheme.empty()) {
    planned.allocation = given_allocation(session, options, selection);
    return planned;
  }

  const auto solve = [&](const ErrorTable& table, Cost cost, const SolveOptions& solving) {
    if (!bytes)
      return allocate_mxq(table, budget_bytes(table, options.budget.bits), options.ties, solving, cost);
    return allocate_mxq_written(table, *bytes,
                                *quantized_file_sizes(session.checkpoint(), config, table, planned.writing),
                                options.ties, solving, cost);
  };
  const SolveOptions solving = solve_options(options.solver, session.listener());
  const ErrorTable table = table_of(session, options, selection, bank, [&](const ErrorTable& sizes) {
    try {
      solve(sizes, Cost::fnorm, {});
    } catch (const InfeasibleError& error) {
      refuse(error, options.budget, config, kRunsOn);
    }
  });
  planned.cost = options.cost.empty() ? usual_cost(table) : parse_cost(options.cost);
  try {
    planned.solved = solve(table, planned.cost, solving);
  } catch (const InfeasibleError& error) {
    refuse(error, options.budget, config, kRunsOn);
  }
  tell_file_budget(session.listener(), options.budget, config, kRunsOn);
  std::vector<std::string> names;
  for (const ErrorRow& row : table.rows) names.push_back(row.name);
  planned.allocation = allocation_of(find_matrices(config, names), planned.solved->schemes);
  return planned;
}

/// Canonical.
struct Places {
  fs::path output;
  /// Where a calibration is kept that is made on the spot.
  fs::path calibration() const { return output.string() + ".calibration"; }
  /// Where finished linears of --propagate are kept.
  fs::path propagated() const { return output.string() + ".propagated"; }
};

Places plan_places(const Session& session, const QuantizeOptions& options) {
  OutputPlan plan;
  plan.reads("the model", session.path());
  plan.reads("the bank", options.bank);
  plan.reads("the table", options.table);
  plan.reads("the allocation", options.allocation);
  plan_calibration(plan, options.calibration);
  const Places places{plan.folder(options.output, options.force)};
  if (options.calibration.folder.empty()) check_calibration_place(plan.workspace(places.calibration()));
  if (options.propagate) plan.workspace(places.propagated());
  return places;
}

/// Statistics of the inputs, if they are asked for or the schemes need them.
std::unique_ptr<InputSource> inputs_for(Session& session, const QuantizeOptions& options, const Plan& planned,
                                        const Places& places) {
  const bool needed = std::ranges::any_of(planned.allocation, [](const MatrixScheme& one) {
    return quantizer(one.scheme.method).needs() != Needs::nothing;
  });
  if (!needed && options.calibration.text.empty() && options.calibration.folder.empty()) return nullptr;
  return FoundInputs(session, options.calibration, places.calibration()).get();
}

QuantizedModel write_direct(Session& session, const QuantizeOptions& options, const Plan& planned,
                            const Places& places) {
  const std::unique_ptr<InputSource> inputs = inputs_for(session, options, planned, places);
  std::optional<Folding> folding;
  if (wants_folding(planned.allocation)) folding = find_scales(session, *inputs, options.calibration);
  session.make_room();
  return write_quantized(session.checkpoint(), session.config(), planned.allocation,
                         DirectSource(session.checkpoint(), inputs.get(), folding ? &*folding : nullptr),
                         places.output, options.force, session.listener(), planned.writing);
}

/// Inputs of which nothing is known.
class UnknownInputs final : public InputSource {
 public:
  InputStatistics inputs(std::string_view matrix, std::int64_t width) const override {
    return columns_alike(matrix, width, true);
  }
  bool has_second_moments() const override { return true; }
  std::string identity() const override { return {}; }
};

/// Quantizes anew for this allocation. What is finished is kept beside the output until all is.
QuantizedModel write_corrected(Session& session, const QuantizeOptions& options, const Plan& planned,
                               const Bank* bank, const Places& places) {
  const Checkpoint& checkpoint = session.checkpoint();
  const bool finds_scales = bank == nullptr && wants_folding(planned.allocation);
  std::unique_ptr<InputSource> known;
  if (finds_scales || !options.calibration.folder.empty())
    known = inputs_for(session, options, planned, places);
  std::optional<Folding> scales;
  if (finds_scales) scales = find_scales(session, *known, options.calibration);
  // Embedding and head keep the bank's codes. Without a bank and a calibration nothing is known of the head's
  // inputs.
  const UnknownInputs unknown;
  const InputSource* inputs = &unknown;
  if (known && known->has_second_moments()) inputs = known.get();
  std::unique_ptr<const MatrixSource> ends;
  if (bank != nullptr) {
    ends = std::make_unique<BankSource>(*bank, session.config());
  } else {
    ends = std::make_unique<DirectSource>(checkpoint, inputs, scales ? &*scales : nullptr);
  }
  const Samples samples = calibration_samples(session, options.calibration);
  session.make_room();
  const auto backend = make_backend({.precision = precision_of(options.calibration)});
  const CorrectionRecipe recipe{
      .model = session.fingerprint(),
      .allocation = planned.allocation,
      .embedding = [&](const Matrix& matrix,
                       const Scheme& scheme) { return ends->matrix(matrix, scheme).stored; },
      .samples = samples,
      .folding = ends->folding()};
  std::vector<LinearFile> files =
      correct_codes(checkpoint, session.config(), recipe, *backend, places.propagated(), session.listener());
  const QuantizedModel model =
      write_quantized(checkpoint, session.config(), planned.allocation,
                      CorrectedSource(std::move(files), planned.allocation, std::move(ends)), places.output,
                      options.force, session.listener(), planned.writing);
  remove_corrected(places.propagated(), session.config());
  return model;
}

/// What cannot be written is refused before a calibration is made for it.
void check_schemes(const Session& session, const Plan& planned) {
  static_cast<void>(CarriedFiles(session.checkpoint(), FolderReader::knapsaq));
  for (const MatrixScheme& one : planned.allocation) quantizer(one.scheme.method).check(one.scheme);
  static_cast<void>(
      layout_quantized(session.checkpoint(), session.config(), planned.allocation, planned.writing));
}

void check(const QuantizeOptions& options) {
  const int targets = (options.budget.bits > 0) + (options.budget.bits_per_weight > 0) +
                      options.budget.bytes.has_value() + !options.scheme.empty() +
                      !options.allocation.empty();
  if (targets != 1) throw UsageError("give one of --budget, --bpw, --bits, --scheme and --allocation");
  check(options.budget);
  if (!options.keep.empty() && !options.allocation.empty())
    throw UsageError("--allocation says what is quantized: leave --keep out");
  if (!options.pins.empty() && options.scheme.empty())
    throw UsageError("--pin goes with --scheme here; to search within pins use `knapsaq fit`");
}

}  // namespace

QuantizeResult quantize(Session& session, const QuantizeOptions& options) {
  const ExecutionScope scope(session.execution());
  check(options);
  const Places places = plan_places(session, options);
  const Stopwatch watch;
  check_shapes(session.checkpoint(), session.config());
  check_texts(session, options.calibration);
  if (options.propagate) check_corrected_folder(places.propagated(), session.config());

  std::optional<Bank> bank;
  if (!options.bank.empty()) {
    bank = Bank::open(options.bank);
    bank->check_model(session.fingerprint(), session.config());
  }
  const Plan planned = plan_model(session, options, bank ? &*bank : nullptr);
  check_schemes(session, planned);
  const QuantizedModel model =
      options.propagate ? write_corrected(session, options, planned, bank ? &*bank : nullptr, places)
      : bank            ? write_quantized(session.checkpoint(), session.config(), planned.allocation,
                                          BankSource(*bank, session.config()), places.output, options.force,
                                          session.listener(), planned.writing)
                        : write_direct(session, options, planned, places);
  QuantizeResult result;
  result.path = places.output;
  result.bytes = model.bytes;
  result.bits = model.bits;
  result.error = model.error;
  result.budget_bytes =
      options.budget.bytes ? options.budget.bytes : file_budget(options.budget, session.config(), kRunsOn);
  result.memory = memory_use(options.budget, session.config(), kRunsOn, model.bytes);
  if (planned.solved)
    result.solved = QuantizeResult::Solved{std::string(to_string(planned.cost)), planned.solved->objective,
                                           planned.solved->bound, planned.solved->gap};
  for (const MatrixScheme& one : planned.allocation)
    result.allocation.push_back({one.matrix.name, to_string(one.scheme)});
  result.seconds = watch.seconds();
  return result;
}

}  // namespace knapsaq
