#include "knapsaq/tune/tuner.h"

#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/execution.h"
#include "tune/quantized_folder.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

const std::map<std::string, std::string> kSchemes = {{"*_proj", "rtn:b2g32"}, {"model.embed_tokens", "q4_0"}};

TuneSchedule schedule() { return {.steps = 12, .windows = 4, .rate = 0.02f, .look = 4}; }

/// All tensors that a tuned model would be written with.
std::map<std::string, std::vector<std::byte>> written(const TunableModel& model) {
  std::map<std::string, std::vector<std::byte>> all;
  const Replacements now = model.replacements();
  for (const auto& [name, matrix] : now.matrices)
    for (const auto part : bytes_of(*matrix)) all[name].insert(all[name].end(), part.begin(), part.end());
  for (const auto& [name, values] : now.vectors) {
    const auto bytes = std::as_bytes(std::span(values));
    all[name].assign(bytes.begin(), bytes.end());
  }
  return all;
}

/// Asks for an end when so many steps are made.
class Interrupts final : public Progress {
 public:
  Interrupts(Cancellation& cancellation, std::uint64_t at) : cancellation_(cancellation), at_(at) {}
  void begin(std::string_view what, std::uint64_t, std::string_view) override { tuning_ = what == "tuning"; }
  void advance(std::uint64_t done) override {
    if (!tuning_) return;
    steps_ += done;
    if (steps_ == at_) cancellation_.request();
  }
  void end() override {}

 private:
  Cancellation& cancellation_;
  std::uint64_t at_;
  std::uint64_t steps_ = 0;
  bool tuning_ = false;
};

TEST(Tuner, Improves) {
  QuantizedFolder folder(random_llama(true), kSchemes);
  std::vector<TuneLook> looks;
  const TuneOutcome outcome =
      tune(*folder.model, folder.train, folder.heldout, schedule(), "key", folder.scratch / "state",
           [&](const TuneLook& look) { looks.push_back(look); });
  EXPECT_LT(outcome.heldout_after.kl, 0.95 * outcome.heldout_before.kl);
  ASSERT_EQ(looks.size(), 3);
  for (std::size_t i = 0; i < looks.size(); ++i) {
    EXPECT_EQ(looks[i].step, static_cast<std::int64_t>(4 * (i + 1)));
    EXPECT_LE(looks[i].best_kl, looks[i].heldout_kl);
    if (looks[i].step != outcome.best_step) continue;
    EXPECT_EQ(looks[i].heldout_kl, outcome.heldout_after.kl);
  }
  EXPECT_EQ(outcome.heldout_after.kl, looks.back().best_kl);
}

TEST(Tuner, IsNeverWorseOnItsHeldOutTokens) {
  QuantizedFolder folder(random_llama(true), kSchemes);
  const auto before = written(*folder.model);
  TuneSchedule wild = schedule();
  wild.rate = 5;
  wild.look = 1;
  const TuneOutcome outcome =
      tune(*folder.model, folder.train, folder.heldout, wild, "key", folder.scratch / "state");
  EXPECT_EQ(outcome.best_step, 0);
  EXPECT_EQ(outcome.steps, wild.patience);
  EXPECT_EQ(outcome.heldout_after.kl, outcome.heldout_before.kl);
  EXPECT_EQ(written(*folder.model), before);
}

TEST(Tuner, GoesOnAsIfItHadNotBeenInterrupted) {
  std::optional<std::map<std::string, std::vector<std::byte>>> whole;
  // Within a round between looks, at a look, and twice; with other threads each time.
  for (const std::vector<std::uint64_t>& ends :
       std::vector<std::vector<std::uint64_t>>{{}, {1}, {6}, {8}, {3, 7}}) {
    work_with_threads(ends.size() % 2 == 0 ? 1 : 3);
    Scratch kept;
    for (const std::uint64_t end : ends) {
      QuantizedFolder folder(random_llama(true), kSchemes);
      Cancellation cancellation;
      Interrupts interrupts(cancellation, end);
      const ExecutionScope scope({&current_pool(), &cancellation});
      EXPECT_THROW(tune(*folder.model, folder.train, folder.heldout, schedule(), "key", kept / "state", {},
                        interrupts),
                   Cancelled);
      EXPECT_TRUE(fs::exists(kept / "state"));
    }
    QuantizedFolder folder(random_llama(true), kSchemes);
    std::int64_t steps = 0;
    tune(*folder.model, folder.train, folder.heldout, schedule(), "key", kept / "state",
         [&](const TuneLook& look) { steps = look.step; });
    EXPECT_EQ(steps, 12);
    if (!whole) whole = written(*folder.model);
    EXPECT_EQ(written(*folder.model), *whole) << ends.size();
  }
  work_with_threads(0);
}

TEST(Tuner, AStateOfSomethingElseOrADamagedOneIsNotGoneOnWith) {
  QuantizedFolder folder(random_llama(true), kSchemes);
  const fs::path state = folder.scratch / "state";
  int looks = 0;
  const auto run = [&](const TuneSchedule& how, const std::string& key) {
    looks = 0;
    tune(*folder.model, folder.train, folder.heldout, how, key, state, [&](const TuneLook&) { ++looks; });
    return written(*folder.model);
  };
  const auto expected = run(schedule(), "key");
  EXPECT_EQ(looks, 3);
  run(schedule(), "key");
  EXPECT_EQ(looks, 0);  // all is there
  run(schedule(), "other key");
  EXPECT_EQ(looks, 3);
  TuneSchedule other = schedule();
  other.rate /= 2;
  run(other, "key");
  EXPECT_EQ(looks, 3);
  run(schedule(), "key");
  {
    std::fstream file(state, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-200, std::ios::end);
    file.put('?');
  }
  EXPECT_EQ(run(schedule(), "key"), expected);
  EXPECT_EQ(looks, 3);
  fs::resize_file(state, 100);
  EXPECT_EQ(run(schedule(), "key"), expected);
  EXPECT_EQ(looks, 3);
}

}  // namespace
}  // namespace knapsaq
