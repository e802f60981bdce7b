// A linear in NF4 whose description (the whole input) is hostile and whose other tensors fit the shape that
// it tells: refused with one line, or read into something that decodes to finite numbers.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/base/error.h"
#include "knapsaq/checkpoint/nf4_layout.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace knapsaq;
  const std::span<const std::byte> text = std::as_bytes(std::span(data, size));
  const TensorView state{DType::U8, {static_cast<std::int64_t>(size)}, text};
  try {
    const Nf4Shape shape = parse_nf4_state(state);
    // Larger ones only cost time.
    if (shape.rows > 64 || shape.cols > 64) return 0;
    std::map<std::string, std::pair<TensorView, std::vector<std::byte>>> tensors;
    for (const TensorSpec& spec : nf4_tensors("m", shape)) {
      auto& [view, bytes] = tensors[spec.name];
      bytes.resize(spec.bytes(), std::byte{0x5A});
      view = {spec.type, spec.shape, bytes};
    }
    tensors.at("m.weight.quant_map").first.bytes = std::as_bytes(nf4_values());
    tensors.at("m.weight.nested_quant_map").first.bytes = std::as_bytes(nf4_absmax_values());
    tensors.at(nf4_state_name("m")).first = state;
    const Nf4Matrix matrix =
        read_nf4("m", shape, [&](const std::string& name) { return tensors.at(name).first; });
    std::vector<float> row(static_cast<std::size_t>(shape.cols));
    for (std::int64_t r = 0; r < shape.rows; ++r) {
      matrix.dequantize_row(r, row);
      for (const float w : row) {
        if (!std::isfinite(w)) std::abort();
      }
    }
  } catch (const InputError& error) {
    if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
  }
  return 0;
}
