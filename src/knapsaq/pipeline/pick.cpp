#include "knapsaq/pipeline/pick.h"

#include "knapsaq/base/error.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/pipeline/write_selection.h"

namespace knapsaq {

WrittenModel pick(Environment& environment, const PickOptions& options) {
  const ExecutionScope scope(environment.execution());
  OutputPlan plan;
  plan.reads("the run", options.run);
  plan.reads("the bank", options.codes);
  plan.reads("the model", options.model);
  const std::filesystem::path output =
      plan_result(plan, read_run_settings(options.run).engine, options.output, options.force);
  check(options.budget);
  if (options.near > 0 && (options.budget.bits <= 0 || options.budget.bytes))
    throw UsageError("--near goes with --bits alone");
  Run run = Run::open(options.run, Access::write_if_free, options.model);
  plan.reads("the model", run.model_folder());
  plan.reads("the bank", run.bank().folder());
  check_codes(run, options.codes);
  Listener& listener = environment.listener();
  RunEvaluators evaluators(run, {std::string(kHeldOutSet)}, listener);
  const Selection selection =
      options.near > 0
          ? choose_near(run, options.budget.bits, options.near, evaluators, options.strategy, listener)
          : choose(run, resolve(options.budget, run.space(), run.config(), run.settings().engine), evaluators,
                   options.strategy, listener);
  WrittenModel model = write_selection(run, selection, options.codes, output, options.force, listener);
  model.memory = memory_use(options.budget, run.config(), run.settings().engine, model.bytes);
  return model;
}

}  // namespace knapsaq
