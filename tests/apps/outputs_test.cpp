// What every verb that writes does about its outputs: names that cannot be, or would cost somebody something,
// are refused before any work; a command that is refused changes nothing.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "apps/command_fixture.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/hash.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using testing::AnyOf;
using testing::HasSubstr;

/// Files and folders with what is in them and when it was written.
std::map<std::string, std::string> tree_of(const fs::path& folder) {
  std::map<std::string, std::string> tree;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = fs::relative(entry.path(), folder).string();
    if (name == "stdout" || name == "stderr" || name == "calls") continue;
    struct stat status {};
    ::lstat(entry.path().c_str(), &status);
    tree[name] = std::to_string(status.st_mtim.tv_sec) + "." + std::to_string(status.st_mtim.tv_nsec);
    if (entry.is_directory()) tree[name] = "";  // whoever looks at an archive may make and remove files
    if (entry.is_regular_file()) tree[name] += " " + hash_hex(read_file(entry.path()));
  }
  return tree;
}

class Outputs : public InterventionTest {
 protected:
  Outputs() {
    fs::copy(opt_, scratch_ / "m");
    for (const auto& entry : fs::directory_iterator(scratch_ / "m"))
      fs::permissions(entry.path(), fs::perms::owner_write, fs::perm_options::add);
    fs::copy(text_, scratch_ / "t.txt");
  }

  /// Exits with 2, or 1 where the system refuses, in one line, and leaves everything as it was.
  std::string refused(const std::string& line) {
    const auto before = tree_of(scratch_.path());
    const Outcome outcome = run(filled(line));
    EXPECT_THAT(outcome.code, AnyOf(1, 2)) << line << "\n" << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << line << "\n" << outcome.err;
    EXPECT_TRUE(tree_of(scratch_.path()) == before) << line << " changed something";
    return outcome.err;
  }
  void done(const std::string& line) { must(filled(line)); }

  const std::string small_ = " --text {t.txt} --samples 2 --window 64 ";
  const std::string run_ =
      " --menu b2g64,b4g64 --method rtn --tokens 256 --heldout 256 --window 64 --samples 4 ";
};

TEST_F(Outputs, SourcesAreNeverReplaced) {
  // What the rule was made for.
  EXPECT_THAT(refused("quantize {m} -o {m}/../m --scheme rtn:b4g64 --force"), HasSubstr("is the model"));
  EXPECT_THAT(refused("quantize {m} -o {m} --scheme rtn:b4g64"), HasSubstr("is the model"));

  done("quantize " + llama_ + " -o {q} --scheme rtn:b4g64");
  done("bank {m} -o {b} --menu b2g64,b4g64 --method rtn");
  done("search {m} --run {r} --strategy uniform" + run_);
  done("tables {m} -o {t.csv} --menu b2g64,b4g64");
  fs::create_directory_symlink(scratch_ / "m", scratch_ / "link");
  const std::string tasks = "eval {m} --tasks piqa --data " KNAPSAQ_TEST_DATA "/eval/tasks --items {O}";
  const std::vector<std::string> commands = {
      "quantize {m} --scheme rtn:b4g64 --force -o {O}",
      "quantize {m} --bits 3 --table {t.csv} --force -o {O}",
      "quantize {m} --scheme gptq:b4g64 --samples 2 --window 64 --text {t.txt} --force -o {q2} --calibration "
      "{O}",
      "bank {m} --menu b4g64 -o {O}",
      "tables {m} --menu b4g64 -o {O}",
      "calibrate {m} --samples 2 --window 64 --text {t.txt} --force -o {O}",
      "calibrate {m} --samples 2 --window 64 --text {t.txt} --force -o {c} --imatrix {O}",
      "fit {m} --bits 3 --force -o {O}" + run_,
      "fit {m} --bits 3 --force -o {q2} --run {O}" + run_,
      "fit {m} --bits 3 --force -o {q2} --report {O}" + run_,
      "search {m} --run {O}" + run_,
      "study {m} --run {O}" + run_,
      "compare {m} --text {t.txt} --methods rtn -o {O}",
      "compare {m} --text {t.txt} --reference {m} -o {O}",
      "compare {m} --text {t.txt} --reference {m} --page {O}",
      "pick {r} --bits 3 --force -o {O}",
      "report {r} -o {O}",
      tasks,
  };
  for (const std::string& command : commands) {
    for (const std::string output : {"m", "m/", "m/../m", "link", "m/x", "m/.."}) {
      std::string line = command;
      line.replace(line.find("{O}"), 3, "{" + output + "}");
      EXPECT_THAT(refused(line), AnyOf(HasSubstr("needed"), HasSubstr("is the name of a folder"),
                                       HasSubstr("regular file"), HasSubstr("not written by Knapsaq")))
          << line;
    }
  }
  for (const std::string format : {"mlx", "gguf"})
    for (const std::string output : {"q", "q/x", "q/../q"})
      EXPECT_NE(refused("export {q} --format " + format + " --force -o {" + output + "}"), "");
  // Sources besides the model.
  EXPECT_THAT(refused("quantize {m} --bank {b} --bits 3 --force -o {b}"), HasSubstr("is the bank"));
  EXPECT_THAT(refused("quantize {m} --bank {b} --bits 3 --force -o {b}/q"), HasSubstr("lies in the bank"));
  EXPECT_THAT(refused("tables --bank {b} -o {b}/bank.json"), HasSubstr("lies in the bank"));
  EXPECT_THAT(refused("pick {r} --bits 3 --force -o {r}"), HasSubstr("is the run"));
  EXPECT_THAT(refused("pick {r} --bits 3 --force -o {r}/bank"), HasSubstr("lies in the run"));
  EXPECT_THAT(refused("pick {r} --bits 3 --codes {b} --force -o {b}"), HasSubstr("is the bank"));
  EXPECT_THAT(refused("report {r} -o {r}/archive.db"), HasSubstr("lies in the run"));
  EXPECT_THAT(refused("fit {m} --bits 3 -o {r2} --run {r2}/run" + run_), HasSubstr("lies in the output"));
  for (const std::string command :
       {"calibrate {m} --samples 2 --window 64 --text {t.txt} --force -o {c} --imatrix {O}",
        "compare {m} --text {t.txt} --methods rtn -o {O}"}) {
    std::string line = command;
    line.replace(line.find("{O}"), 3, "{t.txt}");
    EXPECT_THAT(refused(line), HasSubstr("is the text"));
  }
  // The page has its place in the run.
  done("report {r} -o {r}/report.html");
  done("report {r} -o {r}/report.html");
}

TEST_F(Outputs, NamesThatCannotBeAreRefusedBeforeAnyWork) {
  done("quantize " + llama_ + " -o {q} --scheme rtn:b4g64");
  done("search {m} --run {r} --strategy uniform" + run_);
  fs::create_symlink("nowhere", scratch_ / "dangling");
  fs::create_directory(scratch_ / "theirs");
  write_file(scratch_ / "theirs/notes", "mine");
  const std::string text = " --samples 2 --window 64 --text {t.txt} ";
  const std::vector<std::string> commands = {
      "quantize {m} --scheme rtn:b4g64 --force -o ",
      "quantize {m} --scheme gptq:b4g64 --propagate --force" + text + "-o ",
      "quantize {m} --scheme gptq:b4g64 --force -o {q2} " + text + "--calibration ",
      "bank {m} --menu b4g64 -o ",
      "tables {m} --menu b4g64 -o ",
      "export {q} --format mlx --force -o ",
      "export {q} --format gguf --force -o ",
      "calibrate {m} --force" + text + "-o ",
      "calibrate {m} --force" + text + "-o {c} --imatrix ",
      "fit {m} --bits 3 --force" + run_ + "-o ",
      "fit {m} --bits 3 --force" + run_ + "-o {q2} --run ",
      "fit {m} --bits 3 --force" + run_ + "-o {q2} --report ",
      "search {m} " + run_ + "--run ",
      "study {m} " + run_ + "--run ",
      "compare {m} --text {t.txt} --methods rtn -o ",
      "pick {r} --bits 3 --force -o ",
      "report {r} -o ",
      "eval {m} --tasks piqa --data " KNAPSAQ_TEST_DATA "/eval/tasks --items ",
  };
  const std::string long_name(250, 'x');
  for (const std::string& command : commands)
    for (const std::string& output :
         {std::string("''"), std::string("{no/out}"), std::string("{t.txt/out}"), "{" + long_name + "}",
          std::string("{dangling}"), std::string("{theirs}"), std::string("/dev/null/out"), std::string("/")})
      refused(command + output);
}

TEST_F(Outputs, OnlyWhatKnapsaqWroteIsReplaced) {
  done("quantize " + llama_ + " -o {q} --scheme rtn:b4g64");
  done("quantize " + llama_ + " -o {q} --scheme rtn:b2g64 --force");
  write_file(scratch("q/notes.txt"), "mine");
  EXPECT_THAT(refused("quantize {m} -o {q} --scheme rtn:b4g64 --force"), HasSubstr("notes.txt"));
  fs::remove(scratch("q/notes.txt"));
  done("export {q} -o {x} --format mlx --requantize");
  done("export {q} -o {x} --format mlx --requantize --force");
  done("export {q} -o {x.gguf} --format gguf --requantize");
  done("export {q} -o {x.gguf} --format gguf --requantize --force");
  done("tables {m} -o {t.csv} --menu b4g64");
  done("tables {m} -o {t.csv} --menu b4g64");
  done("calibrate {m} -o {c}" + small_);
  done("calibrate {m} -o {c} --force --seed 1" + small_);
  EXPECT_FALSE(fs::exists(scratch("c.new")));
  EXPECT_THAT(refused("calibrate {m} -o {c} --seed 2" + small_), HasSubstr("--force"));
  for (const std::string name : {"theirs.csv", "theirs.gguf", "theirs.html"})
    write_file(scratch(name), "layer,module,nbit1\nmine");
  EXPECT_THAT(refused("tables {m} -o {theirs.csv} --menu b4g64"), HasSubstr("was not written by Knapsaq"));
  EXPECT_THAT(refused("export {q} -o {theirs.gguf} --format gguf --requantize --force"),
              HasSubstr("was not written by Knapsaq"));
  EXPECT_THAT(refused("compare {m} --text {t.txt} --methods rtn -o {theirs.csv}"),
              HasSubstr("is not the CSV"));
  // A work folder that is somebody's.
  fs::create_directories(scratch_ / "new.csv.work/model-of-mine");
  EXPECT_THAT(refused("compare {m} --text {t.txt} --methods rtn -o {new.csv}"), HasSubstr("model-of-mine"));
  fs::create_directory(scratch_ / "home");
  write_file(scratch("home/letter"), "mine");
  for (const std::string verb :
       {"search {m} --run {home}", "study {m} --run {home}", "fit {m} --bits 3 -o {q2} --run {home}",
        "bank {m} -o {home}", "calibrate {m} -o {home}"})
    refused(verb);
}

TEST_F(Outputs, ARefusedCommandChangesNothing) {
  done("bank {m} -o {b} --menu b4g64 --method rtn");
  // The bank was begun without statistics; a calibration of the second command must not come into it.
  EXPECT_THAT(refused("bank {m} -o {b} --menu b4g64 --method rtn" + small_), HasSubstr("statistics"));
  EXPECT_THAT(refused("bank {m} -o {b} --menu b2g64,b4g64 --method rtn"), HasSubstr("menu"));
  EXPECT_THAT(refused("bank " + llama_ + " -o {b} --menu b4g64 --method rtn"), HasSubstr("another model"));
  done("bank {m} -o {b} --menu b4g64 --method rtn");
  done("bank {m} -o {g} --menu b4g64 --method gptq" + small_);
  EXPECT_NE(refused("bank {m} -o {g} --menu b4g64 --method gptq --seed 1" + small_), "");
  done("quantize {m} -o {q} --scheme rtn:b4g64");
  EXPECT_THAT(refused("bank {q} -o {new} --menu b4g64 --method gptq" + small_),
              HasSubstr("quantized already"));
  EXPECT_NE(refused("bank {m} -o {new} --menu b4g64 --method gptq --text {t.txt} --samples 100000"), "");
  // Nothing comes into a calibration, or beside an output, that is refused in the end.
  done("calibrate {m} -o {c}" + small_);
  EXPECT_NE(refused("calibrate {m} -o {c} --seed 3" + small_), "");
  EXPECT_NE(refused("calibrate " + llama_ + " -o {c}" + small_), "");
  EXPECT_NE(refused("quantize {q} -o {new} --scheme gptq:b4g64" + small_), "");
  EXPECT_NE(refused("quantize {m} -o {new} --scheme gptq:b4g64 --text {t.txt} --samples 100000"), "");

  done("search {m} --run {r} --strategy uniform" + run_);
  const std::string search = "search {m} --run {r} --strategy uniform" + run_;
  for (const std::string other : {"--text {t.txt}", "--tokens 512", "--heldout 512", "--text-seed 1",
                                  "--divergence jsd", "--precision fp32", "--pin '*=b4g64'", "--tie layer",
                                  "--bank {b}", "--method hqq", "--resume --seed 9"})
    EXPECT_NE(refused(search + other), "") << other;
  EXPECT_NE(refused("search " + llama_ + " --run {r}" + run_), "");
  EXPECT_NE(refused("fit {m} --run {r} --bits 3 -o {new} --text {t.txt}" + run_), "");
  EXPECT_NE(refused("study {m} --run {r} --text {t.txt}" + run_), "");
  EXPECT_NE(refused("pick {r} --bits 1 -o {new}"), "");
  EXPECT_NE(refused("pick {r} --bits 3 --strategy amq -o {new}"), "");
  EXPECT_NE(refused("pick {r} --bits 3 --codes {g} -o {new}"), "");
  EXPECT_NE(refused("report {r} --model {gone} -o {new.html}"), "");
  // In folders that are not there yet.
  EXPECT_NE(refused("search {m} --run {new} --text {t.txt} --tokens 1000000" + run_), "");
  EXPECT_NE(refused("search {m} --run {new} --bank {g} --pin '*=b2g64'" + run_), "");
  EXPECT_NE(refused("search " + llama_ + " --run {new} --bank {b}" + run_), "");
  done(search);

  const std::string compare =
      "compare {m} --methods rtn --configurations b4g64 --window 64 --windows 2 -o {log.csv} ";
  done(compare + "--text {t.txt}");
  fs::remove_all(scratch_ / "log.csv.work");
  write_file(scratch("other.txt"), read_file(scratch("t.txt")) + "\nMore.\n");
  EXPECT_THAT(refused(compare + "--text {other.txt}"), HasSubstr("another model, text"));
}

TEST_F(Outputs, WhoStopsReadingIsNotTold) {
  // The shell says 141 of the command, and nothing is said.
  const std::string script =
      "bash -c '" KNAPSAQ_COMMAND " " + filled("info {m} --json") + " | (exec <&-); exit ${PIPESTATUS[0]}'";
  for (int i = 0; i < 3; ++i) {
    const Outcome outcome = run_shell(script);
    // The command may have written all before the reader went.
    EXPECT_THAT(outcome.code, AnyOf(0, 141));
    EXPECT_EQ(outcome.err, "");
  }
}

TEST_F(Outputs, AHangupEndsAsCtrlCDoes) {
  const std::string command = filled("quantize {m} -o {out} --bits 3 --menu mxq --force");
  const std::size_t calls = count_calls(calls_of(command), kWriting);
  fs::remove_all(scratch_ / "out");
  for (const std::string signal : {"hup", "term", "int"}) {
    for (const std::size_t at : {std::size_t{1}, calls / 2}) {
      const Outcome outcome = run(command, with({signal, kWriting, at}));
      EXPECT_EQ(outcome.code, 130) << signal << outcome.err;
      for (const auto& entry : fs::directory_iterator(scratch_.path()))
        EXPECT_FALSE(entry.path().filename().string().starts_with("out")) << entry.path();
    }
  }
  // nohup asked for it to be ignored.
  const Outcome kept =
      run_shell("trap '' HUP; " + with({"hup", kWriting, calls / 2}) + KNAPSAQ_COMMAND " " + command);
  EXPECT_EQ(kept.code, 0) << kept.err;
}

}  // namespace
}  // namespace knapsaq
