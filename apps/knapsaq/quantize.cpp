#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "allocation_json.h"
#include "calibration.h"
#include "command.h"
#include "knapsaq/bank/bank.h"
#include "knapsaq/bank/error_table.h"
#include "knapsaq/bank/match_table.h"
#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/bank/propagate.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/base/units.h"
#include "knapsaq/checkpoint/fingerprint.h"
#include "knapsaq/export/matrix_source.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/quant/quantizer.h"
#include "knapsaq/search/mxq.h"
#include "knapsaq/search/pins.h"
#include "make_bank.h"
#include "solver_options.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  std::string output;
  std::filesystem::path place;  ///< canonical, of output
  double bits = 0;
  double bits_of_files = 0;
  std::string budget;
  std::string scheme;
  std::string allocation;
  std::string table;
  std::string bank;
  std::string cost;
  CalibrationOptions calibration;
  std::string menu = "mxq";
  std::vector<std::string> keep;
  std::vector<std::string> pins;
  std::string ties = "none";
  SolverOptions solver;
  bool propagate = false;
  bool force = false;
};

/// What is to be written, and what the search knows about it (nothing for a uniform or given allocation).
struct Choice {
  std::vector<MatrixScheme> allocation;
  WriteOptions writing;
  std::optional<Allocation> solved;
  Cost cost = Cost::fnorm;
};

/// Bytes of the files; nothing for a budget of bits.
std::optional<std::uint64_t> budget_of(const Options& options, const ModelConfig& config) {
  if (!options.budget.empty()) return parse_bytes(options.budget);
  if (options.bits_of_files > 0) return bits_budget(options.bits_of_files, parameters(config)).bytes;
  return std::nullopt;
}

/// The errors to choose by. An impossible budget is refused before they are measured, not after it.
ErrorTable table_of(const Options& options, const Checkpoint& checkpoint, const Selection& selection,
                    const Bank* bank, const std::function<void(const ErrorTable&)>& check_budget) {
  if (bank != nullptr) return without(bank->table(), selection.kept);
  if (!options.table.empty()) return match_table(read_csv(options.table), selection.quantized, options.table);
  const Menu menu = parse_menu(options.menu);
  check_budget(size_table(selection.quantized, menu));
  return build_error_table(checkpoint, selection.quantized, menu, progress());
}

/// `scheme` for the linears of the blocks, and what pins say about single matrices.
std::vector<MatrixScheme> given_allocation(const Options& options, const ModelConfig& config,
                                           const Selection& selection) {
  std::vector<MatrixScheme> allocation =
      uniform_allocation(selection.quantized, parse_scheme(options.scheme));
  for (const std::string& text : options.pins) {
    const Pin pin = parse_pin(text);
    if (pin.relation != Pin::Relation::equal)
      throw UsageError(
          fmt::format("--pin {}: with --scheme a pin names a scheme: PATTERN=SCHEME", in_quotes(text)));
    bool matched = false;
    for (const Matrix& matrix : matrices(config)) {
      if (!is_named(matrix, pin.pattern)) continue;
      matched = true;
      const auto place = std::ranges::find_if(
          allocation, [&](const MatrixScheme& one) { return one.matrix.number >= matrix.number; });
      const MatrixScheme pinned = {matrix, scheme_for(matrix, parse_scheme(pin.scheme))};
      if (place != allocation.end() && place->matrix.number == matrix.number) {
        *place = pinned;
      } else {
        allocation.insert(place, pinned);
      }
    }
    if (!matched) refuse_without_match(pin);
  }
  return allocation;
}

Choice choose(const Options& options, const Checkpoint& checkpoint, const ModelConfig& config,
              const Bank* bank) {
  Choice choice;
  if (!options.allocation.empty()) {
    choice.allocation = read_allocation(options.allocation, matrices(config));
    return choice;
  }
  // Without a budget for all that is written, embedding and head stay as they are stored.
  const std::optional<std::uint64_t> bytes = budget_of(options, config);
  const Selection selection = select_matrices(config, options.keep, bytes.has_value());
  choice.writing.kept = selection.kept;
  if (!options.scheme.empty()) {
    choice.allocation = given_allocation(options, config, selection);
    return choice;
  }

  const auto solve = [&](const ErrorTable& table, Cost cost, const SolveOptions& solving) {
    if (!bytes) return allocate_mxq(table, budget_bytes(table, options.bits), options.ties, solving, cost);
    return allocate_mxq_written(table, *bytes,
                                *quantized_file_sizes(checkpoint, config, table, choice.writing),
                                options.ties, solving, cost);
  };
  const SolveOptions solving = solve_options(options.solver);
  const ErrorTable table = table_of(options, checkpoint, selection, bank,
                                    [&](const ErrorTable& sizes) { solve(sizes, Cost::fnorm, {}); });
  choice.cost = options.cost.empty() ? usual_cost(table) : parse_cost(options.cost);
  choice.solved = solve(table, choice.cost, solving);
  std::vector<std::string> names;
  for (const ErrorRow& row : table.rows) names.push_back(row.name);
  choice.allocation = allocation_of(find_matrices(config, names), choice.solved->schemes);
  return choice;
}

/// The fingerprint of a model, made when it is first asked for: that reads the whole of it.
class ModelIdentity {
 public:
  explicit ModelIdentity(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}
  const std::string& get() {
    if (!fingerprint_) fingerprint_ = fingerprint(checkpoint_, progress());
    return *fingerprint_;
  }

 private:
  const Checkpoint& checkpoint_;
  std::optional<std::string> fingerprint_;
};

/// Where a calibration is kept that is made on the spot.
std::filesystem::path calibration_folder(const Options& options) {
  return options.place.string() + ".calibration";
}

/// Where a propagation keeps what is finished.
std::filesystem::path propagation_folder(const Options& options) {
  return options.place.string() + ".propagated";
}

/// Statistics of the inputs, if they are asked for or the schemes need them.
std::unique_ptr<InputSource> inputs_for(const Options& options, const Checkpoint& checkpoint,
                                        const ModelConfig& config, ModelIdentity& identity,
                                        const Choice& choice) {
  const bool needed = std::ranges::any_of(choice.allocation, [](const MatrixScheme& one) {
    return quantizer(one.scheme.method).needs() != Needs::nothing;
  });
  if (!needed && options.calibration.text.empty() && options.calibration.folder.empty()) return nullptr;
  return FoundInputs(checkpoint, config, identity.get(), options.calibration, calibration_folder(options))
      .get();
}

QuantizedModel write_direct(const Options& options, const Checkpoint& checkpoint, const ModelConfig& config,
                            ModelIdentity& identity, const Choice& choice) {
  const std::unique_ptr<InputSource> inputs = inputs_for(options, checkpoint, config, identity, choice);
  std::optional<Folding> folding;
  if (wants_folding(choice.allocation))
    folding = find_scales(checkpoint, config, identity.get(), *inputs, options.calibration);
  return write_quantized(checkpoint, config, choice.allocation,
                         DirectSource(checkpoint, inputs.get(), folding ? &*folding : nullptr), options.place,
                         options.force, progress(), choice.writing);
}

/// Quantizes anew for this allocation. What is finished is kept beside the output until all is.
QuantizedModel write_propagated(const Options& options, const Checkpoint& checkpoint,
                                const ModelConfig& config, ModelIdentity& identity, const Choice& choice) {
  if (wants_folding(choice.allocation))
    throw UsageError(
        "awq's scales are those of full-precision inputs: --propagate does not go with them; use gptq");
  const auto backend = calibration_backend(options.calibration);
  const Samples samples = calibration_samples(checkpoint, config, options.calibration, *backend);
  const std::filesystem::path folder = propagation_folder(options);
  PropagatedSource source(checkpoint, config,
                          propagate(checkpoint, config, identity.get(), choice.allocation, samples, *backend,
                                    folder, progress()));
  const QuantizedModel model = write_quantized(checkpoint, config, choice.allocation, source, options.place,
                                               options.force, progress(), choice.writing);
  remove_propagated(folder, config);
  return model;
}

void plan(Options& options) {
  OutputPlan plan;
  plan.reads("the model", options.model);
  plan.reads("the bank", options.bank);
  plan.reads("the table", options.table);
  plan.reads("the allocation", options.allocation);
  plan_calibration(plan, options.calibration);
  options.place = plan.folder(options.output, options.force);
  if (options.calibration.folder.empty())
    check_calibration_place(plan.workspace(calibration_folder(options)));
  if (options.propagate) plan.workspace(propagation_folder(options));
}

/// What cannot be written is refused before a calibration is made for it.
void check_schemes(const Checkpoint& checkpoint, const ModelConfig& config, const Choice& choice) {
  for (const MatrixScheme& one : choice.allocation) quantizer(one.scheme.method).check(one.scheme);
  static_cast<void>(layout_quantized(checkpoint, config, choice.allocation, choice.writing));
}

void run(Options options) {
  start(options.common);
  const int targets = (options.bits > 0) + (options.bits_of_files > 0) + !options.budget.empty() +
                      !options.scheme.empty() + !options.allocation.empty();
  if (targets != 1) throw UsageError("give one of --budget, --bpw, --bits, --scheme and --allocation");
  if (!options.keep.empty() && !options.allocation.empty())
    throw UsageError("--allocation says what is quantized: leave --keep out");
  if (!options.pins.empty() && options.scheme.empty())
    throw UsageError("--pin goes with --scheme here; to search within pins use `knapsaq fit`");
  plan(options);
  const auto begin = std::chrono::steady_clock::now();
  const Checkpoint checkpoint = Checkpoint::open_folder(options.model);
  const ModelConfig config = model_config(checkpoint);
  check_shapes(checkpoint, config);
  check_texts(options.calibration);
  if (options.propagate) check_propagation_folder(propagation_folder(options), config);
  ModelIdentity identity(checkpoint);

  std::optional<Bank> bank;
  if (!options.bank.empty()) {
    bank = Bank::open(options.bank);
    bank->check_model(identity.get(), config);
  }
  const Choice choice = choose(options, checkpoint, config, bank ? &*bank : nullptr);
  check_schemes(checkpoint, config, choice);
  const QuantizedModel model =
      options.propagate ? write_propagated(options, checkpoint, config, identity, choice)
      : bank            ? write_quantized(checkpoint, config, choice.allocation, BankSource(*bank, config),
                                          options.place, options.force, progress(), choice.writing)
                        : write_direct(options, checkpoint, config, identity, choice);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();

  if (options.common.json) {
    nlohmann::ordered_json json = {
        {"model", options.model},  {"output", options.output}, {"bytes", model.bytes}, {"bits", model.bits},
        {"budget_bytes", nullptr}, {"budget_bits", nullptr},   {"cost", nullptr},      {"objective", nullptr},
        {"bound", nullptr},        {"fnorm", model.error},     {"gap", nullptr},       {"seconds", seconds}};
    if (const auto bytes = budget_of(options, config)) json["budget_bytes"] = *bytes;
    if (options.bits > 0) json["budget_bits"] = options.bits;
    if (choice.solved) {
      json["cost"] = to_string(choice.cost);
      json["objective"] = choice.solved->objective;
      json["bound"] = choice.solved->bound;
      json["gap"] = choice.solved->gap;
    }
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const MatrixScheme& one : choice.allocation)
      list.push_back({{"linear", one.matrix.name}, {"scheme", to_string(one.scheme)}});
    json["allocation"] = list;
    print(json);
    return;
  }
  fmt::print("{}: {} ({} bytes), {:.4f} bits per quantized weight, ", options.output,
             format_bytes(model.bytes), model.bytes, model.bits);
  if (choice.solved) {
    fmt::print("{}error {:.6g} (proven within {:.1e} of the least)",
               choice.cost == Cost::fnorm ? "" : std::string(to_string(choice.cost)) + " ",
               choice.solved->objective, choice.solved->gap);
  } else {
    fmt::print("error {:.6g}", model.error);
  }
  fmt::print(", {}\n", format_seconds(seconds));
}

}  // namespace

void add_quantize(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("quantize", "Write the best quantized model that fits a budget");
  verb.option("model", options->model, "Model folder in Hugging Face layout, full precision").required();
  verb.option("-o,--output", options->output, "Folder to write").required();
  verb.option("--bpw", options->bits_of_files,
              "Budget: bits of all weight files per weight of the whole model")
      .positive();
  verb.option(
          "--bits", options->bits,
          "Budget: average bits per weight of the linears, metadata included; embedding and head as stored")
      .positive();
  verb.option("--budget", options->budget,
              "Budget: bytes of all weight files, as 4200000, 4.2MiB, 1.5GB; never exceeded");
  verb.option("--scheme", options->scheme,
              "No search: this scheme for every linear of the blocks, as hqq:b4g64");
  verb.option("--allocation", options->allocation,
              "No search: the JSON that `knapsaq allocate --json` printed");
  const Option bank = verb.option("--bank", options->bank,
                                  "Choose among and write the linears of a bank made by `knapsaq bank`");
  verb.option("--menu", options->menu, "Schemes to choose from: mxq, mxq-f16, gguf or a list with commas")
      .excludes(bank)
      .show_default();
  verb.option("--table", options->table,
              "Errors from a CSV of `knapsaq tables` in the place of measuring them")
      .excludes(bank);
  verb.option("--keep", options->keep, kKeepHelp);
  verb.option("--pin", options->pins,
              "With --scheme: 'PATTERN=SCHEME' for matrices that match, as 'lm_head=b8g64'");
  verb.option("--cost", options->cost, kCostHelp);
  verb.option("--tie", options->ties,
              "Linears that share a scheme: none, qkv, gate-up, vllm (both), layer; several with commas")
      .show_default();
  add_solver_options(verb, options->solver);
  verb.flag("--propagate", options->propagate,
            "Quantize block by block with the inputs that the quantized blocks before make (gptq)");
  verb.flag("--force", options->force, "Replace the output folder if it exists");
  add_calibration_options(verb, options->calibration, true);
  add_common(verb, options->common);
  verb.example(
      "knapsaq quantize MODEL -o OUT --budget 4.2MiB\n  knapsaq quantize MODEL --bank BANK -o "
      "OUT --bits 3.25");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
