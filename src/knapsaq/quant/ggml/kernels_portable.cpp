// Sixteen lanes in an array, for every processor; the compiler makes what vectors it has of the loops.

#include <cstdint>
#include <cstring>

#include "knapsaq/quant/ggml/kernels.h"

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
  // Beyond 2^23 a float has no fraction, so the hardware's rounding of the sum is the one that is wanted.
  constexpr float kShift = 0x1.8p23f;
  return lanes_of([&](int i) { return (x.v[i] + kShift) - kShift; });
}
Floats if_less(const Floats& a, const Floats& b, const Floats& yes, const Floats& no) {
  return lanes_of([&](int i) { return a.v[i] < b.v[i] ? yes.v[i] : no.v[i]; });
}

#include "knapsaq/quant/ggml/search.inc"

}  // namespace

extern const GgmlKernels kGgmlKernelsPortable;
const GgmlKernels kGgmlKernelsPortable = {"portable", search};

}  // namespace knapsaq
