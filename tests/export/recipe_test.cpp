// Recipes for llama-quantize --tensor-type-file. tools/check_recipe.py has llama-quantize itself make files
// by them.

#include "knapsaq/export/gguf/recipe.h"

#include <regex>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "message_of.h"

namespace knapsaq {
namespace {

using testing::HasSubstr;

const std::vector<TensorType> kTypes = {{"token_embd.weight", GgmlType::Q6_K, 1000},
                                        {"blk.1.attn_q.weight", GgmlType::Q4_K, 600},
                                        {"blk.11.attn_q.weight", GgmlType::Q3_K, 500},
                                        {"blk.11.ffn_down.weight", GgmlType::Q3_K, 600},
                                        {"output.weight", DType::F16, 9000}};

TEST(Recipe, IsWhatLlamaQuantizeReads) {
  const std::string text = recipe_of(kTypes);
  EXPECT_EQ(text,
            "^token_embd\\.weight$=q6_k\n"
            "^blk\\.1\\.attn_q\\.weight$=q4_k\n"
            "^blk\\.11\\.attn_q\\.weight$=q3_k\n"
            "^blk\\.11\\.ffn_down\\.weight$=q3_k\n"
            "^output\\.weight$=f16\n");
  EXPECT_TRUE(is_own_recipe(text));
  EXPECT_FALSE(is_own_recipe("attn_v=q6_k\n"));
  EXPECT_FALSE(is_own_recipe("GGUF"));
}

/// As llama-quant.cpp looks for them: std::regex_search, the first entry that is found.
TEST(Recipe, EveryEntryMatchesItsTensorAlone) {
  const std::vector<RecipeEntry> entries = parse_recipe(recipe_of(kTypes));
  ASSERT_EQ(entries.size(), kTypes.size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    EXPECT_EQ(entries[i].type, kTypes[i].type);
    for (std::size_t j = 0; j < kTypes.size(); ++j)
      EXPECT_EQ(std::regex_search(kTypes[j].tensor, std::regex(entries[i].pattern)), i == j);
    EXPECT_FALSE(std::regex_search("x" + kTypes[i].tensor, std::regex(entries[i].pattern)));
    EXPECT_FALSE(std::regex_search(kTypes[i].tensor + "_scale", std::regex(entries[i].pattern)));
  }
}

TEST(Recipe, IsReadAsLlamaQuantizeReadsIt) {
  // Between any blanks; letters of either case; the first '=' ends the pattern.
  const std::vector<RecipeEntry> entries =
      parse_recipe(" ATTN_V=Q6_K\tblk\\.(0|1)\\.ffn_down=q8_0\r\n\nweight=BF16");
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].pattern, "attn_v");
  EXPECT_EQ(entries[0].type, GgufType(GgmlType::Q6_K));
  EXPECT_EQ(entries[1].pattern, "blk\\.(0|1)\\.ffn_down");
  EXPECT_EQ(entries[1].type, GgufType(GgmlType::Q8_0));
  EXPECT_EQ(entries[2].type, GgufType(DType::BF16));
}

TEST(Recipe, RefusesWhatIsNone) {
  const auto message = [](const std::string& text) {
    return message_of([&] { static_cast<void>(parse_recipe(text)); });
  };
  EXPECT_THAT(message(""), HasSubstr("empty"));
  EXPECT_THAT(message(" \n"), HasSubstr("empty"));
  EXPECT_THAT(message("attn_v"), HasSubstr("'attn_v' is not an entry"));
  EXPECT_THAT(message("=q6_k"), HasSubstr("is not an entry"));
  EXPECT_THAT(message("attn_v="), HasSubstr("not a type"));
  EXPECT_THAT(message("attn_v=q9_k"), HasSubstr("'q9_k' is not a type"));
  EXPECT_THAT(message("# a comment"), HasSubstr("'#' is not an entry"));
}

TEST(Recipe, TheFileIsNamedAfterTheTypeOfMostWeights) {
  EXPECT_EQ(file_type_of(kTypes), "Q3_K");  // dense tensors do not count
  EXPECT_THAT(message_of<UsageError>([] {
                static_cast<void>(file_type_of({{"output.weight", DType::F16, 9000}}));
              }),
              HasSubstr("no recipe"));
}

TEST(Recipe, SaysWhatNeedsAnImportanceMatrix) {
  EXPECT_FALSE(needs_imatrix(kTypes));
  EXPECT_FALSE(needs_imatrix({{"token_embd.weight", GgmlType::IQ2_XS, 1000}}));
  EXPECT_TRUE(needs_imatrix({{"blk.0.attn_q.weight", GgmlType::IQ2_XS, 1000}}));
  EXPECT_FALSE(needs_imatrix({{"blk.0.attn_q.weight", GgmlType::IQ3_S, 1000}}));
}

}  // namespace
}  // namespace knapsaq
