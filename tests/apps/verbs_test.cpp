// What holds for every verb of the table that the program prints: a new verb is tested here or fails.

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "apps/command_fixture.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::AnyOf;
using testing::EndsWith;
using testing::HasSubstr;

class Verbs : public CommandTest {
 protected:
  void for_every_verb(const std::function<void(const std::string& name, const json& options)>& check) {
    for (const json& verb : table().at("verbs")) {
      const std::string name = verb.at("name");
      SCOPED_TRACE(name);
      check(name, verb.at("options"));
    }
  }
  static std::string last_name(const json& option) { return option.at("names").back(); }
  static bool positional(const json& option) { return !last_name(option).starts_with('-'); }
  static bool has(const json& options, std::string_view name) {
    return std::ranges::any_of(options, [&](const json& option) { return last_name(option) == name; });
  }

  /// What the verb cannot do without, of names and values that are nothing.
  static std::string needed(const json& options) {
    std::string arguments;
    for (const json& option : options) {
      if (!option.at("required").get<bool>()) continue;
      const json& values = option.at("values");
      arguments += (positional(option) ? "" : last_name(option) + " ") +
                   (values.empty() ? "/nonexistent" : values.at(0).get<std::string>()) + " ";
    }
    return arguments;
  }

  /// Code 2 and one line that ends with the help to look at.
  void expect_usage_error(const std::string& verb, const std::string& arguments, const std::string& part) {
    const Outcome outcome = run(verb + " " + arguments);
    EXPECT_EQ(outcome.code, 2) << arguments << "\n" << outcome.err;
    EXPECT_THAT(outcome.err, AllOf(HasSubstr(part), EndsWith("(see knapsaq " + verb + " --help)\n")));
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_LT(outcome.err.size(), 400U) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
};

TEST_F(Verbs, HaveHelpWithAnExample) {
  for_every_verb([&](const std::string& verb, const json& options) {
    const Outcome help = must(verb + " --help");
    const std::string example = help.out.substr(std::min(help.out.size(), help.out.find("Example:\n")));
    EXPECT_THAT(example, HasSubstr("knapsaq " + verb));
    for (const json& option : options)
      for (const std::string name : option.at("names")) EXPECT_THAT(help.out, HasSubstr(name));
  });
  const Outcome help = must("--help");
  EXPECT_THAT(help.out, HasSubstr("Exit codes"));
  for_every_verb(
      [&](const std::string& verb, const json&) { EXPECT_THAT(help.out, HasSubstr("\n  " + verb + " ")); });
  // Without arguments: the same, and nothing was done.
  const Outcome nothing = run("");
  EXPECT_EQ(nothing.code, 2);
  EXPECT_EQ(nothing.out, help.out);
  EXPECT_EQ(nothing.err, "");
}

TEST_F(Verbs, AreInTheDocumentsWithTheirOptions) {
  const std::string documents = read_file(KNAPSAQ_SOURCE_DIR "/docs/commands.md");
  for_every_verb([&](const std::string& verb, const json& options) {
    EXPECT_THAT(documents, HasSubstr("\n## `knapsaq " + verb));
    for (const json& option : options)
      // Some are written by their short name.
      EXPECT_TRUE(positional(option) || option.at("names").size() > 1 ||
                  documents.find(last_name(option)) != std::string::npos)
          << last_name(option);
  });
}

TEST_F(Verbs, RefuseWhatTheyDoNotUnderstand) {
  for_every_verb([&](const std::string& verb, const json& options) {
    expect_usage_error(verb, needed(options) + "--no-such-option", "--no-such-option");
    if (std::ranges::any_of(options, [](const json& option) { return option.at("required").get<bool>(); }))
      expect_usage_error(verb, "", "required");
    for (const json& option : options) {
      const std::string name = last_name(option);
      if (positional(option) || option.at("takes") != "number") continue;
      expect_usage_error(verb, "/nonexistent " + name + "=x", name);
      for (const char* value : {"-1", "nan"}) {
        const Outcome outcome = run(verb + " /nonexistent " + name + "=" + value);
        EXPECT_THAT(outcome.code, AnyOf(1, 2)) << name << "=" << value;
        EXPECT_LT(outcome.err.size(), 400U) << name << "=" << value << "\n" << outcome.err;
      }
    }
  });
  expect_refused("fly", 2, "(see knapsaq --help)");
  expect_refused("--fly", 2, "(see knapsaq --help)");
}

TEST_F(Verbs, NameTheHelpWhenTheWorkFindsAnOptionWrong) {
  // Refused by the library, long after the options were parsed.
  expect_usage_error("quantize", llama_ + " -o " + scratch("o") + " --scheme b7g64", "b7g64");
  expect_usage_error("fit", llama_ + " -o " + scratch("o") + " --bits 3 --strategy annealing", "annealing");
  expect_usage_error("eval", llama_ + " --text " + text_ + " --window 513", "512");
  expect_usage_error("search", llama_ + " --run " + scratch("o") + " --for nobody", "nobody");
}

TEST_F(Verbs, PrintWholeOrFail) {
  const std::string small = " --text {t.txt} --samples 2 --window 64 ";
  const std::string run_options =
      " --menu b2g64,b4g64 --method rtn --tokens 256 --heldout 256 --window 64 --samples 4 ";
  fs::create_directory_symlink(opt_, scratch_ / "m");
  fs::create_symlink(text_, scratch_ / "t.txt");
  fs::copy(llama_, scratch_ / "chat");
  write_file(scratch_ / "chat/chat_template.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}");
  write_file(scratch_ / "turns", "The sea\n");
  must(filled("search {m} --run {r} --strategy uniform" + run_options));
  must(filled("bank {m} -o {b} --menu b4g64 --method rtn"));
  must(filled("quantize " + llama_ + " -o {l} --scheme rtn:b4g64"));
  // Each may be run again.
  const std::map<std::string, std::string> lines = {
      {"fit", "fit {m} --bits 3 -o {f} --strategy uniform --effort quick --force" + run_options},
      {"search", "search {m} --run {r}"},
      {"front", "front {r}"},
      {"pick", "pick {r} --bits 3 -o {p} --force"},
      {"report", "report {r} -o {r.html}"},
      {"watch", "watch {r} --exit-after 1"},
      {"study", "study {m} --run {s} --strategies ga,sa --repeats 2 --evaluations 3" + run_options},
      {"strategies", "strategies"},
      {"info", "info {m}"},
      {"generate", "generate {m} --prompt The --max-tokens 4"},
      {"chat", "chat {chat} --max-tokens 4 <{turns}"},
      {"eval", "eval {m} --text {t.txt} --windows 1 --window 64"},
      {"bench", "bench {m} --prompt 4 --generate 2 --repeats 1"},
      {"tables", "tables {m} --menu b4g64 -o {t.csv}"},
      {"allocate", "allocate --bank {b} --bits 5"},
      {"quantize", "quantize {m} -o {q} --scheme rtn:b4g64 --force"},
      {"tune", "tune {l} --model " + llama_ + " -o {u} --force --steps 1 --batch 1 --window 64 --heldout 64" +
                   " --text {t.txt}"},
      {"bank", "bank {m} -o {b} --menu b4g64 --method rtn"},
      {"export", "export {l} -o {x} --format mlx --force"},
      {"compare", "compare {m} --text {t.txt} --methods rtn --configurations b4g64 --window 64 --windows 2"},
      {"calibrate", "calibrate {m} -o {c}" + small},
      {"completion", "completion bash"},
  };
  const auto expect_error = [&](const std::string& line, const std::string& output, const char* reason) {
    const Outcome outcome = run(filled(line) + " " + output);
    EXPECT_EQ(outcome.code, 1) << line << "\n" << outcome.err;
    EXPECT_EQ(outcome.err, std::string("knapsaq: cannot write to standard output: ") + reason + "\n") << line;
  };
  for (const char* line : {"--help", "--version", ""})
    expect_error(line, ">/dev/full", "No space left on device");
  for_every_verb([&](const std::string& verb, const json& options) {
    ASSERT_TRUE(lines.contains(verb)) << "write down how to run it";
    expect_error(verb + " --help", ">/dev/full", "No space left on device");
    const std::string& line = lines.at(verb);
    expect_error(line, ">/dev/full", "No space left on device");
    // Closed from the start, its number must not become that of a file that is written.
    expect_error(line, ">&-", "Bad file descriptor");
    if (!has(options, "--json")) return;
    expect_error(line + " --json", ">/dev/full", "No space left on device");
    // One object, or one for every turn of a chat.
    std::istringstream out(must(filled(line) + " --json").out);
    int objects = 0;
    for (json object; !(out >> std::ws).eof(); ++objects) {
      out >> object;
      EXPECT_TRUE(object.is_object());
    }
    EXPECT_EQ(objects, 1);
  });
}

}  // namespace
}  // namespace knapsaq
