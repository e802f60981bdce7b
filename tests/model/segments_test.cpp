// Decoder::segment_losses(): against the logits of whole windows, on every architecture of the references.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/random.h"
#include "knapsaq/model/decoder.h"
#include "loaded_model.h"
#include "model/families.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// A batch with random tokens; every third row of the children and of segments without parent has a target.
struct Batch {
  Batch(std::vector<Segment> of, std::int64_t vocab) : segments(std::move(of)) {
    Random random(5);
    const auto id = [&] {
      return static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(vocab)));
    };
    for (const Segment& segment : segments) {
      for (std::int64_t i = 0; i < segment.length; ++i) {
        tokens.push_back(id());
        targets.push_back(i % 3 == 0 ? id() : -1);
      }
    }
  }
  std::vector<Segment> segments;
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> targets;
};

std::vector<float> losses(Decoder& decoder, const Batch& batch) {
  std::vector<float> out(batch.tokens.size(), -1.0f);
  decoder.segment_losses(batch.tokens, batch.segments, batch.targets, out);
  return out;
}

/// -log softmax(logits)[target] in double.
double loss_of(std::span<const float> logits, std::int32_t target) {
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  return std::log(sum) - logits[static_cast<std::size_t>(target)];
}

class DecoderSegments : public ::testing::TestWithParam<fs::path> {};

TEST_P(DecoderSegments, AreTheWindowedPass) {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    if (precision == Precision::bf16 && chooses_experts(GetParam())) continue;  // rounding chooses others
    LoadedModel model(GetParam(), precision);
    Decoder& decoder = model.decoder;
    const auto vocab = static_cast<std::size_t>(decoder.config().vocab);
    // Long enough for the windows that slide, short enough for learned positions.
    const Batch batch({{17, -1}, {1, 0}, {9, 0}, {12, -1}, {14, 0}, {25, -1}, {6, 5}},
                      decoder.config().vocab);
    const std::vector<float> found = losses(decoder, batch);
    std::size_t start = 0;
    std::vector<std::size_t> starts;
    double worst = 0;
    for (const Segment& segment : batch.segments) {
      starts.push_back(start);
      const auto length = static_cast<std::size_t>(segment.length);
      std::vector<std::int32_t> window;
      if (segment.parent >= 0) {
        const auto parent = static_cast<std::size_t>(segment.parent);
        const auto from = batch.tokens.begin() + static_cast<std::ptrdiff_t>(starts[parent]);
        window.assign(from, from + batch.segments[parent].length);
      }
      const std::size_t before = window.size();
      for (std::size_t i = 0; i < length; ++i) window.push_back(batch.tokens[start + i]);
      const std::vector<float> logits = decoder.logits(window, static_cast<std::int64_t>(before));
      for (std::size_t i = 0; i < length; ++i) {
        const std::int32_t target = batch.targets[start + i];
        if (target < 0) {
          EXPECT_EQ(found[start + i], 0.0f);
          continue;
        }
        const double expected = loss_of(std::span(logits).subspan(i * vocab, vocab), target);
        worst = std::max(worst, std::abs(found[start + i] - expected));
      }
      start += length;
    }
    // Losses are around log(vocab) = 5; bf16 rounds what differs in the last bit to other neighbours.
    EXPECT_LE(worst, precision == Precision::fp32 ? 5e-5 : 0.08) << model.backend->description();
  }
}

INSTANTIATE_TEST_SUITE_P(Models, DecoderSegments, ::testing::ValuesIn(all_models()), name_of_folder);

TEST(DecoderSegments, SameLossesWhateverTheThreads) {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    LoadedModel model(tiny_model() / "llama-gqa", precision);
    const Batch batch({{40, -1}, {11, 0}, {12, 0}, {30, -1}, {3, 3}}, model.decoder.config().vocab);
    const std::vector<float> expected = losses(model.decoder, batch);
    for (const int threads : {1, 3}) {
      work_with_threads(threads);
      EXPECT_EQ(losses(model.decoder, batch), expected);
    }
    work_with_threads(0);
    // And windows go on as before.
    const std::vector<std::int32_t> two = {1, 2};
    EXPECT_EQ(model.decoder.logits(two, 0).size(),
              static_cast<std::size_t>(2 * model.decoder.config().vocab));
  }
}

TEST(DecoderSegments, RefusesWhatDoesNotFit) {
  LoadedModel model(tiny_model() / "opt", Precision::fp32);
  Decoder& decoder = model.decoder;
  const auto refused = [&](std::vector<Segment> segments, std::size_t tokens) {
    Batch batch({{static_cast<std::int64_t>(tokens), -1}}, decoder.config().vocab);
    batch.segments = std::move(segments);
    EXPECT_THROW(losses(decoder, batch), std::invalid_argument);
  };
  refused({{3, -1}}, 4);
  refused({{3, -1}, {2, -1}}, 4);
  refused({{2, -1}, {2, 1}}, 4);
  refused({{2, -1}, {1, 0}, {1, 1}}, 4);
  refused({{5, -1}, {-1, -1}}, 4);
  Batch batch({{4, -1}}, decoder.config().vocab);
  batch.tokens[2] = static_cast<std::int32_t>(decoder.config().vocab);
  EXPECT_THROW(losses(decoder, batch), InputError);
  Batch bad_target({{4, -1}}, decoder.config().vocab);
  bad_target.targets[0] = static_cast<std::int32_t>(decoder.config().vocab);
  EXPECT_THROW(losses(decoder, bad_target), std::invalid_argument);
  // A child's positions go on behind its parent's.
  const std::int64_t positions = decoder.config().max_positions;
  const Batch longest({{positions - 2, -1}, {2, 0}, {positions, -1}}, decoder.config().vocab);
  EXPECT_EQ(losses(decoder, longest).size(), static_cast<std::size_t>(2 * positions));
  const Batch longer({{positions - 2, -1}, {3, 0}}, decoder.config().vocab);
  EXPECT_THROW(losses(decoder, longer), InputError);
}

}  // namespace
}  // namespace knapsaq
