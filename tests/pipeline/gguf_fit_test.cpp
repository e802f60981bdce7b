// A GGUF file as the model of a fit.

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/pipeline/export_model.h"
#include "knapsaq/pipeline/fit.h"
#include "knapsaq/pipeline/quantize.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::HasSubstr;

fs::path llama() { return fs::path(KNAPSAQ_SOURCE_DIR) / "assets/wiki-llama-6m"; }

class Notes final : public Listener {
 public:
  void note(std::string_view line) override { lines.emplace_back(line); }
  void searching(const SearchStatus& status) override {
    if (status.measured == stop_at) cancellation.request();
  }
  std::vector<std::string> lines;
  std::int64_t stop_at = -1;
  Cancellation cancellation;
};

class GgufFit : public testing::Test {
 protected:
  fs::path exported(const fs::path& model, const std::string& name) {
    Environment environment;
    Session session(environment, model);
    ExportModelOptions options;
    options.format = "gguf";
    options.output = (scratch_ / name).string();
    return export_model(session, options).path;
  }

  std::string fit_file(const fs::path& model, const std::string& name, Notes& notes) {
    FitOptions options;
    options.effort = "quick";
    options.output = (scratch_ / name).string();
    options.budget.bytes = 4'300'000;
    options.of.engine = "llama.cpp";
    options.of.menu = "q4_0,q5_0,q8_0";
    options.of.calibration.samples = {.samples = 2, .window = 32};
    options.of.tokens = 128;
    options.of.heldout = 128;
    options.search.evaluations = 12;
    Environment environment({.threads = 2, .listener = &notes, .cancellation = &notes.cancellation});
    Session session(environment, model, Session::Weights::decoded);
    return read_file(fit(session, options).model.path);
  }

  Scratch scratch_;
};

TEST_F(GgufFit, GivesTheFileOfTheFolderAlsoAfterAKill) {
  const fs::path file = exported(llama(), "full.gguf");
  Notes notes;
  const std::string of_folder = fit_file(llama(), "of-folder.gguf", notes);
  EXPECT_LE(of_folder.size(), 4'300'000u);
  Notes stopped;
  stopped.stop_at = 5;
  EXPECT_THROW(fit_file(file, "of-file.gguf", stopped), Cancelled);
  EXPECT_FALSE(fs::exists(scratch_ / "of-file.gguf"));
  Notes resumed;
  EXPECT_EQ(fit_file(file, "of-file.gguf", resumed) == of_folder, true);
  EXPECT_THAT(resumed.lines, testing::Not(Contains(HasSubstr("already quantized"))));
}

TEST_F(GgufFit, TakesAFileThatIsQuantized) {
  {
    Environment environment;
    Session session(environment, llama(), Session::Weights::decoded);
    QuantizeOptions options;
    options.scheme = "q8_0";
    options.output = (scratch_ / "native").string();
    quantize(session, options);
  }
  const fs::path file = exported(scratch_ / "native", "q8.gguf");
  Notes notes;
  EXPECT_LE(fit_file(file, "out.gguf", notes).size(), 4'300'000u);
  EXPECT_EQ(std::ranges::count_if(
                notes.lines,
                [](const std::string& line) { return line.find("already quantized") != std::string::npos; }),
            1);
}

}  // namespace
}  // namespace knapsaq
