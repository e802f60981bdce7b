// A search that is killed again and again ends with the archive of one that was not.

#include <csignal>
#include <functional>

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include "knapsaq/search/run_search.h"
#include "scratch.h"
#include "search/archive_dump.h"
#include "search/made_space.h"
#include "search/racing_strategy.h"
#include "search/synthetic_evaluator.h"

namespace knapsaq {
namespace {

/// Kills the process at a certain result: before it is reported, or right after it was archived.
class FatalEvaluator : public SyntheticEvaluator {
 public:
  using SyntheticEvaluator::SyntheticEvaluator;
  std::int64_t fatal = -1;
  bool after = false;

  void measure(std::span<const Point> points, WindowRange windows, const Done& done) override {
    SyntheticEvaluator::measure(points, windows, [&](std::size_t index, Measurement measurement) {
      if (told_ == fatal && !after) std::raise(SIGKILL);
      done(index, std::move(measurement));
      if (told_++ == fatal && after) std::raise(SIGKILL);
    });
  }

 private:
  std::int64_t told_ = 0;
};

/// A run of two searches: `random`, then one of several fidelities that meets points of the first.
void work(const SearchSpace& space, const std::filesystem::path& path, FatalEvaluator& evaluator) {
  StrategySetup setup;
  setup.space = &space;
  setup.windows = evaluator.windows();
  setup.seed = 7;
  setup.evaluations = 60;
  Archive archive = Archive::create(path);
  archive.set_about("space", space.identity());
  const StrategyInfo& info = find_strategy("random");
  OptionValues options(info.options);
  options.set("batch=20");
  const std::unique_ptr<Strategy> random = info.make(setup, options);
  run_search(*random, setup, archive.search("random", options.to_string(), setup.seed), evaluator, archive);
  RacingStrategy racing(setup, 5);
  run_search(racing, setup, archive.search("racing", "", setup.seed), evaluator, archive);
}

std::int64_t g_calls_left = 0;

/// One of SQLite's calls of the system, replaced by one that counts and may be the process's last.
template <const char* kName, class Result, class... Arguments>
struct CountedCall {
  static inline Result (*original)(Arguments...) = nullptr;

  static Result call(Arguments... arguments) {
    if (--g_calls_left == 0) std::raise(SIGKILL);
    return original(arguments...);
  }
  static void install(sqlite3_vfs* vfs) {
    original = reinterpret_cast<Result (*)(Arguments...)>(vfs->xGetSystemCall(vfs, kName));
    if (original != nullptr)
      vfs->xSetSystemCall(vfs, kName, reinterpret_cast<sqlite3_syscall_ptr>(&CountedCall::call));
  }
};

constexpr char kOpen[] = "open";
constexpr char kTruncate[] = "ftruncate";
constexpr char kUnlink[] = "unlink";
constexpr char kWrite[] = "write";
constexpr char kPwrite[] = "pwrite";
constexpr char kPwrite64[] = "pwrite64";

/// The process ends before SQLite makes the call of this number, from 1, that opens or changes a file.
void die_at_call(std::int64_t number) {
  g_calls_left = number;
  sqlite3_vfs* vfs = sqlite3_vfs_find(nullptr);
  CountedCall<kOpen, int, const char*, int, int>::install(vfs);
  CountedCall<kTruncate, int, int, off_t>::install(vfs);
  CountedCall<kUnlink, int, const char*>::install(vfs);
  CountedCall<kWrite, ssize_t, int, const void*, std::size_t>::install(vfs);
  CountedCall<kPwrite, ssize_t, int, const void*, std::size_t, off_t>::install(vfs);
  CountedCall<kPwrite64, ssize_t, int, const void*, std::size_t, off_t>::install(vfs);
}

enum class End { by_itself, killed, wrong };

/// Runs `child` in a process of its own.
End run_apart(const std::function<void()>& child) {
  const pid_t id = ::fork();
  if (id == 0) {
    try {
      child();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      ::_exit(1);
    }
    ::_exit(0);
  }
  int status = 0;
  if (::waitpid(id, &status, 0) != id) return End::wrong;
  if (WIFSIGNALED(status)) return WTERMSIG(status) == SIGKILL ? End::killed : End::wrong;
  return WEXITSTATUS(status) == 0 ? End::by_itself : End::wrong;
}

class Resume : public testing::Test {
 protected:
  Resume() {
    options_.targets = 200;
    FatalEvaluator evaluator(space_, options_);
    work(space_, scratch_ / "undisturbed", evaluator);
    results_ = evaluator.calls();
    expected_ = dump(scratch_ / "undisturbed");
    EXPECT_EQ(expected_.back(), "integrity|ok");
  }

  Scratch scratch_;
  SearchSpace space_ = made_space(5, kMadeMenu);
  SyntheticOptions options_;
  std::int64_t results_ = 0;
  std::vector<std::string> expected_;
};

TEST_F(Resume, AfterAKillAtAnyResult) {
  ASSERT_GT(results_, 80);
  // Every process makes one result more than the one before and is killed before it is kept; or it keeps it,
  // so that the next one has to go on from there.
  for (const bool after : {false, true}) {
    const std::filesystem::path path = scratch_ / (after ? "after" : "before");
    int kills = 0;
    while (true) {
      const End end = run_apart([&] {
        FatalEvaluator evaluator(space_, options_);
        evaluator.fatal = after ? 0 : 1;
        evaluator.after = after;
        work(space_, path, evaluator);
      });
      ASSERT_NE(end, End::wrong);
      if (end == End::by_itself) break;
      ASSERT_LE(++kills, 2 * results_);
    }
    EXPECT_EQ(kills, after ? results_ : results_ - 1);
    EXPECT_EQ(dump(path), expected_);
  }
}

TEST_F(Resume, AfterKillsAtAnyCallOfTheDatabase) {
  Random random(3);
  // Few calls first, so that many kills fall into the making of the file; more and more, so that it comes to
  // an end.
  int kills = 0;
  for (int run = 0; run < 3; ++run) {
    const std::filesystem::path path = scratch_ / std::to_string(run);
    double most = 2;
    while (true) {
      const std::int64_t call = 1 + static_cast<std::int64_t>(random.uniform() * most);
      const End end = run_apart([&] {
        die_at_call(call);
        FatalEvaluator evaluator(space_, options_);
        work(space_, path, evaluator);
      });
      ASSERT_NE(end, End::wrong);
      if (end == End::by_itself) break;
      ++kills;
      most *= 1.05;
    }
    EXPECT_EQ(dump(path), expected_);
    // Once more, undisturbed: nothing is measured and nothing changes.
    FatalEvaluator evaluator(space_, options_);
    work(space_, path, evaluator);
    EXPECT_EQ(evaluator.calls(), 0);
    EXPECT_EQ(dump(path), expected_);
  }
  RecordProperty("kills", kills);
  // The calls are the same every time, and so are the kills.
  EXPECT_GT(kills, 100);
}

}  // namespace
}  // namespace knapsaq
