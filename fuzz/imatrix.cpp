// parse_imatrix() on any bytes, GGUF or legacy: it throws InputError or returns finite squares.

#include "knapsaq/calib/imatrix.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "knapsaq/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    for (const auto& [name, entry] : knapsaq::parse_imatrix(bytes)) {
      for (const float value : entry.mean_square)
        if (!(value >= 0 && std::isfinite(value))) std::abort();
    }
  } catch (const knapsaq::InputError&) {
  }
  return 0;
}
