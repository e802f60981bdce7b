#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace knapsaq {

/// One finished case of a comparison: a model quantized in one way, and its measurements.
struct CaseResult {
  std::string method;              ///< "rtn", "gptq", "mxq", ...; "none" for the model as it came
  std::string configuration;       ///< a scheme without its method, or MXQ's budget: "b3g64", "3.25"
  double bits = 0;                 ///< average per quantized weight, metadata included
  std::uint64_t bytes = 0;         ///< of all weight files
  std::uint64_t memory = 0;        ///< of all tensors as they are stored: what a low-bit runtime holds
  double perplexity = 0;           ///< on the comparison's text; NaN if the model computes no finite numbers
  double quantize_seconds = 0;     ///< from the full-precision model to the written one, without calibration
  std::vector<double> tasks = {};  ///< value of every task of the comparison, see TaskResult::counted()
  double average = 0;              ///< of these; 0 without tasks
  std::string broken = {};         ///< why perplexity and tasks are NaN; for people, not in the CSV
};

}  // namespace knapsaq
