#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/checkpoint/tensor_table.h"
#include "knapsaq/family/published.h"

namespace knapsaq {

/// The tensors of a table under Knapsaq's names: as they are, under another name, or as some rows of a tensor
/// that fuses several (family/published.h). Safe for several threads once it is complete.
class CanonicalTensors {
 public:
  /// The table must outlive this; `where` is for messages.
  CanonicalTensors(const TensorTable& table, std::string where) : table_(table), where_(std::move(where)) {}

  /// Takes a tensor of the table as it is. Throws InputError if the name is taken.
  void add(std::string name, std::string in_table);
  /// Takes apart the tensors of a module that were added under its published name; nothing happens if there
  /// are none. Throws InputError for tensors whose rows are not those of the parts, and for parts that are
  /// there already.
  void take_apart(const PublishedModule& module);
  void rename(const std::string& name, std::string to);

  std::vector<std::string> names() const;  ///< sorted
  bool contains(std::string_view name) const { return entries_.contains(name); }
  /// The names with this beginning, without it.
  std::vector<std::string> endings(std::string_view beginning) const;
  /// The module of the file that a module is a part of, by its published name; empty if it is none.
  std::string_view published_name(std::string_view module) const;

  // std::out_of_range for unknown names, which callers look up first.
  TensorSpec spec(std::string_view name) const;
  TensorView tensor(std::string_view name) const;
  void release(std::string_view name) const;

 private:
  struct Entry {
    std::string in_table;
    RowPattern rows = {};  ///< count 0: the tensor as it is
    bool stacked = false;
    bool transposed = false;
  };
  /// A tensor as a matrix of rows.
  struct Rows {
    std::int64_t stacks = 1;  ///< experts
    std::int64_t rows = 0;    ///< of one stack
    std::int64_t inputs = 0;  ///< 0: a vector of numbers
  };
  Rows rows_of(const TensorSpec& spec, const Entry& entry) const;
  std::vector<std::byte> gather(const Entry& entry) const;
  const Entry& find(std::string_view name) const;

  const TensorTable& table_;
  std::string where_;
  std::map<std::string, Entry, std::less<>> entries_;
  std::map<std::string, std::string, std::less<>> published_;  ///< by module
  mutable std::mutex mutex_;                                   ///< of made_
  mutable std::map<std::string, std::vector<std::byte>, std::less<>> made_;
};

}  // namespace knapsaq
