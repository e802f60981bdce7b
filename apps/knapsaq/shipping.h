#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/search/guard.h"

namespace knapsaq::command {

/// What `pick` and `fit` do in the end: chooses, writes, says what and why.
struct Shipment {
  Verdict verdict;
  QuantizedModel model;
  std::string codes;  ///< the other bank that the codes are from; empty: the run's
};
/// Throws UsageError if the output is the run's or the model's folder or has it inside: --force would remove
/// it.
void check_output(const Run& run, const std::string& output);
/// Writes what was chosen. `codes`: a bank with the same bits and groups by another method, whose codes are
/// written in the place of the run's; empty: none. Throws as write_quantized() does, UsageError if that bank
/// lacks a scheme.
Shipment ship(Run& run, Verdict verdict, const std::string& codes, const std::string& output, bool force);

nlohmann::ordered_json json_of(const Shipment& shipment, const Run& run);
void print_summary(const Shipment& shipment, const Run& run, const std::string& output);

}  // namespace knapsaq::command
