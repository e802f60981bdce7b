#pragma once

// The vectors of the instruction set that this source is compiled for: what knapsaq_kernels() of
// cmake/KnapsaqKernels.cmake does once for every set, with KNAPSAQ_SET defined as the set's name. A kernel
// source (NAME_kernels_simd.cpp) is written once over these vectors, in a namespace of the set's name:
//
//   namespace knapsaq::KNAPSAQ_SET {
//   namespace {
//   using namespace simd::KNAPSAQ_SET;
//   ... functions ...
//   }
//   extern const SomeKernels kSomeKernels;
//   const SomeKernels kSomeKernels = {...};
//   }
//
// Code that is compiled for a newer processor must never be what the linker keeps for an older one. So
// everything here is in the set's namespace, and a kernel source calls no inline function or template of
// another header, the standard library's included.
//
// The file of a set, NAME.h, defines a register of floats and what is done with it:
//
//   kLanes, kRegisters       floats of a register (4, 8 or 16), and registers
//   kFamily                  for people: "avx2"
//   Floats, Ints, Bytes      a register; Floats have + - * /, Ints + - & << >> (vectors.h)
//   splat(x)                 x in all lanes
//   load, store              of const float* and const Half*; load_part(p, n, fill), store_part(p, v, n)
//   load_ints(p)             kLanes int8 or uint8
//   to_floats, to_ints       numbers; to_ints of whole ones only
//   fma(a, b, c)             a * b + c; with one rounding where there is an instruction
//   vmin(a, b), vmax(a, b)   b where one of them is NaN: a bound stands first, and a NaN stays one
//   vsqrt, magnitude         by lane
//   with_sign(size, sign)    by lane, size >= 0
//   nearest(x)               ties to even, |x| < 2^22
//   from_nearest(x)          x - nearest(x)
//   if_less(a, b, yes, no)   a < b ? yes : no
//   keep_first(x, n)         0 behind the first n lanes; n may be negative or too large with less than 16
//   lanes largest_of, smallest_of  of the lanes sum_of                   of the lanes, in an order of the
//   set's own kSumsInTurn              whether sum_of sixteen goes from lane to lane; else halves are added
//   first tree_sum                 lane i and i + half, then again: the same bits in every set
//   split_exponent(x, f)     x = n + f with n = floor(x), f in [0, 1); n may be x, for scale_exponent() alone
//   scale_exponent(p, n)     p * 2^n
//   store_codes(p, x, n)     the first n lanes, whole numbers, as uint8
//   Doubles                  kLanes of them, at first 0: with_squares(sums, x), tree_sum
//
// and for products of packed weights, of kLanes rows of four bytes or of a pair of 16-bit numbers:
//
//   merged(low, high, m)     low & m | high & ~m
//   kPermutesBits            whether an instruction moves the bits of every byte: permuted<matrix>(v)
//   dot<kWide>(sum, u, x)    sum[row] += u[row][4] . x[4], u unsigned, x signed; u up to 128 unless kWide
//   kSignedDots              whether wide codes are better signed: dot_signed(sum, w, x), w at least -127
//   lookup(u, table)         16 bytes by indices in bytes; 16 floats by indices as floats
//   first_half, second_half  fp16 of the pairs in Words, as floats
//   store_rounded(v, q)      to the nearest int8, lanes 0, 2, 1, 3 of every four; their sum
//
// and, if it has products of bfloat16 pairs, KNAPSAQ_SIMD_BF16 and what avx512_bf16.h has. Sixteen lanes,
// whatever a register holds, are Floats16 and so on with the same operations: sixteen.h makes them of these.

#define KNAPSAQ_SIMD_QUOTED_(text) #text
#define KNAPSAQ_SIMD_QUOTED(text) KNAPSAQ_SIMD_QUOTED_(text)
// clang-format off
#define KNAPSAQ_SIMD_FILE(set) KNAPSAQ_SIMD_QUOTED(knapsaq/base/simd/set.h)
// clang-format on
#include KNAPSAQ_SIMD_FILE(KNAPSAQ_SET)

#include "knapsaq/base/simd/sixteen.h"

namespace knapsaq::simd::KNAPSAQ_SET {

constexpr const char* kSet = KNAPSAQ_SIMD_QUOTED(KNAPSAQ_SET);

}  // namespace knapsaq::simd::KNAPSAQ_SET
