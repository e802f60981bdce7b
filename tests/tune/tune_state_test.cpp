#include "knapsaq/tune/tune_state.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "scratch.h"

namespace knapsaq {
namespace {

TuneState made() {
  TuneState state(3);
  state.parameters = {1, 2, 3};
  state.adam.first = {4, 5, 6};
  state.adam.second = {7, 8, 9};
  state.adam.steps = 12;
  state.best = {-1, -2, -3};
  state.best_step = 10;
  state.best_kl = 0.1;
  state.looked_step = 10;
  state.looks_without_gain = 2;
  state.train_kl = 0.3;
  return state;
}

TEST(TuneState, IsReadBack) {
  Scratch scratch;
  const TuneState state = made();
  save_tune_state(state, "key", scratch / "s");
  TuneState read(3);
  ASSERT_TRUE(load_tune_state(read, "key", 12, scratch / "s"));
  EXPECT_EQ(read.parameters, state.parameters);
  EXPECT_EQ(read.adam.first, state.adam.first);
  EXPECT_EQ(read.adam.second, state.adam.second);
  EXPECT_EQ(read.adam.steps, 12);
  EXPECT_EQ(read.best, state.best);
  EXPECT_EQ(read.best_step, 10);
  EXPECT_EQ(read.best_kl, 0.1);
  EXPECT_EQ(read.looked_step, 10);
  EXPECT_EQ(read.looks_without_gain, 2);
  EXPECT_EQ(read.train_kl, 0.3);
}

TEST(TuneState, IsNotReadWhereItCannotBeMeant) {
  Scratch scratch;
  const auto is_read = [&](const TuneState& state, std::size_t count = 3, std::int64_t most = 100) {
    save_tune_state(state, "key", scratch / "s");
    TuneState read(count);
    return load_tune_state(read, "key", most, scratch / "s");
  };
  EXPECT_TRUE(is_read(made()));
  EXPECT_FALSE(is_read(made(), 4));
  EXPECT_FALSE(is_read(made(), 3, 11));
  TuneState state = made();
  state.adam.steps = -1;
  EXPECT_FALSE(is_read(state));
  state = made();
  state.best_step = 13;
  EXPECT_FALSE(is_read(state));
  state = made();
  state.looked_step = -4;
  EXPECT_FALSE(is_read(state));
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    state = made();
    state.best_kl = bad;
    EXPECT_FALSE(is_read(state));
  }
  TuneState none(3);
  EXPECT_FALSE(load_tune_state(none, "key", 100, scratch / "nothing"));
}

}  // namespace
}  // namespace knapsaq
