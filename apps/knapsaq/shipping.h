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
};
/// Throws as choose() and write_quantized() do.
Shipment ship(Run& run, std::uint64_t budget, const std::string& output, bool force);

nlohmann::ordered_json json_of(const Shipment& shipment, const Run& run, std::uint64_t budget);
void print_summary(const Shipment& shipment, const Run& run, const std::string& output);

}  // namespace knapsaq::command
