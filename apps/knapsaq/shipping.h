#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "knapsaq/base/output_plan.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/search/guard.h"

namespace knapsaq::command {

/// What `pick` and `fit` do in the end: chooses, writes, says what and why.
struct Shipment {
  Verdict verdict;
  QuantizedModel model;
  std::string codes;               ///< the other bank that the codes are from; empty: the run's
  std::vector<std::string> notes;  ///< what the engine's readers do otherwise; lines for people
};

/// Where the result of a run for this engine ("": in Knapsaq's own format) is written: a file or a folder.
std::filesystem::path plan_result(OutputPlan& plan, const std::string& engine, const std::string& output,
                                  bool force);
/// Throws UsageError if a bank whose codes are to be written lacks a scheme of the run's bank, InputError if
/// it is of another model: before anything is measured. `codes` empty: nothing to check.
void check_codes(const Run& run, const std::string& codes);
/// Writes what was chosen, in the format of the run's engine. `codes`: a bank with the same bits and groups
/// by another method, whose codes are written instead of the run's; empty: none. Throws as
/// write_quantized() does, UsageError if that bank lacks a scheme.
Shipment ship(Run& run, Verdict verdict, const std::string& codes, const std::filesystem::path& output,
              bool force);

nlohmann::ordered_json json_of(const Shipment& shipment, const Run& run);
void print_summary(const Shipment& shipment, const Run& run, const std::string& output);

}  // namespace knapsaq::command
