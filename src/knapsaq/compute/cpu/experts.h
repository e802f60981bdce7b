#pragma once

#include <cstdint>
#include <span>

#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/kernels.h"

namespace knapsaq::cpu {

/// What mixtures of experts need beside products: Backend's functions of the same names. Scores and weights
/// are computed in double; they cost nothing beside a row's products. T is what matrix products read.
template <class T>
class Experts {
 public:
  explicit Experts(const Kernels<T>& kernels) : kernels_(kernels) {}

  void route(const Array& logits, std::int64_t rows, const RouterRule& rule, ExpertRows& out) const;
  void gather(const Array& from, std::span<const std::int32_t> rows, Array& to) const;
  void add_experts(const Array& from, const ExpertRows& rows, Array& sum) const;

  void add_experts_backward(const Array& gradient, const Array& from, const ExpertRows& rows, Array& of_from,
                            std::span<float> of_weights) const;
  void gather_backward(const Array& from, std::span<const std::int32_t> rows, Array& sum) const;
  void route_backward(const Array& logits, std::int64_t rows, const RouterRule& rule,
                      const ExpertRows& routed, std::span<const float> of_weights, Array& of_logits) const;

 private:
  const Kernels<T>& kernels_;
};

extern template class Experts<float>;
extern template class Experts<Bf16>;

}  // namespace knapsaq::cpu
