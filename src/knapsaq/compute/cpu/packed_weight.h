#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/arena.h"
#include "knapsaq/compute/cpu/packed_kernels.h"

namespace knapsaq::cpu {

/// W [out, in] in panels (packed_kernels.h), from codes or as dense numbers.
class PackedWeight final : public Weight {
 public:
  PackedWeight(std::int64_t out, std::int64_t in, std::vector<float> bias, PackedView view, Arena& arena);

  std::uint64_t bytes() const override { return size() + bias().size_bytes(); }
  const PackedView& view() const { return view_; }
  std::int64_t panels() const { return (out() + kPanelRows - 1) / kPanelRows; }
  std::byte* panel(std::int64_t index) { return data_.get() + index * view_.panel_bytes; }

 private:
  PackedView view_;
  std::uint64_t size() const { return static_cast<std::uint64_t>(panels() * view_.panel_bytes); }

  std::shared_ptr<std::byte> data_;  ///< zeros at first
};

/// What a panel of a stored matrix is; empty for those that have none: affine groups that are neither rows
/// nor multiples of 32 columns, NF4 whose blocks cross rows.
std::optional<PackedView> packed_view(const StoredMatrix& matrix);

/// The codes and factors of a matrix that packed_view() is not empty for, laid out anew, on all threads.
std::unique_ptr<PackedWeight> pack(const StoredMatrix& matrix, std::vector<float> bias, Arena& arena);
/// Rows [first, first + n) of a matrix as floats; called from many threads.
using DenseRows = std::function<void(std::int64_t first, std::int64_t n, float* out)>;
/// Dense numbers as `code` says, rounded to it where they do not fit.
std::unique_ptr<PackedWeight> pack(std::int64_t out, std::int64_t in, Code code, std::vector<float> bias,
                                   const DenseRows& read, Arena& arena);

}  // namespace knapsaq::cpu
