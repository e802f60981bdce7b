#include "knapsaq/pipeline/case_log.h"

#include <cmath>
#include <limits>
#include <string_view>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "message_of.h"
#include "scratch.h"

namespace knapsaq {
namespace {

using testing::HasSubstr;

CaseResult made(const std::string& configuration, double perplexity) {
  return {.method = "gptq",
          .configuration = configuration,
          .bits = 3.25,
          .bytes = 123456789012,
          .memory = 123456780000,
          .perplexity = perplexity,
          .quantize_seconds = 1.5};
}

std::string message_of(const std::filesystem::path& path, const std::string& run) {
  return knapsaq::message_of([&] { const CaseLog log(path, run); });
}

TEST(CaseLog, RemembersWhatWasAdded) {
  const Scratch scratch;
  {
    CaseLog log(scratch / "log.csv", "r1");
    log.add(made("b3g128", 61.25));
    log.add(made("b4g64", 0.1));
  }
  const CaseLog log(scratch / "log.csv", "r1");
  ASSERT_EQ(log.results().size(), 2u);
  const CaseResult* found = log.find("gptq", "b4g64");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->perplexity, 0.1);  // written so that it is read back exactly
  EXPECT_EQ(found->bytes, 123456789012u);
  EXPECT_EQ(found->memory, 123456780000u);
  EXPECT_EQ(found->bits, 3.25);
  EXPECT_EQ(found->quantize_seconds, 1.5);
  EXPECT_EQ(log.find("gptq", "b4g32"), nullptr);
  EXPECT_EQ(log.find("awq", "b4g64"), nullptr);
}

TEST(CaseLog, ACaseWithoutFiniteNumbersStaysOne) {
  const Scratch scratch;
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  CaseResult broken = made("b2g64", kNaN);
  broken.tasks = {kNaN};
  broken.average = kNaN;
  CaseLog(scratch / "log.csv", "r1", {"piqa"}).add(broken);
  const CaseLog log(scratch / "log.csv", "r1", {"piqa"});
  ASSERT_EQ(log.results().size(), 1u);
  EXPECT_TRUE(std::isnan(log.results()[0].perplexity));
  EXPECT_TRUE(std::isnan(log.results()[0].average));
  // No other column may hold such a thing, and no column an infinity.
  const std::string text = read_file(scratch / "log.csv");
  for (const auto& [from, to] : {std::pair{"3.25", "nan"}, {"1.500", "inf"}, {",nan,1.500", ",inf,1.500"}}) {
    std::string other = text;
    other.replace(other.find(from), std::string_view(from).size(), to);
    write_file(scratch / "other.csv", other);
    EXPECT_THROW(CaseLog(scratch / "other.csv", "r1", {"piqa"}), InputError) << to;
  }
}

TEST(CaseLog, GoesOnWhereverAKillCutTheFile) {
  const Scratch scratch;
  {
    CaseLog log(scratch / "whole.csv", "r1");
    log.add(made("b3g128", 61.25));
    log.add(made("b4g64", 58.5));
  }
  const std::string whole = read_file(scratch / "whole.csv");
  for (std::size_t size = 0; size <= whole.size(); ++size) {
    SCOPED_TRACE(size);
    const std::string cut = whole.substr(0, size);
    write_file(scratch / "cut.csv", cut);
    CaseLog log(scratch / "cut.csv", "r1");
    const auto lines = static_cast<std::size_t>(std::count(cut.begin(), cut.end(), '\n'));
    ASSERT_EQ(log.results().size(), lines < 2 ? 0 : lines - 1);
    for (const char* configuration : {"b3g128", "b4g64"})
      if (log.find("gptq", configuration) == nullptr)
        log.add(made(configuration, configuration[1] == '3' ? 61.25 : 58.5));
    EXPECT_EQ(read_file(scratch / "cut.csv"), whole);
  }
}

TEST(CaseLog, RefusesOtherFilesAndOtherRuns) {
  const Scratch scratch;
  CaseLog(scratch / "log.csv", "r1").add(made("b3g128", 61.25));
  EXPECT_THAT(message_of(scratch / "log.csv", "r2"), HasSubstr("line 2: was made with another model"));
  write_file(scratch / "other.csv", "a,b\n1,2\n");
  EXPECT_THAT(message_of(scratch / "other.csv", "r1"), HasSubstr("not the CSV of a comparison"));
  write_file(scratch / "text", "no lines");
  EXPECT_THAT(message_of(scratch / "text", "r1"), HasSubstr("not the CSV of a comparison"));
  const std::string letter = "Dear reader,\nthis is no table";
  write_file(scratch / "letter.txt", letter);
  EXPECT_THAT(message_of(scratch / "letter.txt", "r1"), HasSubstr("not the CSV of a comparison"));
  EXPECT_EQ(read_file(scratch / "letter.txt"), letter);
  const std::string good = read_file(scratch / "log.csv");
  write_file(scratch / "bad.csv", good + "r1,gptq,b3g64,x,1,1,1,1\n");
  EXPECT_THAT(message_of(scratch / "bad.csv", "r1"), HasSubstr("line 3: is not a row"));
  EXPECT_EQ(read_file(scratch / "bad.csv"), good + "r1,gptq,b3g64,x,1,1,1,1\n");
}

TEST(CaseLog, HasAColumnForEveryTask) {
  const Scratch scratch;
  CaseResult one = made("b3g128", 61.25);
  one.tasks = {0.5, 0.125};
  one.average = 0.3125;
  const std::vector<std::string> tasks = {"piqa", "boolq"};
  CaseLog(scratch / "log.csv", "r1", tasks).add(one);
  const std::string text = read_file(scratch / "log.csv");
  EXPECT_THAT(text, HasSubstr(",quantize_seconds,piqa,boolq,average\n"));
  EXPECT_THAT(text, HasSubstr(",0.5,0.125,0.3125\n"));
  const CaseLog log(scratch / "log.csv", "r1", tasks);
  ASSERT_EQ(log.results().size(), 1u);
  EXPECT_EQ(log.results()[0].tasks, one.tasks);
  EXPECT_EQ(log.results()[0].average, one.average);
  // Not the file of a comparison without tasks or by others, whatever its rows.
  EXPECT_THAT(message_of(scratch / "log.csv", "r1"), HasSubstr("line 1: is of a comparison by other tasks"));
  EXPECT_THROW(CaseLog(scratch / "log.csv", "r1", {"piqa"}), InputError);
  write_file(scratch / "bad.csv", text + "r1,gptq,b3g64,1,1,1,1,1,0.5,x,0.5\n");
  EXPECT_THROW(CaseLog(scratch / "bad.csv", "r1", tasks), InputError);
}

TEST(CaseLog, SaysThatItCannotWrite) {
  CaseLog log("/nowhere/at/all.csv", "r1");  // nothing is written yet
  EXPECT_THROW(log.add({}), IoError);
}

}  // namespace
}  // namespace knapsaq
