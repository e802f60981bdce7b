// Completion for shells: bash's function is run over the whole table of verbs and options.

#include <filesystem>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "apps/command_fixture.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;
using testing::UnorderedElementsAreArray;

class Completion : public CommandTest {
 protected:
  Completion() {
    write_file(scratch_ / "completion.bash", must("completion bash").out);
    fs::create_directories(scratch_ / "files/models");
    write_file(scratch_ / "files/my text.txt", "");
    write_file(scratch_ / "files/none", "");
  }

  using Words = std::vector<std::string>;

  /// What bash offers for the last word of each line, in a folder with three files. Words that it takes apart
  /// are given apart.
  std::vector<Words> all_offered(const std::vector<Words>& lines) {
    std::string script = "source " + scratch("completion.bash") + "\ncd " + scratch("files") + "\n";
    for (const Words& line : lines) {
      script += "COMP_WORDS=(";
      for (const std::string& word : line) script += "'" + word + "' ";
      script += ")\nCOMP_CWORD=" + std::to_string(line.size() - 1) +
                "\n_knapsaq\nprintf '%s\\n' \"${COMPREPLY[@]}\" /\n";
    }
    write_file(scratch_ / "script", script);
    const Outcome outcome = run_shell("bash " + scratch("script"));
    EXPECT_EQ(outcome.err, "");
    std::vector<Words> all(1);
    std::istringstream out(outcome.out);
    for (std::string word; std::getline(out, word);) {
      if (word == "/") {
        all.emplace_back();
      } else if (!word.empty()) {
        all.back().push_back(word);
      }
    }
    all.pop_back();
    EXPECT_EQ(all.size(), lines.size());
    return all;
  }
  Words offered(const Words& line) { return all_offered({line}).at(0); }

  const Words files_ = {"models", "my text.txt", "none"};
};

TEST_F(Completion, OffersEveryVerbOptionAndValue) {
  std::vector<std::string> first;
  for (const json& verb : table()["verbs"]) first.push_back(verb["name"]);
  for (const json& option : table()["options"])
    for (const json& name : option["names"]) first.push_back(name);
  std::vector<Words> lines = {{"knapsaq", ""}};
  std::vector<Words> wanted = {first};
  const auto expect = [&](const Words& line, const Words& words) {
    lines.push_back(line);
    wanted.push_back(words);
  };
  for (const json& verb : table()["verbs"]) {
    const std::string name = verb["name"];
    Words options;
    for (const json& option : verb["options"])
      for (const std::string one : option["names"])
        if (one.starts_with('-')) options.push_back(one);
    expect({"knapsaq", name, "-"}, options);
    for (const json& option : verb["options"]) {
      const std::string takes = option["takes"];
      const Words values = takes == "name" ? files_ : option["values"].get<Words>();
      for (const std::string one : option["names"]) {
        if (!one.starts_with('-')) {
          expect({"knapsaq", name, ""}, values);
        } else if (takes != "nothing") {
          expect({"knapsaq", name, one, ""}, values);
          expect({"knapsaq", name, one, "=", ""}, values);
        }
      }
    }
  }
  const std::vector<Words> found = all_offered(lines);
  for (std::size_t i = 0; i < lines.size(); ++i)
    EXPECT_THAT(found.at(i), UnorderedElementsAreArray(wanted[i])) << testing::PrintToString(lines[i]);
}

TEST_F(Completion, KnowsTheNamesThatTheProgramHas) {
  const json known = must("strategies --json").json();
  std::vector<std::string> strategies;
  for (const json& one : known["strategies"]) strategies.push_back(one["name"]);
  EXPECT_THAT(offered({"knapsaq", "fit", "--strategy", ""}), UnorderedElementsAreArray(strategies));
  EXPECT_THAT(offered({"knapsaq", "front", "--strategy", ""}), UnorderedElementsAreArray(strategies));
  EXPECT_THAT(offered({"knapsaq", "export", "--format", "m"}), ElementsAre("mlx"));
  EXPECT_THAT(offered({"knapsaq", "fit", "--for", "ll"}), ElementsAre("llama.cpp"));
  EXPECT_THAT(offered({"knapsaq", "fit", "--cache", "q8"}), UnorderedElementsAre("q8", "q8_0"));
  EXPECT_THAT(offered({"knapsaq", "generate", "--cache", ""}), UnorderedElementsAre("fp16", "int8"));
  // A list goes on behind its comma.
  EXPECT_THAT(offered({"knapsaq", "study", "--strategies", "ga,p"}), ElementsAre("ga,pso"));
  EXPECT_THAT(offered({"knapsaq", "eval", "--tasks", "piqa,bo"}), ElementsAre("piqa,boolq"));
  // Words that nobody knows beforehand are no files.
  EXPECT_THAT(offered({"knapsaq", "fit", "--budget", ""}), IsEmpty());
  EXPECT_THAT(offered({"knapsaq", "generate", "--prompt", "m"}), IsEmpty());
  // What is offered is understood.
  const auto values = [&](const std::string& verb, const std::string& option) {
    return offered({"knapsaq", verb, option, ""});
  };
  for (const std::string& menu : values("tables", "--menu"))
    must("tables " + opt_ + " -o " + scratch("t.csv") + " --menu " + menu);
  for (const std::string& tie : values("allocate", "--tie"))
    must("allocate --table " + scratch("t.csv") + " --bits 6 --tie " + tie);
  for (const std::string& method : values("bank", "--method"))
    must("bank " + opt_ + " -o " + scratch(method) + " --menu b4g64 --samples 2 --window 32 --method " +
         method);
  for (const std::string& cost : values("allocate", "--cost"))
    must("allocate --bank " + scratch("gptq") + " --bits 6 --cost " + cost);
  for (const std::string& protocol : values("eval", "--protocol"))
    must("eval " + opt_ + " --text " + text_ + " --windows 1 --window 32 --protocol " + protocol);
}

TEST_F(Completion, GoesOnFromWhatIsThere) {
  EXPECT_THAT(offered({"knapsaq", "gen"}), ElementsAre("generate"));
  EXPECT_THAT(offered({"knapsaq", "fit", "model", "--rep"}), ElementsAre("--report"));
  EXPECT_THAT(offered({"knapsaq", "eval", "--precision", "f"}), ElementsAre("fp32"));
  EXPECT_THAT(offered({"knapsaq", "eval", "--precision", "="}), ElementsAre("bf16", "fp32", "int8"));
  EXPECT_THAT(offered({"knapsaq", "eval", "--text", "my"}), ElementsAre("my text.txt"));
  EXPECT_THAT(offered({"knapsaq", "eval", "--windows", ""}), IsEmpty());
  // A flag before: what follows is not its value.
  EXPECT_THAT(offered({"knapsaq", "info", "--json", ""}), UnorderedElementsAreArray(files_));
  EXPECT_THAT(offered({"knapsaq", "completion", ""}), ElementsAre("bash", "zsh", "json"));
  EXPECT_THAT(offered({"knapsaq", "nothing", ""}), IsEmpty());
}

TEST_F(Completion, ForZshHasEveryVerbAndOption) {
  const std::string script = must("completion zsh").out;
  EXPECT_TRUE(script.starts_with("#compdef knapsaq\n"));
  for (const json& verb : table()["verbs"]) {
    const std::string name = verb["name"];
    const std::size_t begin = script.find("\n      " + name + ") _arguments");
    ASSERT_NE(begin, std::string::npos) << name;
    const std::string part = script.substr(begin, script.find(";;", begin) - begin);
    EXPECT_THAT(script, HasSubstr("\n    '" + name + ":"));
    for (const json& option : verb["options"]) {
      for (const std::string one : option["names"])
        EXPECT_TRUE(!one.starts_with('-') || part.find(one) != std::string::npos) << one;
      for (const std::string value : option["values"]) EXPECT_THAT(part, HasSubstr(value));
    }
  }
}

}  // namespace
}  // namespace knapsaq
