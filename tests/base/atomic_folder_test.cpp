#include "knapsaq/base/atomic_folder.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/folder_record.h"
#include "message_of.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::size_t entries(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

void write_folder(const fs::path& path, const std::string& content, bool replace = false) {
  AtomicFolder folder(path, replace);
  write_file(folder.staging() / "file", content);
  folder.commit();
}

std::string refusal(const fs::path& path, bool replace = true) {
  return message_of<UsageError>([&] { AtomicFolder folder(path, replace); });
}

/// A process that is over: nobody has its number while it is not waited for.
class DeadProcess {
 public:
  DeadProcess() : id_(::fork()) {
    if (id_ == 0) ::_exit(0);
    siginfo_t ended{};
    ::waitid(P_PID, static_cast<id_t>(id_), &ended, WEXITED | WNOWAIT);
  }
  ~DeadProcess() { ::waitpid(id_, nullptr, 0); }
  DeadProcess(const DeadProcess&) = delete;
  DeadProcess& operator=(const DeadProcess&) = delete;
  std::string id() const { return std::to_string(id_); }

 private:
  pid_t id_;
};

TEST(AtomicFolder, ReplacesOnlyWhatKnapsaqWrote) {
  const Scratch scratch;
  const fs::path out = scratch / "out";
  write_folder(out, "old");
  EXPECT_THAT(refusal(out, false), HasSubstr("--force"));
  {
    AtomicFolder abandoned(out, true);
    write_file(abandoned.staging() / "file", "abandoned");
  }
  EXPECT_EQ(read_file(out / "file"), "old");
  write_folder(out, "new", true);
  EXPECT_EQ(read_file(out / "file"), "new");
  EXPECT_EQ(entries(scratch.path()), 1u);

  write_file(out / "notes.txt", "mine");
  EXPECT_THAT(refusal(out), HasSubstr("'notes.txt', which Knapsaq did not write"));
  fs::remove(out / "notes.txt");
  write_file(out / "file", "longer than it was");
  EXPECT_THAT(refusal(out), HasSubstr("'file', which was changed since"));
  fs::remove(out / "file");
  EXPECT_EQ(refusal(out), "");
  fs::create_directory(out / "file");
  EXPECT_THAT(refusal(out), HasSubstr("'file'"));

  const fs::path other = scratch / "other";
  fs::create_directory(other);
  EXPECT_EQ(refusal(other), "");  // nothing in it
  for (const char* record : {"", "{", "[]", R"({"format": "other", "files": {}})",
                             R"({"format": "knapsaq output", "files": {"file": "x"}})"}) {
    write_file(other / kFolderRecordName, record);
    EXPECT_THAT(refusal(other), HasSubstr("was not written by Knapsaq")) << record;
  }
  write_file(scratch / "plain", "x");
  EXPECT_THAT(refusal(scratch / "plain"), HasSubstr("is not a folder"));
  fs::create_symlink("nowhere", scratch / "dangling");
  EXPECT_THAT(refusal(scratch / "dangling"), HasSubstr("link to nothing"));
}

TEST(AtomicFolder, NamesAreFollowedOnce) {
  const Scratch scratch;
  write_folder(scratch / "m", "old");
  // Seen again after a rename, this name would lead nowhere.
  write_folder(scratch / "m/../m/", "new", true);
  EXPECT_EQ(read_file(scratch / "m/file"), "new");
  fs::create_directory_symlink("m", scratch / "link");
  write_folder(scratch / "link", "through the link", true);
  EXPECT_TRUE(fs::is_symlink(scratch / "link"));
  EXPECT_EQ(read_file(scratch / "m/file"), "through the link");
  EXPECT_EQ(entries(scratch.path()), 2u);
}

TEST(AtomicFolder, WhatTheDeadLeftIsClearedAway) {
  const Scratch scratch;
  const DeadProcess dead;
  const fs::path out = scratch / "out";
  for (const std::string& name : {"out.partial-" + dead.id(), "out.partial-" + dead.id() + "-1"}) {
    fs::create_directory(scratch / name);
    write_file(scratch / (name + "/file"), "half");
  }
  // As a process that died between two renames leaves it.
  write_folder(scratch / ("out.old-" + dead.id()), "old");
  EXPECT_THAT(refusal(out, false), HasSubstr("exists already"));
  EXPECT_EQ(read_file(out / "file"), "old");
  // And between the second and the removal.
  write_folder(scratch / ("out.old-" + dead.id()), "older");
  write_folder(out, "new", true);
  EXPECT_EQ(read_file(out / "file"), "new");
  EXPECT_EQ(entries(scratch.path()), 1u);

  // Whose else it may be is kept: names that are not ours, folders that we did not write, and what lives.
  const std::vector<std::string> others = {"out.partial-", "out.partial-1x", "out.partial-12-",
                                           "other.partial-" + dead.id(), "out.old-" + dead.id()};
  for (const std::string& name : others) {
    fs::create_directory(scratch / name);
    write_file(scratch / (name + "/file"), "somebody's");
  }
  fs::create_symlink("m", scratch / ("out.partial-" + dead.id()));
  const AtomicFolder living(out, true);
  const std::size_t before = entries(scratch.path());
  write_folder(out, "newest", true);
  EXPECT_EQ(entries(scratch.path()), before);
  EXPECT_TRUE(fs::exists(living.staging()));
}

TEST(AtomicFolder, AFileOfADeadProcessIsClearedAway) {
  const Scratch scratch;
  const DeadProcess dead;
  write_file(scratch / ("file.partial-" + dead.id()), "half");
  write_file(scratch / ("other.partial-" + dead.id()), "half");
  {
    AtomicFile living(scratch / "file");
    write_file(scratch / "file", "whole");
    EXPECT_EQ(entries(scratch.path()), 3u);
    living.write("later");
    living.commit();
  }
  EXPECT_EQ(read_file(scratch / "file"), "later");
  EXPECT_EQ(entries(scratch.path()), 2u);
}

TEST(AtomicFolder, FinishedWorkOutlivesANameThatIsTaken) {
  const Scratch scratch;
  const fs::path out = scratch / "out";
  AtomicFolder folder(out, false);
  write_file(folder.staging() / "file", "took hours");
  write_file(out, "came in between");
  try {
    folder.commit();
    FAIL() << "the name was taken";
  } catch (const IoError& error) {
    EXPECT_THAT(error.what(), HasSubstr("it is kept as " + out.string() + ".finished-"));
  }
  EXPECT_EQ(read_file(out), "came in between");
  EXPECT_EQ(read_file(out.string() + ".finished-" + std::to_string(::getpid()) + "/file"), "took hours");

  // In a folder that is replaced, too.
  fs::remove(out);
  write_folder(out, "old");
  AtomicFolder other(out, true);
  write_file(other.staging() / "file", "took hours");
  write_file(out / "notes.txt", "came in between");
  EXPECT_THROW(other.commit(), UsageError);
  EXPECT_EQ(read_file(out / "notes.txt"), "came in between");
}

}  // namespace
}  // namespace knapsaq
