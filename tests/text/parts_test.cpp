// The parts of the way from text to ids, each against what Hugging Face's tokenizers make of it.

#include <algorithm>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/utf8.h"
#include "knapsaq/text/added_tokens.h"
#include "knapsaq/text/bpe.h"
#include "knapsaq/text/byte_alphabet.h"
#include "knapsaq/text/decoder.h"
#include "knapsaq/text/normalizer.h"
#include "knapsaq/text/part_bytes.h"
#include "knapsaq/text/pre_tokenizer.h"
#include "knapsaq/text/regex.h"
#include "reference.h"

namespace knapsaq {
namespace {

using text_test::fnv1a;
using text_test::read_json;

std::vector<char32_t> code_points() {
  std::vector<char32_t> points;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c < 0xD800 || c >= 0xE000) points.push_back(c);
  }
  return points;
}

std::string utf8(char32_t c) {
  std::string text;
  append_utf8(text, c);
  return text;
}

TEST(PartBytes, AreReadBack) {
  const std::vector<TextPart> parts = {{.text = "<s>", .foreign = false},
                                       {.text = std::string("\0a", 2), .foreign = true},
                                       {.text = "", .foreign = true},
                                       {.text = std::string(300, 'x'), .foreign = false}};
  const std::vector<TextPart> back = parts_of(to_bytes(parts));
  ASSERT_EQ(back.size(), parts.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    EXPECT_EQ(back[i].text, parts[i].text);
    EXPECT_EQ(back[i].foreign, parts[i].foreign);
  }
  EXPECT_TRUE(parts_of("").empty());
}

TEST(PartBytes, FromElsewhereAreRefused) {
  const std::string good = to_bytes(std::vector<TextPart>{{.text = "hello", .foreign = true}});
  for (std::size_t size = 1; size < good.size(); ++size)
    EXPECT_THROW(parts_of(good.substr(0, size)), InputError) << size;
  std::string other = good;
  other[0] = 2;
  EXPECT_THROW(parts_of(other), InputError);
  for (std::size_t i = 1; i < 9; ++i) {
    other = good;
    other[i] = '\xFF';  // a length beyond everything
    EXPECT_THROW(parts_of(other), InputError) << i;
  }
  EXPECT_THROW(parts_of(good + "x"), InputError);
}

TEST(Utf8, FollowsPythonsReplacement) {
  const std::string_view mark = kReplacementCharacter;
  const auto marks = [&](int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += mark;
    return text;
  };
  EXPECT_EQ(replace_invalid_utf8("plain text of more than eight bytes"),
            "plain text of more than eight bytes");
  EXPECT_EQ(replace_invalid_utf8("\xE2\x82\xAC"), "\xE2\x82\xAC");
  EXPECT_EQ(replace_invalid_utf8("\x80"), marks(1));
  EXPECT_EQ(replace_invalid_utf8("\xE2\x82"), marks(1));
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x98x"), marks(1) + "x");
  EXPECT_EQ(replace_invalid_utf8("\xC0\xAF"), marks(2));
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80"), marks(3));
  EXPECT_EQ(replace_invalid_utf8("\xF4\x90\x80\x80"), marks(4));
  EXPECT_EQ(find_invalid_utf8("0123456789\xC3(z"), 10U);
  for (const char32_t c : {U'\0', U'\x7F', U'\x80', U'\x7FF', U'\x800', U'\xFFFF', U'\x10000', U'\x10FFFF'}) {
    const std::string text = utf8(c);
    std::size_t length = 0;
    EXPECT_EQ(utf8_decode(text, 0, length), c);
    EXPECT_EQ(length, text.size());
    EXPECT_EQ(utf8_length(text[0]), text.size());
  }
}

TEST(ByteAlphabet, IsGpt2s) {
  const ByteAlphabet& alphabet = ByteAlphabet::instance();
  EXPECT_EQ(alphabet.character(' '), "\u0120");
  EXPECT_EQ(alphabet.character('\n'), "\u010a");
  EXPECT_EQ(alphabet.character(0xAD), "\u0143");
  EXPECT_EQ(alphabet.character('a'), "a");
  EXPECT_EQ(alphabet.bytes("\u0120a"), " a");
  EXPECT_EQ(alphabet.bytes("a b"), std::nullopt);
  EXPECT_EQ(alphabet.bytes("\u4e2d"), std::nullopt);
}

TEST(Regex, MatchesTheCharactersOfTheReference) {
  const auto reference = read_json(text_test::data_folder() / "unicode.json")["classes"];
  RegexScratch scratch;
  for (const auto& [pattern, expected] : reference.items()) {
    const Regex regex(pattern, "test");
    std::vector<std::int32_t> found;
    for (const char32_t c : code_points()) {
      if (c == U'\n') continue;
      bool matched = false;
      std::string text(1, '\n');
      append_utf8(text, c);
      regex.split(text, scratch, [&](std::size_t begin, std::size_t end, bool is_match) {
        if (is_match && text.substr(begin, end - begin) != "\n") matched = true;
      });
      if (matched) found.push_back(static_cast<std::int32_t>(c));
    }
    EXPECT_EQ(found.size(), expected["count"].get<std::size_t>()) << pattern;
    EXPECT_EQ(fnv1a(found), expected["hash"].get<std::string>()) << pattern;
  }
}

TEST(Regex, RefusesWhatMeansSomethingElse) {
  const auto refused = [](const char* pattern, const char* why) {
    EXPECT_THAT([&] { Regex(pattern, "tokenizer.json"); },
                ::testing::ThrowsMessage<InputError>(
                    ::testing::AllOf(::testing::StartsWith("tokenizer.json: "), ::testing::HasSubstr(why))))
        << pattern;
  };
  refused("[a[bc]]", "a class inside a class");
  refused("[a-z&&[^b]]", "an intersection");
  refused("(*LIMIT_MATCH=9)a", "'(*'");
  refused("(?s).", "'(?s'");
  refused("(?R)a", "'(?R'");
  refused("\\Ka", "'\\K'");
  refused("\\ha", "'\\h'");
  refused("\\bword", "'\\b'");
  refused("a{,3}", "without a lower bound");
  refused("a{1,3}+", "'+'");
  refused("\\p{Nonsense}", "does not compile");
  refused("\\pL", "without braces");
  refused("(a", "does not compile");
  refused("a*", "matches the empty text");
  refused("[\\W]", "inside a class");
  refused("\\", "at its end");
  refused("\\xff", "a byte above 7F");
}

TEST(Regex, HostileOnesEndInAnError) {
  const Regex regex("(?:(?:a|aa)+)+[bc]", "tokenizer.json");
  RegexScratch scratch;
  EXPECT_THAT(
      [&] { regex.split(std::string(5000, 'a') + "d", scratch, [](std::size_t, std::size_t, bool) {}); },
      ::testing::ThrowsMessage<InputError>(::testing::HasSubstr("cannot be applied to this text")));
}

TEST(Normalizer, GivesTheFormsOfTheReference) {
  const auto reference = read_json(text_test::data_folder() / "unicode.json")["forms"];
  using Kind = NormalizerStep::Kind;
  RegexScratch scratch;
  const auto form = [&](Kind kind, bool marks, char32_t end) {
    const Normalizer normalizer({{.kind = kind, .pattern = {}, .content = {}, .regex = {}}});
    std::string all;
    for (const char32_t c : code_points()) {
      if (c >= end) break;
      all += normalizer.apply(utf8(c), scratch);
      if (!marks) continue;
      std::string among = "a\u0315";
      append_utf8(among, c);
      all += normalizer.apply(among.append("\u0323"), scratch);
    }
    return fnv1a(all);
  };
  EXPECT_EQ(form(Kind::kNfc, true, 0x110000), reference["NFC"].get<std::string>());
  EXPECT_EQ(form(Kind::kNfd, true, 0x110000), reference["NFD"].get<std::string>());
  EXPECT_EQ(form(Kind::kNfkc, true, 0x110000), reference["NFKC"].get<std::string>());
  EXPECT_EQ(form(Kind::kNfkd, true, 0x110000), reference["NFKD"].get<std::string>());
  EXPECT_EQ(form(Kind::kLowercase, false, 0x1C80), reference["Lowercase"].get<std::string>());
}

TEST(PreTokenizer, CutsAsTheReference) {
  const auto reference = read_json(text_test::data_folder() / "pieces.json");
  const auto texts = reference["texts"].get<std::vector<std::string>>();
  using Behaviour = PreTokenizerStep::Behaviour;
  const std::map<std::string, Behaviour> behaviours = {{"Removed", Behaviour::kRemoved},
                                                       {"Isolated", Behaviour::kIsolated},
                                                       {"MergedWithPrevious", Behaviour::kMergedWithPrevious},
                                                       {"MergedWithNext", Behaviour::kMergedWithNext},
                                                       {"Contiguous", Behaviour::kContiguous}};
  RegexScratch scratch;
  for (const auto& entry : reference["cases"]) {
    const auto& split = entry["split"];
    PreTokenizerStep step;
    step.behaviour = behaviours.at(split["behavior"].get<std::string>());
    step.invert = split["invert"].get<bool>();
    if (split["pattern"].contains("Regex")) {
      step.regex = std::make_shared<const Regex>(split["pattern"]["Regex"].get<std::string>(), "test");
    } else {
      step.pattern = split["pattern"]["String"].get<std::string>();
    }
    const PreTokenizer pre_tokenizer({step});
    for (std::size_t i = 0; i < texts.size(); ++i) {
      std::vector<std::string> pieces;
      pre_tokenizer.split(texts[i], true, scratch,
                          [&](std::string_view piece) { pieces.emplace_back(piece); });
      EXPECT_EQ(pieces, entry["pieces"][i].get<std::vector<std::string>>()) << split << " " << texts[i];
    }
  }
}

TEST(AddedTokens, LeftmostThenLongest) {
  const std::vector<AddedToken> tokens = {
      {.id = 0, .content = "ab"},
      {.id = 1, .content = "abc"},
      {.id = 2, .content = "[M]", .strip_left = true, .strip_right = true},
      {.id = 3, .content = "one", .single_word = true},
      {.id = 4, .content = ""},
  };
  const AddedTokenFinder finder(tokens, [](const AddedToken& token) { return token.content; });
  const auto split = [&](std::string_view text) {
    std::string out;
    finder.split(text, [&](std::size_t begin, std::size_t end, const AddedToken* token) {
      out += '|';
      if (token != nullptr) out.append(std::to_string(token->id)).append(":");
      out += text.substr(begin, end - begin);
    });
    return out;
  };
  EXPECT_EQ(split("xabcabx"), "|x|1:abc|0:ab|x");
  EXPECT_EQ(split("a  [M] \n[M] b"), "|a|2:  [M] \n|2:[M] |b");
  EXPECT_EQ(split("one xone one- onex"), "|3:one| xone |3:one|- onex");
  EXPECT_EQ(split(""), "");
}

TEST(Decoder, BadBytesOfARunAreAllReplaced) {
  const std::vector<DecoderStep> steps = {
      {.kind = DecoderStep::Kind::kByteFallback, .pattern = {}, .content = {}},
      {.kind = DecoderStep::Kind::kFuse, .pattern = {}, .content = {}}};
  EXPECT_EQ(decode_tokens(steps, {"<0xE4>", "<0xB8>", "<0xAD>", "x"}), "\u4e2dx");
  EXPECT_EQ(decode_tokens(steps, {"<0xE4>", "<0xB8>", "<0x41>", "x", "<0x4g>"}), "\uFFFD\uFFFD\uFFFDx<0x4g>");
}

/// Merging by scanning, by a heap and piece by piece are one algorithm: any cut at which no merge can happen,
/// and any length, gives what a plain search for the best pair gives.
TEST(Bpe, LongAndShortPiecesAgreeWithThePlainAlgorithm) {
  Vocabulary vocabulary("test", 100);
  const std::string letters = "abcdef";
  std::int32_t next = 0;
  for (const char c : letters) vocabulary.add(std::string(1, c), next++);
  std::vector<MergeRule> merges;
  std::uint32_t state = 5;
  const auto random = [&](std::uint32_t limit) {
    state = state * 1664525 + 1013904223;
    return (state >> 16) % std::max(limit, 1U);
  };
  while (merges.size() < 60) {
    const auto left = static_cast<std::int32_t>(random(static_cast<std::uint32_t>(next)));
    const auto right = static_cast<std::int32_t>(random(static_cast<std::uint32_t>(next)));
    const std::string token = std::string(vocabulary.token(left)) + std::string(vocabulary.token(right));
    if (token.find("fa") != std::string::npos || token.size() > 8 || vocabulary.find(token)) continue;
    vocabulary.add(token, next);
    merges.push_back(
        {.left = left, .right = right, .result = next++, .rank = static_cast<std::uint32_t>(merges.size())});
  }
  const auto plain = [&](std::string_view text) {
    std::vector<std::int32_t> ids;
    for (const char c : text) ids.push_back(*vocabulary.find(std::string(1, c)));
    for (;;) {
      std::size_t best = merges.size();
      std::size_t at = 0;
      for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
        for (std::size_t m = 0; m < best; ++m) {
          if (merges[m].left == ids[i] && merges[m].right == ids[i + 1]) {
            best = m;
            at = i;
          }
        }
      }
      if (best == merges.size()) return ids;
      ids[at] = merges[best].result;
      ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
  };
  const Bpe bpe(vocabulary, merges, {.unknown = {}});
  BpeScratch scratch;
  for (const std::uint32_t alphabet : {2U, 3U, 6U}) {
    for (std::size_t length : {1U, 2U, 7U, 16U, 17U, 63U, 64U, 65U, 66U, 130U, 700U}) {
      for (int repeat = 0; repeat < 20; ++repeat) {
        std::string text;
        for (std::size_t i = 0; i < length; ++i) text.push_back(letters[random(alphabet)]);
        std::vector<std::int32_t> ids;
        bpe.encode(text, scratch, ids);
        bpe.encode(text, scratch, ids);
        auto expected = plain(text);
        const auto once = expected;
        expected.insert(expected.end(), once.begin(), once.end());
        ASSERT_EQ(ids, expected) << text;
      }
    }
  }
}

}  // namespace
}  // namespace knapsaq
