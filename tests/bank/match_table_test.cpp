#include "knapsaq/bank/match_table.h"

#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/base/error.h"
#include "random_model.h"

namespace knapsaq {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::vector<Matrix> some_matrices(bool tied) { return matrices(parse_model_config(random_llama(tied))); }

std::vector<std::string> names(const ErrorTable& table) {
  std::vector<std::string> all;
  for (const ErrorRow& row : table.rows) all.push_back(row.name);
  return all;
}

TEST(SchemeFor, AnEmbeddingHasNoSecondMoments) {
  const std::vector<Matrix> all = some_matrices(false);
  const Matrix& embedding = all.front();
  const Matrix& head = all.back();
  const auto of = [](const Matrix& matrix, const char* scheme) {
    return to_string(scheme_for(matrix, parse_scheme(scheme)));
  };
  EXPECT_EQ(of(embedding, "gptq:b4g32"), "hqq-diag:b4g32");
  EXPECT_EQ(of(head, "gptq:b4g32"), "gptq:b4g32");
  EXPECT_EQ(of(all[1], "gptq:b4g32"), "gptq:b4g32");
  // What hqq cannot do rtn does.
  EXPECT_EQ(of(embedding, "gptq:b4g32s"), "rtn-diag:b4g32s");
  // Methods that need less stay.
  for (const char* scheme : {"rtn:b3g64", "hqq:b4g32/m8g128", "nf4", "q8_0", "hqq-diag:b4g64"})
    EXPECT_EQ(of(embedding, scheme), scheme);
  // One that is multiplied too has the statistics of that.
  EXPECT_EQ(of(some_matrices(true).front(), "gptq:b4g32"), "gptq:b4g32");
  // And rows that a type cannot hold get another, wherever they are.
  EXPECT_EQ(of(embedding, "q4_k"), "q5_0");
  EXPECT_EQ(of(head, "q4_k"), "q5_0");
}

TEST(FallbackNote, SaysWhatIsReplacedAndCounts) {
  const std::vector<Matrix> all = some_matrices(false);
  const auto note = [&](std::string_view menu) { return fallback_note(all, parse_menu(menu).schemes); };
  EXPECT_EQ(note("b4g32,q8_0,nf4"), "");
  EXPECT_EQ(note("gptq:b4g32"), "");  // the embedding's method is no other type
  const std::string line = note("q4_k,iq3_s,iq4_xs,q4_0");
  EXPECT_THAT(line, HasSubstr(fmt::format("{0} of {0} matrices", all.size())));
  EXPECT_THAT(line, HasSubstr("iq4_nl instead of iq3_s, iq4_xs; q5_0 instead of q4_k"));
  EXPECT_THAT(line, Not(HasSubstr("q4_0")));
  EXPECT_THAT(line, Not(HasSubstr("\n")));
  // Only those that need it.
  std::vector<Matrix> wide{all[1], all[2]};
  wide[1].in = 512;
  const Scheme scheme = parse_scheme("q6_k");
  EXPECT_EQ(
      fallback_note(wide, {&scheme, 1}),
      fmt::format("1 of 2 matrices have rows of {} weights, no whole blocks of some types: they get q8_0 "
                  "instead of q6_k",
                  wide[0].in));
}

TEST(Allocations, HaveOneSchemeForEach) {
  const std::vector<Matrix> all = some_matrices(false);
  const std::vector<MatrixScheme> uniform = uniform_allocation(all, parse_scheme("gptq:b4g32"));
  ASSERT_EQ(uniform.size(), all.size());
  EXPECT_EQ(to_string(uniform.front().scheme), "hqq-diag:b4g32");
  EXPECT_EQ(uniform.back().matrix.name, "lm_head");
  EXPECT_EQ(to_string(uniform.back().scheme), "gptq:b4g32");
  const std::vector<Scheme> few(all.size() - 1, parse_scheme("b4g64"));
  EXPECT_THROW(allocation_of(all, few), UsageError);
  EXPECT_EQ(allocation_of(std::span(all).first(few.size()), few).size(), few.size());
}

TEST(MatchTable, HasTheEndsThatAreThere) {
  const std::vector<Matrix> all = some_matrices(false);
  const ErrorTable whole = size_table(all, parse_menu("b4g32,b3g64"));
  EXPECT_EQ(names(match_table(whole, all, "t.csv")), names(whole));
  // A table of the authors has none of them, and a linear that is missing is an error.
  const ErrorTable blocks = without_ends(whole);
  EXPECT_EQ(blocks.rows.size(), all.size() - 2);
  EXPECT_EQ(names(match_table(blocks, all, "t.csv")), names(blocks));
  const std::vector<std::string> head{"lm_head"};
  const std::vector<std::string> both{"lm_head", "model.embed_tokens"};
  EXPECT_EQ(names(without(whole, both)), names(blocks));
  EXPECT_EQ(without(whole, head).rows.front().name, "model.embed_tokens");
  const std::vector<std::string> linear{all[3].name};
  try {
    match_table(without(whole, linear), all, "t.csv");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr(all[3].name));
  }
  // Some of what the table has.
  const std::vector<Matrix> some{all[0], all[5]};
  EXPECT_THAT(names(match_table(whole, some, "t.csv")), ElementsAre(all[0].name, all[5].name));
  ErrorTable other = whole;
  other.rows.back().parameters += 1;
  EXPECT_THROW(match_table(other, all, "t.csv"), InputError);
}

TEST(Costs, OfATiedEmbeddingCountBothUses) {
  ErrorCell cell;
  cell.fnorm = 1;
  cell.relative = 2;
  cell.hessian = 3;
  cell.lookup = 0.5;
  EXPECT_EQ(cost_of(cell, Cost::fnorm), 1);
  EXPECT_EQ(cost_of(cell, Cost::relative), 2);
  EXPECT_EQ(cost_of(cell, Cost::hessian), 3.5);
  cell.hessian = ErrorCell::kUnknown;
  EXPECT_TRUE(std::isnan(cost_of(cell, Cost::hessian)));
}

}  // namespace
}  // namespace knapsaq
