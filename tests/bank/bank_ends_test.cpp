// Banks with embedding and output head.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/bank/bank.h"
#include "knapsaq/bank/build_bank.h"
#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/checkpoint/fingerprint.h"
#include "knapsaq/quant/local_errors.h"
#include "knapsaq/quant/quantizer.h"
#include "random_model.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// Statistics with second moments of a diagonal, and shares that fall from row to row; `calls` counts who
/// asked.
class DiagonalInputs final : public InputSource {
 public:
  InputStatistics inputs(std::string_view matrix, std::int64_t width) const override {
    ++calls[std::string(matrix)];
    InputStatistics statistics = columns_alike(matrix, width);
    statistics.tokens = 100;
    const auto n = static_cast<std::size_t>(width);
    statistics.second_moment.resize(n * n);
    for (std::size_t k = 0; k < n; ++k) {
      statistics.mean_square[k] = 1 + static_cast<float>(k % 3);
      statistics.second_moment[k * n + k] = statistics.mean_square[k];
    }
    statistics.mean_abs = statistics.max_abs = statistics.mean_square;
    return statistics;
  }
  RowShares row_shares(std::int64_t rows) const override {
    std::vector<std::int64_t> counts;
    for (std::int64_t row = 0; row < rows; ++row) counts.push_back(rows - row);
    return shares_of(counts);
  }
  bool has_second_moments() const override { return true; }
  std::string identity() const override { return "diagonal"; }

  mutable std::map<std::string, int> calls;
};

/// The same, and gradients by all outputs.
class InputsAndOutputs final : public InputSource {
 public:
  InputStatistics inputs(std::string_view matrix, std::int64_t width) const override {
    return inputs_.inputs(matrix, width);
  }
  RowShares row_shares(std::int64_t rows) const override { return inputs_.row_shares(rows); }
  std::optional<OutputStatistics> outputs(std::string_view matrix, std::int64_t width) const override {
    OutputStatistics statistics{std::string(matrix), width, 100, {}, {}};
    for (std::int64_t k = 0; k < width; ++k)
      statistics.mean_square.push_back(static_cast<float>(matrix.size()) + static_cast<float>(k % 5));
    return statistics;
  }
  bool has_outputs() const override { return true; }
  bool has_second_moments() const override { return true; }
  std::string identity() const override { return "diagonal with gradients"; }

 private:
  DiagonalInputs inputs_;
};

class BankEnds : public ::testing::TestWithParam<bool> {
 protected:
  BankEnds() { write_random_model(scratch_ / "model", random_llama(tied_)); }

  Bank build(const std::string& name, const Menu& menu, std::vector<Matrix> some, const InputSource* inputs) {
    const Checkpoint model = Checkpoint::open(scratch_ / "model");
    build_bank(model, {fingerprint(model), menu, std::move(some), inputs}, BankFolder(scratch_ / name));
    return Bank::open(scratch_ / name);
  }
  std::vector<float> weights(const Matrix& matrix) const {
    return Checkpoint::open(scratch_ / "model").floats(matrix.name + ".weight");
  }
  std::string id() const { return fingerprint(Checkpoint::open(scratch_ / "model")); }

  const bool tied_ = GetParam();
  const ModelConfig config_ = parse_model_config(random_llama(tied_));
  const std::vector<Matrix> all_ = matrices(config_);
  Scratch scratch_;
};

INSTANTIATE_TEST_SUITE_P(Models, BankEnds, ::testing::Bool(),
                         [](const auto& one) { return one.param ? "tied" : "apart"; });

TEST_P(BankEnds, HoldWhatTheQuantizersMake) {
  const DiagonalInputs inputs;
  const Bank bank = build("bank", parse_menu("gptq:b3g32,rtn:b4g32,q8_0"), all_, &inputs);
  EXPECT_NO_THROW(bank.check_model(id(), config_));
  const ErrorTable table = bank.table();
  ASSERT_EQ(table.rows.size(), all_.size());
  for (std::size_t i = 0; i < all_.size(); ++i) {
    const Matrix& matrix = all_[i];
    if (matrix.in_block()) {
      EXPECT_EQ(table.rows[i].cells[0].lookup, 0);
      continue;
    }
    SCOPED_TRACE(matrix.name);
    EXPECT_EQ(table.rows[i].layer, -1);
    EXPECT_EQ(table.rows[i].module, matrix.is_looked_up() ? "embed_tokens" : "lm_head");
    // One that is only looked up has no inputs: its columns count alike.
    EXPECT_EQ(to_string(table.rows[i].cells[0].scheme),
              matrix.is_multiplied() ? "gptq:b3g32" : "hqq-diag:b3g32");
    const InputStatistics of = matrix.is_multiplied() ? inputs.inputs(matrix.name, matrix.in)
                                                      : columns_alike(matrix.name, matrix.in);
    const RowShares shares = matrix.is_looked_up() ? inputs.row_shares(matrix.out) : RowShares();
    const std::vector<float> values = weights(matrix);
    const MatrixView view{matrix.out, matrix.in, values};
    for (const ErrorCell& cell : table.rows[i].cells) {
      const StoredMatrix direct = quantize(view, cell.scheme, &of);
      const StoredMatrix stored = bank.matrix(matrix.name, cell.scheme);
      const auto left = bytes_of(stored);
      const auto right = bytes_of(direct);
      ASSERT_EQ(left.size(), right.size());
      for (std::size_t part = 0; part < left.size(); ++part)
        EXPECT_TRUE(std::ranges::equal(left[part], right[part])) << to_string(cell.scheme);
      const LocalErrors errors = local_errors(view, direct, &of, {}, shares);
      EXPECT_EQ(cell.fnorm, errors.fnorm);
      EXPECT_EQ(cell.lookup, errors.lookup);
      EXPECT_EQ(cell.lookup > 0, matrix.is_looked_up());
      EXPECT_EQ(cell.hessian, matrix.is_multiplied() ? errors.hessian : 0);
      EXPECT_EQ(cell.hessian > 0, matrix.is_multiplied());
    }
  }
  // Nobody was asked for inputs that there are none of.
  EXPECT_EQ(inputs.calls.contains("model.embed_tokens"), tied_);
}

TEST_P(BankEnds, HaveFisherCostsIfTheSourceKnowsGradients) {
  const InputsAndOutputs source;
  const Menu menu = parse_menu("rtn:b3g32,rtn:b4g32");
  const Bank bank = build("bank", menu, all_, &source);
  EXPECT_TRUE(bank.index().fisher);
  const ErrorTable table = bank.table();
  EXPECT_EQ(usual_cost(table), Cost::fisher);
  for (std::size_t i = 0; i < all_.size(); ++i) {
    const Matrix& matrix = all_[i];
    SCOPED_TRACE(matrix.name);
    const InputStatistics inputs = source.inputs(matrix.name, matrix.in);
    const RowShares shares = matrix.is_looked_up() ? source.row_shares(matrix.out) : RowShares();
    std::vector<float> product;
    std::vector<float> lookup;
    if (matrix.is_multiplied())
      product = source.outputs(matrix.tied ? std::string(kHeadModule) : matrix.name, matrix.out)->mean_square;
    if (matrix.is_looked_up()) lookup = source.outputs(matrix.name, matrix.in)->mean_square;
    const std::vector<float> values = weights(matrix);
    for (const ErrorCell& cell : table.rows[i].cells) {
      const LocalErrors errors =
          local_errors({matrix.out, matrix.in, values}, bank.matrix(matrix.name, cell.scheme),
                       matrix.is_multiplied() ? &inputs : nullptr, {}, shares, {product, lookup});
      EXPECT_GT(cell.fisher, 0);
      EXPECT_EQ(cell.fisher, errors.fisher);
      EXPECT_EQ(cost_of(cell, Cost::fisher), cell.fisher);
    }
  }
  // Without gradients as before: no such column, another bank.
  const DiagonalInputs inputs;
  const Bank without = build("without", menu, all_, &inputs);
  EXPECT_FALSE(without.index().fisher);
  EXPECT_TRUE(std::isnan(without.table().rows[1].cells[0].fisher));
  EXPECT_EQ(usual_cost(without.table()), Cost::hessian);
  EXPECT_EQ(read_file(scratch_ / "without" / kBankIndexName).find("fisher"), std::string::npos);
  EXPECT_TRUE(BankFolder(scratch_ / "bank").has_fisher());
  EXPECT_FALSE(BankFolder(scratch_ / "without").has_fisher());
}

TEST_P(BankEnds, WithoutStatisticsRowsCountAlike) {
  const Bank bank = build("bank", parse_menu("rtn:b3g32"), all_, nullptr);
  const ErrorCell& cell = bank.table().rows.front().cells.front();
  EXPECT_NEAR(cell.lookup, cell.fnorm * cell.fnorm / static_cast<double>(config_.vocab), 1e-6 * cell.lookup);
  EXPECT_TRUE(std::isnan(cell.hessian));
}

TEST_P(BankEnds, MayBeOfSomeMatrices) {
  const Menu menu = parse_menu("rtn:b3g32");
  std::vector<Matrix> some = all_;
  std::erase_if(some, [](const Matrix& matrix) { return matrix.number % 3 == 1; });
  const Bank bank = build("some", menu, some, nullptr);
  EXPECT_NO_THROW(bank.check_model(id(), config_));
  ASSERT_EQ(bank.table().rows.size(), some.size());
  for (std::size_t i = 0; i < some.size(); ++i) EXPECT_EQ(bank.table().rows[i].name, some[i].name);
  // In another order they are not the model's.
  std::swap(some[1], some[2]);
  const Bank swapped = build("swapped", menu, some, nullptr);
  EXPECT_THROW(swapped.check_model(id(), config_), InputError);
  // One folder holds one choice of them.
  EXPECT_THROW(build("swapped", menu, all_, nullptr), UsageError);
}

/// As version 0.1 built them: of the linears of the blocks.
TEST_P(BankEnds, OldBanksAreOfTheLinears) {
  const DiagonalInputs inputs;
  const Bank bank = build("old", parse_menu("gptq:b3g32,rtn:b4g32"), linears(config_), &inputs);
  EXPECT_NO_THROW(bank.check_model(id(), config_));
  EXPECT_EQ(bank.table().rows.size(), linears(config_).size());
  // Their description knows nothing of ends.
  const std::string index = read_file(scratch_ / "old" / kBankIndexName);
  for (const char* word : {"lookup", "embed", "lm_head", "-1"})
    EXPECT_THAT(index, testing::Not(HasSubstr(word)));
}

TEST_P(BankEnds, ErrorsOfALookupMustBeNumbers) {
  const Bank bank = build("bank", parse_menu("rtn:b3g32"), all_, nullptr);
  const BankedLinear& banked = bank.index().linears.front();
  const std::vector<float> values = weights(all_.front());
  const MatrixView view{banked.linear.out, banked.linear.in, values};
  const double nan = std::nan("");
  for (const double bad : {-1.0, nan, HUGE_VAL}) {
    const fs::path path = scratch_ / "bank/linears" / (banked.linear.name + ".safetensors");
    fs::remove(path);
    LinearFileWriter writer(path, layout_of(bank.index(), banked));
    writer.add(quantize(view, banked.schemes.front()), LocalErrors{1, 0, nan, bad});
    writer.commit({});
    EXPECT_THROW(Bank::open(scratch_ / "bank"), InputError) << bad;
  }
}

}  // namespace
}  // namespace knapsaq
