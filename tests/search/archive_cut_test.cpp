// An archive whose log was cut, as a machine that lost power leaves it: what was acknowledged before is
// there.

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/files.h"
#include "knapsaq/base/random.h"
#include "knapsaq/search/archive.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

// SQLite's file format: a header of the log, and one before every page in it.
constexpr std::size_t kLogHeader = 32;
constexpr std::size_t kFrameHeader = 24;
constexpr std::size_t kPage = 4096;

Measurement made_measurement(Random& random) {
  Measurement result;
  result.windows = 2;
  result.tokens = 700;
  result.kl = random.uniform();
  result.loss = random.uniform();
  for (int i = 0; i < result.tokens; ++i) result.per_token.push_back(static_cast<float>(random.uniform()));
  return result;
}

class CutArchive : public ::testing::Test {
 protected:
  CutArchive() {
    const fs::path path = scratch_ / "archive.db";
    Random random(3);
    Archive archive = Archive::create(path);
    archive.set_about("settings", "made");
    for (std::uint8_t i = 0; i < 12; ++i) {
      measurements_.push_back(made_measurement(random));
      archive.add(kSearchSet, {i}, measurements_.back(), 0.5);
      acknowledged_.push_back(fs::file_size(path.string() + "-wal"));
    }
    database_ = read_file(path);
    log_ = read_file(path.string() + "-wal");
  }

  /// Opens what is left, for writing and then for reading.
  void check(std::size_t cut, const std::string& log) {
    SCOPED_TRACE(cut);
    const fs::path path = scratch_ / "cut.db";
    for (const char* ending : {"", "-wal", "-shm"}) fs::remove(path.string() + ending);
    write_file(path, database_);
    write_file(path.string() + "-wal", log);
    const auto promised = static_cast<std::size_t>(
        std::ranges::count_if(acknowledged_, [&](std::uint64_t size) { return size <= cut; }));
    for (const bool writes : {true, false}) {
      const Archive archive = writes ? Archive::create(path) : Archive::open(path);
      const std::vector<Archive::Entry> entries = archive.entries(kSearchSet);
      ASSERT_GE(entries.size(), promised);
      ASSERT_LE(entries.size(), measurements_.size());
      if (promised > 0) {
        EXPECT_EQ(archive.about("settings"), "made");
      }
      for (std::size_t i = 0; i < entries.size(); ++i) {
        EXPECT_EQ(entries[i].point, Point{static_cast<std::uint8_t>(i)});
        const auto found = archive.find(kSearchSet, entries[i].point, 2);
        ASSERT_TRUE(found);
        EXPECT_EQ(found->kl, measurements_[i].kl);
        EXPECT_EQ(found->per_token, kept(measurements_[i]).per_token);
      }
    }
  }

  Scratch scratch_;
  std::vector<Measurement> measurements_;
  std::vector<std::uint64_t> acknowledged_;  ///< size of the log when add() had returned
  std::string database_;
  std::string log_;
};

TEST_F(CutArchive, HoldsWhatWasAcknowledgedWhereverItsLogEnds) {
  ASSERT_EQ((log_.size() - kLogHeader) % (kFrameHeader + kPage), 0u);
  std::vector<std::size_t> cuts;
  const char* trials = std::getenv("KNAPSAQ_CRASH_TRIALS");
  if (trials != nullptr && std::string(trials) == "all") {
    for (std::size_t cut = 0; cut <= log_.size(); ++cut) cuts.push_back(cut);
  } else {
    for (std::size_t frame = kLogHeader; frame <= log_.size(); frame += kFrameHeader + kPage)
      for (const std::size_t cut : {frame - 1, frame, frame + 1, frame + kFrameHeader})
        if (cut <= log_.size()) cuts.push_back(cut);
    Random random(1);
    for (int i = 0; i < 100; ++i) cuts.push_back(random.below(log_.size() + 1));
  }
  Random random(2);
  for (const std::size_t cut : cuts) {
    const std::string whole = log_.substr(0, cut);
    check(cut, whole);
    if (HasFatalFailure()) return;
    // The file has its length already, and what was not written is zeros or what lay on the disk before.
    check(cut, whole + std::string(log_.size() - cut, '\0'));
    if (HasFatalFailure()) return;
    std::string torn = whole;
    while (torn.size() < log_.size()) torn += static_cast<char>(random.below(256));
    check(cut, torn);
    if (HasFatalFailure()) return;
  }
}

TEST_F(CutArchive, APageOfTheDatabaseThatIsTornWhileTheLogIsMovedIntoItIsRepaired) {
  // A checkpoint writes pages of the log into the file, and only then drops the log.
  Random random(4);
  for (int i = 0; i < 40; ++i) {
    std::string torn = database_;
    // The first page says what the file is; SQLite writes its changes in one sector.
    for (std::size_t at = 512 + random.below(torn.size()); at < torn.size(); ++at)
      torn[at] = static_cast<char>(random.below(256));
    std::swap(torn, database_);
    check(log_.size(), log_);
    std::swap(torn, database_);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace knapsaq
