#include "knapsaq/base/output_plan.h"

#include <functional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "knapsaq/base/atomic_folder.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

bool is_ours(std::string_view beginning) { return beginning.starts_with("ours"); }

class OutputPlanTest : public ::testing::Test {
 protected:
  OutputPlanTest() {
    fs::create_directories(scratch_ / "models/m/sub");
    write_file(scratch_ / "models/m/model.safetensors", "weights");
    write_file(scratch_ / "text.txt", "text");
    write_file(scratch_ / "ours.csv", "ours, old");
    write_file(scratch_ / "empty.csv", "");
    AtomicFolder folder(scratch_ / "q", false);
    write_file(folder.staging() / "file", "x");
    folder.commit();
  }

  /// What is said of an output of a command that reads models/m and text.txt; empty: it may be written.
  std::string said(const std::function<void(OutputPlan&)>& output) const {
    OutputPlan plan;
    plan.reads("the model", scratch_ / "models/m");
    plan.reads("the text", scratch_ / "text.txt");
    plan.reads("nothing", "");
    try {
      output(plan);
    } catch (const Error& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      return error.what();
    }
    return "";
  }
  std::string folder(const std::string& name, bool replace = true) const {
    return said([&](OutputPlan& plan) { plan.folder(scratch_ / name, replace); });
  }
  std::string file(const std::string& name, bool replace = true) const {
    return said([&](OutputPlan& plan) { plan.file(scratch_ / name, replace, is_ours); });
  }
  std::string workspace(const std::string& name) const {
    return said([&](OutputPlan& plan) { plan.workspace(scratch_ / name); });
  }

  Scratch scratch_;
};

TEST_F(OutputPlanTest, SourcesAreSacredByWhateverName) {
  fs::create_directory_symlink(scratch_ / "models/m", scratch_ / "link");
  fs::create_directory_symlink("models", scratch_ / "up");
  for (const std::string name : {"models/m", "models/m/", "models/m/.", "models/m/../m", "models/../models/m",
                                 "link", "up/m", "nowhere/../models/m"}) {
    EXPECT_THAT(folder(name), HasSubstr("is the model, which is needed")) << name;
    EXPECT_THAT(workspace(name), HasSubstr("is the model")) << name;
  }
  for (const std::string name : {"models", "up", "models/m/.."})
    EXPECT_THAT(folder(name), HasSubstr("holds the model")) << name;
  for (const std::string name : {"models/m/q", "link/q", "up/m/sub/q", "models/m/sub"}) {
    EXPECT_THAT(folder(name), HasSubstr("lies in the model")) << name;
    EXPECT_THAT(file(name), HasSubstr("lies in the model")) << name;
    EXPECT_THAT(workspace(name), HasSubstr("lies in the model")) << name;
  }
  EXPECT_THAT(file("text.txt"), HasSubstr("is the text"));
  EXPECT_THAT(folder(""), HasSubstr("holds the model"));
  fs::create_hard_link(scratch_ / "text.txt", scratch_ / "hard.txt");
  EXPECT_THAT(file("hard.txt"), HasSubstr("is the text"));
  fs::create_hard_link(scratch_ / "models/m/model.safetensors", scratch_ / "hard.safetensors");
  EXPECT_THAT(file("hard.safetensors"), HasSubstr("holds files of the model"));
  EXPECT_EQ(folder("models/m2"), "");
  EXPECT_EQ(folder("models/m.old"), "");
  EXPECT_EQ(folder("models/..m"), "");
}

TEST_F(OutputPlanTest, ALinkInAModelIsTheModelToo) {
  // As in a cache of Hugging Face: a folder of links to files that have numbers for names.
  AtomicFolder blobs(scratch_ / "blobs", false);
  write_file(blobs.staging() / "0123", "ours, weights");
  blobs.commit();
  fs::create_symlink(scratch_ / "blobs/0123", scratch_ / "models/m/part.safetensors");
  EXPECT_THAT(folder("blobs"), HasSubstr("files of the model"));
  EXPECT_THAT(file("blobs/0123"), HasSubstr("files of the model"));
  EXPECT_EQ(file("blobs/0124"), "");
}

TEST_F(OutputPlanTest, OutputsLeaveEachOtherAlone) {
  const auto both = [&](const std::string& a, const std::string& b) {
    return said([&](OutputPlan& plan) {
      plan.folder(scratch_ / a, true);
      plan.workspace(scratch_ / b);
    });
  };
  EXPECT_THAT(both("new", "new"), HasSubstr("is the output"));
  EXPECT_THAT(both("new", "./new/"), HasSubstr("is the output"));
  EXPECT_THAT(both("q", "q/run"), HasSubstr("lies in the output"));
  EXPECT_EQ(both("new", "new.run"), "");
  // What turns out to be read only when the output is known.
  EXPECT_THAT(said([&](OutputPlan& plan) {
                plan.folder(scratch_ / "q", true);
                plan.reads("the bank", scratch_ / "q/bank");
              }),
              HasSubstr("holds the bank"));
  // A place in a workspace that is an output's own.
  EXPECT_EQ(said([&](OutputPlan& plan) {
              plan.allows(scratch_ / "run/report.html");
              plan.workspace(scratch_ / "run");
              plan.file(scratch_ / "run/report.html", true, is_ours);
            }),
            "");
}

// A source may become known when the outputs are planned already.
TEST_F(OutputPlanTest, ALaterSourceLeavesWhatIsAllowedAlone) {
  const auto plan_run = [&](OutputPlan& plan) {
    plan.allows(scratch_ / "run/report.html");
    plan.workspace(scratch_ / "run");
    plan.file(scratch_ / "run/report.html", true, is_ours);
  };
  EXPECT_EQ(said([&](OutputPlan& plan) {
              plan_run(plan);
              plan.reads("the bank", scratch_ / "q");
            }),
            "");
  EXPECT_THAT(said([&](OutputPlan& plan) {
                plan_run(plan);
                plan.reads("the bank", scratch_ / "run/bank");
              }),
              HasSubstr("holds the bank"));
}

TEST_F(OutputPlanTest, NamesThatCannotBeAreRefusedAtOnce) {
  const std::string long_name(300, 'x');
  const std::string too_long_with_its_ending(250, 'x');
  std::string deep;
  for (int i = 0; i < 45; ++i) deep += std::string(90, 'x') + "/";
  for (const std::string& name : {long_name, too_long_with_its_ending}) {
    EXPECT_THAT(folder(name), testing::AnyOf(HasSubstr("too long"), HasSubstr("name too long")));
    EXPECT_THAT(file(name), testing::AnyOf(HasSubstr("too long"), HasSubstr("name too long")));
  }
  EXPECT_NE(folder(deep + "x"), "");
  EXPECT_EQ(folder(std::string(200, 'x')), "");
  EXPECT_THAT(folder("no/out"), HasSubstr("there is no folder"));
  EXPECT_THAT(file("no/out"), HasSubstr("there is no folder"));
  EXPECT_THAT(workspace("no/out"), HasSubstr("there is no folder"));
  EXPECT_THAT(folder("ours.csv/out"), HasSubstr("is not a folder"));
  EXPECT_THAT(folder("text.txt/out"), HasSubstr("lies in the text"));
  EXPECT_THAT(folder("ours.csv"), HasSubstr("is not a folder"));
  EXPECT_THAT(workspace("ours.csv"), HasSubstr("is not a folder"));
  EXPECT_THAT(file("q"), HasSubstr("is not a regular file"));
  EXPECT_THAT(file("new/"), HasSubstr("is the name of a folder"));
  EXPECT_THAT(file("."), HasSubstr("is the name of a folder"));
  EXPECT_THAT(said([](OutputPlan& plan) { plan.file("/dev/null", true, is_ours); }), HasSubstr("/dev/null"));
  EXPECT_THAT(said([](OutputPlan& plan) { plan.file("", true, is_ours); }), HasSubstr("empty"));
  EXPECT_THAT(said([](OutputPlan& plan) { plan.folder("", true); }), HasSubstr("empty"));
  EXPECT_THAT(said([](OutputPlan& plan) { plan.folder("/", true); }), HasSubstr("/"));
  fs::create_symlink("nowhere", scratch_ / "dangling");
  fs::create_symlink("loop", scratch_ / "loop");
  for (const std::string name : {"dangling", "loop", "loop/x"}) {
    EXPECT_NE(folder(name), "") << name;
    EXPECT_NE(file(name), "") << name;
  }
  if (::geteuid() != 0) {
    fs::create_directory(scratch_ / "locked");
    fs::permissions(scratch_ / "locked", fs::perms::owner_read | fs::perms::owner_exec);
    EXPECT_THAT(folder("locked/out"), HasSubstr("cannot be written"));
    EXPECT_THAT(file("locked/out"), HasSubstr("cannot be written"));
  }
}

TEST_F(OutputPlanTest, OnlyWhatKnapsaqWroteIsReplaced) {
  EXPECT_THAT(file("ours.csv", false), HasSubstr("--force"));
  EXPECT_EQ(file("ours.csv"), "");
  EXPECT_EQ(file("empty.csv"), "");
  write_file(scratch_ / "theirs.csv", "theirs");
  EXPECT_THAT(file("theirs.csv"), HasSubstr("was not written by Knapsaq"));
  EXPECT_THAT(folder("q", false), HasSubstr("--force"));
  EXPECT_EQ(folder("q"), "");
  fs::create_directory(scratch_ / "theirs");
  EXPECT_EQ(folder("theirs"), "");  // nothing is in it
  write_file(scratch_ / "theirs/notes.txt", "x");
  EXPECT_THAT(folder("theirs"), HasSubstr("was not written by Knapsaq"));
  EXPECT_THAT(folder("theirs", false), HasSubstr("exists already"));
}

}  // namespace
}  // namespace knapsaq
