// What the pool of threads costs, and what it keeps of its speed when another process takes a core.
//
//   threads_bench [--threads 2] [--foreign 1]
//
// Empty loops: time of a loop of so many indices that do nothing, one loop after another; the fastest batch,
// because other processes only ever add to the time, and the median.
// Tokens: 170 loops of 5 to 30 microseconds, as the products, norms and attentions of a generated token make
// them, with some microseconds of the caller's own between them, and 50 microseconds between two tokens.
// Tokens per second with nothing else, then with as many foreign busy processes as asked for, alternating,
// and the share that is kept.

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <sys/wait.h>
#include <unistd.h>

#include "knapsaq/base/threads.h"

namespace {

using namespace knapsaq;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void empty_loops(ThreadPool& pool, std::size_t indices) {
  constexpr int kLoops = 50;  // some 50 microseconds: a batch that nobody interrupts is found soon
  std::vector<double> batches(2000);
  for (double& batch : batches) {
    const auto begin = Clock::now();
    for (int i = 0; i < kLoops; ++i) pool.parallel_for(indices, [](std::size_t) {});
    batch = seconds_since(begin) / kLoops * 1e6;
  }
  fmt::print("empty loop of {:3} indices: fastest {:6.2f} us, median {:6.2f} us\n", indices,
             *std::ranges::min_element(batches), median(batches));
}

/// So many dependent steps of arithmetic, some nanosecond each.
std::uint64_t toil(std::int64_t steps) {
  std::uint64_t state = static_cast<std::uint64_t>(steps);
  for (std::int64_t i = 0; i < steps; ++i) state = state * 6364136223846793005u + 1442695040888963407u;
  return state;
}

/// Steps of a microsecond, by the fastest of many tries.
double steps_per_microsecond() {
  constexpr std::int64_t kSteps = 20000;
  double best = 1e30;
  volatile std::uint64_t sink = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto begin = Clock::now();
    sink = sink + toil(kSteps);
    best = std::min(best, seconds_since(begin));
  }
  return static_cast<double>(kSteps) / (best * 1e6);
}

struct Token {
  static constexpr int kLoops = 170;
  static constexpr std::size_t kIndices = 16;

  explicit Token(double steps_per_us) : steps(steps_per_us), sums(kIndices * kApart) {}

  void run(ThreadPool& pool) {
    for (int loop = 0; loop < kLoops; ++loop) {
      const double us = 5 + loop % 6 * 5;  // of both cores together, were there no overhead
      const auto each = static_cast<std::int64_t>(us * 2 / kIndices * steps);
      pool.parallel_for(kIndices, [&](std::size_t i) { sums[i * kApart] += toil(each); });
      sums[0] += toil(static_cast<std::int64_t>(steps));
    }
    sums[0] += toil(static_cast<std::int64_t>(50 * steps));
  }

  static constexpr std::size_t kApart = 16;  // numbers, so that no two threads write to one line
  double steps;
  std::vector<std::uint64_t> sums;
};

double tokens_per_second(ThreadPool& pool, Token& token, double seconds) {
  const auto begin = Clock::now();
  int tokens = 0;
  for (; seconds_since(begin) < seconds; ++tokens) token.run(pool);
  return tokens / seconds_since(begin);
}

/// Other processes that never rest, as long as this object lives.
class Foreign {
 public:
  explicit Foreign(int count) {
    for (int i = 0; i < count; ++i) {
      const pid_t child = ::fork();
      if (child == 0) {
        volatile std::uint64_t counter = 0;
        while (true) counter = counter + 1;
      }
      if (child > 0) children_.push_back(child);
    }
  }
  ~Foreign() {
    for (const pid_t child : children_) {
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    }
  }
  Foreign(const Foreign&) = delete;
  Foreign& operator=(const Foreign&) = delete;

 private:
  std::vector<pid_t> children_;
};

}  // namespace

int main(int argc, char** argv) {
  int threads = 2;
  int foreign = 1;
  double seconds = 2;
  int rounds = 5;
  CLI::App app("The pool of threads: overhead, and speed beside another busy process");
  app.add_option("--threads", threads)->capture_default_str();
  app.add_option("--foreign", foreign, "Busy processes")->capture_default_str();
  app.add_option("--seconds", seconds, "Of one measurement")->capture_default_str();
  app.add_option("--rounds", rounds, "Medians of so many")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  ThreadPool pool(threads);
  for (const std::size_t indices : {2, 16, 64}) empty_loops(pool, indices);

  Token token(steps_per_microsecond());
  std::vector<double> alone;
  std::vector<double> beside;
  for (int round = 0; round < rounds; ++round) {
    alone.push_back(tokens_per_second(pool, token, seconds));
    const Foreign busy(foreign);
    beside.push_back(tokens_per_second(pool, token, seconds));
  }
  ThreadPool one(1);
  const double single = tokens_per_second(one, token, seconds);
  fmt::print(
      "tokens/s: alone {:.1f} ({:.2f} times one thread), beside {} busy: {:.1f}; kept {:.2f} ({:.2f} to "
      "{:.2f})\n",
      median(alone), median(alone) / single, foreign, median(beside), median(beside) / median(alone),
      *std::ranges::min_element(beside) / median(alone), *std::ranges::max_element(beside) / median(alone));
}
