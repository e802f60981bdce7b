#pragma once

#include <cstddef>

#include "knapsaq/report/report_data.h"

namespace knapsaq {

/// What a made run is like.
struct MadeRun {
  std::size_t blocks = 6;
  std::size_t amq_evaluations = 2000;
  std::size_t seeds = 2;  ///< searches of each of the strategies front and amq
};

/// A finished run with every section of the report: a Llama of so many blocks, its linears in 2, 3 or 4 bits,
/// searched by several strategies. Divergences come from a model of the damage that has the usual shape (a
/// sum over the linears, with more at few bits than the sum says); what the strategies "found" is drawn at
/// random with more and more luck. Deterministic.
ReportData made_report(const MadeRun& run = {});

/// A run that has just begun: a space and a model, and of one search the first points that were asked for.
ReportData begun_report(std::size_t points);

/// Files that were judged on a text: two of one size, one that is not worth its bytes, one without finite
/// numbers.
ReportData files_report();

}  // namespace knapsaq
