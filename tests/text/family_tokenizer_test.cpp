// Tokenizers built as those of more families of models are, against what Transformers' AutoTokenizer makes of
// the same folder (tools/make_tokenizer_references.py).

#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/text/corpus.h"
#include "knapsaq/text/tokenizer.h"
#include "reference.h"

namespace knapsaq {
namespace {

using text_test::data_folder;
using text_test::fnv1a;
using text_test::hard_strings;

class FamilyTokenizer : public ::testing::TestWithParam<std::string> {};

std::vector<std::string> names() {
  std::vector<std::string> found;
  const nlohmann::json references = text_test::read_json(data_folder() / "families.json");
  for (const auto& [name, reference] : references.items()) found.push_back(name);
  return found;
}

TEST_P(FamilyTokenizer, GivesTheIdsOfTransformers) {
  const nlohmann::json reference = text_test::read_json(data_folder() / "families.json").at(GetParam());
  const Tokenizer tokenizer = Tokenizer::load(data_folder() / "families" / GetParam());
  const std::vector<std::string>& strings = hard_strings();
  ASSERT_EQ(reference.at("ids").size(), strings.size());
  for (std::size_t i = 0; i < strings.size(); ++i) {
    SCOPED_TRACE(::testing::Message() << "string " << i << ": " << ::testing::PrintToString(strings[i]));
    const std::vector<std::int32_t> ids = tokenizer.encode(strings[i]);
    EXPECT_EQ(fnv1a(ids), reference.at("ids")[i].get<std::string>());
    EXPECT_EQ(fnv1a(tokenizer.decode(ids)), reference.at("decoded")[i].get<std::string>());
  }
  const std::vector<std::int32_t> ids = tokenizer.encode(read_text_file(data_folder() / "training.txt"));
  EXPECT_EQ(ids.size(), reference.at("text").at("count").get<std::size_t>());
  EXPECT_EQ(fnv1a(ids), reference.at("text").at("hash").get<std::string>());
}

INSTANTIATE_TEST_SUITE_P(All, FamilyTokenizer, ::testing::ValuesIn(names()), [](const auto& test) {
  std::string name = test.param;
  std::ranges::replace_if(
      name, [](char c) { return c == '-' || c == '.'; }, '_');
  return name;
});

}  // namespace
}  // namespace knapsaq
