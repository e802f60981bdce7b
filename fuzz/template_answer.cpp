// What a template's child process sends back, from a child that somebody has taken over: refused with
// InputError, or read into the parts that these very bytes mean.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "knapsaq/base/error.h"
#include "knapsaq/text/part_bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    if (knapsaq::to_bytes(knapsaq::parts_of(bytes)) != bytes) std::abort();
  } catch (const knapsaq::InputError&) {
  }
  return 0;
}
