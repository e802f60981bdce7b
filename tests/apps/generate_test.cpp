// The verbs generate and chat, as a user runs them.

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "apps/command_fixture.h"
#include "knapsaq/base/json_text.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class GenerateTest : public CommandTest {
 protected:
  /// The command with standard input, which run() leaves empty.
  Outcome run_with_input(const std::string& arguments, const std::string& input) {
    write_file(scratch_ / "input", input);
    return run(arguments + " <" + scratch("input"));
  }
  /// A copy of an embedded model in which files can be changed; `without` are left out.
  std::string copy_of(const std::string& model, const std::string& name,
                      const std::vector<std::string>& without = {}) {
    const fs::path folder = scratch_ / name;
    fs::create_directory(folder);
    for (const auto& entry : fs::directory_iterator(model)) {
      const std::string file = entry.path().filename().string();
      if (std::find(without.begin(), without.end(), file) == without.end())
        fs::copy_file(entry.path(), folder / file);
    }
    return folder.string();
  }
  /// The embedded Llama with a chat template.
  std::string chat_model(const std::string& source =
                             "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n"
                             "{% endfor %}{% if add_generation_prompt %}<assistant>"
                             "{% endif %}") {
    const std::string folder = copy_of(llama_, "chat-model");
    std::ofstream(fs::path(folder) / "chat_template.jinja") << source;
    return folder;
  }
  static std::vector<json> lines_of(const std::string& out) {
    std::vector<json> all;
    std::istringstream lines(out);
    for (std::string line; std::getline(lines, line);) all.push_back(json::parse(line));
    return all;
  }
};

TEST_F(GenerateTest, StreamsWhatJsonReports) {
  const std::string arguments = "generate " + llama_ + " --prompt 'The river' --max-tokens 40";
  const Outcome text = must(arguments);
  const json report = must(arguments + " --json").json();
  EXPECT_EQ(text.out, report["text"].get<std::string>() + "\n");
  EXPECT_EQ(text.err, "");
  EXPECT_EQ(report["tokens"].size(), 40U);
  EXPECT_EQ(report["reason"], "length");
  EXPECT_GT(report["prompt_tokens"].get<int>(), 0);
  EXPECT_GT(report["generation_tokens_per_second"].get<double>(), 0);
  // The prompt is not repeated; what follows it begins with its blank.
  EXPECT_THAT(text.out, Not(StartsWith("The river")));
  EXPECT_THAT(text.out, StartsWith(" "));
}

TEST_F(GenerateTest, SameSeedSameText) {
  const std::string arguments =
      "generate " + llama_ + " --prompt 'In 1905' --max-tokens 30 --temperature 1 --top-p 0.95 --top-k 200";
  const std::string first = must(arguments + " --seed 7 --threads 1").out;
  EXPECT_EQ(must(arguments + " --seed 7 --threads 3").out, first);
  EXPECT_NE(must(arguments + " --seed 8").out, first);
}

TEST_F(GenerateTest, WritesWholeCharacters) {
  // Hot enough for rare byte tokens.
  for (const char* seed : {"1", "2", "3"}) {
    const Outcome outcome =
        must("generate " + opt_ + " --prompt x --max-tokens 60 --temperature 50 --seed " + seed);
    EXPECT_TRUE(is_utf8(outcome.out));
  }
}

TEST_F(GenerateTest, PromptsComeFromFilesAndPipes) {
  const std::string rest = " --max-tokens 10";
  const std::string expected = must("generate " + llama_ + " --prompt 'The sea' " + rest).out;
  write_file(scratch_ / "prompt.txt", "The sea");
  EXPECT_EQ(must("generate " + llama_ + " --prompt-file " + scratch("prompt.txt") + rest).out, expected);
  EXPECT_EQ(run_with_input("generate " + llama_ + " --prompt-file -" + rest, "The sea").out, expected);
  expect_refused("generate " + llama_, 2, "--prompt");
  expect_refused("generate " + llama_ + " --prompt a --prompt-file b", 2, "--prompt");
}

TEST_F(GenerateTest, StopsAtTheTokensOfTheModelsFiles) {
  const json full = must("generate " + llama_ + " --prompt 'The river' --max-tokens 20 --json").json();
  const std::string model = copy_of(llama_, "stopping", {"generation_config.json"});
  const json token = full["tokens"][5];
  write_file(fs::path(model) / "generation_config.json", json{{"eos_token_id", {0, token}}}.dump());
  const json stopped = must("generate " + model + " --prompt 'The river' --max-tokens 20 --json").json();
  EXPECT_EQ(stopped["reason"], "stop");
  EXPECT_LE(stopped["tokens"].size(), 5U);
  for (std::size_t i = 0; i < stopped["tokens"].size(); ++i)
    EXPECT_EQ(stopped["tokens"][i], full["tokens"][i]);
}

TEST_F(GenerateTest, EmptyPromptsBeginATextWhereATokenBeginsOne) {
  EXPECT_EQ(must("generate " + llama_ + " --prompt '' --max-tokens 5 --json").json()["prompt_tokens"], 1);
  const std::string model =
      copy_of(llama_, "nameless", {"special_tokens_map.json", "tokenizer_config.json", "config.json"});
  json config = json::parse(read_file(llama_ + "/config.json"));
  config.erase("bos_token_id");
  config.erase("eos_token_id");
  write_file(fs::path(model) / "config.json", config.dump());
  expect_refused("generate " + model + " --prompt ''", 1, "the prompt is empty");
}

TEST_F(GenerateTest, SaysWhatDoesNotFitBeforeItLoadsTheModel) {
  // Weights that cannot be loaded: every error below comes before them.
  const std::string model = copy_of(llama_, "weightless");
  const auto weights = fs::path(model) / "model.safetensors";
  std::string bytes = read_file(weights);
  std::fill(bytes.end() - 1000000, bytes.end(), '\xFF');  // NaN
  fs::remove(weights);
  write_file(weights, bytes);
  std::string text;
  for (int i = 0; i < 700; ++i) text += "word ";
  write_file(scratch_ / "long.txt", text);
  expect_refused("generate " + model + " --prompt a", 1, "NaN");
  expect_refused("generate " + model + " --prompt-file " + scratch("long.txt"), 1,
                 "the context room for 512");
  expect_refused("generate " + model + " --prompt 'a b c' --context 2", 1, "the context room for 2");
  expect_refused("generate " + model + " --prompt a --temperature -1", 2, "temperature");
  expect_refused("generate " + model + " --prompt a --top-p 0", 2, "top-p");
  expect_refused("generate " + model + " --prompt a --max-tokens 0", 2, "max-tokens");
  expect_refused("generate " + model + " --prompt a --context 2000000000", 1, "are free");
  expect_refused("generate " + model + " --prompt a --context 3000000000", 2, "at most");
  expect_refused("chat " + model, 1, "no chat template");
  expect_refused("generate " + opt_ + " --prompt a --context 100000", 2, "learned");
  expect_refused("generate " + scratch("nowhere") + " --prompt a", 1, "nowhere");
  for (const char* file : {"tokenizer.json", "vocab.json", "merges.txt"}) fs::remove(fs::path(model) / file);
  expect_refused("generate " + model + " --prompt a", 1, "no tokenizer");
}

TEST_F(GenerateTest, EndsAtTheContext) {
  const json report =
      must("generate " + llama_ + " --prompt 'The river' --context 30 --max-tokens 100 --json").json();
  EXPECT_EQ(report["reason"], "context");
  EXPECT_EQ(report["prompt_tokens"].get<std::size_t>() + report["tokens"].size(), 30U);
}

/// Starts the command and interrupts it when its first words come. Its exit code; `out` is all that came.
int interrupt(const std::string& arguments, const fs::path& err, std::string& out) {
  int words[2];
  EXPECT_EQ(::pipe(words), 0);
  const std::string line = "exec " KNAPSAQ_COMMAND " " + arguments + " 2>" + err.string() + " </dev/null";
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(words[1], 1);
    ::close(words[0]);
    ::close(words[1]);
    ::execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
    ::_exit(127);
  }
  ::close(words[1]);
  char some[4096];
  for (ssize_t count = 0; (count = ::read(words[0], some, sizeof some)) > 0;) {
    if (out.empty()) ::kill(child, SIGINT);
    out.append(some, static_cast<std::size_t>(count));
  }
  ::close(words[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(GenerateTest, AnInterruptKeepsWhatWasWritten) {
  // Far more than can be generated before the interrupt.
  const std::string model =
      copy_of(llama_, "endless",
              {"special_tokens_map.json", "tokenizer_config.json", "config.json", "generation_config.json"});
  json config = json::parse(read_file(llama_ + "/config.json"));
  config.erase("eos_token_id");
  config.erase("bos_token_id");
  write_file(fs::path(model) / "config.json", config.dump());
  std::string out;
  const int code = interrupt("generate " + model + " --prompt 'The river' --context 60000 --max-tokens 50000",
                             scratch_ / "err", out);
  EXPECT_EQ(code, 130);
  EXPECT_EQ(read_file(scratch_ / "err"), "knapsaq: interrupted\n");
  EXPECT_THAT(out, testing::EndsWith("\n"));
  EXPECT_TRUE(is_utf8(out));
}

TEST_F(GenerateTest, ChatTakesTurns) {
  const std::string model = chat_model();
  const std::string options = "chat " + model + " --max-tokens 8 --system 'Be brief.'";
  const Outcome outcome =
      run_with_input(options + " --json", "Where is the sea?\n\nAnd the river?\n/exit\nnever\n");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto turns = lines_of(outcome.out);
  ASSERT_EQ(turns.size(), 2U);
  // The second turn computes what is new.
  EXPECT_EQ(turns[0]["reused_tokens"], 0);
  EXPECT_GE(turns[1]["reused_tokens"].get<int>(), turns[0]["prompt_tokens"].get<int>());
  EXPECT_LT(turns[1]["reused_tokens"].get<int>(), turns[1]["prompt_tokens"].get<int>());
  // As text, a line for every answer that has no line breaks itself.
  const Outcome text = run_with_input(options, "Where is the sea?\nAnd the river?");
  EXPECT_EQ(text.code, 0);
  EXPECT_EQ(text.out,
            turns[0]["text"].get<std::string>() + "\n" + turns[1]["text"].get<std::string>() + "\n");
  EXPECT_EQ(text.err, "");
  // The answer is what generate gives for the rendered text.
  const std::string rendered = "<system> Be brief.\n<user> Where is the sea?\n<assistant>";
  write_file(scratch_ / "rendered.txt", rendered);
  EXPECT_EQ(must("generate " + model + " --max-tokens 8 --prompt-file " + scratch("rendered.txt") + " --json")
                .json()["tokens"],
            turns[0]["tokens"]);
}

TEST_F(GenerateTest, ChatBeginsAnew) {
  const std::string model = chat_model();
  const Outcome outcome =
      run_with_input("chat " + model + " --max-tokens 6 --json", "Hello\nWho?\n/clear\nHello\n");
  const auto turns = lines_of(outcome.out);
  ASSERT_EQ(turns.size(), 3U);
  EXPECT_EQ(turns[2]["tokens"], turns[0]["tokens"]);
  EXPECT_EQ(turns[2]["prompt_tokens"], turns[0]["prompt_tokens"]);
}

TEST_F(GenerateTest, ChatStopsWhereTheTemplateEndsATurn) {
  // The special token of this model ends a turn; typed, it is only text.
  const std::string model = chat_model("{% for m in messages %}{{ m.content + eos_token }}{% endfor %}");
  const Outcome outcome = run_with_input("chat " + model + " --max-tokens 4 --json", "a<|endoftext|>b\n");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_GT(lines_of(outcome.out)[0]["prompt_tokens"].get<int>(), 5);
}

TEST_F(GenerateTest, ChatRefusesBrokenTemplatesAndLongConversations) {
  expect_refused("chat " + chat_model("{{ raise_exception('not today') }}"), 1, "not today");
  fs::remove_all(scratch_ / "chat-model");
  const std::string model = chat_model();
  const Outcome outcome = run_with_input("chat " + model + " --context 40 --max-tokens 100 --json",
                                         "Hello\nHello again, and again\n");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(lines_of(outcome.out)[0]["reason"], "context");
  EXPECT_THAT(outcome.err, HasSubstr("the context room for 40"));
}

}  // namespace
}  // namespace knapsaq
