#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "knapsaq/report/run_status.h"

namespace knapsaq {

/// Follows a run by reading its files, whoever works on it and whether or not anybody does.
///
/// The report's data are collected by a thread of its own, when somebody looks and the archive has changed;
/// after each time it rests 50 times as long as that took, and 2 seconds at least, so that it takes less than
/// 2 % of a core from the search.
class RunFollower {
 public:
  /// `model`: where the model is now; empty: where the run says.
  explicit RunFollower(std::filesystem::path run, std::filesystem::path model = {});
  ~RunFollower();
  RunFollower(const RunFollower&) = delete;
  RunFollower& operator=(const RunFollower&) = delete;

  struct View {
    std::optional<RunStatus> status;  ///< of the latest process that worked on the run
    bool alive = false;               ///< it does so still
    bool has_archive = false;         ///< the search has begun
    std::string data_tag;             ///< of data(); empty: there are none yet
    std::string problem;              ///< why the data cannot be read, a line for people; empty: they can
  };
  /// The state now. Asks for newer data, and does not wait for them.
  View look();

  /// ReportData's JSON as it was collected last, and its tag; null if there are none yet.
  std::shared_ptr<const std::string> data(std::string& tag) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace knapsaq
