#include "knapsaq/base/files.h"

#include <csignal>
#include <fstream>

#include <gtest/gtest.h>
#include <sys/resource.h>

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
  const Scratch scratch;
  struct rlimit before {};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const struct rlimit small { .rlim_cur = 4, .rlim_max = before.rlim_max };
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  std::string said;
  try {
    AtomicFile file(scratch / "result");
    file.write("does not fit");
  } catch (const IoError& error) {
    said = error.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  EXPECT_NE(said.find("result: cannot write: File too large"), std::string::npos) << said;
  EXPECT_EQ(entries(scratch.path()), 0u);
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
