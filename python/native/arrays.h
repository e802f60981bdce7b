#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

namespace knapsaq::python {

/// Arrays of the caller's, in its memory; C order.
template <class Number, std::size_t kDimensions>
using Input =
    nanobind::ndarray<const Number, nanobind::ndim<kDimensions>, nanobind::c_contig, nanobind::device::cpu>;

/// A NumPy array that takes over the vector's memory.
template <class Number>
nanobind::object numpy_array(std::vector<Number> values, std::initializer_list<std::size_t> shape) {
  auto* kept = new std::vector<Number>(std::move(values));
  nanobind::capsule owner(kept,
                          [](void* pointer) noexcept { delete static_cast<std::vector<Number>*>(pointer); });
  return nanobind::cast(nanobind::ndarray<nanobind::numpy, Number>(kept->data(), shape, owner));
}

}  // namespace knapsaq::python
