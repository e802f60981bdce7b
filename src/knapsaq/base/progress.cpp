#include "knapsaq/base/progress.h"

#include <atomic>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

class Silence final : public Progress {
 public:
  void begin(std::string_view, std::uint64_t, std::string_view) override {}
  void advance(std::uint64_t) override {}
  void end() override {}
};

std::atomic<bool> g_cancel{false};
static_assert(std::atomic<bool>::is_always_lock_free, "request_cancel() runs inside signal handlers");

}  // namespace

Progress& Progress::none() {
  static Silence silence;
  return silence;
}

void request_cancel() noexcept { g_cancel.store(true, std::memory_order_relaxed); }
bool cancel_requested() noexcept { return g_cancel.load(std::memory_order_relaxed); }
void check_cancelled() {
  if (cancel_requested()) throw Cancelled();
}

}  // namespace knapsaq
