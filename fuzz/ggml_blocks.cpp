#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "knapsaq/base/error.h"
#include "knapsaq/compute/ggml_block.h"
#include "knapsaq/compute/ggml_matrix.h"

/// Byte 0: type; then one row of blocks. Whatever check() lets pass decodes to finite numbers and packs to
/// the same bytes.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace knapsaq;
  if (size < 1) return 0;
  const GgmlTypeInfo& type = ggml_types()[data[0] % ggml_types().size()];
  GgmlMatrix matrix;
  matrix.type = type.type;
  matrix.rows = 1;
  matrix.cols = static_cast<std::int64_t>(size - 1) / type.bytes * type.block;
  matrix.blocks.resize(size - 1);
  if (size > 1) std::memcpy(matrix.blocks.data(), data + 1, size - 1);
  try {
    matrix.check();
  } catch (const InputError&) {
    return 0;
  }
  std::vector<float> row(static_cast<std::size_t>(matrix.cols));
  matrix.dequantize_row(0, row);
  for (const float w : row) {
    if (!std::isfinite(w)) std::abort();
  }
  const auto bytes = static_cast<std::size_t>(type.bytes);
  std::vector<std::byte> packed(bytes);
  GgmlBlock block;
  for (std::size_t at = 0; at < matrix.blocks.size(); at += bytes) {
    unpack_block(type.type, std::span(matrix.blocks).subspan(at, bytes), block);
    pack_block(type.type, block, packed);
    if (std::memcmp(packed.data(), matrix.blocks.data() + at, bytes) != 0) std::abort();
  }
  return 0;
}
