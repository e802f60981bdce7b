#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "knapsaq/pipeline/environment.h"

namespace knapsaq {

struct TablesOptions {
  // One of the two:
  std::string model;
  std::string bank;  ///< of make_bank(): what it knows

  std::string output;             ///< CSV; an older table is replaced
  std::string menu = "mxq";       ///< schemes, of a model
  std::vector<std::string> keep;  ///< patterns of matrices that are left out, of a model
};

struct TablesResult {
  std::filesystem::path path;
  std::size_t linears = 0;
  std::size_t schemes = 0;
  double seconds = 0;
};

/// Writes the error and the size of every matrix in every scheme. Throws UsageError for what cannot be,
/// before any work; Cancelled.
TablesResult tables(Environment& environment, const TablesOptions& options);

}  // namespace knapsaq
