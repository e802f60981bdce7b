#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "knapsaq/checkpoint/file_sizes.h"
#include "knapsaq/search/knapsack.h"

namespace knapsaq {

/// What is decided about one or several modules of a model together: one of some levels.
struct FileItem {
  std::vector<std::size_t> modules;  ///< of FileSizes
  std::vector<std::size_t> forms;    ///< [level]: the form of all the modules
  std::vector<double> costs;         ///< [level]
};

/// The exact knapsack whose budget is the bytes of files, headers and all. Their size is nearly a sum: the
/// plain knapsack over that sum gives a bound, and where its solution does not fit by some bytes, all that
/// may be better is looked through (Knapsack::best_fitting).
class FileKnapsack {
 public:
  /// Every module has to be in one item. `files` has to outlive this. Throws what Knapsack throws.
  FileKnapsack(const FileSizes& files, std::vector<FileItem> items);

  /// The smallest solution, with what its files take.
  FrontPoint smallest() const;
  /// The cheapest solution whose files take at most `budget` bytes; `bytes` are those of its files, and
  /// `bound` is below `cost` only where more states were needed than are kept (kMostStates). Throws
  /// InfeasibleError that names the smallest.
  FrontPoint best_within(std::uint64_t budget) const;

  /// What the files of a solution take.
  std::uint64_t size(const Point& levels) const;

 private:
  std::vector<std::vector<Choice>> choices(const FileSizes::Sum& sum) const;
  [[noreturn]] void refuse(std::uint64_t budget) const;

  const FileSizes& files_;
  std::vector<FileItem> items_;
  std::vector<std::vector<std::uint8_t>> alike_;  ///< as in NearSum
};

}  // namespace knapsaq
