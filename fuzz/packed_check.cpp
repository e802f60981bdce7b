// Packed matrices with arbitrary fields: what check() lets pass can be decoded, row by row, without touching
// memory that is not there, and counts its own bytes.
//
// The input is a list of numbers that become the fields; vectors get the sizes that fit, more or fewer by
// what the input says, so that most inputs get past the first checks.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "knapsaq/base/error.h"
#include "knapsaq/compute/packed_matrix.h"

namespace {

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  template <class T>
  T take() {
    T value{};
    const std::size_t count = sizeof(T) < size_ ? sizeof(T) : size_;
    std::memcpy(&value, data_, count);
    data_ += count;
    size_ -= count;
    return value;
  }
  /// Mostly small, sometimes anything.
  std::int64_t number() {
    const auto selector = take<std::uint8_t>();
    if (selector < 240) return selector;
    if (selector < 250) return take<std::uint16_t>();
    return take<std::int64_t>();
  }
  template <class T>
  void fill(std::vector<T>& vector, std::int64_t wanted) {
    // At most 4096 elements, whatever the sizes say.
    const std::int64_t off = take<std::int8_t>() / 120;
    const std::int64_t count = wanted < 0 || wanted > 4096 ? 4096 : wanted + off;
    vector.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
    for (T& value : vector) value = take<T>();
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input in(data, size);
  knapsaq::PackedMatrix m;
  m.rows = in.number();
  m.cols = in.number();
  m.bits = static_cast<int>(in.number());
  m.group = static_cast<int>(in.number());
  m.meta_bits = in.take<std::uint8_t>() % 3 == 0 ? 8 : 16;
  m.meta_group = static_cast<int>(in.number());
  // Sizes in doubles: these cannot overflow before check() has seen them.
  const double groups = m.group > 0 ? std::ceil(static_cast<double>(m.cols) / m.group) : 0;
  const double words = std::ceil(static_cast<double>(m.cols) * m.bits / 32);
  const auto clipped = [](double wanted) {
    return wanted >= 0 && wanted <= 4096 ? static_cast<std::int64_t>(wanted) : -1;
  };
  const double count = static_cast<double>(m.rows) * groups;
  if (m.meta_bits == 16) {
    in.fill(m.scales, clipped(count));
    in.fill(m.biases, clipped(count));
  } else {
    const double pairs = m.meta_group > 0 ? std::ceil(count / m.meta_group) : 0;
    in.fill(m.scale_steps, clipped(pairs));
    in.fill(m.scale_mins, clipped(pairs));
    in.fill(m.scale_codes, clipped(count));
    in.fill(m.zero_codes, clipped(count));
  }
  in.fill(m.codes, clipped(static_cast<double>(m.rows) * words));
  try {
    m.check();
  } catch (const knapsaq::InputError&) {
    return 0;
  }
  std::vector<float> row(static_cast<std::size_t>(m.cols));
  for (std::int64_t r = 0; r < m.rows; ++r) {
    m.dequantize_row(r, row);
    for (const float weight : row) {
      if (!std::isfinite(weight)) std::abort();
    }
  }
  if (m.bytes() < m.codes.size() * 4) std::abort();
  return 0;
}
