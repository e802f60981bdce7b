#pragma once

// Steps of making a bank, for those who make one on the way.

#include <filesystem>
#include <span>
#include <string>

#include "knapsaq/bank/build_bank.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/pipeline/make_bank.h"
#include "knapsaq/pipeline/session.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// The menu with the method, as the engine takes it. Throws UsageError for what a method cannot do, or the
/// engine.
Menu menu_of(const BankOptions& options);
/// menu_of() with the schemes on whose lattices `matrices` lie (see add_lattices()); `note` gets a line about
/// them, unless null. Shapes must have been checked.
Menu menu_of(const Session& session, const BankOptions& options, std::span<const Matrix> matrices,
             std::string* note = nullptr);
/// What is quantized.
MatrixSelection selection_of(const BankOptions& options, const ModelConfig& config);
/// Tells the plan what is read, and where a calibration is made, for a bank in `folder`.
void plan_bank(OutputPlan& plan, const BankOptions& options, const std::filesystem::path& folder);
/// make_bank() in a place that has been planned.
BankReport fill_bank(Session& session, const BankOptions& options, const std::filesystem::path& folder);

}  // namespace knapsaq
