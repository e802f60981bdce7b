#include <chrono>
#include <memory>
#include <optional>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "allocation_json.h"
#include "command.h"
#include "knapsaq/bank/error_table.h"
#include "knapsaq/bank/match_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/units.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/search/mxq.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  std::string output;
  double bits = 0;
  std::string budget;
  std::string scheme;
  std::string allocation;
  std::string table;
  std::string menu = "mxq";
  std::string ties = "none";
  bool force = false;
};

/// What is to be written, and what the search knows about it (nothing for a uniform or given allocation).
struct Choice {
  std::vector<Scheme> schemes;
  std::optional<Allocation> solved;
};

Choice choose(const Options& options, const Checkpoint& checkpoint, const ModelConfig& config) {
  const std::vector<Linear> all = linears(config);
  Choice choice;
  if (!options.allocation.empty()) {
    choice.schemes = read_allocation(options.allocation, all);
    return choice;
  }
  if (!options.scheme.empty()) {
    choice.schemes.assign(all.size(), parse_scheme(options.scheme));
    return choice;
  }

  const auto solve = [&](const ErrorTable& table) {
    const auto written = [&](std::span<const Scheme> schemes) {
      return layout_quantized(checkpoint, config, schemes).bytes;
    };
    if (options.budget.empty()) return allocate_mxq(table, budget_bytes(table, options.bits), options.ties);
    return allocate_mxq_written(table, parse_bytes(options.budget), written, options.ties);
  };
  if (!options.table.empty()) {
    choice.solved = solve(match_table(read_csv(options.table), all, options.table));
  } else {
    const Menu menu = parse_menu(options.menu);
    solve(size_table(all, menu));  // an impossible budget is refused before the work, not after it
    choice.solved = solve(build_error_table(checkpoint, config, menu, progress()));
  }
  choice.schemes = choice.solved->schemes;
  return choice;
}

void run(const Options& options) {
  start(options.common);
  const int targets =
      (options.bits > 0) + !options.budget.empty() + !options.scheme.empty() + !options.allocation.empty();
  if (targets != 1) throw UsageError("give one of --bits, --budget, --scheme and --allocation");
  refuse_existing(options.output, options.force);
  const auto begin = std::chrono::steady_clock::now();
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  const ModelConfig config = parse_model_config(checkpoint.config());
  check_shapes(checkpoint, config);
  const Choice choice = choose(options, checkpoint, config);
  const QuantizedModel model =
      write_quantized(checkpoint, config, choice.schemes, options.output, options.force, progress());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();

  if (options.common.json) {
    nlohmann::ordered_json json = {{"model", options.model},   {"output", options.output},
                                   {"bytes", model.bytes},     {"bits", model.bits},
                                   {"budget_bytes", nullptr},  {"budget_bits", nullptr},
                                   {"objective", model.error}, {"bound", nullptr},
                                   {"gap", nullptr},           {"seconds", seconds}};
    if (!options.budget.empty()) json["budget_bytes"] = parse_bytes(options.budget);
    if (options.bits > 0) json["budget_bits"] = options.bits;
    if (choice.solved) {
      json["bound"] = choice.solved->bound;
      json["gap"] = choice.solved->gap;
    }
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    const std::vector<Linear> all = linears(config);
    for (std::size_t i = 0; i < all.size(); ++i)
      list.push_back({{"linear", all[i].name}, {"scheme", to_string(choice.schemes[i])}});
    json["allocation"] = list;
    print(json);
    return;
  }
  fmt::print("{}: {} ({} bytes), {:.4f} bits per quantized weight, error {:.6g}", options.output,
             format_bytes(model.bytes), model.bytes, model.bits, model.error);
  if (choice.solved) fmt::print(" (proven within {:.1e} of the least)", choice.solved->gap);
  fmt::print(", {}\n", format_seconds(seconds));
}

}  // namespace

void add_quantize(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("quantize", "Write the best quantized model that fits a budget");
  verb->add_option("model", options->model, "Model folder in Hugging Face layout, full precision")
      ->required();
  verb->add_option("-o,--output", options->output, "Folder to write")->required();
  verb->add_option("--bits", options->bits, "Budget: average bits per quantized weight, metadata included")
      ->check(CLI::PositiveNumber);
  verb->add_option("--budget", options->budget,
                   "Budget: bytes of all weight files, as 4200000, 4.2MiB, 1.5GB; never exceeded");
  verb->add_option("--scheme", options->scheme, "No search: this scheme for every linear, as hqq:b4g64");
  verb->add_option("--allocation", options->allocation,
                   "No search: the JSON that `knapsaq allocate --json` printed");
  verb->add_option("--menu", options->menu, "Schemes to choose from: mxq, mxq-f16 or a list with commas")
      ->capture_default_str();
  verb->add_option("--table", options->table,
                   "Errors from a CSV of `knapsaq tables` in the place of measuring them");
  verb->add_option("--tie", options->ties,
                   "Linears that share a scheme: none, qkv, gate-up, layer; several with commas")
      ->capture_default_str();
  verb->add_flag("--force", options->force, "Replace the output folder if it exists");
  add_common(*verb, options->common);
  verb->footer("Example:\n  knapsaq quantize MODEL -o OUT --budget 4.2MiB");
  verb->callback([options] { run(*options); });
}

}  // namespace knapsaq::command
