#include "knapsaq/search/space.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <set>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/bank/match_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/random.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/search/make_space.h"
#include "knapsaq/search/pins.h"
#include "knapsaq/search/problem.h"
#include "message_of.h"
#include "random_model.h"

namespace knapsaq {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kModules[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                    "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
                                    "mlp.down_proj"};

/// A Llama's linears with random widths and errors; bytes are exact. GGML types fall back where the width is
/// no multiple of 256.
ErrorTable random_table(std::string_view menu, int layers, Random& random) {
  const Menu schemes = parse_menu(menu);
  std::vector<Matrix> all;
  for (int layer = 0; layer < layers; ++layer) {
    for (const char* module : kModules) {
      Matrix linear;
      linear.block = layer;
      linear.module = module;
      linear.name = fmt::format("model.layers.{}.{}", layer, module);
      linear.out = static_cast<std::int64_t>(8 * (1 + random.below(8)));
      linear.in = static_cast<std::int64_t>(32 * (1 + random.below(16)));
      all.push_back(linear);
    }
  }
  ErrorTable table = size_table(all, schemes);
  for (ErrorRow& row : table.rows) {
    for (ErrorCell& cell : row.cells) cell.fnorm = random.uniform();
  }
  return table;
}

SearchSpace space_of(const ErrorTable& table, std::string_view ties, std::vector<std::string> pins = {}) {
  std::vector<Pin> parsed;
  for (const std::string& pin : pins) parsed.push_back(parse_pin(pin));
  return make_space(table, ties, parsed, Cost::fnorm, {});
}

Point random_point(const SearchSpace& space, Random& random) {
  Point point;
  for (const Variable& variable : space.variables)
    point.push_back(static_cast<std::uint8_t>(random.below(variable.levels.size())));
  return point;
}

std::string refusal(const ErrorTable& table, std::vector<std::string> pins, std::string_view ties = "none") {
  return message_of<UsageError>([&] { space_of(table, ties, std::move(pins)); });
}

TEST(Space, BytesErrorsAndBitsAreSumsOverTheLinears) {
  Random random(1);
  for (int round = 0; round < 60; ++round) {
    const std::string_view menu = round % 3 == 0   ? "mxq"
                                  : round % 3 == 1 ? "gguf"
                                                   : "hqq:b2g128,hqq:b3g64,gptq:b4row,rtn:b8g32s,q4_k,nf4";
    const ErrorTable table = random_table(menu, 1 + round % 4, random);
    const SearchSpace space = space_of(table, std::array{"none", "qkv", "vllm", "layer"}[round % 4]);
    std::set<std::size_t> seen;
    for (const Variable& variable : space.variables) {
      std::int64_t parameters = 0;
      for (const std::size_t linear : variable.linears) {
        EXPECT_TRUE(seen.insert(linear).second);
        parameters += table.rows[linear].parameters;
      }
      EXPECT_EQ(variable.parameters, parameters);
      ASSERT_FALSE(variable.levels.empty());
      for (std::size_t l = 0; l < variable.levels.size(); ++l) {
        const SpaceLevel& level = variable.levels[l];
        std::uint64_t bytes = 0;
        double error = 0;
        for (const std::size_t linear : variable.linears) {
          bytes += table.rows[linear].cells[level.choice].bytes;
          error += table.rows[linear].cells[level.choice].fnorm;
        }
        EXPECT_EQ(level.bytes, bytes);
        EXPECT_EQ(level.error, error);
        if (l == 0) continue;
        const SpaceLevel& before = variable.levels[l - 1];
        EXPECT_LE(before.bytes, level.bytes);
        if (before.bytes == level.bytes) {
          EXPECT_LE(before.error, level.error);
        }
      }
    }
    EXPECT_EQ(seen.size(), table.rows.size());
    const Point point = random_point(space, random);
    const std::vector<Scheme> allocation = space.allocation(point);
    const std::vector<std::size_t> choices = space.choices(point);
    std::uint64_t bytes = 0;
    std::int64_t parameters = 0;
    for (std::size_t i = 0; i < table.rows.size(); ++i) {
      EXPECT_EQ(allocation[i], table.rows[i].cells[choices[i]].scheme);
      bytes += table.rows[i].cells[choices[i]].bytes;
      parameters += table.rows[i].parameters;
    }
    EXPECT_EQ(space.linear_bytes(point), bytes);
    EXPECT_EQ(space.parameters, parameters);
    EXPECT_DOUBLE_EQ(space.bits(point), 8.0 * static_cast<double>(bytes) / static_cast<double>(parameters));
    EXPECT_LE(space.linear_bytes(space.smallest()), bytes);
    EXPECT_GE(space.linear_bytes(space.largest()), bytes);
  }
}

TEST(Space, TiesShareALevel) {
  Random random(2);
  const ErrorTable table = random_table("mxq", 3, random);
  EXPECT_EQ(space_of(table, "none").variables.size(), 21U);
  EXPECT_EQ(space_of(table, "qkv").variables.size(), 15U);
  EXPECT_EQ(space_of(table, "vllm").variables.size(), 12U);
  const SearchSpace layers = space_of(table, "layer");
  ASSERT_EQ(layers.variables.size(), 3U);
  EXPECT_EQ(layers.variables[1].name, "model.layers.1.self_attn.q_proj +6");
  EXPECT_EQ(layers.variables[1].block, 1);
  EXPECT_THAT(layers.variables[1].linears, ElementsAre(7, 8, 9, 10, 11, 12, 13));
  const std::vector<std::size_t> choices = layers.choices({0, 5, 11});
  EXPECT_EQ(std::set<std::size_t>(choices.begin() + 7, choices.begin() + 14).size(), 1U);
}

TEST(Space, ChoicesThatStoreALinearAlikeAreOneLevel) {
  Matrix whole;
  whole.module = "self_attn.q_proj";
  whole.name = "model.layers.0.self_attn.q_proj";
  whole.out = 8;
  whole.in = 512;
  Matrix odd = whole;
  odd.module = "self_attn.k_proj";
  odd.name = "model.layers.0.self_attn.k_proj";
  odd.in = 96;  // q2_k and q3_k become q4_0 here
  const ErrorTable table = size_table(std::array{whole, odd}, parse_menu("q2_k,q3_k,q4_0,q8_0"));
  const SearchSpace apart = space_of(table, "none");
  ASSERT_EQ(apart.variables[0].levels.size(), 4U);
  ASSERT_EQ(apart.variables[1].levels.size(), 2U);
  EXPECT_EQ(apart.variables[1].levels[0].choice, 0U);
  EXPECT_EQ(apart.variables[1].levels[0].bits, 4);
  EXPECT_EQ(to_string(apart.allocation({0, 0})[1]), "q4_0");
  // Tied, the choices differ in the first linear.
  const SearchSpace tied = space_of(table, "qkv");
  ASSERT_EQ(tied.variables.size(), 1U);
  EXPECT_EQ(tied.variables[0].levels.size(), 4U);
  EXPECT_DOUBLE_EQ(tied.variables[0].levels[0].bits, (2.0 * 512 + 4.0 * 96) / (512 + 96));
  // A pin may name the scheme of the menu whose place is taken, and a bound means what is stored.
  EXPECT_EQ(to_string(space_of(table, "none", {"*k_proj=q3_k"}).allocation({0, 0})[1]), "q4_0");
  EXPECT_EQ(space_of(table, "none", {"*>=4"}).variables[1].levels.size(), 2U);
  EXPECT_EQ(space_of(table, "none", {"*>=4"}).variables[0].levels.size(), 2U);
}

TEST(Space, UnknownErrorsAreNoNumbers) {
  Random random(3);
  ErrorTable table = random_table("hqq:b2g64,hqq:b4g64", 1, random);
  const SearchSpace space = make_space(table, "none", {}, Cost::hessian, {});
  EXPECT_TRUE(std::isnan(space.variables[0].levels[1].error));
  EXPECT_LT(space.variables[0].levels[0].bytes, space.variables[0].levels[1].bytes);
}

TEST(Space, IdentityTellsSpacesApart) {
  Random random(4);
  ErrorTable table = random_table("mxq", 2, random);
  std::set<std::string> identities;
  identities.insert(space_of(table, "none").identity());
  identities.insert(space_of(table, "qkv").identity());
  identities.insert(space_of(table, "none", {"0.*>=3"}).identity());
  EXPECT_EQ(space_of(table, "none").identity().size(), 32U);
  table.rows[3].cells[2].fnorm *= 2;  // what is measured with other errors is as good
  EXPECT_EQ(identities.count(space_of(table, "none").identity()), 1U);
  table.rows[3].name += "x";
  identities.insert(space_of(table, "none").identity());
  EXPECT_EQ(identities.size(), 4U);
}

TEST(Space, PointsThatAreNoneAreRefused) {
  Random random(5);
  const SearchSpace space = space_of(random_table("hqq:b2g64,hqq:b4g64", 1, random), "none");
  EXPECT_THROW(space.choices({0, 1}), std::invalid_argument);
  EXPECT_THROW(space.linear_bytes({0, 0, 0, 0, 0, 0, 2}), std::invalid_argument);
  EXPECT_THROW(space.allocation({0, 0, 0, 0, 0, 0, 0, 0}), std::invalid_argument);
}

TEST(Space, TablesThatAreNoneAreRefused) {
  Random random(6);
  const ErrorTable table = random_table("hqq:b2g64,hqq:b4g64", 1, random);
  ErrorTable bad = table;
  bad.rows.clear();
  EXPECT_THROW(space_of(bad, "none"), UsageError);
  bad = table;
  bad.menu.clear();
  EXPECT_THROW(space_of(bad, "none"), UsageError);
  bad = table;
  bad.rows[2].cells.pop_back();
  EXPECT_THROW(space_of(bad, "none"), UsageError);
  EXPECT_THROW(space_of(table, "qkw"), UsageError);
}

TEST(Pins, RestrictTheirVariables) {
  Random random(7);
  const ErrorTable table = random_table("mxq", 3, random);
  const auto levels = [&](std::vector<std::string> pins, std::size_t variable) {
    return space_of(table, "none", std::move(pins)).variables[variable].levels.size();
  };
  EXPECT_EQ(levels({"*.down_proj>=4"}, 6), 6U);
  EXPECT_EQ(levels({"*.down_proj>=4"}, 5), 12U);
  EXPECT_EQ(levels({"1.*<=3"}, 7), 6U);
  EXPECT_EQ(levels({"1.*<=3"}, 0), 12U);
  EXPECT_EQ(levels({"*>=3", "*<=4"}, 0), 6U);
  EXPECT_EQ(levels({"*>=2.5"}, 0), 9U);
  EXPECT_EQ(levels({"model.layers.?.self_attn.q_proj = hqq:b8g64/m8g128"}, 14), 1U);
  // A pin of one holds for all that are tied to it.
  const SearchSpace tied = space_of(table, "qkv", {"*.k_proj=b4g64"});
  ASSERT_EQ(tied.variables[0].levels.size(), 1U);
  EXPECT_EQ(to_string(tied.allocation(tied.smallest())[0]), "hqq:b4g64/m8g128");
}

TEST(Pins, NamesOfSchemesMayLeaveOutWhatIsClear) {
  const Menu menu = parse_menu("hqq:b4g64/m8g128,hqq:b4g64,gptq:b4g64,gptq:b3g64/m8g128,q4_k");
  const auto allowed = [&](std::string_view scheme) {
    return allowed_choices(parse_pin(fmt::format("*={}", scheme)), menu.schemes, menu.schemes);
  };
  EXPECT_THAT(allowed("hqq:b4g64"), ElementsAre(false, true, false, false, false));
  EXPECT_THAT(allowed("b4g64"), ElementsAre(false, true, true, false, false));
  EXPECT_THAT(allowed("b4g64/m8g128"), ElementsAre(true, false, false, false, false));
  EXPECT_THAT(allowed("b3g64"), ElementsAre(false, false, false, true, false));
  EXPECT_THAT(allowed("q4_k"), ElementsAre(false, false, false, false, true));
  EXPECT_THROW(allowed("hqq:b3g64"), UsageError);
  EXPECT_THROW(allowed("b2g64"), UsageError);
}

TEST(Pins, ContradictionsNameBoth) {
  Random random(8);
  const ErrorTable table = random_table("mxq", 2, random);
  EXPECT_THAT(refusal(table, {"*.q_proj>=4", "0.*<=3"}),
              AllOf(HasSubstr("'*.q_proj>=4'"), HasSubstr("'0.*<=3'"), HasSubstr("contradict"),
                    HasSubstr("model.layers.0.self_attn.q_proj")));
  EXPECT_THAT(refusal(table, {"*.q_proj=b2g64", "*.v_proj=b4g64"}, "qkv"),
              AllOf(HasSubstr("*.q_proj=b2g64"), HasSubstr("*.v_proj=b4g64")));
  EXPECT_THAT(refusal(table, {"*.q_proj=b2g64", "*.v_proj=b4g64"}), "");
  EXPECT_THAT(refusal(table, {"*>=9"}), AllOf(HasSubstr("'*>=9'"), HasSubstr("no such scheme")));
}

TEST(Pins, ThreeThatOnlyTogetherLeaveNothing) {
  Random random(9);
  // What is stored for a choice may have other bits than its name: here any two of the pins leave a scheme.
  ErrorTable table = random_table("gptq:b4g64,hqq:b4g64,hqq:b3g64", 1, random);
  for (ErrorRow& row : table.rows) row.cells[0].scheme.bits = 2;
  EXPECT_EQ(refusal(table, {"*=b4g64", "*<=3"}), "");
  EXPECT_EQ(refusal(table, {"*=b4g64", "*>=3"}), "");
  EXPECT_EQ(refusal(table, {"*<=3", "*>=3"}), "");
  EXPECT_THAT(refusal(table, {"*=b4g64", "*<=3", "*>=3"}), HasSubstr("'*>=3': with the pins before it"));
}

TEST(Pins, ThatMatchNothingAreRefused) {
  Random random(10);
  const ErrorTable table = random_table("mxq", 2, random);
  EXPECT_THAT(refusal(table, {"*.qproj=b4g64"}),
              AllOf(HasSubstr("'*.qproj=b4g64'"), HasSubstr("nothing that is chosen about")));
  EXPECT_THAT(refusal(table, {"2.*>=3"}), HasSubstr("'2.*>=3'"));
  EXPECT_THAT(refusal(table, {"self_attn.q_proj=b4g64"}), HasSubstr("nothing that is chosen about"));
  EXPECT_THAT(refusal(table, {"*=b5g64"}), AllOf(HasSubstr("'b5g64'"), HasSubstr("hqq:b2g32/m8g128")));
  // A table of the linears alone has no ends.
  for (const char* pin : {"lm_head=b8g64", "model.embed_tokens>=8", "*embed*=b8g64", "lm_head*<=4"})
    EXPECT_THAT(refusal(table, {pin}), AllOf(HasSubstr(pin), HasSubstr("nothing that is chosen about")))
        << pin;
}

/// All matrices of a Llama of two blocks, the embedding first.
ErrorTable table_with_ends(std::string_view menu, bool tied, Random& random) {
  ErrorTable table = size_table(matrices(parse_model_config(random_llama(tied))), parse_menu(menu));
  for (ErrorRow& row : table.rows)
    for (ErrorCell& cell : row.cells) cell.fnorm = random.uniform();
  return table;
}

TEST(Pins, NameEmbeddingAndHead) {
  Random random(14);
  const ErrorTable table = table_with_ends("mxq", false, random);
  const std::size_t last = table.rows.size() - 1;
  const auto levels = [&](const char* pin) {
    std::vector<std::size_t> counts;
    for (const Variable& variable : space_of(table, "none", {pin}).variables)
      counts.push_back(variable.levels.size());
    return counts;
  };
  std::vector<std::size_t> expected(table.rows.size(), 12);
  expected[last] = 1;
  EXPECT_EQ(levels("lm_head=b8g64"), expected);
  expected[last] = 6;
  EXPECT_EQ(levels("lm*>=4"), expected);
  expected[last] = 12;
  expected[0] = 3;
  EXPECT_EQ(levels("embed_tokens>=8"), expected);
  EXPECT_EQ(levels("model.embed_tokens>=8"), expected);
  EXPECT_EQ(levels("*>=8"), std::vector<std::size_t>(table.rows.size(), 3));
  // Their names have no number of a block before them.
  EXPECT_THAT(refusal(table, {"-1.lm_head=b8g64"}), HasSubstr("nothing that is chosen about"));
  // A tied embedding is the head too.
  const ErrorTable tied = table_with_ends("mxq", true, random);
  for (const char* pin : {"lm_head=b8g64", "embed_tokens=b8g64"})
    EXPECT_EQ(space_of(tied, "none", {pin}).variables[0].levels.size(), 1u) << pin;
}

TEST(Space, TiesLeaveTheEndsAlone) {
  Random random(15);
  for (const bool tied : {false, true}) {
    const ErrorTable table = table_with_ends("mxq", tied, random);
    for (const auto& [ties, of_blocks] :
         {std::pair{"none", 14U}, std::pair{"qkv", 10U}, std::pair{"vllm", 8U}, std::pair{"layer", 2U}}) {
      const SearchSpace space = space_of(table, ties);
      ASSERT_EQ(space.variables.size(), of_blocks + (tied ? 1 : 2)) << ties;
      EXPECT_EQ(space.variables.front().name, "model.embed_tokens");
      EXPECT_EQ(space.variables.front().block, -1);
      EXPECT_THAT(space.variables.front().linears, ElementsAre(0));
      if (tied) continue;
      EXPECT_EQ(space.variables.back().name, "lm_head");
      EXPECT_THAT(space.variables.back().linears, ElementsAre(table.rows.size() - 1));
    }
  }
}

TEST(Pins, HostileTexts) {
  for (const char* text : {"", "=", "a", "a=", "=b4g64", "a>3", "a<3", "a>=", "a<=x", "a>=nan", "a>=inf",
                           "a>=-1", "a>=0", "a>=3x", "a>=1e999", ">=3", "  =b4g64", "a=  "}) {
    EXPECT_THROW(parse_pin(text), UsageError) << text;
  }
  try {
    parse_pin("evil\nname\x1b[31m\xff");
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), AllOf(Not(HasSubstr("\n")), Not(HasSubstr("\x1b"))));
  }
  Random random(11);
  const ErrorTable table = random_table("mxq", 1, random);
  EXPECT_THAT(refusal(table, {"a=="}), HasSubstr("a=="));
  EXPECT_THAT(refusal(table, {"evil\n=b4g64"}), HasSubstr("evil\\x0a"));
  EXPECT_THAT(refusal(table, {std::string(100000, '*') + "x=b4g64"}),
              HasSubstr("nothing that is chosen about"));
}

TEST(Pins, TextAndBack) {
  for (const char* text : {"a=b4g64", "*.x>=3", "?<=2.5"}) EXPECT_EQ(to_string(parse_pin(text)), text);
}

TEST(Space, KnowsTheFilesOfTheEmbeddedModelsToTheByte) {
  Random random(13);
  for (const char* name : {"wiki-llama-6m", "wiki-opt-3m"}) {
    const std::filesystem::path folder = std::filesystem::path(KNAPSAQ_SOURCE_DIR) / "assets" / name;
    const Checkpoint checkpoint = Checkpoint::open(folder);
    const ModelConfig config = parse_model_config(checkpoint.config());
    const std::vector<Matrix> all = matrices(config);
    for (const char* menu : {"mxq", "hqq:b2g128,hqq:b3g128,hqq:b4g128", "gguf"}) {
      const ErrorTable table = size_table(all, parse_menu(menu));
      const SearchSpace space =
          make_space(table, "none", {}, Cost::fnorm, quantized_file_sizes(checkpoint, config, table));
      for (int round = 0; round < 20; ++round) {
        const Point point = random_point(space, random);
        const QuantizedLayout layout =
            layout_quantized(checkpoint, config, allocation_of(all, space.allocation(point)));
        EXPECT_EQ(space.linear_bytes(point), layout.quantized_bytes) << name << " " << menu;
        EXPECT_EQ(space.bytes(point), layout.bytes) << name << " " << menu;
      }
    }
  }
}

}  // namespace
}  // namespace knapsaq
