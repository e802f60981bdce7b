// Ids and texts against Hugging Face's tokenizers, SentencePiece and tiktoken.

#include "knapsaq/text/tokenizer.h"

#include <fstream>
#include <sstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/utf8.h"
#include "knapsaq/text/corpus.h"
#include "reference.h"
#include "scratch.h"

namespace knapsaq {
namespace {

using text_test::data_folder;
using text_test::fnv1a;
using text_test::hard_strings;
using text_test::read_json;
using Ids = std::vector<std::int32_t>;

/// Everything that the reference says about the hard strings.
void expect_hard_strings(const Tokenizer& tokenizer, const nlohmann::json& reference) {
  const auto& strings = hard_strings();
  ASSERT_EQ(reference["ids"].size(), strings.size());
  for (std::size_t i = 0; i < strings.size(); ++i) {
    SCOPED_TRACE(::testing::Message() << "string " << i << ": " << ::testing::PrintToString(strings[i]));
    const auto expected = reference["ids"][i].get<Ids>();
    const Ids ids = tokenizer.encode(strings[i]);
    EXPECT_EQ(ids, expected);
    EXPECT_EQ(fnv1a(tokenizer.encode(strings[i], false)), reference["plain"][i].get<std::string>());
    EXPECT_EQ(fnv1a(tokenizer.decode(expected)), reference["decoded"][i].get<std::string>())
        << tokenizer.decode(expected);
    EXPECT_EQ(fnv1a(tokenizer.decode(expected, true)), reference["decoded_skip"][i].get<std::string>())
        << tokenizer.decode(expected, true);
  }
  const auto role = [&](const char* name) -> std::optional<std::int32_t> {
    if (reference[name].is_null()) return std::nullopt;
    return reference[name].get<std::int32_t>();
  };
  // A tokenizer.json alone says nothing of an EOS.
  if (role("eos")) {
    EXPECT_EQ(tokenizer.eos(), role("eos"));
  }
  EXPECT_EQ(tokenizer.bos(), role("bos"));
}

class SmallTokenizer : public ::testing::TestWithParam<const char*> {};

TEST_P(SmallTokenizer, GivesTheIdsOfTheReference) {
  const auto reference = read_json(data_folder() / "small.json")[GetParam()];
  const Tokenizer tokenizer = Tokenizer::load(data_folder() / "small" / GetParam());
  expect_hard_strings(tokenizer, reference);
  const Ids ids = tokenizer.encode(read_text_file(data_folder() / "training.txt"));
  EXPECT_EQ(ids.size(), reference["text"]["count"].get<std::size_t>());
  EXPECT_EQ(fnv1a(ids), reference["text"]["hash"].get<std::string>());
}

INSTANTIATE_TEST_SUITE_P(All, SmallTokenizer,
                         ::testing::Values("gpt2", "llama3", "qwen2", "neox", "llama2", "llama2-metaspace",
                                           "unknown", "nothing", "opt-files", "qwen2-files", "sentencepiece",
                                           "sentencepiece-llama", "sentencepiece-legacy", "tiktoken"));

class RealTokenizer : public ::testing::TestWithParam<const char*> {};

TEST_P(RealTokenizer, GivesTheIdsOfTheReference) {
  const auto shared = shared_folder();
  if (shared.empty()) GTEST_SKIP() << "needs shared/, which is not part of the project";
  const auto folder = shared / GetParam();
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is not there";
  const auto reference = read_json(data_folder() / "real.json")[GetParam()];
  const Tokenizer tokenizer = Tokenizer::load(folder);
  expect_hard_strings(tokenizer, reference);

  const std::string wikitext = read_text_file(shared / "data/wikitext2-test.raw");
  const Ids ids = tokenizer.encode(wikitext);
  EXPECT_EQ(ids.size(), reference["wikitext"]["count"].get<std::size_t>());
  EXPECT_EQ(fnv1a(ids), reference["wikitext"]["hash"].get<std::string>());

  std::istringstream lines(read_text_file(shared / "data/c4-train-1000.jsonl"));
  Ids all;
  for (std::string line; std::getline(lines, line);) {
    const Ids document = tokenizer.encode(nlohmann::json::parse(line)["text"].get<std::string>());
    all.insert(all.end(), document.begin(), document.end());
  }
  EXPECT_EQ(all.size(), reference["c4"]["count"].get<std::size_t>());
  EXPECT_EQ(fnv1a(all), reference["c4"]["hash"].get<std::string>());
}

INSTANTIATE_TEST_SUITE_P(All, RealTokenizer,
                         ::testing::Values("tokenizers/opt", "tokenizers/llama2", "tokenizers/llama3",
                                           "tokenizers/qwen2", "tokenizers/pythia", "models/wiki-llama-6m",
                                           "models/wiki-opt-3m"));

TEST(Tokenizer, ByteLevelTextComesBackWhole) {
  for (const char* name : {"gpt2", "llama3", "tiktoken"}) {
    const Tokenizer tokenizer = Tokenizer::load(data_folder() / "small" / name);
    for (const std::string& text : hard_strings()) {
      // Added tokens that take white space along lose it, and one whose letters are all of the byte alphabet
      // is read as bytes, in the libraries too (the reference's "decoded" says so).
      const auto has = [&](const char* token) { return text.find(token) != std::string::npos; };
      if (has("[M]") || has("<s>") || has("n\u00e9e")) continue;
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, false)), replace_invalid_utf8(text)) << name;
    }
  }
}

TEST(Tokenizer, SaysWhatItAdds) {
  const auto small = data_folder() / "small";
  EXPECT_TRUE(Tokenizer::load(small / "llama2").adds_bos());
  EXPECT_TRUE(Tokenizer::load(small / "llama3").adds_bos());
  EXPECT_TRUE(Tokenizer::load(small / "opt-files").adds_bos());
  EXPECT_TRUE(Tokenizer::load(small / "sentencepiece").adds_bos());
  EXPECT_TRUE(Tokenizer::load(small / "tiktoken").adds_bos());
  EXPECT_FALSE(Tokenizer::load(small / "gpt2").adds_bos());
  EXPECT_FALSE(Tokenizer::load(small / "qwen2-files").adds_bos());
  const Tokenizer tiktoken = Tokenizer::load(small / "tiktoken");
  const auto special = tiktoken.encode("<|reserved_special_token_250|>", false);
  ASSERT_EQ(special.size(), 1U);
  EXPECT_EQ(special[0] + 1, tiktoken.vocabulary_size());
}

/// One word without an end: quadratic work would take hours here.
TEST(Tokenizer, LongWordsAreNoTrap) {
  const std::size_t size = std::size_t{1} << 20;
  std::string mixed;
  for (std::uint32_t state = 1; mixed.size() < size;) {
    state = state * 1664525 + 1013904223;
    mixed.push_back(static_cast<char>('a' + (state >> 24) % 26));
  }
  for (const char* name :
       {"gpt2", "llama3", "qwen2", "neox", "llama2", "unknown", "sentencepiece", "tiktoken"}) {
    const Tokenizer tokenizer = Tokenizer::load(data_folder() / "small" / name);
    for (const std::string& text :
         {mixed, std::string(size, 'a'), std::string(size, ' '), std::string(size, '\n')}) {
      const Ids ids = tokenizer.encode(text, false);
      EXPECT_GT(ids.size(), 0U) << name;
    }
    if (std::string_view(name) == "unknown") continue;  // it has no token for rare letters
    // neox puts a blank in front of its texts, and leaves it there.
    const std::string before = std::string_view(name) == "neox" ? " " : "";
    EXPECT_TRUE(tokenizer.decode(tokenizer.encode(mixed, false)) == before + mixed) << name;
  }
}

/// The pieces remembered by one thread are not seen by another, and give the same ids as new ones.
TEST(Tokenizer, ThreadsShareOneTokenizer) {
  const Tokenizer tokenizer = Tokenizer::load(data_folder() / "small" / "qwen2");
  const std::string text = read_text_file(data_folder() / "training.txt");
  const Ids expected = tokenizer.encode(text);
  std::vector<Ids> found(4);
  std::vector<std::thread> threads;
  threads.reserve(found.size());
  for (Ids& ids : found) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5; ++i) ids = tokenizer.encode(text);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Ids& ids : found) EXPECT_EQ(ids, expected);
}

TEST(Tokenizer, ForeignIdsAreLeftOut) {
  const Tokenizer tokenizer = Tokenizer::load(data_folder() / "small" / "gpt2");
  const Ids ids = tokenizer.encode("ab");
  Ids more = {-1, 1 << 30};
  more.insert(more.end(), ids.begin(), ids.end());
  EXPECT_EQ(tokenizer.decode(more), "ab");
}

/// Transformers 5 does not read add_bos_token where there is a tokenizer.json; the template is all that
/// counts.
TEST(Tokenizer, OfTokenizerJsonTheTemplateAloneSaysWhatStandsAround) {
  const Scratch scratch;
  std::filesystem::copy(data_folder() / "small/gpt2/tokenizer.json", scratch / "tokenizer.json");
  for (const char* name : {"PreTrainedTokenizerFast", "LlamaTokenizerFast", "GPT2Tokenizer"}) {
    write_file(scratch / "tokenizer_config.json", nlohmann::json{{"tokenizer_class", name},
                                                                 {"bos_token", "<|endoftext|>"},
                                                                 {"add_bos_token", true},
                                                                 {"add_eos_token", true}}
                                                      .dump());
    const Tokenizer tokenizer = Tokenizer::load(scratch.path());
    EXPECT_FALSE(tokenizer.adds_bos()) << name;
    EXPECT_EQ(tokenizer.encode("ab"), tokenizer.encode("ab", false)) << name;
  }
}

/// Transformers 5 makes some classes of a tokenizer.json's vocabulary and merges alone.
TEST(Tokenizer, TheClassDecidesAsInTransformers) {
  for (const nlohmann::json& wanted : read_json(data_folder() / "classes.json")) {
    SCOPED_TRACE(wanted.dump());
    const Scratch scratch;
    std::filesystem::copy(data_folder() / "small" / wanted["tokenizer"].get<std::string>() / "tokenizer.json",
                          scratch / "tokenizer.json");
    write_file(scratch / "config.json", nlohmann::json{{"model_type", wanted["model_type"]}}.dump());
    write_file(scratch / "tokenizer_config.json",
               nlohmann::json{{"tokenizer_class", wanted["class"]}, {"legacy", wanted["legacy"]}}.dump());
    const Tokenizer tokenizer = Tokenizer::load(scratch.path());
    Ids all;
    for (const std::string& text : hard_strings()) {
      const Ids ids = tokenizer.encode(text, false);
      all.insert(all.end(), ids.begin(), ids.end());
    }
    EXPECT_EQ(all.size(), wanted["count"].get<std::size_t>());
    EXPECT_EQ(fnv1a(all), wanted["hash"].get<std::string>());
  }
}

TEST(Corpus, ReadsAFileAsItIs) {
  const Scratch scratch;
  write_file(scratch / "text", "a\r\n\u6771z\n");
  EXPECT_EQ(read_text_file(scratch / "text"), "a\r\n\u6771z\n");
  write_file(scratch / "mark", "\xEF\xBB\xBFhello");
  EXPECT_EQ(read_text_file(scratch / "mark"), "hello");
  write_file(scratch / "cut", "caf\u00E9 and \xE6\x9D");
  EXPECT_EQ(read_text_file(scratch / "cut"), "caf\u00E9 and ");
  write_file(scratch / "empty", "");
  EXPECT_THAT([&] { read_text_file(scratch / "empty"); },
              ::testing::ThrowsMessage<InputError>(::testing::HasSubstr("empty: the text is empty")));
  EXPECT_THROW(read_text_file(scratch / "absent"), IoError);
}

TEST(Corpus, RefusesWhatIsNoText) {
  const Scratch scratch;
  const auto refusal = [&](const char* name, const std::string& content) -> std::string {
    write_file(scratch / name, content);
    try {
      read_text_file(scratch / name);
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr((scratch / name).string()));
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(refusal("a.txt", "a\r\n\xff\xe4\xb8z\n"), ::testing::HasSubstr("is not UTF-8"));
  EXPECT_THAT(refusal("a.txt", std::string("\xFF\xFEh\0i\0", 6)), ::testing::HasSubstr("UTF-16"));
  EXPECT_THAT(refusal("a.txt", "<!DOCTYPE html><p>text"), ::testing::HasSubstr("name it .html"));
  EXPECT_EQ(refusal("a.html", "<!DOCTYPE html><p>text"), "accepted");
  const std::string lines = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
  for (const char* name : {"a.json", "a.ndjson", "a"})
    EXPECT_THAT(refusal(name, lines), ::testing::HasSubstr("a name that ends in .jsonl"));
  EXPECT_EQ(refusal("a.jsonl", lines), "accepted");
  EXPECT_EQ(refusal("a.txt", lines), "accepted");
  EXPECT_THAT(refusal("a.json", "[{\"text\": \"one\"}]"), ::testing::HasSubstr("is a JSON document"));
  EXPECT_EQ(refusal("a.txt", "[{\"text\": \"one\"}]"), "accepted");
  EXPECT_EQ(refusal("a.txt", "{not JSON"), "accepted");
  EXPECT_THAT(
      [&] { parse_documents("[\n{\"text\": \"one\"}\n]", "f"); },
      ::testing::ThrowsMessage<InputError>(::testing::HasSubstr("one JSON document, not one on every line")));
}

}  // namespace
}  // namespace knapsaq
