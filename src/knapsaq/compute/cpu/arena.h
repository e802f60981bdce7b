#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace knapsaq::cpu {

/// Memory for weights, in slabs of large pages: weights are read front to back, and with pages of 4 KiB the
/// processor looks up addresses where it should read (18 to 24 GB/s from memory in place of 28 to 30 on one
/// machine). A slab is freed with the last piece of it.
class Arena {
 public:
  /// `bytes` zeros, aligned to 64. Throws std::bad_alloc.
  std::shared_ptr<std::byte> allocate(std::size_t bytes);

 private:
  std::shared_ptr<std::byte> slab_;
  std::size_t size_ = 0;
  std::size_t used_ = 0;
};

}  // namespace knapsaq::cpu
