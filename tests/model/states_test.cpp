// Models whose layers have states in place of keys and values: what a cache can return to, and what a
// generator reuses.

#include <algorithm>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/random.h"
#include "knapsaq/model/generator.h"
#include "loaded_model.h"
#include "model/families.h"

namespace knapsaq {
namespace {

using Ids = std::vector<std::int32_t>;

Ids random_ids(std::int64_t count, std::int64_t vocab, std::uint64_t seed) {
  Random random(seed);
  Ids ids(static_cast<std::size_t>(count));
  for (auto& id : ids) id = static_cast<std::int32_t>(random.uniform() * static_cast<double>(vocab));
  return ids;
}

class States : public ::testing::TestWithParam<std::string> {
 protected:
  LoadedModel model{family_model(GetParam())};
};
INSTANTIATE_TEST_SUITE_P(Models, States, ::testing::Values("qwen3.5-text", "lfm2"), [](const auto& one) {
  std::string name = one.param;
  std::ranges::replace_if(
      name, [](char c) { return c == '-' || c == '.'; }, '_');
  return name;
});

TEST_P(States, ReturnToLengthsThatWereKept) {
  Decoder& decoder = model.decoder;
  const Ids ids = random_ids(40, decoder.config().vocab, 1);
  const std::span<const std::int32_t> all(ids);
  KeyValueCache cache(decoder.config(), *model.backend, 1, 64);
  EXPECT_TRUE(cache.has_states());
  EXPECT_GE(cache.bytes(), KeyValueCache::bytes(decoder.config(), CacheElement::working, 1, 64));
  cache.keep();  // nothing yet
  decoder.next(all.first(10), cache);
  EXPECT_EQ(cache.reachable(12), 10);
  EXPECT_EQ(cache.reachable(9), 0);
  EXPECT_THROW(cache.shorten(9), std::invalid_argument);
  cache.keep();
  decoder.next(all.subspan(10, 10), cache);
  cache.keep();
  const std::vector<float> expected = decoder.next(all.subspan(20, 5), cache);
  EXPECT_EQ(cache.reachable(24), 20);
  EXPECT_EQ(cache.reachable(19), 10);
  cache.shorten(20);
  EXPECT_EQ(decoder.next(all.subspan(20, 5), cache), expected);
  cache.keep();  // the third: the shortest goes
  EXPECT_EQ(cache.reachable(19), 0);
  EXPECT_EQ(cache.reachable(24), 20);
  cache.clear();
  EXPECT_EQ(cache.length(), 0);
  decoder.next(all.first(20), cache);
  EXPECT_EQ(decoder.next(all.subspan(20, 5), cache), expected);
}

// To the bit: what a token reads does not depend on where a prompt was cut.
TEST_P(States, AreReusedByPromptsThatBeginAlike) {
  Decoder& decoder = model.decoder;
  const std::int64_t vocab = decoder.config().vocab;
  const GenerationOptions options{.max_tokens = 9};
  const Ids prompt = random_ids(60, vocab, 2);
  const auto fresh = [&](const Ids& ids) {
    return Generator(decoder, 200, CacheElement::working).generate(ids, options).tokens;
  };
  Generator generator(decoder, 200, CacheElement::working);
  const Generated first = generator.generate(prompt, options);
  EXPECT_EQ(first.reused_tokens, 0);
  EXPECT_EQ(first.tokens, fresh(prompt));

  const Generated again = generator.generate(prompt, options);
  EXPECT_EQ(again.reused_tokens, 59);
  EXPECT_EQ(again.tokens, first.tokens);

  // The next turn of a chat.
  Ids longer = prompt;
  longer.insert(longer.end(), first.tokens.begin(), first.tokens.end());
  const Ids more = random_ids(50, vocab, 3);
  longer.insert(longer.end(), more.begin(), more.end());
  const Generated next = generator.generate(longer, options);
  EXPECT_EQ(next.reused_tokens, 60 + 8);  // the last token that was drawn has not been read
  EXPECT_EQ(next.tokens, fresh(longer));

  // Another end than the answer that was read: as far back as was kept.
  Ids other = longer;
  other[other.size() - 5] = (other[other.size() - 5] + 1) % static_cast<std::int32_t>(vocab);
  const Generated differs = generator.generate(other, options);
  EXPECT_EQ(differs.reused_tokens, std::ssize(longer) - 32);
  EXPECT_EQ(differs.tokens, fresh(other));

  // Nothing that was kept is a beginning of it.
  const Ids short_one(prompt.begin(), prompt.begin() + 20);
  EXPECT_EQ(generator.generate(short_one, options).reused_tokens, 0);
}

}  // namespace
}  // namespace knapsaq
