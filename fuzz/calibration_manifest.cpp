// parse_manifest() on any bytes: it throws InputError or returns what to_json() writes and reads again.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "knapsaq/base/error.h"
#include "knapsaq/calib/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const knapsaq::Manifest manifest = knapsaq::parse_manifest(text);
    const std::string written = to_json(manifest);
    if (to_json(knapsaq::parse_manifest(written)) != written) std::abort();
  } catch (const knapsaq::InputError&) {
  }
  return 0;
}
