#include "knapsaq/base/files.h"

#include <fstream>

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

std::size_t entries(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

TEST(Files, AnAtomicFileAppearsOnlyWhenCommitted) {
  const Scratch scratch;
  const fs::path path = scratch / "result";
  {
    AtomicFile file(path);
    file.write("abandoned");
    EXPECT_FALSE(fs::exists(path));
  }
  EXPECT_EQ(entries(scratch.path()), 0u);
  write_file(path, "kept");
  EXPECT_EQ(read_file(path), "kept");
  EXPECT_EQ(entries(scratch.path()), 1u);
}

TEST(Files, AFullDiskIsAnErrorAndLeavesNothing) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  const Scratch scratch;
  // The partial file is a link to a device that is always full.
  fs::create_symlink("/dev/full",
                     fs::path((scratch / "result").string() + ".partial-" + std::to_string(::getpid())));
  try {
    AtomicFile file(scratch / "result");
    file.write("does not fit");
    FAIL() << "writing to a full disk succeeded";
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("No space left"), std::string::npos) << error.what();
  }
  EXPECT_EQ(entries(scratch.path()), 0u);
}

TEST(Files, AnExistingFolderIsRefusedUnlessReplaced) {
  const Scratch scratch;
  const fs::path out = scratch / "out";
  fs::create_directory(out);
  write_file(out / "old", "x");
  EXPECT_THROW(AtomicFolder(out, false), UsageError);
  {
    AtomicFolder abandoned(out, true);
    write_file(abandoned.staging() / "new", "y");
  }
  EXPECT_TRUE(fs::exists(out / "old"));
  AtomicFolder folder(out, true);
  write_file(folder.staging() / "new", "y");
  folder.commit();
  EXPECT_TRUE(fs::exists(out / "new"));
  EXPECT_FALSE(fs::exists(out / "old"));
  EXPECT_EQ(entries(scratch.path()), 1u);
}

TEST(Files, ReleasedPagesCanBeReadAgain) {
  const Scratch scratch;
  std::string content(100000, 'a');
  content[50000] = 'b';
  write_file(scratch / "data", content);
  const MappedFile file(scratch / "data");
  file.release(file.bytes());
  EXPECT_EQ(static_cast<char>(file.bytes()[50000]), 'b');
  EXPECT_THROW(MappedFile(scratch / "missing"), IoError);
  EXPECT_THROW(MappedFile{scratch.path()}, IoError);
  EXPECT_THROW(read_file(scratch / "data", 10), InputError);
}

}  // namespace
}  // namespace knapsaq
