#include "knapsaq/report/written_steps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "scratch.h"

namespace knapsaq {
namespace {

WrittenSteps some_steps(const std::string& model, std::uint64_t bytes) {
  return {.model = model,
          .effort = "normal",
          .bytes = bytes,
          .bits = 3.25,
          .steps = {{"bank", 0.02, 0.001, 57.5, 0.8}, {"tuned", 0.0125, 0.0005, 56.25, 0.875}}};
}

TEST(WrittenSteps, AreReadAsTheyWereKept) {
  const Scratch scratch;
  keep_written_steps(some_steps("large", 500), scratch / "run", scratch / "large");
  keep_written_steps(some_steps("small", 400), scratch / "run", scratch / "small");
  WrittenSteps newer = some_steps("large", 600);
  newer.steps.pop_back();
  keep_written_steps(newer, scratch / "run", scratch / "large");
  const std::vector<WrittenSteps> all = read_written_steps(scratch / "run");
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].model, "small");
  EXPECT_EQ(all[1].bytes, 600u);
  EXPECT_EQ(all[1].steps.size(), 1u);
  ASSERT_EQ(all[0].steps.size(), 2u);
  EXPECT_EQ(all[0].steps[1].name, "tuned");
  EXPECT_EQ(all[0].steps[1].divergence, 0.0125);
  EXPECT_EQ(all[0].steps[1].standard_error, 0.0005);
  EXPECT_EQ(all[0].steps[1].perplexity, 56.25);
  EXPECT_EQ(all[0].steps[1].agreement, 0.875);
  EXPECT_TRUE(read_written_steps(scratch / "no run").empty());
}

TEST(WrittenSteps, OfDamagedFilesAreRefused) {
  const Scratch scratch;
  keep_written_steps(some_steps("m", 500), scratch / "run", scratch / "m");
  const auto file = std::filesystem::directory_iterator(scratch / "run" / "written-models")->path();
  const std::string good = read_file(file);
  for (const auto& [from, to] :
       std::vector<std::pair<std::string, std::string>>{{"0.0125", "-1"},
                                                        {"\"bytes\": 500", "\"bytes\": -5"},
                                                        {"knapsaq-written-steps", "x"},
                                                        {"\"steps\"", "\"s\""}}) {
    std::string bad = good;
    const std::size_t at = bad.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    bad.replace(at, from.size(), to);
    write_file(file, bad);
    EXPECT_THROW(read_written_steps(scratch / "run"), InputError) << from;
  }
}

}  // namespace
}  // namespace knapsaq
