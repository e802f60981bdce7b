// Damaged and unsupported tokenizers: one line that names the file and says what is wrong.

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/text/tokenizer.h"
#include "reference.h"
#include "scratch.h"

namespace knapsaq {
namespace {

using Json = nlohmann::json;
using text_test::data_folder;
using text_test::read_json;

class BadTokenizer : public ::testing::Test {
 protected:
  void write(const char* name, const std::string& content) { write_file(scratch_ / name, content); }

  void expect_refused(const std::string& file, const std::string& why) {
    try {
      Tokenizer::load(scratch_.path());
      ADD_FAILURE() << "accepted, although: " << why;
    } catch (const InputError& error) {
      const std::string text = error.what();
      EXPECT_THAT(text, ::testing::HasSubstr((scratch_ / file).string()));
      EXPECT_THAT(text, ::testing::HasSubstr(why));
      EXPECT_EQ(text.find('\n'), std::string::npos) << text;
      EXPECT_LT(text.size(), 600U) << text;
    }
  }

  /// A small tokenizer.json with one thing changed.
  template <class Change>
  void expect_json_refused(Change&& change, const std::string& why) {
    Json json = good_;
    change(json);
    write("tokenizer.json", json.dump());
    expect_refused("tokenizer.json", why);
  }

  Scratch scratch_;
  const Json good_ = read_json(data_folder() / "small/llama2/tokenizer.json");
};

TEST_F(BadTokenizer, NoneAtAll) {
  EXPECT_THAT(
      [&] { Tokenizer::load(scratch_.path()); },
      ::testing::ThrowsMessage<InputError>(::testing::HasSubstr("no tokenizer: neither tokenizer.json")));
}

TEST_F(BadTokenizer, DamagedJson) {
  const std::string text = good_.dump();
  write("tokenizer.json", text.substr(0, text.size() / 2));
  expect_refused("tokenizer.json", "not valid JSON");
  write("tokenizer.json", "");
  expect_refused("tokenizer.json", "is empty");
  write("tokenizer.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
  expect_refused("tokenizer.json", "is a Git LFS pointer");
  write("tokenizer.json", "<!doctype html>");
  expect_refused("tokenizer.json", "is an HTML page");
  write("tokenizer.json", "[]");
  expect_refused("tokenizer.json", "not a JSON object");
  write("tokenizer.json", std::string(200000, '['));
  expect_refused("tokenizer.json", "is nested deeper than");
  write("tokenizer.json", R"({"model": 1e999})");
  expect_refused("tokenizer.json", "is not valid JSON");
}

TEST_F(BadTokenizer, Model) {
  expect_json_refused([](Json& j) { j.erase("model"); }, "'model' is missing");
  expect_json_refused([](Json& j) { j["model"]["type"] = "Unigram"; },
                      "the model type 'Unigram' is not supported");
  expect_json_refused([](Json& j) { j["model"].erase("vocab"); }, "'vocab' is missing");
  expect_json_refused([](Json& j) { j["model"].erase("merges"); }, "'merges' is missing");
  expect_json_refused([](Json& j) { j["model"]["vocab"] = Json::object(); }, "the vocabulary is empty");
  expect_json_refused([](Json& j) { j["model"]["vocab"]["again"] = 5; }, "the id 5 belongs to two tokens");
  expect_json_refused([](Json& j) { j["model"]["vocab"]["far"] = 1 << 30; },
                      "has the id 1073741824, which is not in 0..");
  expect_json_refused([](Json& j) { j["model"]["vocab"]["below"] = -1; }, "has the id -1");
  expect_json_refused([](Json& j) { j["model"]["vocab"]["huge"] = 18446744073709551615U; }, "has the id -1");
  expect_json_refused([](Json& j) { j["model"]["vocab"]["half"] = 0.5; }, "is not an integer");
  expect_json_refused(
      [](Json& j) {
        j["model"]["merges"].push_back({"a", "\nmissing"});
      },
      "'\\x0amissing', which the vocabulary lacks");
  expect_json_refused([](Json& j) { j["model"]["merges"].push_back("a b c"); }, "is not two tokens");
  expect_json_refused([](Json& j) { j["model"]["merges"].push_back(7); }, "neither a string nor two strings");
  expect_json_refused([](Json& j) { j["model"]["unk_token"] = "[none]"; },
                      "the unknown token '[none]' is not in");
  expect_json_refused([](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; },
                      "end_of_word_suffix is not supported");
  expect_json_refused([](Json& j) { j["model"]["dropout"] = 0.1; }, "dropout is not supported");
}

TEST_F(BadTokenizer, Components) {
  const auto component = [](const char* role, const Json& value) {
    return [=](Json& j) { j[role] = value; };
  };
  expect_json_refused(component("normalizer", {{"type", "Precompiled"}}),
                      "the normalizer 'Precompiled' is not supported");
  expect_json_refused(component("pre_tokenizer", {{"type", "BertPreTokenizer"}}),
                      "the pre-tokenizer 'BertPreTokenizer'");
  expect_json_refused(component("decoder", {{"type", "WordPiece"}}), "the decoder 'WordPiece'");
  expect_json_refused(component("post_processor", {{"type", "Other"}}), "the post-processor 'Other'");
  expect_json_refused(component("normalizer", "NFC"), "a normalizer is not an object");
  const Json split = {
      {"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}, {"invert", false}};
  expect_json_refused(component("pre_tokenizer", split), "does not compile");
  Json nested = {{"type", "Sequence"}, {"normalizers", Json::array()}};
  for (int i = 0; i < 10; ++i) nested = {{"type", "Sequence"}, {"normalizers", Json::array({nested})}};
  expect_json_refused(component("normalizer", nested), "are nested 9 deep");
  const Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
  expect_json_refused(component("pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {bytes, digits}}}),
                      "a pre-tokenizer behind ByteLevel");
  expect_json_refused([](Json& j) { j["post_processor"]["single"] = Json::array(); },
                      "a template without the text");
  expect_json_refused([](Json& j) { j["post_processor"]["special_tokens"] = Json::object(); },
                      "'<s>' is not explained");
  expect_json_refused([](Json& j) { j["added_tokens"][0]["id"] = 77; },
                      "has the id 77, but the vocabulary gives it 0");
  expect_json_refused([](Json& j) { j["added_tokens"][0]["content"] = "new"; },
                      "which is that of '<unk>' in the vocabulary");
}

TEST_F(BadTokenizer, VocabularyAndMerges) {
  const auto good = data_folder() / "small/opt-files";
  write("merges.txt", read_file(good / "merges.txt"));
  expect_refused("vocab.json", "missing");
  write("vocab.json", read_file(good / "vocab.json"));
  EXPECT_NO_THROW(Tokenizer::load(scratch_.path()));
  write("merges.txt", "#version: 0.2\n");
  expect_refused("merges.txt", "no merges");
  write("merges.txt", "#version: 0.2\na b c\n");
  expect_refused("merges.txt", "line 2 is not two tokens");
  write("merges.txt", "a \xff\n");
  expect_refused("merges.txt", "not UTF-8");
  std::filesystem::remove(scratch_ / "merges.txt");
  expect_refused("merges.txt", "missing");
  write("merges.txt", read_file(good / "merges.txt"));
  write("tokenizer_config.json", R"({"tokenizer_class": "BertTokenizer"})");
  expect_refused("vocab.json", "'BertTokenizer' splits text is not known");
  write("tokenizer_config.json", R"({"added_tokens_decoder": {"x": {}}})");
  expect_refused("tokenizer_config.json", "a key that is no id");
  write("tokenizer_config.json", R"({"add_bos_token": "yes"})");
  expect_refused("tokenizer_config.json", "'add_bos_token' is not true or false");
}

TEST_F(BadTokenizer, TokenizerModel) {
  const std::string spm = read_file(data_folder() / "small/sentencepiece/tokenizer.model");
  for (const std::size_t size : {spm.size() - 3, spm.size() / 2, std::size_t{40}}) {
    write("tokenizer.model", spm.substr(0, size));
    EXPECT_THROW(Tokenizer::load(scratch_.path()), InputError) << size;
  }
  write("tokenizer.model", "");
  EXPECT_THROW(Tokenizer::load(scratch_.path()), InputError);
  const std::string tiktoken = read_file(data_folder() / "small/tiktoken/tokenizer.model");
  write("tokenizer.model", tiktoken.substr(tiktoken.find('\n') + 1));
  expect_refused("tokenizer.model", "no token for the byte 0");
  write("tokenizer.model", tiktoken + "YQ== 9\n");
  expect_refused("tokenizer.model", "has two ids");
  write("tokenizer.model", tiktoken + "!!!! 9999\n");
  expect_refused("tokenizer.model", "is not base64 and a rank");
  write("tokenizer.model", tiktoken + "YWFhYWFh 99999999999999999999\n");
  expect_refused("tokenizer.model", "has no rank");
  write("tokenizer.model", tiktoken + "YWFhYWFh 999999999\n");
  expect_refused("tokenizer.model", "has the id 999999999");
}

}  // namespace
}  // namespace knapsaq
