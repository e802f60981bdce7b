#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "knapsaq/base/instruction_set.h"

namespace knapsaq::simd {

/// The kernels of one instruction set.
template <class Table>
struct TableOf {
  std::string_view set;
  Table table;
};

/// Those of sets that this processor has and KNAPSAQ_ISA allows, in the same order. KNAPSAQ_SETS makes the
/// list (knapsaq_kernels() in cmake/KnapsaqKernels.cmake defines it):
///
///   #define KNAPSAQ_SET(set) namespace set { extern const SomeKernels kSomeKernels; }
///   KNAPSAQ_SETS
///   #undef KNAPSAQ_SET
///
///   #define KNAPSAQ_SET(set) {#set, &set::kSomeKernels},
///   usable_tables<const SomeKernels*>({KNAPSAQ_SETS});
///   #undef KNAPSAQ_SET
template <class Table>
std::vector<Table> usable_tables(std::initializer_list<TableOf<Table>> all) {
  std::vector<Table> tables;
  for (const TableOf<Table>& one : all) {
    if (usable(one.set)) tables.push_back(one.table);
  }
  return tables;
}

}  // namespace knapsaq::simd
