#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "knapsaq/checkpoint/file_sizes.h"
#include "knapsaq/search/knapsack.h"

namespace knapsaq {

/// A common decision for one or several modules of a model: one of some levels.
struct FileItem {
  std::vector<std::size_t> modules;  ///< of FileSizes
  std::vector<std::size_t> forms;    ///< [level]: the form of all the modules
  std::vector<double> costs;         ///< [level]
};

/// The exact knapsack whose budget is the bytes of files, headers included. Their size is nearly a sum: the
/// plain knapsack over that sum gives a bound. If its solution is some bytes too large, all solutions that
/// may be better are examined (Knapsack::best_fitting).
class FileKnapsack {
 public:
  /// Every module must be in one item. `files` must outlive this. Throws like Knapsack.
  FileKnapsack(const FileSizes& files, std::vector<FileItem> items);

  /// The smallest solution, with the bytes of its files.
  FrontPoint smallest() const;
  /// The cheapest solution whose files take at most `budget` bytes. `bytes` are those of its files. `bound`
  /// is below `cost` only if more states were needed than are kept (kMostStates). Throws InfeasibleError,
  /// which names the smallest size.
  FrontPoint best_within(std::uint64_t budget) const;

  /// The bytes of a solution's files.
  std::uint64_t size(const Point& levels) const;

 private:
  std::vector<std::vector<Choice>> choices(const FileSizes::Sum& sum) const;
  [[noreturn]] void refuse(std::uint64_t budget) const;

  const FileSizes& files_;
  std::vector<FileItem> items_;
  std::vector<std::vector<std::uint8_t>> alike_;  ///< as in NearSum
};

}  // namespace knapsaq
