// Every verb that writes, ended at its calls of the system by signals, and with calls that fail. Afterwards:
// what it reads is untouched, what it writes is whole or not there, nothing else lies about that a later run
// does not clear away, and the same command ends with the same bytes.
//
// How many calls are tried for each verb, KNAPSAQ_CRASH_TRIALS says: 1 (the default) is a sample of some 25;
// N is N times as many; "all" is every rename and sync, and a hundred others for every signal and failure.

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>

#include "command.h"
#include "intervention.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/random.h"
#include "random_model.h"
#include "scratch.h"
#include "search/archive_dump.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

const fs::path kAssets = fs::path(KNAPSAQ_SOURCE_DIR) / "assets";

/// A Llama of two small blocks with a tokenizer of the assets: what takes time here is the number of runs.
void write_small_model(const fs::path& folder) {
  nlohmann::json config = nlohmann::json::parse(read_file(kAssets / "wiki-llama-6m" / "config.json"));
  config["hidden_size"] = 64;
  config["intermediate_size"] = 96;
  config["num_hidden_layers"] = 2;
  config["num_attention_heads"] = 2;
  config["num_key_value_heads"] = 2;
  config["tie_word_embeddings"] = true;
  config.erase("head_dim");
  write_random_model(folder, config);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
    fs::copy(kAssets / "wiki-llama-6m" / name, folder / name);
}

// Options that all verbs with a calibration or a run get, so that they are quick.
const std::string kSmall = " --text {S}/text.txt --samples 2 --window 32 ";
const std::string kRun = " --menu b2g32,b4g32 --method rtn --tokens 64 --heldout 64 " + kSmall;

/// What a verb is tried with: {S} stands for the folder with what is read, {W} for that of what is written.
struct Scenario {
  std::string name;
  std::string command;
  std::vector<std::string> whole = {};   ///< in {W}: appear whole or not at all
  std::vector<std::string> before = {};  ///< commands that make what is in {W} before
  std::string environment = {};
  std::string refused = {};  ///< a command that is refused because of what is there
};

void PrintTo(const Scenario& scenario, std::ostream* out) { *out << scenario.name; }

const std::vector<Scenario> kScenarios = {
    {.name = "quantize", .command = "quantize {S}/model -o {W}/out --scheme rtn:b4g32", .whole = {"out"}},
    {.name = "quantize_force",
     .command = "quantize {S}/model -o {W}/out --scheme rtn:b4g32 --force",
     .whole = {"out"},
     .before = {"quantize {S}/model -o {W}/out --scheme rtn:b2g32"}},
    {.name = "quantize_force_without_exchange",
     .command = "quantize {S}/model -o {W}/out --scheme rtn:b4g32 --force",
     .before = {"quantize {S}/model -o {W}/out --scheme rtn:b2g32"},
     .environment = "CRASH_NO_EXCHANGE=1 ",
     .refused = "quantize {S}/model -o {W}/out --scheme rtn:b4g32"},
    {.name = "quantize_calibrated",
     .command = "quantize {S}/model -o {W}/out --scheme gptq:b4g32" + kSmall,
     .whole = {"out"}},
    {.name = "quantize_propagated",
     .command = "quantize {S}/model -o {W}/out --scheme gptq:b4g32 --propagate" + kSmall,
     .whole = {"out"}},
    {.name = "tune",
     .command = "tune {S}/q --model {S}/model -o {W}/out --steps 3 --batch 2 --window 32 --heldout 64 --text "
                "{S}/text.txt",
     .whole = {"out"}},
    {.name = "tune_sampled",
     .command = "tune {S}/q --model {S}/model -o {W}/out --steps 1 --batch 1 --window 8 --heldout 8",
     .whole = {"out"}},
    {.name = "bank", .command = "bank {S}/model -o {W}/bank --menu b2g32,b4g32 --method awq" + kSmall},
    {.name = "tables", .command = "tables {S}/model -o {W}/t.csv --menu b2g32,b4g32", .whole = {"t.csv"}},
    {.name = "export_gguf", .command = "export {S}/q -o {W}/q.gguf --format gguf", .whole = {"q.gguf"}},
    {.name = "export_gguf_force",
     .command = "export {S}/q -o {W}/q.gguf --format gguf --force",
     .whole = {"q.gguf"},
     .before = {"export {S}/q3 -o {W}/q.gguf --format gguf"}},
    {.name = "export_mlx", .command = "export {S}/a -o {W}/mlx --format mlx", .whole = {"mlx"}},
    {.name = "calibrate",
     .command = "calibrate {S}/model -o {W}/c --imatrix {W}/i.gguf" + kSmall,
     .whole = {"i.gguf"}},
    {.name = "calibrate_force",
     .command = "calibrate {S}/model -o {W}/c --force --seed 1" + kSmall,
     .whole = {"c"},
     .before = {"calibrate {S}/model -o {W}/c" + kSmall}},
    {.name = "fit",
     .command = "fit {S}/model -o {W}/out --bits 3.5 --strategy random --evaluations 4 --effort quick" + kRun,
     .whole = {"out", "out.run/report.html"}},
    {.name = "search", .command = "search {S}/model --run {W}/run --strategy uniform" + kRun},
    {.name = "pick",
     .command = "pick {W}/run -o {W}/out --bits 3.5",
     .whole = {"out"},
     .before = {"search {S}/model --run {W}/run --strategy uniform" + kRun}},
    {.name = "report",
     .command = "report {W}/run -o {W}/r.html",
     .whole = {"r.html"},
     .before = {"search {S}/model --run {W}/run --strategy uniform" + kRun}},
    {.name = "study",
     .command =
         "study {S}/model --run {W}/run --strategies ga,sa --repeats 2 --evaluations 3 --tie none" + kRun},
    {.name = "compare",
     .command =
         "compare {S}/model --text {S}/text.txt -o {W}/c.csv --methods rtn,gptq,mxq --configurations b4g32 "
         "--budgets 3.5 --menu b2g32,b4g32 --window 32 --windows 2 --samples 2 --calibration-window 32"},
    {.name = "eval_samples",
     .command = "eval {S}/model --tasks piqa --limit 4 --data {S}/tasks --items {W}/s.jsonl --run {W}/run",
     .whole = {"s.jsonl"},
     .before = {"search {S}/model --run {W}/run --strategy uniform" + kRun}},
};

/// Files that tell times: that they are there, and whole, is all that can be asked.
bool tells_times(const std::string& name) {
  return name.ends_with(".html") || name.ends_with("study.json") || name.ends_with("runs.csv") ||
         name == "status.json";
}

std::string without_last_column(const std::string& text) {
  std::string result;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) result += line.substr(0, line.rfind(',')) + "\n";
  return result;
}

/// What a file comes to, but for times.
std::string meaning_of(const fs::path& path) {
  const std::string name = path.filename().string();
  if (name == "archive.db") {
    std::string rows;
    for (const std::string& row : dump(path)) rows += row + "\n";
    return rows;
  }
  const std::string text = read_file(path);
  if (tells_times(name)) return text.ends_with("</html>\n") || !name.ends_with(".html") ? "whole" : "cut";
  if (name == "c.csv" || name == "baselines.csv") return without_last_column(text);
  return hash_hex(text);
}

/// What SQLite keeps beside a database that is open, or was when its process died.
bool is_sqlites(const std::string& name) {
  return name.find("archive.db-") != name.npos || name.ends_with("archive.db.lock");
}

/// A folder that was finished and could not get its name is kept, for people.
bool is_kept(const std::string& name) { return name.find(".finished-") != name.npos; }

using Tree = std::map<std::string, std::string>;  ///< of files, by name

Tree tree_of(const fs::path& folder, const std::function<std::string(const fs::path&)>& meaning) {
  Tree tree;
  if (fs::is_regular_file(folder)) tree[""] = meaning(folder);
  if (!fs::is_directory(folder)) return tree;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = fs::relative(entry.path(), folder).string();
    if (entry.is_regular_file() && !is_sqlites(name) && !is_kept(name)) tree[name] = meaning(entry.path());
    if (entry.is_directory() && fs::is_empty(entry)) tree[name + "/"] = "empty";
  }
  return tree;
}

std::string bytes_of(const fs::path& path) { return hash_hex(read_file(path)); }

std::string names_of(const Tree& tree) {
  std::string names;
  for (const auto& [name, meaning] : tree) names += name + " ";
  return names;
}

/// What dead processes leave, and the next run takes away.
bool is_leftover(const std::string& name) {
  for (const char* part :
       {".partial-", ".old-", "out.propagated", "out.tuning", "c.new", "c.csv.work/model", "run/model"})
    if (name.find(part) != std::string::npos) return true;
  return false;
}

/// One way in which one call goes wrong.
using Trial = Intervention;

std::string name_of(const Trial& trial) {
  return fmt::format("{} at call {} of kinds {}", trial.what, trial.at, trial.kinds);
}

constexpr const char* kAll = "corwfnudtml";

class Crash : public ::testing::TestWithParam<Scenario> {
 protected:
  void SetUp() override {
    if (run("--version", with_shim()).code != 0) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
      GTEST_SKIP() << "the sanitizer wants to be the first library";
#else
      FAIL() << "the command does not run with a library before it: " << read_file(scratch_ / "stderr");
#endif
    }
    fs::create_directory(sources_);
    fs::create_directory(work_);
    write_small_model(sources_ / "model");
    fs::copy(kAssets / "wiki-llama-6m-sample.txt", sources_ / "text.txt");
    const std::string& command = GetParam().command;
    if (command.find("{S}/q ") != std::string::npos) {
      must("quantize {S}/model -o {S}/q --scheme q4_0");
      must("quantize {S}/model -o {S}/q3 --scheme q8_0");
    }
    if (command.find("{S}/a ") != std::string::npos) must("quantize {S}/model -o {S}/a --scheme rtn:b4g32");
    if (command.find("{S}/tasks") != std::string::npos) {
      fs::create_directory(sources_ / "tasks");
      fs::copy(fs::path(KNAPSAQ_TEST_DATA) / "eval/tasks/piqa.jsonl", sources_ / "tasks/piqa.jsonl");
    }
    for (const std::string& one : GetParam().before) must(one);
    fs::rename(work_, before_);
    source_bytes_ = tree_of(sources_, bytes_of);
  }

  std::string filled(std::string line) const {
    for (const auto& [mark, folder] : {std::pair{"{S}", sources_}, {"{W}", work_}})
      for (std::size_t at = 0; (at = line.find(mark)) != std::string::npos;)
        line.replace(at, 3, folder.string());
    return line;
  }
  Outcome run(const std::string& command, const std::string& environment = {}) {
    return run_line(scratch_.path(), environment + KNAPSAQ_COMMAND + " " + filled(command) +
                                         (command == "--version" ? "" : " --threads 1"));
  }
  void must(const std::string& command) {
    const Outcome ended = run(command);
    ASSERT_EQ(ended.code, 0) << command << "\n" << ended.err;
  }
  void begin() {
    fs::remove_all(work_);
    fs::copy(before_, work_, fs::copy_options::recursive);
  }

  /// The command's calls of the system in a run that nothing happens to, and what it ends with.
  void run_undisturbed() {
    begin();
    old_ = tree_of(work_, meaning_of);
    const fs::path trace = scratch_ / "trace";
    const Outcome ended = run(GetParam().command, GetParam().environment + with_trace(trace));
    ASSERT_EQ(ended.code, 0) << ended.err;
    trace_ = read_file(trace);
    final_ = tree_of(work_, meaning_of);
    for (const auto& [name, meaning] : final_) EXPECT_FALSE(is_leftover(name)) << name;
  }

  /// Runs the command with one call that goes wrong, and once more.
  void check(const Trial& trial) {
    SCOPED_TRACE(name_of(trial));
    begin();
    const Outcome first = run(GetParam().command, GetParam().environment + with(trial));
    const bool is_killed = trial.what == "kill" || trial.what == "tear";
    const bool goes_on = trial.what == "eintr" || trial.what == "short";
    if (is_killed) {
      EXPECT_THAT(first.code, testing::AnyOf(0, 128 + SIGKILL)) << first.err;
    } else if (goes_on) {
      EXPECT_EQ(first.code, 0) << first.err;
    } else if (first.code != 0) {
      EXPECT_EQ(first.code, trial.what == "term" || trial.what == "hup" ? 130 : 1) << first.err;
      EXPECT_EQ(std::count(first.err.begin(), first.err.end(), '\n'), 1) << first.err;
    }
    expect_sources();
    const Tree now = tree_of(work_, [](const fs::path&) { return ""; });
    for (const auto& [name, nothing] : now) {
      if (is_leftover(name)) {
        // Only who is killed, or is refused the removal itself, leaves things about.
        const bool kept_to_go_on = name.find("out.propagated") != name.npos ||
                                   name.find("out.tuning") != name.npos || name.find("c.new") != name.npos;
        EXPECT_TRUE(is_killed || kept_to_go_on || trial.kinds.find('u') != std::string::npos) << name;
      } else if (!name.ends_with('/')) {
        EXPECT_TRUE(old_.contains(name) || final_.contains(name)) << name;
      }
    }
    for (const std::string& output : GetParam().whole) expect_whole(output);
    if (!GetParam().refused.empty()) {
      // Whoever dies between two names leaves the old folder under a third; any next command gives it its
      // own.
      EXPECT_EQ(run(GetParam().refused, GetParam().environment + with_shim()).code, 2);
      expect_whole("out");
    }
    const Outcome again = run(GetParam().command, GetParam().environment + with_shim());
    // Without --force a finished output stays what it is.
    if (again.code == 2) {
      EXPECT_THAT(again.err, HasSubstr("exists already"));
      for (const std::string& output : GetParam().whole)
        EXPECT_EQ(part_of(tree_of(work_, meaning_of), output), part_of(final_, output));
      EXPECT_TRUE(GetParam().command.find("--force") == std::string::npos);
    } else {
      EXPECT_EQ(again.code, 0) << again.err;
      const Tree end = tree_of(work_, meaning_of);
      EXPECT_EQ(names_of(end), names_of(final_));
      EXPECT_TRUE(end == final_);
    }
    expect_sources();
  }

  void expect_sources() { EXPECT_TRUE(tree_of(sources_, bytes_of) == source_bytes_); }

  static Tree part_of(const Tree& tree, const std::string& output) {
    Tree part;
    for (const auto& [name, meaning] : tree)
      if (name == output || name.starts_with(output + "/")) part[name] = meaning;
    return part;
  }
  void expect_whole(const std::string& output) {
    Tree now;
    for (const auto& [name, meaning] : tree_of(work_ / output, meaning_of))
      now[name.empty() ? output : output + "/" + name] = meaning;
    EXPECT_TRUE(now == part_of(old_, output) || now == part_of(final_, output))
        << output << " is neither the old nor the new one: " << names_of(now);
  }

  /// Some of the calls of these kinds, or all.
  void add_trials(std::vector<Trial>& trials, const std::string& what, const std::string& kinds,
                  std::size_t sample, std::size_t most) {
    const std::size_t calls = count_calls(trace_, kinds);
    std::vector<std::size_t> places(calls);
    for (std::size_t i = 0; i < calls; ++i) places[i] = i + 1;
    for (std::size_t i = calls; i > 1; --i) std::swap(places[i - 1], places[random_.below(i)]);
    const char* given = std::getenv("KNAPSAQ_CRASH_TRIALS");
    const std::string trial_count = given == nullptr ? "1" : given;
    const std::size_t wanted =
        trial_count == "all"
            ? most
            : sample * std::max<std::size_t>(1, std::strtoul(trial_count.c_str(), nullptr, 10));
    places.resize(std::min(calls, wanted));
    std::ranges::sort(places);
    for (const std::size_t place : places) trials.push_back({what, kinds, place});
  }

  Scratch scratch_;
  const fs::path sources_ = scratch_ / "sources";
  const fs::path work_ = scratch_ / "work";
  const fs::path before_ = scratch_ / "before";
  Tree source_bytes_;
  Tree old_;
  Tree final_;
  std::string trace_;
  Random random_{11};
};

constexpr std::size_t kEvery = ~std::size_t{0};

TEST_P(Crash, KilledAnywhereItEndsTheSame) {
  run_undisturbed();
  if (HasFatalFailure()) return;
  std::vector<Trial> trials;
  add_trials(trials, "kill", "fn", 5, kEvery);
  add_trials(trials, "kill", "du", 2, kEvery);
  add_trials(trials, "kill", kAll, 3, 100);
  add_trials(trials, "tear", "w", 2, 100);
  add_trials(trials, "term", kAll, 1, 100);
  add_trials(trials, "hup", kAll, 2, 100);
  add_trials(trials, "xfsz", "w", 1, 100);
  for (const Trial& trial : trials) {
    check(trial);
    if (HasFailure()) break;  // one is enough to look at
  }
}

TEST_P(Crash, CallsThatFailCostNothing) {
  run_undisturbed();
  if (HasFatalFailure()) return;
  std::vector<Trial> trials;
  add_trials(trials, "enospc", "cwfndt", 4, 100);
  add_trials(trials, "eio", "wfn", 2, 100);
  add_trials(trials, "eio", "r", 1, 20);
  add_trials(trials, "eintr", "wf", 2, 100);
  add_trials(trials, "eintr", "co", 1, 20);
  add_trials(trials, "short", "w", 2, 100);
  for (const Trial& trial : trials) {
    check(trial);
    if (HasFailure()) break;
  }
}

TEST(CrashScenarios, AreOfEveryVerbThatWrites) {
  const Scratch scratch;
  const nlohmann::json table = run_line(scratch.path(), KNAPSAQ_COMMAND " completion json").json();
  for (const nlohmann::json& verb : table.at("verbs")) {
    const std::string name = verb.at("name");
    const bool writes = std::ranges::any_of(verb.at("options"), [](const nlohmann::json& option) {
      return option.at("names").back() == "--output" || option.at("names").back() == "--run";
    });
    EXPECT_TRUE(!writes || std::ranges::any_of(kScenarios, [&](const Scenario& one) {
      return one.command.starts_with(name + " ");
    })) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Verbs, Crash, testing::ValuesIn(kScenarios),
                         [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace knapsaq
