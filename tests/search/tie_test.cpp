#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/search/problem.h"

namespace knapsaq {
namespace {

using testing::ElementsAre;

const std::vector<std::string> kLlama = {"model.layers.0.self_attn.q_proj",
                                         "model.layers.0.self_attn.k_proj",
                                         "model.layers.0.self_attn.v_proj",
                                         "model.layers.0.self_attn.o_proj",
                                         "model.layers.0.mlp.gate_proj",
                                         "model.layers.0.mlp.up_proj",
                                         "model.layers.0.mlp.down_proj",
                                         "model.layers.1.self_attn.q_proj",
                                         "model.layers.1.self_attn.k_proj",
                                         "model.layers.1.self_attn.v_proj",
                                         "lm_head"};

TEST(TieGroups, None) {
  EXPECT_THAT(tie_groups(kLlama, "none"), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
}

TEST(TieGroups, FusedProjections) {
  EXPECT_THAT(tie_groups(kLlama, "qkv"), ElementsAre(0, 0, 0, 1, 2, 3, 4, 5, 5, 5, 6));
  EXPECT_THAT(tie_groups(kLlama, "gate-up"), ElementsAre(0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9));
  EXPECT_THAT(tie_groups(kLlama, "qkv,gate-up"), ElementsAre(0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 5));
}

TEST(TieGroups, WhatVllmFuses) {
  EXPECT_EQ(tie_groups(kLlama, "vllm"), tie_groups(kLlama, "qkv,gate-up"));
  EXPECT_EQ(tie_groups(kLlama, "vllm,layer"), tie_groups(kLlama, "layer"));
}

TEST(TieGroups, WholeLayers) {
  EXPECT_THAT(tie_groups(kLlama, "layer"), ElementsAre(0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2));
  EXPECT_THAT(tie_groups(kLlama, "qkv,layer"), ElementsAre(0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2));
}

TEST(TieGroups, OptHasNoGate) {
  const std::vector<std::string> names = {"model.decoder.layers.10.self_attn.k_proj",
                                          "model.decoder.layers.10.self_attn.v_proj",
                                          "model.decoder.layers.10.self_attn.q_proj",
                                          "model.decoder.layers.10.self_attn.out_proj",
                                          "model.decoder.layers.10.fc1",
                                          "model.decoder.layers.10.fc2"};
  EXPECT_THAT(tie_groups(names, "qkv,gate-up"), ElementsAre(0, 0, 0, 1, 2, 3));
  EXPECT_THAT(tie_groups(names, "layer"), ElementsAre(0, 0, 0, 0, 0, 0));
}

TEST(TieGroups, NamesOfTablesThatDoNotKnowTheFullPath) {
  const std::vector<std::string> names = {"0.self_attn.q_proj", "1.self_attn.q_proj", "0.self_attn.k_proj",
                                          "1.self_attn.k_proj"};
  EXPECT_THAT(tie_groups(names, "qkv"), ElementsAre(0, 1, 0, 1));
  EXPECT_THAT(tie_groups(names, "layer"), ElementsAre(0, 1, 0, 1));
}

TEST(TieGroups, RefusesUnknownWords) {
  EXPECT_THROW(tie_groups(kLlama, "qk"), UsageError);
  EXPECT_THROW(tie_groups(kLlama, ""), UsageError);
  EXPECT_THROW(tie_groups(kLlama, "qkv,"), UsageError);
  EXPECT_THROW(tie_groups(kLlama, "qkv, layer"), UsageError);
}

TEST(Tie, SumsCostsAndSizesOfMembers) {
  const Problem problem{{{{1, 10}, {2, 5}}, {{3, 20}, {4, 15}}, {{5, 1}}, {{7, 2}, {8, 1}}}, 42};
  const Problem tied = tie(problem, {0, 1, 2, 0});
  EXPECT_EQ(tied.budget, 42);
  ASSERT_EQ(tied.items.size(), 3U);
  EXPECT_EQ(tied.items[0][0].cost, 8);
  EXPECT_EQ(tied.items[0][0].size, 12);
  EXPECT_EQ(tied.items[0][1].cost, 10);
  EXPECT_EQ(tied.items[0][1].size, 6);
  EXPECT_EQ(tied.items[1][1].cost, 4);
  EXPECT_EQ(tied.items[2].size(), 1U);
}

TEST(Tie, RefusesMembersWithDifferentChoices) {
  const Problem problem{{{{1, 10}, {2, 5}}, {{3, 20}}}, 42};
  EXPECT_THROW(tie(problem, {0, 0}), UsageError);
  EXPECT_THROW(tie(problem, {0}), UsageError);
  EXPECT_THROW(tie(problem, {0, 2}), UsageError);
}

TEST(Tie, TiesCostObjective) {
  const Problem problem{{{{4, 1}, {0, 2}}, {{1, 1}, {0, 2}}}, 3};
  EXPECT_EQ(solve_mip(problem).objective, 1);
  EXPECT_EQ(solve_mip(tie(problem, {0, 0})).objective, 5);
}

}  // namespace
}  // namespace knapsaq
