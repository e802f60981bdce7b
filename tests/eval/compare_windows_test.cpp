// What a model predicts beside the full-precision one, on the embedded model.

#include "knapsaq/eval/compare_windows.h"

#include <filesystem>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/files.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/family/family.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLength = 48;
constexpr std::int64_t kWindows = 5;

class CompareWindows : public ::testing::Test {
 protected:
  const fs::path folder_ = fs::path(KNAPSAQ_SOURCE_DIR) / "assets/wiki-llama-6m";
  Checkpoint model_ = Checkpoint::open(folder_);
  ModelConfig config_ = parse_model_config(model_.config());
  std::unique_ptr<Backend> backend_ = make_backend({.precision = Precision::fp32});
  Decoder decoder_ = Decoder::load(model_, config_, *backend_);
  std::vector<std::int32_t> tokens_ = [&] {
    const Tokenizer tokenizer = Tokenizer::load(folder_);
    std::vector<std::int32_t> all =
        tokenizer.encode(read_file(fs::path(KNAPSAQ_SOURCE_DIR) / "assets/wiki-llama-6m-sample.txt"));
    all.resize(kWindows * kLength);
    return all;
  }();
};

TEST_F(CompareWindows, TheReferencesOwnLossesAreThoseOfItsPass) {
  const ReferencedWindows reference = reference_windows(decoder_, tokens_, kWindows, kLength);
  const std::vector<RowComparison> rows = reference_rows(*backend_, reference);
  std::vector<float> losses(kWindows * (kLength - 1));
  decoder_.losses(tokens_, kWindows, kLength, losses);
  ASSERT_EQ(rows.size(), losses.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].kl, 0);
    EXPECT_TRUE(rows[i].agrees);
    EXPECT_NEAR(rows[i].loss, losses[i], 1e-4 * (1 + losses[i]));
  }
}

/// The second half of windows, as llama-perplexity scores it: the same rows as of whole windows, and no
/// others.
TEST_F(CompareWindows, RowsBeforeTheFirstTargetAreLeftOut) {
  ReferencedWindows reference = reference_windows(decoder_, tokens_, kWindows, kLength);
  Decoder other = Decoder::load(model_, config_, *backend_);
  other.set_norm("model.norm.weight", std::vector<float>(static_cast<std::size_t>(config_.hidden), 0.5f));
  const std::vector<RowComparison> all = compare_rows(other, reference, kWindows, false);
  reference.first_target = kLength / 2 + 1;
  const std::vector<RowComparison> half = compare_rows(other, reference, kWindows, false);
  ASSERT_EQ(all.size(), static_cast<std::size_t>(kWindows * (kLength - 1)));
  ASSERT_EQ(half.size(), static_cast<std::size_t>(kWindows * reference.targets()));
  std::size_t next = 0;
  for (std::size_t w = 0; w < kWindows; ++w) {
    for (std::size_t t = kLength / 2; t < kLength - 1; ++t, ++next) {
      const RowComparison& expected = all[w * (kLength - 1) + t];
      EXPECT_EQ(half[next].kl, expected.kl);
      EXPECT_EQ(half[next].loss, expected.loss);
      EXPECT_GT(half[next].kl, 0);
    }
  }
}

}  // namespace
}  // namespace knapsaq
