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
}

BudgetOptions budget_of(const BudgetFlags& flags) {
  BudgetOptions budget = flags.others;
  if (!flags.bytes.empty()) budget.bytes = parse_bytes(flags.bytes);
  return budget;
}

}  // namespace knapsaq::command
