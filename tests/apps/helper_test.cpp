// Chat templates where a process must not fork: the command renders them.

#include "knapsaq/base/helper.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "command_fixture.h"
#include "knapsaq/base/error.h"
#include "knapsaq/text/chat_template.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {
namespace {

using testing::HasSubstr;

class HelperTest : public ::testing::Test {
 protected:
  HelperTest() : tokenizer_(Tokenizer::load(KNAPSAQ_SOURCE_DIR "/assets/wiki-llama-6m")) {}
  ~HelperTest() override { set_helper({}); }

  std::vector<TextPart> render(const std::string& source) {
    return ChatTemplate(source, tokenizer_, "a.jinja").render(messages_, true);
  }
  std::string complaint(const std::string& source) {
    try {
      render(source);
    } catch (const Error& error) {
      return error.what();
    }
    return "nothing";
  }

  Tokenizer tokenizer_;
  const std::vector<ChatMessage> messages_ = {
      {"user", "Hello <s> \xF0\x9F\x98\x80"}, {"assistant", ""}, {"user", "{{ 1 }}"}};
};

TEST_F(HelperTest, RendersAsThisProcessDoes) {
  const std::string source =
      "{{ eos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if "
      "add_generation_prompt %}!{% endif %}";
  const std::vector<TextPart> here = render(source);
  set_helper(KNAPSAQ_COMMAND);
  const std::vector<TextPart> there = render(source);
  ASSERT_EQ(here.size(), there.size());
  for (std::size_t i = 0; i < here.size(); ++i) {
    EXPECT_EQ(here[i].text, there[i].text);
    EXPECT_EQ(here[i].foreign, there[i].foreign);
  }
}

TEST_F(HelperTest, PassesErrorsOn) {
  for (const char* source : {"{{ raise_exception('only poems') }}", "{% if %}", "{{ messages | nothing }}"}) {
    set_helper({});
    const std::string here = complaint(source);
    set_helper(KNAPSAQ_COMMAND);
    EXPECT_EQ(complaint(source), here);
  }
}

TEST_F(HelperTest, OneThatIsNoHelperIsNamed) {
  set_helper("/nonexistent/knapsaq");
  EXPECT_THAT(complaint("x"), HasSubstr("cannot start /nonexistent/knapsaq"));
  set_helper("/bin/true");
  EXPECT_THAT(complaint("x"), HasSubstr("/bin/true ended without an answer"));
}

TEST_F(HelperTest, RequestsAreChecked) {
  EXPECT_THROW(ChatTemplate::serve(""), InputError);
  EXPECT_THROW(ChatTemplate::serve("anything"), InputError);
}

}  // namespace
}  // namespace knapsaq
