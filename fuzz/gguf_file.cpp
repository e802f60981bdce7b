// parse_gguf() on any bytes: it throws InputError or returns views inside them.

#include "knapsaq/checkpoint/gguf_file.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "knapsaq/base/error.h"

namespace {
volatile std::uint64_t sink;  // so that the bytes are really read
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    std::size_t total = 0;
    for (const auto& [name, tensor] : knapsaq::parse_gguf(bytes).tensors) {
      for (const std::byte byte : tensor.bytes) sink = static_cast<std::uint64_t>(byte);
      total += tensor.bytes.size();
    }
    if (total > size) std::abort();  // tensors overlap
  } catch (const knapsaq::InputError&) {
  }
  return 0;
}
