// parse_torch_file() on any bytes, and the pickle machine on its own, so that the fuzzer need not build a zip
// archive to reach it: it throws InputError or returns tensors whose bytes can be read.

#include "knapsaq/checkpoint/torch_file.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "knapsaq/base/error.h"
#include "knapsaq/checkpoint/torch_pickle.h"

namespace {

volatile std::uint64_t sink;  // so that the bytes are really read

void read_all(const knapsaq::TorchTensors& content) {
  std::uint64_t sum = 0;
  for (const auto& [name, tensor] : content.tensors) {
    std::int64_t elements = 1;
    for (const std::int64_t length : tensor.shape) elements *= length;
    if (elements != tensor.elements()) std::abort();
    for (const std::byte byte : tensor.bytes) sum += static_cast<std::uint64_t>(byte);
  }
  sink = sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    if (size >= 2 && data[0] == 'P' && data[1] == 'K') {
      read_all(knapsaq::parse_torch_file(bytes));
    } else {
      for (const auto& tensor : knapsaq::read_torch_pickle(bytes)) {
        if (tensor.shape.size() != tensor.strides.size()) std::abort();
      }
    }
  } catch (const knapsaq::InputError&) {
  }
  return 0;
}
