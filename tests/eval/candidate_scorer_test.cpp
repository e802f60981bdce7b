// Candidates scored together against each of them alone, on the embedded models.

#include "knapsaq/eval/candidate_scorer.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/random.h"
#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/quantizer.h"
#include "knapsaq/text/tokenizer.h"
#include "scratch.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLength = 96;
constexpr std::int64_t kWindows = 4;
constexpr std::size_t kChoices = 3;

const fs::path kAssets = fs::path(KNAPSAQ_SOURCE_DIR) / "assets";

/// An embedded model with a head of its own: the rows of its embedding, each scaled a little differently.
void write_untied(const fs::path& source, const fs::path& folder) {
  const Checkpoint model = Checkpoint::open(source);
  nlohmann::json config = model.config();
  config["tie_word_embeddings"] = false;
  fs::create_directories(folder);
  write_file(folder / "config.json", config.dump());
  std::vector<TensorSpec> specs;
  for (const std::string& name : model.names()) specs.push_back(model.spec(name));
  const std::string embedding = "model.embed_tokens.weight";
  specs.push_back({"lm_head.weight", DType::F32, model.spec(embedding).shape});
  SafetensorsWriter writer(folder / "model.safetensors", specs);
  for (const std::string& name : model.names()) writer.write(model.tensor(name).bytes);
  std::vector<float> head = model.floats(embedding);
  const auto cols = static_cast<std::size_t>(specs.back().shape[1]);
  for (std::size_t i = 0; i < head.size(); ++i) head[i] *= 1 + 0.01f * static_cast<float>(i / cols % 7);
  writer.write(std::as_bytes(std::span(head)));
  writer.commit();
}

/// A model, its reference, and codes of every matrix by every choice: 2, 3 and 4 bits.
struct Fixture {
  /// "untied": the embedded Llama with a head of its own.
  explicit Fixture(const std::string& name, Precision precision = Precision::bf16)
      : asset(name == "untied" ? "wiki-llama-6m" : name),
        checkpoint(open(name)),
        config(parse_model_config(checkpoint.config())),
        all(matrices(config)),
        backend(make_backend({.precision = precision})),
        decoder(Decoder::load(checkpoint, config, *backend)) {
    tokens = Tokenizer::load(kAssets / asset).encode(read_file(kAssets / (asset + "-sample.txt")));
    tokens.resize(kWindows * kLength);
    for (const Matrix& linear : all) {
      const std::vector<float> weights = checkpoint.floats(linear.name + ".weight");
      for (const char* scheme : {"rtn:b2g64", "rtn:b3g64", "rtn:b4g64"})
        stored.push_back(quantize({linear.out, linear.in, weights}, parse_scheme(scheme), nullptr));
    }
    reference = reference_windows(decoder, tokens, kWindows, kLength);
  }
  Checkpoint open(const std::string& name) const {
    if (name != "untied") return Checkpoint::open(kAssets / name);
    write_untied(kAssets / asset, scratch / "model");
    return Checkpoint::open(scratch / "model");
  }
  ChoiceSource source() {
    return [this](std::size_t linear, std::size_t choice) {
      ++prepared[{linear, choice}];
      return stored[linear * kChoices + choice];
    };
  }

  /// A pass of one candidate alone, by the functions that know nothing of batches.
  std::vector<RowComparison> alone(const Choices& choices, std::int64_t first, std::int64_t last) {
    Decoder other = Decoder::load(checkpoint, config, *backend);
    for (std::size_t i = 0; i < all.size(); ++i)
      other.replace(all[i].name, stored[i * kChoices + choices[i]]);
    const std::int64_t count = (last - first) * kLength;
    const std::vector<std::int32_t> some(tokens.begin() + first * kLength, tokens.begin() + last * kLength);
    Hidden hidden = other.embed(some, last - first, kLength);
    for (std::int64_t block = 0; block < config.layers; ++block) other.block(block, hidden);
    Array input = backend->allocate(count, config.embedding, Element::working);
    other.head_input(hidden, input);
    std::vector<std::int32_t> targets;
    for (std::int64_t i = 0; i < count; ++i)
      targets.push_back((i + 1) % kLength == 0 ? -1 : some[static_cast<std::size_t>(i + 1)]);
    std::vector<RowComparison> rows(targets.size());
    const Compared one{&input, rows, other.head().get()};
    backend->compare(backend->view(reference.head_inputs, first * kLength, count), {reference.head.get()},
                     targets, true, {&one, 1});
    std::vector<RowComparison> scored;
    for (std::size_t i = 0; i < rows.size(); ++i)
      if (targets[i] >= 0) scored.push_back(rows[i]);

    std::vector<float> losses(scored.size());
    other.losses(some, last - first, kLength, losses);
    // The same sums in the same order: a row's products do not depend on the rows beside it.
    for (std::size_t i = 0; i < scored.size(); ++i) EXPECT_EQ(losses[i], scored[i].loss);
    return scored;
  }

  Scratch scratch;
  std::string asset;
  Checkpoint checkpoint;
  ModelConfig config;
  std::vector<Matrix> all;
  std::unique_ptr<Backend> backend;
  Decoder decoder;
  std::vector<std::int32_t> tokens;
  std::vector<StoredMatrix> stored;
  ReferencedWindows reference;
  std::map<std::pair<std::size_t, std::size_t>, int> prepared;
};

using Rows = std::vector<std::vector<RowComparison>>;

Rows score(CandidateScorer& scorer, std::span<const Choices> candidates, std::int64_t first,
           std::int64_t last) {
  Rows rows(candidates.size());
  scorer.score(candidates, first, last, [&](std::size_t candidate, std::span<const RowComparison> tokens) {
    EXPECT_TRUE(rows[candidate].empty()) << "told twice";
    rows[candidate].assign(tokens.begin(), tokens.end());
  });
  return rows;
}

void expect_same(const std::vector<RowComparison>& found, const std::vector<RowComparison>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].kl, expected[i].kl) << i;
    EXPECT_EQ(found[i].jsd, expected[i].jsd) << i;
    EXPECT_EQ(found[i].loss, expected[i].loss) << i;
    EXPECT_EQ(found[i].agrees, expected[i].agrees) << i;
  }
}

/// Candidates that share much, little and everything, and some that differ in one end of the model alone.
std::vector<Choices> mixed_candidates(std::size_t linears, std::uint64_t seed) {
  Random random(seed);
  const Choices base(linears, 2);
  std::vector<Choices> candidates{base};
  for (const std::size_t choice : {0, 1}) {
    candidates.push_back(base);
    candidates.back().front() = choice;
    candidates.push_back(base);
    candidates.back().back() = choice;
  }
  for (int i = 0; i < 4; ++i) {
    Choices near = base;
    near[random.below(linears)] = random.below(kChoices);
    candidates.push_back(near);
    Choices far(linears);
    for (std::size_t& choice : far) choice = random.below(kChoices);
    candidates.push_back(far);
    // A relative of the far one.
    far[random.below(linears)] = random.below(kChoices);
    candidates.push_back(far);
  }
  candidates.push_back(base);
  return candidates;
}

class CandidateScorerTest : public ::testing::TestWithParam<const char*> {};

TEST_P(CandidateScorerTest, EveryResultIsThatOfTheCandidateAlone) {
  Fixture model(GetParam());
  const std::vector<Choices> candidates = mixed_candidates(model.all.size(), 11);
  ScorerOptions options;
  options.jsd = true;
  CandidateScorer scorer(model.reference, model.decoder, model.all, model.source(), options);
  const Rows found = score(scorer, candidates, 0, kWindows);
  for (std::size_t i = 0; i < candidates.size(); ++i)
    expect_same(found[i], model.alone(candidates[i], 0, kWindows));
  // Nothing was prepared twice.
  for (const auto& [key, times] : model.prepared) EXPECT_EQ(times, 1);
  // Some of the windows.
  const Rows later = score(scorer, std::span(candidates).first(3), 2, 3);
  for (std::size_t i = 0; i < later.size(); ++i) expect_same(later[i], model.alone(candidates[i], 2, 3));
}

TEST_P(CandidateScorerTest, NothingDependsOnOrderThreadsOrMemory) {
  Fixture model(GetParam());
  const std::vector<Choices> candidates = mixed_candidates(model.all.size(), 12);
  ScorerOptions options;
  options.jsd = true;
  CandidateScorer plain(model.reference, model.decoder, model.all, model.source(), options);
  const Rows expected = score(plain, candidates, 0, 3);

  std::vector<std::size_t> order(candidates.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  Random random(5);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  std::vector<Choices> shuffled;
  for (const std::size_t i : order) shuffled.push_back(candidates[i]);
  for (const int threads : {1, 2}) {
    work_with_threads(threads);
    ScorerOptions little = options;
    little.weight_cache = 1;
    little.waiting = 1;
    Decoder decoder = Decoder::load(model.checkpoint, model.config, *model.backend);
    CandidateScorer scorer(model.reference, decoder, model.all, model.source(), little);
    const Rows found = score(scorer, shuffled, 0, 3);
    for (std::size_t i = 0; i < order.size(); ++i) expect_same(found[i], expected[order[i]]);
  }
  work_with_threads(0);
}

TEST_P(CandidateScorerTest, WindowsDoNotDependOnEachOther) {
  Fixture model(GetParam());
  const std::vector<Choices> candidates = mixed_candidates(model.all.size(), 14);
  CandidateScorer scorer(model.reference, model.decoder, model.all, model.source(), {});
  const Rows all = score(scorer, candidates, 0, kWindows);
  constexpr std::size_t kTargets = kLength - 1;
  for (std::int64_t first = 0; first < kWindows; ++first) {
    const Rows one = score(scorer, candidates, first, first + 1);
    for (std::size_t i = 0; i < candidates.size(); ++i)
      for (std::size_t t = 0; t < kTargets; ++t) {
        const RowComparison& whole = all[i][static_cast<std::size_t>(first) * kTargets + t];
        EXPECT_EQ(one[i][t].kl, whole.kl);
        EXPECT_EQ(one[i][t].loss, whole.loss);
      }
  }
}

TEST_P(CandidateScorerTest, TheReferenceItselfDiffersInNothing) {
  Fixture model(GetParam());
  const Choices base(model.all.size(), 2);
  for (std::size_t i = 0; i < model.all.size(); ++i)
    model.decoder.replace(model.all[i].name, model.stored[i * kChoices + 2]);
  model.reference = reference_windows(model.decoder, model.tokens, kWindows, kLength);
  CandidateScorer scorer(model.reference, model.decoder, model.all, model.source(), {});
  const Rows found = score(scorer, {&base, 1}, 0, kWindows);
  for (const RowComparison& token : found[0]) {
    EXPECT_EQ(token.kl, 0);
    EXPECT_TRUE(std::isnan(token.jsd)) << "nobody asked for it";
    EXPECT_TRUE(token.agrees);
  }
}

TEST_P(CandidateScorerTest, CostIsTheShareOfWork) {
  Fixture model(GetParam());
  CandidateScorer scorer(model.reference, model.decoder, model.all, model.source(), {});
  const std::size_t n = model.all.size();
  const Choices base(n, 2);
  EXPECT_DOUBLE_EQ(scorer.cost({&base, 1}, 0, kWindows), 1);
  EXPECT_DOUBLE_EQ(scorer.cost({&base, 1}, 1, 2), 1.0 / kWindows);
  const std::vector<Choices> twice{base, base};
  EXPECT_DOUBLE_EQ(scorer.cost(twice, 0, kWindows), 1);
  EXPECT_EQ(scorer.cost({}, 0, kWindows), 0);

  // Multiply-adds of a token, counted anew.
  const auto& config = model.config;
  const double head = static_cast<double>(config.vocab * config.embedding);
  const double attention = static_cast<double>(config.heads * config.head_dim * (kLength + 1));
  double total = head + static_cast<double>(config.layers) * attention;
  for (const Matrix& linear : linears(config)) total += static_cast<double>(linear.parameters());
  // Candidates that differ only in what they end with: the head, or the last linear before a tied one.
  Choices last = base;
  last.back() = 0;
  const std::vector<Choices> pair{base, last};
  const double again = config.tied ? static_cast<double>(model.all.back().parameters()) + head : head;
  EXPECT_NEAR(scorer.cost(pair, 0, kWindows), 1 + again / total, 1e-12);
  Choices first = base;
  first.front() = 0;
  const std::vector<Choices> apart{base, first};
  EXPECT_NEAR(scorer.cost(apart, 0, kWindows), 2, 1e-12);

  // All linears, each once: the prefixes are those of the base.
  std::vector<Choices> sweep;
  for (std::size_t i = 0; i < n; ++i) {
    sweep.push_back(base);
    sweep.back()[i] = 0;
  }
  const double cost = scorer.cost(sweep, 0, kWindows);
  EXPECT_LT(cost, 0.75 * static_cast<double>(n));
  EXPECT_GT(cost, 0.45 * static_cast<double>(n));
}

TEST_P(CandidateScorerTest, WorksOnAfterAFailure) {
  Fixture model(GetParam());
  ScorerOptions options;
  options.jsd = true;
  options.waiting = 1;
  const std::vector<Choices> candidates = mixed_candidates(model.all.size(), 13);
  // A source that fails in the middle leaves a scorer that works.
  int calls = 0;
  CandidateScorer failing(
      model.reference, model.decoder, model.all,
      [&](std::size_t linear, std::size_t choice) {
        if (++calls == 9) throw InputError("gone");
        return model.stored[linear * kChoices + choice];
      },
      options);
  EXPECT_THROW(score(failing, candidates, 0, 1), InputError);
  const Rows found = score(failing, candidates, 0, 1);
  expect_same(found[1], model.alone(candidates[1], 0, 1));

  const Choices wrong(3);
  EXPECT_THROW(score(failing, {&wrong, 1}, 0, 1), std::invalid_argument);
  EXPECT_THROW(score(failing, candidates, 0, kWindows + 1), std::invalid_argument);
}

TEST_P(CandidateScorerTest, RefusesSingleTokens) {
  Fixture model(GetParam());
  EXPECT_THROW(reference_windows(model.decoder, {1, 2}, 2, 1), UsageError);
  EXPECT_THROW(reference_windows(model.decoder, {1, 2}, 2, 2), std::invalid_argument);
}

TEST_P(CandidateScorerTest, WhatIsNotChosenAboutStaysTheDecoders) {
  Fixture model(GetParam());
  // Some of the matrices: no embedding, no head, and of the linears every third.
  std::vector<Matrix> chosen;
  for (const Matrix& matrix : linears(model.config))
    if (matrix.number % 3 == 0) chosen.push_back(matrix);
  CandidateScorer scorer(model.reference, model.decoder, chosen,
                         [&](std::size_t index, std::size_t choice) {
                           return model.stored[chosen[index].number * kChoices + choice];
                         },
                         {});
  const std::vector<Choices> candidates{Choices(chosen.size(), 0), Choices(chosen.size(), 2)};
  const Rows found = score(scorer, candidates, 0, 2);
  for (std::size_t c = 0; c < candidates.size(); ++c) {
    Decoder other = Decoder::load(model.checkpoint, model.config, *model.backend);
    for (std::size_t i = 0; i < chosen.size(); ++i)
      other.replace(chosen[i].name, model.stored[chosen[i].number * kChoices + candidates[c][i]]);
    std::vector<float> losses(found[c].size());
    other.losses(std::span(model.tokens).first(2 * kLength), 2, kLength, losses);
    for (std::size_t i = 0; i < losses.size(); ++i) EXPECT_EQ(found[c][i].loss, losses[i]);
  }
  // In the order of the pass they are; in another one nothing could be shared.
  std::ranges::reverse(chosen);
  EXPECT_THROW(CandidateScorer(model.reference, model.decoder, chosen, model.source()),
               std::invalid_argument);
}

INSTANTIATE_TEST_SUITE_P(Models, CandidateScorerTest,
                         ::testing::Values("wiki-llama-6m", "wiki-opt-3m", "untied"), [](const auto& tested) {
                           const std::string name = tested.param;
                           return name.starts_with("wiki-") ? name.substr(5, 3) : name;
                         });

}  // namespace
}  // namespace knapsaq
