#include "knapsaq/pipeline/tables.h"

#include "knapsaq/bank/bank.h"
#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/pipeline/session.h"
#include "knapsaq/pipeline/stopwatch.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {
namespace {

ErrorTable table_of(Environment& environment, const TablesOptions& options) {
  if (!options.bank.empty()) return Bank::open(options.bank).table();
  const Menu menu = parse_menu(options.menu);
  const Session session(environment, options.model, Session::Weights::decoded);
  check_shapes(session.checkpoint(), session.config());
  return build_error_table(session.checkpoint(), select_matrices(session.config(), options.keep).quantized,
                           menu, session.listener());
}

}  // namespace

TablesResult tables(Environment& environment, const TablesOptions& options) {
  const ExecutionScope scope(environment.execution());
  if (options.model.empty() == options.bank.empty()) throw UsageError("give either a model or --bank");
  OutputPlan plan;
  plan.reads("the model", options.model);
  plan.reads("the bank", options.bank);
  std::filesystem::path output = plan.file(options.output, true, is_error_csv);
  const Stopwatch watch;
  const ErrorTable table = table_of(environment, options);
  write_csv(table, output);
  return {std::move(output), table.rows.size(), table.menu.size(), watch.seconds()};
}

}  // namespace knapsaq
