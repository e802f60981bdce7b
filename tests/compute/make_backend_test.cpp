// Devices by name: each of the list computes as it says, others are refused in a sentence.

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/cpu_backend.h"

namespace knapsaq {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

TEST(MakeBackend, EveryDeviceOfTheList) {
  EXPECT_THAT(devices(), Contains("cpu:portable"));
  for (const std::string& device : devices()) {
    for (const Precision precision : {Precision::fp32, Precision::bf16}) {
      const auto backend = make_backend({.device = device, .precision = precision});
      EXPECT_EQ(backend->precision(), precision);
      EXPECT_GE(backend->batch_rows(), 1);
      if (backend->available_memory()) {
        EXPECT_GT(*backend->available_memory(), 1u << 20);
      }
    }
  }
}

TEST(MakeBackend, WithoutAVariantTheBest) {
  const std::string best = devices().front();
  EXPECT_EQ(best, "cpu:" + cpu_variants().front());
  EXPECT_EQ(make_backend({})->description(), make_backend({.device = best})->description());
  EXPECT_NE(make_backend({})->description(),
            make_backend({.device = best, .precision = Precision::fp32})->description());
}

TEST(MakeBackend, OtherNamesAreRefused) {
  for (const std::string device : {"", "gpu", "cpu:", "cpu:avx3", "cpu:portable:", ":portable", "CPU"}) {
    try {
      make_backend({.device = device});
      ADD_FAILURE() << device;
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), AllOf(HasSubstr("device"), HasSubstr("cpu:portable"))) << device;
    }
  }
}

}  // namespace
}  // namespace knapsaq
