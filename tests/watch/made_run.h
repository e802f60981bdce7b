#pragma once

#include <cstdint>
#include <filesystem>

#include "knapsaq/search/run.h"

namespace knapsaq {

/// A run of a tiny model with made measurements: scratch/run, its bank beside it. The archive is open for
/// writing as long as the object lives.
class MadeRun {
 public:
  explicit MadeRun(const std::filesystem::path& scratch);

  Run& run() { return run_; }
  const std::filesystem::path& folder() const { return run_.folder(); }

  /// Measures so many more points of the search `front`, every third of them better than all smaller ones.
  void grow(std::size_t points);
  /// So many were measured.
  std::size_t size() const { return size_; }
  /// The search has its end.
  void finish();

 private:
  Run run_;
  std::int64_t search_ = 0;
  std::int64_t batch_ = 0;
  std::size_t size_ = 0;
};

}  // namespace knapsaq
