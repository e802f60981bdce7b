#include "knapsaq/compute/nf4_matrix.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

constexpr std::array<float, 16> kValues = {-1.0f,
                                           -0.6961928009986877f,
                                           -0.5250730514526367f,
                                           -0.39491748809814453f,
                                           -0.28444138169288635f,
                                           -0.18477343022823334f,
                                           -0.09105003625154495f,
                                           0.0f,
                                           0.07958029955625534f,
                                           0.16093020141124725f,
                                           0.24611230194568634f,
                                           0.33791524171829224f,
                                           0.44070982933044434f,
                                           0.5626170039176941f,
                                           0.7229568362236023f,
                                           1.0f};

/// Decimal exponents -6..0; exponent e has 2^(e+6) fractions, the middles of equal parts of [0.1, 1].
std::array<float, 256> make_absmax_values() {
  constexpr int kExponents = 7;
  std::array<float, 256> values{};
  std::size_t count = 0;
  for (int i = 0; i < kExponents; ++i) {
    const int parts = 1 << i;
    const float power = static_cast<float>(std::pow(10.0, i - (kExponents - 1)));
    const float step = (1.0f - 0.1f) / static_cast<float>(parts);
    // As PyTorch's linspace: fused, and from the nearer end, which decides the last bit of a sixth of them.
    const auto boundary = [&](int k) {
      return k < (parts + 1) / 2 ? std::fma(step, static_cast<float>(k), 0.1f)
                                 : std::fma(-step, static_cast<float>(parts - k), 1.0f);
    };
    for (int k = 0; k < parts; ++k) {
      const float value = power * ((boundary(k) + boundary(k + 1)) / 2.0f);
      values[count++] = value;
      values[count++] = -value;
    }
  }
  values[count++] = 0.0f;
  values[count++] = 1.0f;
  std::ranges::sort(values);
  return values;
}

}  // namespace

std::span<const float> nf4_values() { return kValues; }

std::span<const float> nf4_absmax_values() {
  static const std::array<float, 256> values = make_absmax_values();
  return values;
}

std::string nf4_state(std::int64_t rows, std::int64_t cols, float offset) {
  // The longest float, widened, is -1.1754943508222875e-38: 23 characters; the brace follows it.
  constexpr std::size_t kNumber = 24;
  std::string text =
      fmt::format(R"({{"quant_type": "nf4", "blocksize": {}, "dtype": "float32", "shape": [{}, {}], )"
                  R"("nested_blocksize": {}, "nested_dtype": "float32", "nested_offset": )",
                  Nf4Matrix::kBlock, rows, cols, Nf4Matrix::kNested);
  const std::string number = fmt::format("{}}}", static_cast<double>(offset));
  text += number;
  text.append(kNumber > number.size() ? kNumber - number.size() : 0, ' ');
  return text;
}

float Nf4Matrix::absmax(std::int64_t block) const {
  const float product = nf4_absmax_values()[absmax_codes[static_cast<std::size_t>(block)]] *
                        nested_absmax[static_cast<std::size_t>(block / kNested)];
  return product + offset;
}

void Nf4Matrix::dequantize_row(std::int64_t row, std::span<float> out) const {
  const std::int64_t begin = row * cols;
  const std::int64_t end = begin + cols;
  for (std::int64_t i = begin; i < end;) {
    const std::int64_t block = i / kBlock;
    const float factor = absmax(block);
    for (const std::int64_t stop = std::min(end, (block + 1) * kBlock); i < stop; ++i) {
      const std::uint8_t pair = codes[static_cast<std::size_t>(i / 2)];
      const unsigned code = i % 2 == 0 ? pair >> 4 : pair & 0xFu;
      out[static_cast<std::size_t>(i - begin)] = kValues[code] * factor;
    }
  }
}

void Nf4Matrix::check() const {
  constexpr std::int64_t kLargest = std::int64_t{1} << 31;
  if (rows < 1 || cols < 1 || rows > kLargest || cols > kLargest)
    throw InputError(fmt::format("the shape [{}, {}] is out of range", rows, cols));
  const auto expect = [](const char* field, std::size_t has, std::int64_t wanted) {
    if (has != static_cast<std::size_t>(wanted))
      throw InputError(fmt::format("{}: {} values where {} belong", field, has, wanted));
  };
  expect("codes", codes.size(), (rows * cols + 1) / 2);
  expect("absmax", absmax_codes.size(), blocks());
  expect("nested_absmax", nested_absmax.size(), nested_blocks());
  if (!std::isfinite(offset)) throw InputError(fmt::format("nested_offset is {}", offset));
  const auto bad = std::ranges::find_if_not(nested_absmax, [](float x) { return std::isfinite(x); });
  if (bad != nested_absmax.end())
    throw InputError(fmt::format("nested_absmax[{}] is {}", bad - nested_absmax.begin(), *bad));
  // Each factor is finite, but their sum may not be.
  for (std::int64_t nested = 0; nested < nested_blocks(); ++nested) {
    const float largest = std::fabs(nested_absmax[static_cast<std::size_t>(nested)]) + std::fabs(offset);
    if (!std::isfinite(largest))
      throw InputError(fmt::format("nested_absmax[{}] and nested_offset overflow together", nested));
  }
}

}  // namespace knapsaq
