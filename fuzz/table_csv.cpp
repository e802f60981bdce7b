#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const knapsaq::ErrorTable table = knapsaq::parse_csv({reinterpret_cast<const char*>(data), size}, "fuzz");
    for (const knapsaq::ErrorRow& row : table.rows) {
      if (row.cells.size() != table.menu.size()) std::abort();
      for (std::size_t c = 0; c < row.cells.size(); ++c) {
        const knapsaq::ErrorCell& cell = row.cells[c];
        if (!(cell.fnorm >= 0) || cell.relative < 0 || cell.hessian < 0) std::abort();
        if (knapsaq::parse_scheme(knapsaq::to_string(cell.scheme)) != cell.scheme) std::abort();
      }
    }
  } catch (const knapsaq::InputError&) {
  }
  return 0;
}
