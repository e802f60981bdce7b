#include "knapsaq/base/threads.h"

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/execution.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

TEST(ThreadPool, RunsEveryIndexOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (const std::size_t count : {0, 1, 2, 3, 1000}) {
      std::vector<std::atomic<int>> seen(count);
      pool.parallel_for(count, [&](std::size_t i) { ++seen[i]; });
      for (const auto& times : seen) EXPECT_EQ(times, 1);
    }
  }
}

TEST(ThreadPool, ManyShortLoopsFollowEachOther) {
  ThreadPool pool(4);
  std::atomic<std::size_t> sum{0};
  for (int loop = 0; loop < 20000; ++loop) pool.parallel_for(3, [&](std::size_t i) { sum += i; });
  EXPECT_EQ(sum, 60000u);
}

// Pauses of all lengths, from where threads still look for work to where they sleep.
TEST(ThreadPool, LoopsAfterPausesAreWhole) {
  ThreadPool pool(3);
  std::vector<int> times(16);  // plain: the pool alone orders these writes
  for (int loop = 0; loop < 300; ++loop) {
    pool.parallel_for(times.size(), [&](std::size_t i) { ++times[i]; });
    std::this_thread::sleep_for(std::chrono::microseconds(loop));
  }
  for (const int each : times) EXPECT_EQ(each, 300);
}

// One of them has the pool, the other one does its loop alone.
TEST(ThreadPool, TwoCallersDoNotDisturbEachOther) {
  ThreadPool pool(3);
  std::atomic<int> wrong{0};
  const auto caller = [&] {
    for (int loop = 0; loop < 3000; ++loop) {
      std::vector<int> seen(7);
      pool.parallel_for(seen.size(), [&](std::size_t i) { ++seen[i]; });
      for (const int times : seen) wrong += times != 1;
    }
  };
  std::thread other(caller);
  caller();
  other.join();
  EXPECT_EQ(wrong, 0);
}

TEST(ThreadPool, LoopsInsideLoopsRunInPlace) {
  ThreadPool pool(3);
  std::atomic<int> inner{0};
  pool.parallel_for(10, [&](std::size_t) { pool.parallel_for(10, [&](std::size_t) { ++inner; }); });
  EXPECT_EQ(inner, 100);
}

TEST(ThreadPool, ThrowsWhatACallThrewAndStaysUsable) {
  ThreadPool pool(3);
  for (int round = 0; round < 100; ++round) {
    EXPECT_THROW(pool.parallel_for(50,
                                   [](std::size_t i) {
                                     if (i == 17) throw std::runtime_error("seventeen");
                                   }),
                 std::runtime_error);
    std::atomic<int> calls{0};
    pool.parallel_for(50, [&](std::size_t) { ++calls; });
    EXPECT_EQ(calls, 50);
  }
}

TEST(Execution, LoopsUseThePoolOfTheirScope) {
  ThreadPool outer(2);
  ThreadPool inner(3);
  const ExecutionScope first({.pool = &outer});
  EXPECT_EQ(&current_pool(), &outer);
  {
    const ExecutionScope second({.pool = &inner});
    EXPECT_EQ(&current_pool(), &inner);
  }
  EXPECT_EQ(&current_pool(), &outer);
}

TEST(Execution, AThreadWithoutAScopeUsesTheProcessPoolAndIsNotCancelled) {
  ThreadPool pool(2);
  Cancellation cancellation;
  cancellation.request();
  const ExecutionScope scope({&pool, &cancellation});
  EXPECT_TRUE(cancel_requested());
  std::thread([] {
    EXPECT_EQ(&current_pool(), &process_pool());
    EXPECT_FALSE(cancel_requested());
  }).join();
}

TEST(Execution, EveryThreadOfAPoolSeesTheCancellationOfTheLoop) {
  ThreadPool pool(3);
  Cancellation cancellation;
  const ExecutionScope scope({&pool, &cancellation});
  cancellation.request();
  std::atomic<int> seen{0};
  parallel_for(300, [&](std::size_t) { seen += cancel_requested(); });
  EXPECT_EQ(seen, 300);
  EXPECT_THROW(parallel_for(300, [](std::size_t) { check_cancelled(); }), Cancelled);
  // A loop of somebody without a cancellation is not stopped by that of the loop before.
  std::atomic<int> seen_later{0};
  std::thread([&] {
    const ExecutionScope own({.pool = &pool});
    parallel_for(300, [&](std::size_t) { seen_later += cancel_requested(); });
  }).join();
  EXPECT_EQ(seen_later, 0);
}

TEST(ParallelStreams, EveryIndexOnce) {
  for (const int threads : {1, 2, 5, 80}) {
    work_with_threads(threads);
    for (const std::size_t count : {0u, 1u, 2u, 7u, 1000u}) {
      std::vector<std::atomic<int>> seen(count);
      parallel_streams(count, [&](std::size_t index) { ++seen.at(index); });
      for (const std::atomic<int>& times : seen) EXPECT_EQ(times, 1) << threads << ' ' << count;
    }
  }
  work_with_threads(0);
}

TEST(ParallelStreams, AnExceptionArrives) {
  work_with_threads(3);
  EXPECT_THROW(parallel_streams(100,
                                [](std::size_t index) {
                                  if (index == 57) throw std::runtime_error("57");
                                }),
               std::runtime_error);
  int after = 0;
  parallel_streams(1, [&](std::size_t) { ++after; });
  EXPECT_EQ(after, 1);
  work_with_threads(0);
}

}  // namespace
}  // namespace knapsaq
