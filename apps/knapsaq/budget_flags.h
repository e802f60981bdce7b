#pragma once

#include <string>

#include "arguments.h"
#include "knapsaq/pipeline/budget.h"

namespace knapsaq::command {

/// A budget as people give it.
struct BudgetFlags {
  std::string bytes;
  BudgetOptions others;
};

/// --budget, --bpw and --bits, --context and --cache.
void add_budget_flags(Verb verb, BudgetFlags& flags);
/// --context and --cache alone, of a budget in bytes.
void add_context_flags(Verb verb, BudgetOptions& options);
/// Throws UsageError for a size that is none.
BudgetOptions budget_of(const BudgetFlags& flags);

}  // namespace knapsaq::command
