// `knapsaq compare` as a user meets it, killed in the middle included.

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "apps/command_fixture.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

class CompareCommand : public InterventionTest {
 protected:
  std::string compare(const std::string& csv, const std::string& text) const {
    return "compare " + llama_ + " --text " + text + " -o " + scratch(csv) +
           " --methods rtn,gptq,mxq --configurations b3g64 --budgets 2.5:3.5:0.5 --window 64 --windows 4 "
           "--samples 8 --calibration-window 64";
  }
};

/// The rows without the last column, the seconds.
std::vector<std::string> rows(const fs::path& csv) {
  std::vector<std::string> rows;
  std::istringstream lines(read_file(csv));
  for (std::string line; std::getline(lines, line);) rows.push_back(line.substr(0, line.rfind(',')));
  return rows;
}

TEST_F(CompareCommand, KilledItGoesOnAndEndsWithTheSameRows) {
  const std::size_t calls = count_calls(calls_of(compare("whole.csv", text_)), kWriting);
  const std::vector<std::string> whole = rows(scratch_ / "whole.csv");
  ASSERT_EQ(whole.size(), 1u + 1 + 2 + 3);  // header, the model itself, rtn and gptq, three budgets
  EXPECT_GT(kill_until_done(compare("killed.csv", text_), calls / 16), 4);
  EXPECT_EQ(rows(scratch_ / "killed.csv"), whole);
}

TEST_F(CompareCommand, AnotherTextIsAnotherComparison) {
  must(compare("log.csv", text_));
  const std::string before = read_file(scratch_ / "log.csv");
  write_file(scratch_ / "other.txt", read_file(text_) + "\nMore.\n");
  expect_refused(compare("log.csv", scratch("other.txt")), 1, "another model, text");
  EXPECT_EQ(read_file(scratch_ / "log.csv"), before);
}

}  // namespace
}  // namespace knapsaq
