// Streamed text against Tokenizer::decode(), which is held against the libraries elsewhere.

#include "knapsaq/text/text_stream.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/random.h"
#include "knapsaq/base/utf8.h"
#include "knapsaq/text/tokenizer_model.h"
#include "reference.h"
#include "scratch.h"

namespace knapsaq {
namespace {

using Ids = std::vector<std::int32_t>;
namespace fs = std::filesystem;

/// Streams `ids` and expects well-formed pieces that are decode() together. Returns the pieces.
std::vector<std::string> expect_decode(const Tokenizer& tokenizer, const Ids& ids, bool skip_special) {
  TextStream stream(tokenizer, skip_special);
  std::vector<std::string> pieces;
  for (const std::int32_t id : ids) pieces.push_back(stream.add(id));
  pieces.push_back(stream.finish());
  std::string all;
  for (const std::string& piece : pieces) {
    EXPECT_EQ(find_invalid_utf8(piece), piece.size()) << ::testing::PrintToString(piece);
    all += piece;
  }
  EXPECT_EQ(all, tokenizer.decode(ids, skip_special));
  return pieces;
}

/// Ids that a model could give: random ones, texts, and many pieces of characters in a row.
void check(const Tokenizer& tokenizer) {
  const auto size = static_cast<std::uint64_t>(tokenizer.vocabulary_size());
  // Tokens that are no UTF-8 of their own are rare in large vocabularies.
  Ids bytes;
  for (std::int32_t id = 0; id < tokenizer.vocabulary_size(); ++id) {
    const auto token = tokenizer.model().token_text(id, false);
    if (token && (token->size() == 6 && token->starts_with("<0x"))) bytes.push_back(id);
    if (tokenizer.decode(Ids{id}).find(kReplacementCharacter) != std::string::npos) bytes.push_back(id);
  }
  Random random(7);
  for (int round = 0; round < 300; ++round) {
    Ids ids;
    const std::uint64_t length = random.below(40);
    for (std::uint64_t i = 0; i < length; ++i) {
      const bool byte = !bytes.empty() && random.below(3) != 0;
      // Ids outside the vocabulary are left out.
      ids.push_back(byte ? bytes[random.below(bytes.size())]
                         : static_cast<std::int32_t>(random.below(size + 3)));
    }
    expect_decode(tokenizer, ids, round % 2 == 0);
    if (::testing::Test::HasFailure()) return;
  }
  for (const std::string& text : text_test::hard_strings()) {
    Ids ids = tokenizer.encode(text);
    expect_decode(tokenizer, ids, true);
    // A text that stops in the middle.
    ids.resize(ids.size() / 2);
    expect_decode(tokenizer, ids, false);
  }
}

TEST(TextStream, IsDecodeInPieces) {
  for (const auto& entry : fs::directory_iterator(text_test::data_folder() / "small")) {
    SCOPED_TRACE(entry.path());
    check(Tokenizer::load(entry.path()));
  }
  for (const char* model : {"wiki-llama-6m", "wiki-opt-3m"}) {
    SCOPED_TRACE(model);
    check(Tokenizer::load(fs::path(KNAPSAQ_SOURCE_DIR) / "assets" / model));
  }
}

TEST(TextStream, IsDecodeInPiecesOfRealTokenizers) {
  const fs::path folder = shared_folder() / "tokenizers";
  if (!fs::exists(folder)) GTEST_SKIP() << "needs shared/, which is not part of the project";
  for (const auto& entry : fs::directory_iterator(folder)) {
    SCOPED_TRACE(entry.path());
    check(Tokenizer::load(entry.path()));
  }
}

TEST(TextStream, ContinuesATextWithItsBlank) {
  for (const char* name : {"llama2", "llama2-metaspace", "gpt2", "sentencepiece"}) {
    SCOPED_TRACE(name);
    const Tokenizer tokenizer = Tokenizer::load(text_test::data_folder() / "small" / name);
    // The last has byte tokens at the end of the prompt, which are held back.
    for (const std::string& prompt : {std::string("The"), std::string(), std::string("x \xF0\x9F\x90\xA7")}) {
      const Ids before = tokenizer.encode(prompt);
      Ids all = before;
      TextStream stream(tokenizer);
      stream.begin_after(before);
      std::string text;
      for (const std::int32_t id : tokenizer.encode("of the \xE2\x82\xAC", false)) {
        all.push_back(id);
        text += stream.add(id);
      }
      text += stream.finish();
      EXPECT_EQ(tokenizer.decode(before, true) + text, tokenizer.decode(all, true));
    }
  }
}

TEST(TextStream, ShowsACharacterWithItsLastByte) {
  const Tokenizer tokenizer = Tokenizer::load(fs::path(KNAPSAQ_SOURCE_DIR) / "assets" / "wiki-llama-6m");
  const std::string text = "a \xF0\x9F\x90\xA7!";  // no vocabulary of 4096 has a penguin
  const auto pieces = expect_decode(tokenizer, tokenizer.encode(text, false), true);
  ASSERT_GE(pieces.size(), 5U);
  EXPECT_EQ(pieces.back(), "");  // the end holds nothing back
  EXPECT_EQ(std::count_if(pieces.begin(), pieces.end(),
                          [](const std::string& piece) { return piece.find('\xF0') != std::string::npos; }),
            1);
}

TEST(TextStream, TellsWhatWillNeverBecomeACharacter) {
  const Tokenizer tokenizer = Tokenizer::load(text_test::data_folder() / "small" / "gpt2");
  std::map<unsigned, std::int32_t> byte;
  for (std::int32_t id = 0; id < tokenizer.vocabulary_size(); ++id) {
    TextStream stream(tokenizer, false);
    if (stream.add(id).empty() && tokenizer.decode(Ids{id}) == kReplacementCharacter) byte[0] = id;
  }
  ASSERT_EQ(byte.size(), 1U);  // a token that begins a character
  TextStream stream(tokenizer, false);
  EXPECT_EQ(stream.add(byte[0]), "");
  const Ids letter = tokenizer.encode("x", false);
  EXPECT_EQ(stream.add(letter[0]), std::string(kReplacementCharacter) + "x");
  EXPECT_EQ(stream.finish(), "");
}

/// Steps in orders that no known tokenizer has, on texts with blanks wherever they matter.
TEST(TextStream, IsDecodeForAnyOrderOfSteps) {
  using Kind = DecoderStep::Kind;
  const std::vector<DecoderStep> known = {
      {.kind = Kind::kByteLevel, .pattern = {}, .content = {}},
      {.kind = Kind::kReplace, .pattern = "aba", .content = "<0x41>"},
      {.kind = Kind::kReplace, .pattern = "\xE2\x96\x81", .content = " "},
      {.kind = Kind::kByteFallback, .pattern = {}, .content = {}},
      {.kind = Kind::kFuse, .pattern = {}, .content = {}},
      {.kind = Kind::kStrip, .pattern = {}, .content = " ", .start = 1, .stop = 0},
      {.kind = Kind::kStrip, .pattern = {}, .content = "a", .start = 2, .stop = 3},
      {.kind = Kind::kMetaspace, .pattern = "\xE2\x96\x81", .content = {}, .strip_first = true}};
  const std::vector<std::string> tokens = {"a",
                                           "b",
                                           "ab",
                                           "aba",
                                           " ",
                                           "\xE2\x96\x81",
                                           "\xE2\x96\x81"
                                           "a",
                                           "<0xE2>",
                                           "<0x96>",
                                           "<0x81>",
                                           "<0x20>",
                                           "aa"};
  Random random(3);
  for (int round = 0; round < 3000; ++round) {
    TokenizerParts parts;
    const std::uint64_t steps = random.below(5);
    for (std::uint64_t i = 0; i < steps; ++i) parts.decoder.push_back(known[random.below(known.size())]);
    for (std::size_t i = 0; i < tokens.size(); ++i)
      parts.added.push_back({.id = static_cast<std::int32_t>(i), .content = tokens[i]});
    const Tokenizer tokenizer(std::make_unique<TokenizerModel>(std::move(parts)));
    Ids ids;
    const std::uint64_t length = random.below(12);
    for (std::uint64_t i = 0; i < length; ++i)
      ids.push_back(static_cast<std::int32_t>(random.below(tokens.size())));
    expect_decode(tokenizer, ids, false);
    if (HasFailure()) {
      FAIL() << "round " << round;
    }
  }
}

}  // namespace
}  // namespace knapsaq
