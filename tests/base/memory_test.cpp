#include "knapsaq/base/memory.h"

#include <vector>

#include <gtest/gtest.h>

namespace knapsaq {
namespace {

// Large enough to be seen beside what the test program itself takes and gives back meanwhile.
constexpr std::uint64_t kBytes = std::uint64_t{64} << 20;

TEST(Memory, ResidentBytesGrowWithWhatIsWrittenAndThePeakStays) {
  const std::uint64_t before = resident_memory();
  ASSERT_GT(before, 0U);
  {
    const std::vector<char> written(kBytes, 1);
    EXPECT_GE(resident_memory(), before + kBytes / 2);
  }
  EXPECT_GE(peak_resident_memory(), before + kBytes / 2);
  EXPECT_GE(peak_resident_memory(), resident_memory());
#if !defined(__SANITIZE_ADDRESS__)  // which keeps what is freed for a while
  EXPECT_LT(resident_memory(), before + kBytes / 2);
#endif
}

}  // namespace
}  // namespace knapsaq
