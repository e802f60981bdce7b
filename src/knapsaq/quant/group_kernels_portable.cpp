// Sixteen lanes in an array, for every processor; the compiler makes what vectors it has of the loops.

#include <cstdint>
#include <cstring>

#include "knapsaq/quant/group_kernels.h"

namespace knapsaq {

namespace {

struct Floats {
  float v[16];
};

template <class Function>
inline __attribute__((always_inline)) Floats lanes_of(Function&& fn) {
  Floats result;
  for (int i = 0; i < 16; ++i) result.v[i] = fn(i);
  return result;
}

Floats load(const float* p) {
  return lanes_of([&](int i) { return p[i]; });
}
Floats load_part(const float* p, std::int64_t count, float fill) {
  return lanes_of([&](int i) { return i < count ? p[i] : fill; });
}
void store(float* p, const Floats& x) { std::memcpy(p, x.v, sizeof x.v); }
Floats broadcast(float x) {
  return lanes_of([&](int) { return x; });
}
Floats operator+(const Floats& a, const Floats& b) {
  return lanes_of([&](int i) { return a.v[i] + b.v[i]; });
}
Floats operator-(const Floats& a, const Floats& b) {
  return lanes_of([&](int i) { return a.v[i] - b.v[i]; });
}
Floats operator*(const Floats& a, const Floats& b) {
  return lanes_of([&](int i) { return a.v[i] * b.v[i]; });
}
Floats operator/(const Floats& a, const Floats& b) {
  return lanes_of([&](int i) { return a.v[i] / b.v[i]; });
}
Floats smaller(const Floats& a, const Floats& b) {
  return lanes_of([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
Floats larger(const Floats& a, const Floats& b) {
  return lanes_of([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
Floats nearest(const Floats& x) {
  // 1.5 * 2^23 puts the ulp at 1, so the addition rounds to an integer, ties to even.
  return lanes_of([&](int i) { return (x.v[i] + 12582912.0f) - 12582912.0f; });
}
Floats from_nearest(const Floats& x) { return x - nearest(x); }
Floats magnitude(const Floats& x) {
  return lanes_of([&](int i) { return __builtin_fabsf(x.v[i]); });
}
Floats with_sign(const Floats& size, const Floats& sign) {
  return lanes_of([&](int i) { return __builtin_copysignf(size.v[i], sign.v[i]); });
}
Floats keep_first(const Floats& x, std::int64_t count) { return load_part(x.v, count, 0.0f); }

float sum(const Floats& x) {
  float s[8];
  for (int i = 0; i < 8; ++i) s[i] = x.v[i] + x.v[i + 8];
  for (int i = 0; i < 4; ++i) s[i] += s[i + 4];
  return (s[0] + s[2]) + (s[1] + s[3]);
}
float lowest(const Floats& x) {
  float least = x.v[0];
  for (const float v : x.v) least = v < least ? v : least;
  return least;
}
float highest(const Floats& x) {
  float most = x.v[0];
  for (const float v : x.v) most = v > most ? v : most;
  return most;
}

Floats split(const Floats& x, Floats* mantissa) {
  Floats exponents;
  for (int i = 0; i < 16; ++i) {
    std::int32_t bits;
    std::memcpy(&bits, &x.v[i], sizeof bits);
    // 0x3F3504F3 is sqrt(1/2): subtracting it first puts the mantissa between sqrt(1/2) and sqrt(2).
    const std::int32_t exponent = (bits - 0x3F3504F3) >> 23;
    bits -= exponent * (1 << 23);
    std::memcpy(&mantissa->v[i], &bits, sizeof bits);
    exponents.v[i] = static_cast<float>(exponent);
  }
  return exponents;
}
Floats times_power_of_two(const Floats& x, const Floats& whole) {
  return lanes_of([&](int i) {
    const std::int32_t bits = (static_cast<std::int32_t>(whole.v[i]) + 127) * (1 << 23);
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return x.v[i] * power;
  });
}

void store_codes(std::uint8_t* codes, const Floats& x, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) codes[i] = static_cast<std::uint8_t>(x.v[i]);
}

struct Doubles {
  double v[16] = {};

  void add_squares(const Floats& x) {
    for (int i = 0; i < 16; ++i) v[i] += static_cast<double>(x.v[i]) * static_cast<double>(x.v[i]);
  }
  double total() const {
    double s[8];
    for (int i = 0; i < 8; ++i) s[i] = v[i] + v[i + 8];
    for (int i = 0; i < 4; ++i) s[i] += s[i + 4];
    return (s[0] + s[2]) + (s[1] + s[3]);
  }
};

#include "knapsaq/quant/group_kernels.inc"

}  // namespace

extern const GroupKernels kGroupKernelsPortable;
const GroupKernels kGroupKernelsPortable = {"portable",    range,         hqq_zero,     encode,
                                            squared_error, weighted_sums, inverse_power};

}  // namespace knapsaq
