#include "budget_flags.h"

#include "knapsaq/base/units.h"

namespace knapsaq::command {

void add_budget_flags(Verb verb, BudgetFlags& flags) {
  verb.option("--budget", flags.bytes, "Most bytes of all files, as 4200000, 4.2MiB, 1.5GB");
  verb.option("--bpw", flags.others.bits_per_weight,
              "Budget as bits of all files per weight of the whole model")
      .positive();
  verb.option("--bits", flags.others.bits,
              "Budget as average bits per weight of the linears, embedding and head as stored")
      .positive();
  add_context_flags(verb, flags.others);
}

void add_context_flags(Verb verb, BudgetOptions& options) {
  verb.option("--context", options.context,
              "With --budget: it has to hold, beside the files, keys and values of so many tokens and the "
              "engine's work space")
      .range(1);
  verb.option("--cache", options.cache,
              "With --context: how the engine stores keys and values, as fp16 (default) or q8_0")
      .not_empty();
}

BudgetOptions budget_of(const BudgetFlags& flags) {
  BudgetOptions budget = flags.others;
  if (!flags.bytes.empty()) budget.bytes = parse_bytes(flags.bytes);
  return budget;
}

}  // namespace knapsaq::command
