#include "knapsaq/compute/cpu/arena.h"

#include <algorithm>
#include <new>

#include <sys/mman.h>

namespace knapsaq::cpu {
namespace {

constexpr std::size_t kPage = std::size_t{2}
                              << 20;  // of x86-64 and most others, where the kernel has larger ones
// Pages are only backed when they are written: a slab that is hardly used costs one page.
constexpr std::size_t kSlab = std::size_t{64} << 20;

std::size_t round_up(std::size_t n, std::size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

/// `size` bytes, a multiple of a page, aligned to it.
std::shared_ptr<std::byte> map(std::size_t size) {
  const std::size_t whole = size + kPage;
  void* start =
      ::mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) throw std::bad_alloc();
  const auto skip =
      round_up(reinterpret_cast<std::uintptr_t>(start), kPage) - reinterpret_cast<std::uintptr_t>(start);
  std::byte* const aligned = static_cast<std::byte*>(start) + skip;
#if defined(MADV_HUGEPAGE)
  ::madvise(aligned, size, MADV_HUGEPAGE);  // where it is refused, small pages do
#endif
  return {aligned, [start, whole](std::byte*) { ::munmap(start, whole); }};
}

}  // namespace

std::shared_ptr<std::byte> Arena::allocate(std::size_t bytes) {
  const std::size_t wanted = round_up(std::max<std::size_t>(bytes, 1), 64);
  if (wanted > size_ - used_) {
    size_ = round_up(std::max(wanted, kSlab), kPage);
    slab_ = map(size_);
    used_ = 0;
  }
  std::byte* const start = slab_.get() + used_;
  used_ += wanted;
  return {slab_, start};
}

}  // namespace knapsaq::cpu
