#pragma once

#include <cstdint>
#include <string>

#include "knapsaq/search/measurement.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// Progress of a search: reported after every answer, also from the archive, and when everything that the
/// archive knows of a batch has been answered.
struct SearchStatus {
  std::int64_t evaluations = 0;  ///< distinct (point, windows) that were asked for and answered
  std::int64_t measured = 0;     ///< of these, measured now; the others were in the archive
  double full_passes = 0;        ///< cost of the evaluations
  std::int64_t planned = 0;      ///< distinct points in the current batch
  std::int64_t done = 0;         ///< of these
  std::string phase;
  double seconds = 0;                        ///< since the call
  std::int64_t expected = 0;                 ///< evaluations in all: Strategy::planned()
  const Point* point = nullptr;              ///< the point of the newest result
  const Measurement* measurement = nullptr;  ///< the newest result
};

}  // namespace knapsaq
