#include "knapsaq/bank/bank_index.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "knapsaq/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const knapsaq::BankIndex index = knapsaq::parse_bank_index({reinterpret_cast<const char*>(data), size});
    for (const knapsaq::BankedLinear& banked : index.linears) {
      if (banked.schemes.size() != index.menu.schemes.size() || banked.distinct().empty()) std::abort();
      // The file stays inside the bank.
      if (knapsaq::file_of(banked).lexically_normal().parent_path() != "linears") std::abort();
    }
    if (to_json(knapsaq::parse_bank_index(to_json(index))) != to_json(index)) std::abort();
  } catch (const knapsaq::InputError&) {
  }
  return 0;
}
