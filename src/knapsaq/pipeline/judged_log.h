#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "knapsaq/search/measurement.h"

namespace knapsaq {

/// What was measured of the files of comparisons, token by token, in a folder: one file each, on the disk
/// before add() returns, so that a killed comparison continues with the first missing one. Differences
/// between models are taken token by token, so a row of numbers would not do.
class JudgedLog {
 public:
  /// `folder` exists. `comparison` tells the reference, text and windows from others (TextJudge::identity()).
  JudgedLog(std::filesystem::path folder, std::string comparison);
  /// Of the model with this fingerprint; nothing if there is none, or if the file is damaged.
  std::optional<Measurement> find(std::string_view fingerprint) const;
  /// Throws IoError.
  void add(std::string_view fingerprint, const Measurement& measurement) const;

  /// Whether a file of this name in the folder is one of these.
  static bool is_own(std::string_view name);

 private:
  std::filesystem::path path_of(std::string_view fingerprint) const;

  std::filesystem::path folder_;
  std::string comparison_;
};

}  // namespace knapsaq
