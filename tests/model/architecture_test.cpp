#include "knapsaq/model/architecture.h"

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "random_model.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// What a test says of a matrix.
struct Row {
  std::string name;
  Role role;
  Stage stage;
  std::int64_t out;
  std::int64_t in;
  std::size_t input;
  std::string feeder;
  friend bool operator==(const Row&, const Row&) = default;
  friend void PrintTo(const Row& row, std::ostream* out) {
    *out << row.name << " " << static_cast<int>(row.role) << " " << static_cast<int>(row.stage) << " ["
         << row.out << ", " << row.in << "] " << row.input << " " << row.feeder;
  }
};

std::vector<Row> rows_of(const ModelConfig& config) {
  std::vector<Row> rows;
  for (const Matrix& matrix : matrices(config)) {
    const auto feeder = feeder_of(config, matrix);
    rows.push_back({matrix.name, matrix.role, stage_of(matrix.role), matrix.out, matrix.in, matrix.input,
                    feeder ? (feeder->is_norm ? "norm " : "linear ") + feeder->module : ""});
  }
  return rows;
}

ModelConfig config_of(nlohmann::json json, const nlohmann::json& changes = nlohmann::json::object()) {
  json.update(changes);
  return parse_model_config(json);
}

TEST(Architecture, LlamaWithGroupedQueries) {
  const ModelConfig config = config_of(random_llama(false), {{"num_hidden_layers", 1}});
  const std::string block = "model.layers.0.";
  const std::string attention = "norm model.layers.0.input_layernorm";
  const std::string mlp = "norm model.layers.0.post_attention_layernorm";
  EXPECT_THAT(rows_of(config),
              ElementsAre(Row{"model.embed_tokens", Role::embedding, Stage::embed, 72, 64, 0, ""},
                          Row{block + "self_attn.q_proj", Role::q, Stage::attend, 64, 64, 1, attention},
                          Row{block + "self_attn.k_proj", Role::k, Stage::attend, 32, 64, 1, attention},
                          Row{block + "self_attn.v_proj", Role::v, Stage::attend, 32, 64, 1, attention},
                          // Several columns of o meet one output of v.
                          Row{block + "self_attn.o_proj", Role::o, Stage::attention_output, 64, 64, 4, ""},
                          Row{block + "mlp.gate_proj", Role::gate, Stage::activate, 128, 64, 5, mlp},
                          Row{block + "mlp.up_proj", Role::up, Stage::activate, 128, 64, 5, mlp},
                          Row{block + "mlp.down_proj", Role::down, Stage::mlp_output, 64, 128, 7,
                              "linear " + block + "mlp.up_proj"},
                          Row{"lm_head", Role::head, Stage::head, 72, 64, 8, ""}));
}

TEST(Architecture, TiedLlamaHasItsHeadInFront) {
  const ModelConfig config = config_of(random_llama(true), {{"num_key_value_heads", 4}});
  const std::vector<Matrix> all = matrices(config);
  ASSERT_EQ(all.size(), 1U + 2 * 7);
  EXPECT_EQ(all.back().name, "model.layers.1.mlp.down_proj");
  EXPECT_TRUE(all.front().tied);
  EXPECT_TRUE(all.front().is_looked_up());
  EXPECT_TRUE(all.front().is_multiplied());
  EXPECT_FALSE(all[1].is_looked_up());
  // Without grouped queries o's columns are v's outputs.
  EXPECT_EQ(feeder_of(config, all[4])->module, "model.layers.0.self_attn.v_proj");
  EXPECT_FALSE(feeder_of(config, all[4])->is_norm);
  const std::vector<Matrix> apart = matrices(config_of(random_llama(false)));
  EXPECT_FALSE(apart.front().tied);
  EXPECT_FALSE(apart.front().is_multiplied());
  EXPECT_TRUE(apart.back().is_multiplied());
}

TEST(Architecture, OptWithANarrowEmbedding) {
  const ModelConfig config = config_of(random_opt(64, 32), {{"num_hidden_layers", 1}});
  const std::string block = "model.decoder.layers.0.";
  const std::string attention = "norm " + block + "self_attn_layer_norm";
  EXPECT_THAT(
      rows_of(config),
      ElementsAre(
          Row{"model.decoder.embed_tokens", Role::embedding, Stage::embed, 72, 32, 0, ""},
          Row{block + "self_attn.q_proj", Role::q, Stage::attend, 64, 64, 1, attention},
          Row{block + "self_attn.k_proj", Role::k, Stage::attend, 64, 64, 1, attention},
          Row{block + "self_attn.v_proj", Role::v, Stage::attend, 64, 64, 1, attention},
          Row{block + "self_attn.out_proj", Role::o, Stage::attention_output, 64, 64, 4,
              "linear " + block + "self_attn.v_proj"},
          Row{block + "fc1", Role::up, Stage::activate, 128, 64, 5, "norm " + block + "final_layer_norm"},
          Row{block + "fc2", Role::down, Stage::mlp_output, 64, 128, 6, "linear " + block + "fc1"}));
  for (const Matrix& matrix : matrices(config)) EXPECT_EQ(matrix.bias, matrix.in_block()) << matrix.name;
  // gelu lets no factor through; norms behind have none either.
  const Matrix fc2 = matrices(config).back();
  EXPECT_FALSE(feeder_of(config_of(random_opt(), {{"activation_function", "gelu"}}), fc2));
  EXPECT_FALSE(feeder_of(config_of(random_opt(), {{"do_layer_norm_before", false}}), matrices(config)[1]));
}

/// Of every model here: what the table says of itself.
TEST(Architecture, HoldsTogether) {
  for (const auto& entry : fs::directory_iterator(fs::path(KNAPSAQ_TEST_DATA) / "model/decoder")) {
    SCOPED_TRACE(entry.path().filename());
    const Checkpoint checkpoint = Checkpoint::open(entry.path());
    const ModelConfig config = parse_model_config(checkpoint.config());
    const std::vector<Matrix> all = matrices(config);
    std::set<std::string> names;
    auto last = Stage::embed;
    std::int64_t block = -1;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const Matrix& one = all[i];
      EXPECT_TRUE(names.insert(one.name).second);
      EXPECT_EQ(one.number, i);
      EXPECT_EQ(role_of(one.name), one.role);
      EXPECT_EQ(role_of(one.module), one.role);
      EXPECT_EQ(checkpoint.spec(one.name + ".weight").shape, (std::vector<std::int64_t>{one.out, one.in}));
      ASSERT_LE(one.input, i);
      EXPECT_EQ(all[one.input].input, one.input);
      EXPECT_EQ(stage_of(all[one.input].role), stage_of(one.role));
      EXPECT_EQ(all[one.input].in, one.in);
      // In the order of the pass.
      if (one.block == block) {
        EXPECT_LE(last, stage_of(one.role));
      }
      block = one.block;
      last = stage_of(one.role);
      // Fused engines run them as one product.
      if (fusion_of(one.role) != Fusion::none && config.gated_mlp) {
        EXPECT_EQ(fusion_of(all[one.input].role), fusion_of(one.role));
      }
    }
    EXPECT_EQ(names.contains(std::string(kHeadModule)), !config.tied);
    // Linears know their places among all.
    for (const Matrix& linear : linears(config)) {
      EXPECT_TRUE(linear.in_block());
      EXPECT_EQ(all[linear.number].name, linear.name);
    }
    EXPECT_EQ(linears(config).size(), all.size() - (config.tied ? 1 : 2));
  }
}

TEST(Architecture, OwnersOfInputsAmongSome) {
  const std::vector<Matrix> all = matrices(config_of(random_llama(false), {{"num_hidden_layers", 1}}));
  EXPECT_THAT(input_owners(all), ElementsAre(0, 1, 1, 1, 4, 5, 5, 7, 8));
  // Without q and gate the first that is left stands for them.
  const std::vector<Matrix> some{all[2], all[3], all[6], all[7]};
  EXPECT_THAT(input_owners(some), ElementsAre(0, 0, 2, 3));
}

TEST(Architecture, RolesByTheLastPartOfTheName) {
  EXPECT_EQ(role_of("self_attn.q_proj"), Role::q);
  EXPECT_EQ(role_of("model.decoder.layers.3.fc2"), Role::down);
  EXPECT_EQ(role_of("lm_head"), Role::head);
  EXPECT_EQ(role_of("model.embed_tokens"), Role::embedding);
  EXPECT_EQ(role_of("embed_positions"), Role::positions);
  EXPECT_EQ(role_of("project_in"), Role::project_in);
  for (const char* name :
       {"", "q", "q_proj.weight", "self_attn", "block_sparse_moe.gate", "norm", "embed_tokens."})
    EXPECT_EQ(role_of(name), std::nullopt) << name;
}

TEST(Architecture, FindsMatricesByName) {
  const ModelConfig config = config_of(random_llama(false));
  const std::vector<std::string> names{"lm_head", "model.layers.1.mlp.up_proj"};
  const std::vector<Matrix> found = find_matrices(config, names);
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].role, Role::head);
  EXPECT_EQ(found[1].number, 13U);
  const std::vector<std::string> wrong{"model.layers.2.mlp.up_proj"};
  EXPECT_THROW(find_matrices(config, wrong), InputError);
}

/// What is left to quantize, by number.
std::vector<std::size_t> left(const ModelConfig& config, std::vector<std::string> keep, bool ends = true) {
  std::vector<std::size_t> numbers;
  for (const Matrix& matrix : select_matrices(config, keep, ends).quantized) numbers.push_back(matrix.number);
  return numbers;
}

TEST(MatrixSelection, KeepsWhatPatternsName) {
  const ModelConfig config = config_of(random_llama(false), {{"num_hidden_layers", 1}});
  EXPECT_EQ(left(config, {}).size(), 9U);
  EXPECT_THAT(left(config, {"lm_head"}), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_THAT(left(config, {"embed_tokens", "*_proj"}), ElementsAre(8));
  EXPECT_THAT(left(config, {"0.mlp.*", "model.embed*"}), ElementsAre(1, 2, 3, 4, 8));
  EXPECT_THAT(left(config, {}, false), ElementsAre(1, 2, 3, 4, 5, 6, 7));
  const std::vector<std::string> keep{"*.down_proj", "lm_head"};
  EXPECT_THAT(select_matrices(config, keep).kept, ElementsAre("lm_head", "model.layers.0.mlp.down_proj"));
  EXPECT_THAT(select_matrices(config, {}, false).kept, ElementsAre("lm_head", "model.embed_tokens"));
  EXPECT_THAT(select_matrices(config, {}).kept, ElementsAre());
  // What is dense in any case may be kept in its type.
  const std::vector<std::string> positions{"embed_positions"};
  EXPECT_THAT(select_matrices(config_of(random_opt()), positions).kept,
              ElementsAre("model.decoder.embed_positions"));
  const std::vector<std::string> projections{"project_*"};
  EXPECT_THAT(select_matrices(config_of(random_opt(64, 32)), projections).kept,
              ElementsAre("model.decoder.project_in", "model.decoder.project_out"));
}

TEST(MatrixSelection, PatternsThatNameNothingAreErrors) {
  const auto refusal = [](const ModelConfig& config, std::vector<std::string> keep) {
    try {
      select_matrices(config, keep);
    } catch (const UsageError& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const ModelConfig llama = config_of(random_llama(false));
  EXPECT_THAT(refusal(llama, {"lm_head", "*.fc1"}),
              AllOf(HasSubstr("--keep '*.fc1'"), HasSubstr("no matrix")));
  EXPECT_THAT(refusal(llama, {"embed_positions"}), HasSubstr("no matrix"));
  EXPECT_THAT(refusal(llama, {""}), HasSubstr("no matrix"));
  EXPECT_THAT(refusal(llama, {"*"}), HasSubstr("nothing is left"));
  // A tied embedding is the head too.
  EXPECT_EQ(refusal(config_of(random_llama(true)), {"lm_head"}), "accepted");
  EXPECT_THAT(refusal(config_of(random_opt()), {"project_in"}), HasSubstr("no matrix"));
  EXPECT_EQ(refusal(config_of(random_opt()), {"embed_positions"}), "accepted");
}

}  // namespace
}  // namespace knapsaq
