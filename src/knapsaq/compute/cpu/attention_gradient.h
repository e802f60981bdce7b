#pragma once

#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/kernels.h"
#include "knapsaq/compute/cpu/product.h"

namespace knapsaq::cpu {

/// Backend::attend_backward(). Tile of queries by tile of keys: with S the scaled scores, P = softmax(S) and
/// dO the gradient by the output,
///   dV = P^T dO,  dP = dO V^T,  dS = P (dP - rowsum(P dP)),  dQ = dS K,  dK = dS^T Q
/// (Dao et al. 2022, "FlashAttention", appendix B.2). A sink takes its part of the sum of P, and its gradient
/// is minus that part times rowsum(P dP); a soft cap's slope is 1 - (score / cap)^2. A head of keys with its
/// queries is one task.
template <class T>
void attend_back(const Kernels<T>& kernels, Products& products, const AttentionShape& shape, const Array& q,
                 const Array& k, const Array& v, const Array& gradient, AttentionGradient& out);

extern template void attend_back(const Kernels<float>&, Products&, const AttentionShape&, const Array&,
                                 const Array&, const Array&, const Array&, AttentionGradient&);
extern template void attend_back(const Kernels<Bf16>&, Products&, const AttentionShape&, const Array&,
                                 const Array&, const Array&, const Array&, AttentionGradient&);

}  // namespace knapsaq::cpu
