#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace knapsaq::cpu {

/// Bytes on a 64-byte boundary: a cache line, and the widest vector.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  explicit AlignedBytes(std::size_t size) : size_(size) {
    if (size == 0) return;
    data_.reset(static_cast<std::byte*>(std::aligned_alloc(64, (size + 63) / 64 * 64)));
    if (!data_) throw std::bad_alloc();
  }

  std::byte* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  void clear() {
    if (size_ > 0) std::memset(data_.get(), 0, size_);
  }
  /// At least `size` bytes; the content is lost when it grows.
  void reserve(std::size_t size) {
    if (size > size_) *this = AlignedBytes(size);
  }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_ = 0;
};

}  // namespace knapsaq::cpu
