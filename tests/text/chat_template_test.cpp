// Chat templates against Transformers' apply_chat_template (tools/make_chat_references.py), and against those
// who write bad ones.

#include "knapsaq/text/chat_template.h"

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "reference.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using Ids = std::vector<std::int32_t>;

/// A tokenizer with the roles that the references were made with.
class ChatTemplateTest : public ::testing::Test {
 protected:
  ChatTemplateTest() {
    const fs::path small = text_test::data_folder() / "small" / "llama2" / "tokenizer.json";
    fs::copy_file(small, scratch_ / "tokenizer.json");
    settings({{"bos_token", "<s>"}, {"eos_token", "</s>"}});
  }
  void settings(const nlohmann::json& json) {
    fs::remove(scratch_ / "tokenizer_config.json");
    write_file(scratch_ / "tokenizer_config.json", json.dump());
  }
  Tokenizer tokenizer() const { return Tokenizer::load(folder()); }
  fs::path folder() const { return scratch_.path(); }
  Scratch scratch_;
};

std::string joined(const std::vector<TextPart>& parts) {
  std::string text;
  for (const TextPart& part : parts) text += part.text;
  return text;
}

std::vector<ChatMessage> messages_of(const nlohmann::json& json) {
  std::vector<ChatMessage> messages;
  for (const auto& message : json)
    messages.push_back({message["role"].get<std::string>(), message["content"].get<std::string>()});
  return messages;
}

/// How many renderings were compared.
int compare(const nlohmann::json& references, const Tokenizer& tokenizer) {
  int compared = 0;
  for (const auto& [name, one] : references["templates"].items()) {
    SCOPED_TRACE(name);
    const ChatTemplate chat(one["source"].get<std::string>(), tokenizer, name);
    std::size_t at = 0;
    for (const auto& conversation : references["conversations"]) {
      const auto messages = messages_of(conversation);
      for (const bool generation : {false, true}) {
        SCOPED_TRACE(at);
        const auto& expected = one["rendered"][at++];
        ++compared;
        if (expected.contains("error")) {
          EXPECT_THROW(chat.render(messages, generation), InputError) << expected["error"];
          continue;
        }
        std::vector<TextPart> parts;
        EXPECT_NO_THROW(parts = chat.render(messages, generation));
        EXPECT_EQ(joined(parts), expected["text"].get<std::string>());
        // The texts of these conversations spell no special token.
        EXPECT_EQ(tokenizer.encode(parts), expected["ids"].get<Ids>());
      }
    }
  }
  return compared;
}

TEST_F(ChatTemplateTest, IsTransformers) {
  EXPECT_EQ(compare(text_test::read_json(text_test::data_folder() / "chat.json"), tokenizer()), 8 * 6 * 2);
}

/// Published templates, for which somebody has run the tool on a folder of them.
TEST_F(ChatTemplateTest, IsTransformersForPublishedTemplates) {
  const char* path = std::getenv("KNAPSAQ_CHAT_REFERENCES");
  if (path == nullptr)
    GTEST_SKIP() << "KNAPSAQ_CHAT_REFERENCES names no file of tools/make_chat_references.py";
  compare(text_test::read_json(path), tokenizer());
}

TEST_F(ChatTemplateTest, IsFoundWhereModelsHaveIt) {
  const std::vector<ChatMessage> hello = {{"user", "Hello"}};
  EXPECT_FALSE(ChatTemplate::load(folder(), tokenizer()));
  settings({{"chat_template", "A{{ messages[0].content }}"}});
  EXPECT_EQ(joined(ChatTemplate::load(folder(), tokenizer())->render(hello, true)), "AHello");
  settings({{"chat_template",
             {{{"name", "tool_use"}, {"template", "T"}}, {{"name", "default"}, {"template", "D"}}}}});
  EXPECT_EQ(joined(ChatTemplate::load(folder(), tokenizer())->render(hello, true)), "D");
  settings({{"chat_template", {{{"name", "tool_use"}, {"template", "T"}}}}});
  EXPECT_FALSE(ChatTemplate::load(folder(), tokenizer()));
  settings({{"chat_template", 3}});
  EXPECT_THROW(ChatTemplate::load(folder(), tokenizer()), InputError);
  // Transformers' newer place comes first.
  write_file(scratch_ / "chat_template.jinja", "J");
  EXPECT_EQ(joined(ChatTemplate::load(folder(), tokenizer())->render(hello, true)), "J");
}

TEST_F(ChatTemplateTest, IsFoundInGgufFiles) {
  const auto number = [](std::uint64_t value, int bytes) {
    std::string out;
    for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
    return out;
  };
  const auto text = [&](const std::string& value) { return number(value.size(), 8) + value; };
  // Magic, version 3, no tensor, one key of type 8 (text).
  const auto file = [&](const std::string& key) {
    return "GGUF" + number(3, 4) + number(0, 8) + number(1, 8) + text(key) + number(8, 4) +
           text("G{{ bos_token }}");
  };
  write_file(scratch_ / "with.gguf", file("tokenizer.chat_template"));
  write_file(scratch_ / "without.gguf", file("tokenizer.other"));
  const auto chat = ChatTemplate::load(scratch_ / "with.gguf", tokenizer());
  ASSERT_TRUE(chat);
  EXPECT_EQ(joined(chat->render({}, true)), "G<s>");
  EXPECT_FALSE(ChatTemplate::load(scratch_ / "without.gguf", tokenizer()));
}

TEST_F(ChatTemplateTest, KnowsWhatEndsATurn) {
  const Tokenizer known = tokenizer();
  EXPECT_EQ(ChatTemplate("{% for m in messages %}[{{ m.content }}{{ eos_token }}{% endfor %}", known, "t")
                .end_of_turn(known),
            known.eos());
  EXPECT_EQ(
      ChatTemplate("{% for m in messages %}[{{ m.content }}]{% endfor %}", known, "t").end_of_turn(known),
      std::nullopt);
  EXPECT_EQ(
      ChatTemplate("{% for m in messages %}[{{ m.content }}{% endfor %}", known, "t").end_of_turn(known),
      std::nullopt);
  EXPECT_EQ(ChatTemplate("{{ raise_exception('no') }}", known, "t").end_of_turn(known), std::nullopt);
}

TEST_F(ChatTemplateTest, TypedTextIsNoSpecialToken) {
  const Tokenizer known = tokenizer();
  const ChatTemplate chat("{{ bos_token }}[{{ messages[0].content }}]{{ eos_token }}", known, "t");
  const auto count = [&](const std::string& typed, std::optional<std::int32_t> id) {
    const Ids ids = known.encode(chat.render(std::vector<ChatMessage>{{"user", typed}}, false));
    return std::count(ids.begin(), ids.end(), *id);
  };
  for (const std::string typed : {"a", "</s>", "a</s><s>b", "</s", "/s></s> ", "<s>"}) {
    EXPECT_EQ(count(typed, known.bos()), 1) << typed;
    EXPECT_EQ(count(typed, known.eos()), 1) << typed;
    // Nothing of what was typed is lost.
    const auto parts = chat.render(std::vector<ChatMessage>{{"user", typed}}, false);
    EXPECT_THAT(known.decode(known.encode(parts), true), HasSubstr(typed));
  }
  // Not even together with what stands beside it.
  const ChatTemplate torn("<{{ messages[0].content }}>", known, "t");
  const Ids ids = known.encode(torn.render(std::vector<ChatMessage>{{"user", "/s"}}, false));
  EXPECT_EQ(std::count(ids.begin(), ids.end(), *known.eos()), 0);
}

TEST_F(ChatTemplateTest, SaysWhatATemplateSays) {
  const Tokenizer known = tokenizer();
  const std::vector<ChatMessage> hello = {{"user", "Hello"}};
  const auto complaint = [&](const std::string& source) -> std::string {
    try {
      ChatTemplate(source, known, "file").render(hello, true);
    } catch (const InputError& error) {
      return error.what();
    }
    return "nothing";
  };
  EXPECT_THAT(complaint("{{ raise_exception('only\nfools') }}"),
              HasSubstr("file: the chat template fails: "));
  EXPECT_THAT(complaint("{{ raise_exception('only fools') }}"), HasSubstr("only fools"));
  for (const char* broken :
       {"{% for m in messages %}", "{{ ", "{% nonsense %}", "{{ messages.foo.bar() }}", "{% if %}{% endif %}",
        "{{ 'a", "{# a", "{%", "{{ messages | nofilter }}", "{{ 1 + }}"}) {
    const std::string said = complaint(broken);
    EXPECT_THAT(said, HasSubstr("file: the chat template")) << broken;
    EXPECT_EQ(said.find('\n'), std::string::npos) << said;
  }
  EXPECT_THROW(ChatTemplate(std::string((1 << 20) + 1, 'x'), known, "file"), InputError);
}

// What a template says is quoted, also if it takes our own words.
TEST_F(ChatTemplateTest, CannotSpeakToTheTerminal) {
  const Tokenizer known = tokenizer();
  for (const std::string said : {"\x1B[2Jgone", "a\nb", "\rfile: the chat template: takes more than",
                                 "file: the chat template\n\x1B]0;title\a"}) {
    try {
      ChatTemplate("{{ raise_exception('" + said + "') }}", known, "file")
          .render(std::vector<ChatMessage>{{"user", "Hello"}}, true);
      ADD_FAILURE() << "no error";
    } catch (const InputError& error) {
      const std::string what = error.what();
      EXPECT_THAT(what, testing::StartsWith("file: the chat template fails: '"));
      EXPECT_TRUE(std::ranges::none_of(what, [](char c) { return static_cast<unsigned char>(c) < 0x20; }))
          << what;
    }
  }
}

TEST_F(ChatTemplateTest, KnowsTheDate) {
  const ChatTemplate chat("{{ strftime_now('%Y-%m-%d') }}", tokenizer(), "file");
  const auto today = [] {
    const std::time_t now = std::time(nullptr);
    char text[16];
    std::strftime(text, sizeof text, "%Y-%m-%d", std::localtime(&now));
    return std::string(text);
  };
  const std::string before = today();
  const std::string said = joined(chat.render({}, false));
  EXPECT_TRUE(said == before || said == today()) << said;
}

TEST_F(ChatTemplateTest, SaysThatMemoryIsShort) {
  try {
    ChatTemplate("{{ 'aaaaaaaaaaaaaaaa' * 1000000000000 }}", tokenizer(), "file").render({}, true);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("memory"));
  }
}

TEST_F(ChatTemplateTest, HostileTemplatesEnd) {
  const Tokenizer known = tokenizer();
  const std::vector<ChatMessage> hello = {{"user", "Hello"}};
  const std::string deep(200000, '(');
  for (const std::string& source :
       {std::string("{% for a in range(100000000) %}{% for b in range(100000000) %}{% endfor %}{% endfor %}"),
        std::string("{{ 'aaaaaaaaaaaaaaaa' * 1000000000000 }}"),
        std::string(
            "{% set ns = namespace(s='aaaaaaaa') %}{% for a in range(60) %}{% set ns.s = ns.s + ns.s %}"
            "{% endfor %}{{ ns.s }}"),
        std::string("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}"), "{{ " + deep + "1 }}",
        "{{ " + std::string(200000, '[') + " }}", std::string("{{ ('x' * 1000000) * 100 }}")}) {
    EXPECT_THROW(ChatTemplate(source, known, "file").render(hello, true), InputError) << source.substr(0, 60);
  }
}

}  // namespace
}  // namespace knapsaq
