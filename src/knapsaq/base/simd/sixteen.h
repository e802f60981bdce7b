#pragma once

// Sixteen lanes in as many registers as it takes: a register, two halves, or two halves of two. Included by
// simd.h behind the operations of a set.

#include <cstddef>
#include <cstdint>

namespace knapsaq::simd::KNAPSAQ_SET {

static_assert(kLanes == 4 || kLanes == 8 || kLanes == 16);

template <class V>
struct Twice {
  V a, b;
};
template <class V>
constexpr bool kIsTwice = false;
template <class V>
constexpr bool kIsTwice<Twice<V>> = true;

/// f for every register.
template <class F, class V, class... W>
inline auto each(F f, V x, W... y) {
  if constexpr (kIsTwice<V>) {
    using Result = decltype(each(f, x.a, y.a...));
    return Twice<Result>{each(f, x.a, y.a...), each(f, x.b, y.b...)};
  } else {
    return f(x, y...);
  }
}

/// make(first lane) for every register.
template <class Make>
inline auto sixteen(Make make) {
  using V = decltype(make(0));
  if constexpr (kLanes == 16) {
    return make(0);
  } else if constexpr (kLanes == 8) {
    return Twice<V>{make(0), make(8)};
  } else {
    return Twice<Twice<V>>{{make(0), make(4)}, {make(8), make(12)}};
  }
}

/// The number of floats in a vector.
template <class V>
constexpr int kLanesOf = sizeof(V) / 4;

using Floats16 = decltype(sixteen([](int) { return Floats{}; }));
using Ints16 = decltype(sixteen([](int) { return Ints{}; }));
/// Sixteen rows of four bytes, and of two 16-bit numbers.
using Bytes16 = decltype(sixteen([](int) { return Bytes{}; }));
using Pairs16 = decltype(sixteen([](int) { return Words{}; }));

template <class V>
inline Twice<V> operator+(Twice<V> x, Twice<V> y) {
  return {x.a + y.a, x.b + y.b};
}
template <class V>
inline Twice<V> operator-(Twice<V> x, Twice<V> y) {
  return {x.a - y.a, x.b - y.b};
}
template <class V>
inline Twice<V> operator*(Twice<V> x, Twice<V> y) {
  return {x.a * y.a, x.b * y.b};
}
template <class V>
inline Twice<V> operator/(Twice<V> x, Twice<V> y) {
  return {x.a / y.a, x.b / y.b};
}
template <class V>
inline Twice<V> fma(Twice<V> x, Twice<V> y, Twice<V> z) {
  return {fma(x.a, y.a, z.a), fma(x.b, y.b, z.b)};
}
template <class V>
inline Twice<V> vmin(Twice<V> x, Twice<V> y) {
  return {vmin(x.a, y.a), vmin(x.b, y.b)};
}
template <class V>
inline Twice<V> vmax(Twice<V> x, Twice<V> y) {
  return {vmax(x.a, y.a), vmax(x.b, y.b)};
}
template <class V>
inline Twice<V> magnitude(Twice<V> x) {
  return {magnitude(x.a), magnitude(x.b)};
}
template <class V>
inline Twice<V> with_sign(Twice<V> size, Twice<V> sign) {
  return {with_sign(size.a, sign.a), with_sign(size.b, sign.b)};
}
template <class V>
inline Twice<V> nearest(Twice<V> x) {
  return {nearest(x.a), nearest(x.b)};
}
template <class V>
inline Twice<V> from_nearest(Twice<V> x) {
  return {from_nearest(x.a), from_nearest(x.b)};
}
template <class V>
inline Twice<V> if_less(Twice<V> x, Twice<V> y, Twice<V> yes, Twice<V> no) {
  return {if_less(x.a, y.a, yes.a, no.a), if_less(x.b, y.b, yes.b, no.b)};
}
template <class V>
inline Twice<V> keep_first(Twice<V> x, int count) {
  return {keep_first(x.a, count), keep_first(x.b, count - kLanesOf<V>)};
}
template <class V>
inline auto tree_sum(Twice<V> x) {
  return tree_sum(x.a + x.b);
}
template <class V>
inline float largest_of(Twice<V> x) {
  return largest_of(vmax(x.a, x.b));
}
template <class V>
inline float smallest_of(Twice<V> x) {
  return smallest_of(vmin(x.a, x.b));
}

inline Floats16 splat16(float x) {
  return sixteen([&](int) { return splat(x); });
}
inline Floats16 load16(const float* p) {
  return sixteen([&](int i) { return load(p + i); });
}
inline Floats16 load_part16(const float* p, int count, float fill) {
  return sixteen([&](int i) { return load_part(p + i, count - i, fill); });
}
template <class V>
inline void store(float* p, Twice<V> x) {
  store(p, x.a);
  store(p + kLanesOf<V>, x.b);
}
template <class V>
inline float sum_of(Twice<V> x) {
  if constexpr (kSumsInTurn) {
    float lanes[kLanesOf<Twice<V>>];
    store(lanes, x);
    float sum = 0;
    for (const float lane : lanes) sum += lane;
    return sum;
  } else {
    return sum_of(x.a + x.b);
  }
}
template <class V>
inline void store_codes(std::uint8_t* p, Twice<V> x, int count) {
  store_codes(p, x.a, count);
  store_codes(p + kLanesOf<V>, x.b, count - kLanesOf<V>);
}

using Doubles16 = decltype(sixteen([](int) { return Doubles{}; }));
template <class S, class V>
inline Twice<S> with_squares(Twice<S> sums, Twice<V> x) {
  return {with_squares(sums.a, x.a), with_squares(sums.b, x.b)};
}

// ---- rows of four bytes -----------------------------------------------------------------------------------

inline Bytes16 load_bytes16(const std::byte* p) {
  return sixteen([&](int i) { return load_bytes(p + 4 * i); });
}
template <class V>
inline Twice<V> masked(Twice<V> x, unsigned char mask) {
  return {masked(x.a, mask), masked(x.b, mask)};
}
template <class V>
inline Twice<V> merged(Twice<V> low, Twice<V> high, unsigned char mask) {
  return {merged(low.a, high.a, mask), merged(low.b, high.b, mask)};
}
template <int kBits, class V>
inline Twice<V> shifted_right(Twice<V> x) {
  return {shifted_right<kBits>(x.a), shifted_right<kBits>(x.b)};
}
template <int kBits, class V>
inline Twice<V> shifted_left(Twice<V> x) {
  return {shifted_left<kBits>(x.a), shifted_left<kBits>(x.b)};
}
template <class V>
inline auto to_floats(Twice<V> x) {
  return each([](Ints v) { return to_floats(v); }, x);
}
/// Byte kByte of every row.
template <int kByte>
inline Floats16 column(Bytes16 u) {
  return each(
      [](Bytes v) {
        Words words = reinterpret_cast<Words>(v);
        if constexpr (kByte > 0) words = words >> (8 * kByte);
        if constexpr (kByte < 3) words = words & 255;
        return to_floats(reinterpret_cast<Ints>(words));
      },
      u);
}
template <class V, class T>
inline Twice<V> lookup(Twice<V> u, const T* table) {
  return {lookup(u.a, table), lookup(u.b, table)};
}
template <bool kWide, class S, class V>
inline Twice<S> dot(Twice<S> sum, Twice<V> u, const std::int8_t* x) {
  return {dot<kWide>(sum.a, u.a, x), dot<kWide>(sum.b, u.b, x)};
}
template <class S, class V>
inline Twice<S> dot_signed(Twice<S> sum, Twice<V> w, const std::int8_t* x) {
  return {dot_signed(sum.a, w.a, x), dot_signed(sum.b, w.b, x)};
}
template <class V>
inline float store_rounded(Twice<V> x, std::int8_t* q) {
  return store_rounded(x.a, q) + store_rounded(x.b, q + kLanesOf<V>);
}

// ---- numbers that are not floats, at any address
// ------------------------------------------------------------

inline Floats16 load_half16(const std::byte* p) {
  return sixteen([&](int i) { return load(reinterpret_cast<const Half*>(p) + i); });
}
inline Floats16 load_u8_16(const std::byte* p) {
  return sixteen([&](int i) { return to_floats(load_ints(reinterpret_cast<const std::uint8_t*>(p) + i)); });
}
inline Floats16 load_i8_16(const std::byte* p) {
  return sixteen([&](int i) { return to_floats(load_ints(reinterpret_cast<const std::int8_t*>(p) + i)); });
}
inline Floats16 low_nibbles16(const std::byte* p) {
  return sixteen(
      [&](int i) { return to_floats(load_ints(reinterpret_cast<const std::uint8_t*>(p) + i) & 15); });
}
inline Floats16 high_nibbles16(const std::byte* p) {
  return sixteen(
      [&](int i) { return to_floats(load_ints(reinterpret_cast<const std::uint8_t*>(p) + i) >> 4); });
}
inline Pairs16 load_pairs16(const std::byte* p) {
  return sixteen([&](int i) { return reinterpret_cast<Words>(load_bytes(p + 4 * i)); });
}
inline Floats16 first_half16(Pairs16 v) {
  return each([](Words pairs) { return first_half(pairs); }, v);
}
inline Floats16 second_half16(Pairs16 v) {
  return each([](Words pairs) { return second_half(pairs); }, v);
}
inline Floats16 first_bf16(Pairs16 v) {
  return each([](Words pairs) { return reinterpret_cast<Floats>(pairs << 16); }, v);
}
inline Floats16 second_bf16(Pairs16 v) {
  return each([](Words pairs) { return reinterpret_cast<Floats>(pairs & 0xFFFF0000u); }, v);
}

}  // namespace knapsaq::simd::KNAPSAQ_SET
