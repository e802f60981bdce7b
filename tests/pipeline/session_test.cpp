#include "knapsaq/pipeline/session.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/calib/samples.h"
#include "knapsaq/model/loaded_decoder.h"
#include "knapsaq/pipeline/find_model.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

fs::path llama() { return fs::path(KNAPSAQ_SOURCE_DIR) / "assets/wiki-llama-6m"; }

/// A variable of the environment as long as the test lasts.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* old = std::getenv(name)) before_ = old;
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() {
    if (before_.empty()) {
      ::unsetenv(name_);
    } else {
      ::setenv(name_, before_.c_str(), 1);
    }
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::string before_;
};

TEST(Session, LoadsADecoderOnceAndGivesItAway) {
  Environment environment;
  Session session(environment, llama());
  EXPECT_EQ(session.loaded_decoder(Precision::fp32), nullptr);
  Decoder& decoder = session.decoder(Precision::fp32);
  EXPECT_EQ(&session.decoder(Precision::fp32), &decoder);
  EXPECT_EQ(session.loaded_decoder(Precision::bf16), nullptr) << "another precision is another decoder";
  const LoadedDecoder taken = session.take_decoder(Precision::fp32);
  EXPECT_EQ(taken.decoder.get(), &decoder);
  EXPECT_EQ(session.loaded_decoder(Precision::fp32), nullptr);
}

TEST(Session, ReadsATextAgainOnceItHasChanged) {
  const Scratch scratch;
  Environment environment;
  Session session(environment, llama());
  const std::vector<fs::path> files = {scratch / "text.txt"};
  write_file(files.front(), "one");
  EXPECT_EQ(&session.text(files), &session.text(files));
  EXPECT_EQ(session.text(files).documents, std::vector<std::string>{"one"});
  write_file(files.front(), "another");
  EXPECT_EQ(session.text(files).documents, std::vector<std::string>{"another"});
}

TEST(Session, TakesFoldersOnlyWhereModelsAreWritten) {
  Environment environment;
  EXPECT_THROW(Session(environment, "/no/such/model"), Error);
  EXPECT_THROW(Session(environment, llama() / "config.json", Session::Weights::decoded), Error);
}

/// A cache as huggingface_hub lays it out: snapshots of links to blobs.
class MadeCache {
 public:
  MadeCache() : hub_("HF_HUB_CACHE", (scratch_ / "hub").string()) {
    const fs::path repository = scratch_ / "hub/models--made--tiny";
    fs::create_directories(repository / "blobs");
    fs::create_directories(repository / "refs/pr");
    fs::create_directories(repository / "snapshots/abc123");
    for (const fs::directory_entry& entry : fs::directory_iterator(llama())) {
      const std::string name = entry.path().filename().string();
      fs::copy_file(entry.path(), repository / "blobs" / ("blob-" + name));
      fs::create_symlink(fs::path("../../blobs") / ("blob-" + name), repository / "snapshots/abc123" / name);
    }
    write_file(repository / "refs/main", "abc123");
    write_file(repository / "refs/pr/1", "abc123");
    write_file(repository / "refs/lost", "no-such-commit");
  }
  fs::path snapshot() const { return scratch_ / "hub/models--made--tiny/snapshots/abc123"; }

 private:
  Scratch scratch_;
  Variable hub_;
};

TEST(FindModel, LooksIntoTheHuggingFaceCache) {
  const MadeCache cache;
  EXPECT_EQ(find_model("made/tiny"), cache.snapshot());
  EXPECT_EQ(find_model("made/tiny@abc123"), cache.snapshot());
  EXPECT_EQ(find_model("made/tiny@pr/1"), cache.snapshot());
  Environment environment;
  EXPECT_EQ(Session(environment, "made/tiny").path(), cache.snapshot()) << "its files are links";
}

TEST(FindModel, SaysHowToFetchWhatIsNotThere) {
  const MadeCache cache;
  for (const std::string name : {"made/other", "made/tiny@lost", "made/tiny@v2"}) {
    try {
      find_model(name);
      FAIL() << name;
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), HasSubstr("hf download made/")) << name;
    }
  }
  EXPECT_THROW(find_model("made/tiny@v2"), InputError);
}

TEST(FindModel, PathsComeFirstAndOtherNamesAreLeftAlone) {
  const MadeCache cache;
  const Scratch scratch;
  fs::create_directories(scratch / "made/tiny");
  const fs::path before = fs::current_path();
  fs::current_path(scratch / ".");
  EXPECT_EQ(find_model("made/tiny"), fs::path("made/tiny"));
  fs::current_path(before);
  for (const std::string name : {"", "tiny", "/made/tiny", "made/tiny/", "made/tiny/x", "../made", "made/..",
                                 "./tiny", "made/tiny@../../x", "ma de/tiny"})
    EXPECT_EQ(find_model(name), fs::path(name)) << name;
}

}  // namespace
}  // namespace knapsaq
