// Texts of schemes and menus: either refused with UsageError or read into something that is written and read
// back unchanged.

#include "knapsaq/quant/scheme.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "knapsaq/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const knapsaq::Menu menu = knapsaq::parse_menu(text);
    for (const knapsaq::Scheme& scheme : menu.schemes) {
      if (knapsaq::parse_scheme(knapsaq::to_string(scheme)) != scheme) std::abort();
      if (knapsaq::storage_bytes(scheme, 1000, 777) < 1000 * 777 / 4) std::abort();
    }
  } catch (const knapsaq::UsageError& error) {
    if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
  }
  return 0;
}
