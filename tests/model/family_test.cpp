// What the folders of tests/data/model/families have beside logits and gradients.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/files.h"
#include "knapsaq/model/generator.h"
#include "loaded_model.h"
#include "model/families.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int32_t>;

class Family : public ::testing::TestWithParam<fs::path> {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Family);
INSTANTIATE_TEST_SUITE_P(Models, Family, ::testing::ValuesIn(family_models()), name_of_folder);

// Transformers keeps keys and values, too: token for token, whatever the cache holds.
TEST_P(Family, GeneratesWhatTransformersGenerates) {
  const nlohmann::json reference = reference_of(GetParam());
  const Ids expected = reference.at("generated");
  Ids prompt = reference.at("tokens");
  prompt.resize(reference.at("prompt").get<std::size_t>());
  LoadedModel model(GetParam());
  Generator generator(model.decoder, std::ssize(prompt) + std::ssize(expected) + 1, CacheElement::working);
  const Generated result = generator.generate(prompt, {.max_tokens = std::ssize(expected)});
  EXPECT_EQ(result.tokens, expected);
}

// The hub's spelling of config.json and the one that Transformers 5 writes.
TEST_P(Family, IsTheSameInBothSpellings) {
  if (!fs::exists(GetParam() / "config5.json")) GTEST_SKIP() << "published as Transformers 5 writes it";
  const Scratch scratch;
  fs::copy(GetParam() / "model.safetensors", scratch / "model.safetensors");
  fs::copy(GetParam() / "config5.json", scratch / "config.json");
  const Ids tokens = reference_of(GetParam()).at("tokens");
  LoadedModel published(GetParam());
  LoadedModel other(scratch.path());
  EXPECT_EQ(published.decoder.logits(tokens, 0), other.decoder.logits(tokens, 0));
}

}  // namespace
}  // namespace knapsaq
