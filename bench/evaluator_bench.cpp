// What it costs to measure candidates, against the bare forward passes that they stand for.
//
//   evaluator_bench assets/wiki-llama-6m
//   random_model /tmp/random-0.37b && evaluator_bench /tmp/random-0.37b --tokens 2048 --random 6
//
// All linears are quantized by round-to-nearest in 2, 3 and 4 bits, groups of 128. Text is random tokens:
// what a pass costs does not depend on them. Everything alternates in one run.
//
// bare: the forward passes of random candidates, that is, the decoder's stages with the candidate's weights
// in
//       place and the head's product, and nothing else;
// random: the same candidates measured as a batch (KL, or both divergences), embedding, exchange of weights,
//       reference and all;
// sweep: every linear once at 2 bits in a model of 4, measured as a batch, against each of them measured
// alone
//       and against as many bare passes.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/random.h"
#include "knapsaq/eval/candidate_scorer.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/quantizer.h"
#include "work_with_threads.h"

namespace {

using namespace knapsaq;

struct Options {
  std::string folder;
  std::int64_t tokens = 8192;
  std::int64_t window = 512;
  std::int64_t random = 50;
  std::int64_t sweep = 0;
  int repeats = 3;
  int threads = 2;
  bool json = false;
};

/// Time by the clock, and of the processor for all threads: on a machine with other work to do, the second
/// one tells more.
struct Seconds {
  double wall = 0;
  double processor = 0;
};

Seconds seconds_of(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  const std::clock_t busy = std::clock();
  work();
  return {std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(),
          static_cast<double>(std::clock() - busy) / CLOCKS_PER_SEC};
}

/// Sums over rounds that alternate, so that what disturbs one disturbs all.
struct Tally {
  void add(const Seconds& seconds, std::size_t candidates) {
    total.wall += seconds.wall;
    total.processor += seconds.processor;
    count += static_cast<double>(candidates);
  }
  double wall() const { return total.wall / count; }
  double processor() const { return total.processor / count; }
  Seconds total;
  double count = 0;
};

// Candidates between two looks at the clock: as many as a scorer compares at once.
constexpr std::size_t kRound = 16;
const std::vector<std::string> kSchemes{"rtn:b2g128", "rtn:b3g128", "rtn:b4g128"};

/// Forward passes and the head's product, nothing else.
class BarePasses {
 public:
  BarePasses(Decoder& decoder, const std::vector<std::int32_t>& tokens, std::int64_t windows,
             std::int64_t length)
      : decoder_(decoder), tokens_(tokens), windows_(windows), length_(length) {
    Backend& backend = decoder.backend();
    batch_ = decoder.windows_per_batch(length);
    const std::int64_t rows = std::min(batch_, windows) * length;
    input_ = backend.allocate(rows, decoder.head()->in(), Element::working);
    logits_ = backend.allocate(rows, decoder.head()->out(), Element::full);
  }

  void run() {
    for (std::int64_t first = 0; first < windows_; first += batch_) {
      const std::int64_t count = std::min(batch_, windows_ - first);
      decoder_.embed(std::span(tokens_).subspan(static_cast<std::size_t>(first * length_),
                                                static_cast<std::size_t>(count * length_)),
                     count, length_, pass_.hidden);
      for (std::int64_t block = 0; block < decoder_.config().layers; ++block)
        for (const Stage stage : kStages) decoder_.run(block, stage, pass_);
      decoder_.head_input(pass_.hidden, input_);
      const Product product{decoder_.head().get(), &logits_, false};
      decoder_.backend().multiply(input_, count * length_, {&product, 1});
    }
  }

 private:
  Decoder& decoder_;
  const std::vector<std::int32_t>& tokens_;
  std::int64_t windows_, length_, batch_;
  PartialPass pass_;
  Array input_, logits_;
};

int run(const Options& options) {
  work_with_threads(options.threads);
  const Checkpoint checkpoint = Checkpoint::open(options.folder);
  const ModelConfig config = parse_model_config(checkpoint.config());
  const auto backend = make_backend({.precision = Precision::bf16});
  Decoder decoder = Decoder::load(checkpoint, config, *backend);
  const std::vector<Matrix> all = linears(config);

  std::vector<StoredMatrix> stored;
  for (const Matrix& linear : all) {
    const std::vector<float> weights = checkpoint.floats(linear.name + ".weight");
    for (const std::string& scheme : kSchemes)
      stored.push_back(quantize({linear.out, linear.in, weights}, parse_scheme(scheme), nullptr));
  }

  const std::int64_t windows = options.tokens / options.window;
  Random random(1);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(windows * options.window));
  for (auto& token : tokens)
    token = static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(config.vocab)));
  const ReferencedWindows reference = reference_windows(decoder, tokens, windows, options.window);
  const ChoiceSource source = [&](std::size_t linear, std::size_t choice) {
    return stored[linear * kSchemes.size() + choice];
  };

  std::vector<Choices> candidates(static_cast<std::size_t>(options.random), Choices(all.size()));
  for (Choices& candidate : candidates)
    for (std::size_t& choice : candidate) choice = random.below(kSchemes.size());
  std::vector<Choices> sweep;
  const std::int64_t swept = options.sweep == 0 ? std::ssize(all) : std::min(options.sweep, std::ssize(all));
  for (std::int64_t i = 0; i < swept; ++i) {
    sweep.emplace_back(all.size(), 2);
    // Spread over the model if they are not all.
    sweep.back()[static_cast<std::size_t>(i * std::ssize(all) / swept)] = 0;
  }

  double checksum = 0;
  const auto score = [&](CandidateScorer& scorer, std::span<const Choices> some) {
    scorer.score(some, 0, windows, [&](std::size_t, std::span<const RowComparison> rows) {
      for (const RowComparison& row : rows) checksum += row.kl;
    });
  };
  const auto sums_of = [&](CandidateScorer& scorer, std::span<const Choices> some, std::size_t offset,
                           std::vector<double>& sums_out) {
    scorer.score(some, 0, windows, [&](std::size_t i, std::span<const RowComparison> rows) {
      double sum = 0;
      for (const RowComparison& row : rows) sum += row.kl;
      sums_out[offset + i] = sum;
    });
  };

  CandidateScorer kl(reference, decoder, all, source, {});
  BarePasses bare(decoder, tokens, windows, options.window);
  score(kl, candidates);  // prepares all weights
  bare.run();
  std::vector<Choices> whole_sweep(all.size(), Choices(all.size(), 2));
  for (std::size_t i = 0; i < all.size(); ++i) whole_sweep[i][i] = 0;
  std::vector<double> together(sweep.size()), alone(sweep.size());
  // A decoder for each kind of scorer: only one scorer may exchange a decoder's linears.
  Decoder other = Decoder::load(checkpoint, config, *backend);
  CandidateScorer both(reference, other, all, source, {.jsd = true});
  score(both, candidates);
  Tally bare_time, kl_time, jsd_time, sweep_time, alone_time;
  for (int repeat = 0; repeat < options.repeats; ++repeat) {
    for (std::size_t first = 0; first < candidates.size(); first += kRound) {
      const auto some = std::span(candidates).subspan(first, std::min(kRound, candidates.size() - first));
      bare_time.add(seconds_of([&] {
                      for (std::size_t i = 0; i < some.size(); ++i) bare.run();
                    }),
                    some.size());
      kl_time.add(seconds_of([&] { score(kl, some); }), some.size());
      jsd_time.add(seconds_of([&] { score(both, some); }), some.size());
    }
    sweep_time.add(seconds_of([&] { sums_of(kl, sweep, 0, together); }), sweep.size());
    alone_time.add(seconds_of([&] {
                     for (std::size_t i = 0; i < sweep.size(); ++i)
                       sums_of(kl, std::span(sweep).subspan(i, 1), i, alone);
                   }),
                   sweep.size());
  }
  const auto share = [](const Tally& of, const Tally& whole) {
    return nlohmann::json{{"wall", of.wall() / whole.wall()},
                          {"processor", of.processor() / whole.processor()}};
  };
  const nlohmann::json result{
      {"backend", backend->description()},
      {"threads", options.threads},
      {"tokens", windows * options.window},
      {"window", options.window},
      {"candidates", candidates.size()},
      {"bare_passes_per_second", 1 / bare_time.wall()},
      {"evaluations_per_second_kl", 1 / kl_time.wall()},
      {"evaluations_per_second_jsd", 1 / jsd_time.wall()},
      {"bare_processor_seconds", bare_time.processor()},
      {"jsd_processor_seconds", jsd_time.processor()},
      {"passes_per_candidate", kl.cost(candidates, 0, windows) / static_cast<double>(candidates.size())},
      {"bare_of_kl", share(bare_time, kl_time)},
      {"bare_of_jsd", share(bare_time, jsd_time)},
      {"sweep_candidates", sweep.size()},
      {"sweep_passes_per_candidate", kl.cost(sweep, 0, windows) / static_cast<double>(sweep.size())},
      {"whole_sweep_passes_per_candidate",
       kl.cost(whole_sweep, 0, windows) / static_cast<double>(whole_sweep.size())},
      {"sweep_of_alone", share(sweep_time, alone_time)},
      {"sweep_of_bare", share(sweep_time, bare_time)},
      {"sweep_identical", together == alone}};
  if (options.json) {
    fmt::print("{}\n", result.dump(2));
  } else {
    for (const auto& [name, value] : result.items()) fmt::print("{:28} {}\n", name, value.dump());
  }
  return checksum >= 0 && together == alone ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Measuring candidates against bare forward passes");
  app.add_option("checkpoint", options.folder, "model folder")->required();
  app.add_option("--tokens", options.tokens, "tokens of the text");
  app.add_option("--window", options.window, "tokens of a window");
  app.add_option("--random", options.random, "random candidates")->check(CLI::PositiveNumber);
  app.add_option("--sweep", options.sweep, "linears of the sweep; 0: all");
  app.add_option("--repeats", options.repeats, "repetitions")->check(CLI::PositiveNumber);
  app.add_option("--threads", options.threads, "threads")->check(CLI::PositiveNumber);
  app.add_flag("--json", options.json, "results as JSON");
  CLI11_PARSE(app, argc, argv);
  try {
    return run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "evaluator_bench: {}\n", error.what());
    return 1;
  }
}
