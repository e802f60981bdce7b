// The verbs of a search as a user meets them: fit, search, front, pick, study, report; killed in the middle
// included.

#include <fstream>
#include <set>

#include "apps/command_fixture.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class SearchCommand : public InterventionTest {
 protected:
  /// Few and short windows, two schemes, few rounds: seconds, and everything that a long run has.
  const std::string small_ =
      " --menu b2g128,b3g128,b4g128 --method rtn --window 64 --tokens 256 --heldout 512 ";

  std::string search(const std::string& run, const std::string& options) {
    return "search " + opt_ + " --run " + scratch(run) + small_ + options;
  }
};

TEST_F(SearchCommand, FitWritesTheModelItsReportAndSaysWhatItIs) {
  const std::string out = scratch("fitted");
  const nlohmann::json said = must("fit " + opt_ + " --budget 2.1MiB -o " + out + small_ +
                                   "--effort quick --set rounds-at-budget=1 --json")
                                  .json();
  const auto budget = said["budget_bytes"].get<std::uint64_t>();
  EXPECT_EQ(budget, 2202009u);
  std::uint64_t written = 0;
  for (const auto& entry : fs::directory_iterator(out)) {
    const std::string name = entry.path().filename().string();
    if (name.find("safetensors") != std::string::npos) written += entry.file_size();
  }
  EXPECT_EQ(said["bytes"], written);
  EXPECT_LE(written, budget);
  EXPECT_EQ(said["allocation"].size(), 73u);  // the embedding, which is the head, and 72 linears
  EXPECT_GT(said["shipped"]["kl"].get<double>(), 0);
  EXPECT_GT(said["shipped"]["perplexity"].get<double>(), said["reference_perplexity"].get<double>());
  EXPECT_GT(said["shipped"]["perplexity_standard_error"].get<double>(), 0);
  // The guard: what was written is not worse than the other.
  EXPECT_LE(said["difference"].get<double>(), 0);
  EXPECT_LE(said["shipped"]["kl"].get<double>(), said["other"]["kl"].get<double>());

  const std::string page = read_file(out + ".run/report.html");
  EXPECT_THAT(page, HasSubstr("wiki-opt-3m"));
  // The model is one like any other.
  must("eval " + out + " --text " + assets_ + "/wiki-opt-3m-sample.txt --windows 2 --json");

  // Other sizes come from the same run; the bytes of the same size are the same.
  must("pick " + out + ".run --budget 2.1MiB -o " + scratch("again"));
  EXPECT_EQ(read_file(out + "/model.safetensors"), read_file(scratch("again") + "/model.safetensors"));
  const nlohmann::json smaller =
      must("pick " + out + ".run --bits 2.6 -o " + scratch("smaller") + " --json").json();
  EXPECT_LE(smaller["bits"].get<double>(), 2.6);

  // The smallest size that is named is there, and is the least.
  const std::string pick = "pick " + out + ".run -o " + scratch("least") + " --budget ";
  const std::string refusal = run(pick + "1MB").err;
  const std::size_t digits = refusal.find("takes ") + 6;
  const std::uint64_t least = std::stoull(refusal.substr(digits));
  expect_refused(pick + std::to_string(least - 1), 1, std::to_string(least));
  must(pick + std::to_string(least));
  EXPECT_EQ(fs::file_size(scratch("least") + "/model.safetensors"), least);
}

TEST_F(SearchCommand, EveryStrategyRunsAndSharesTheArchive) {
  // Without the embedding, so that budgets may be averages over the linears.
  must(search("run", "--strategy uniform --keep embed_tokens"));
  for (const std::string options :
       {"front --set rounds=1", "mxq --set points=5", "random --evaluations 20",
        "ga --bits 3 --evaluations 20", "pso --bits 3 --evaluations 20", "sa --goal paper --evaluations 20",
        "de --bits 3 --evaluations 20", "amq --set initial=80 --set rounds=1 --set per-round=5",
        "amq --amq-faithful --set initial=80 --set "
        "rounds=1 --set per-round=5"})
    must("search " + opt_ + " --run " + scratch("run") + " --strategy " + options);
  const nlohmann::json front = must("front " + scratch("run") + " --json").json();
  EXPECT_EQ(front["searches"].size(), 10u);
  double before = 0;
  for (const nlohmann::json& point : front["points"]) {
    EXPECT_GT(point["bits"].get<double>(), before);
    before = point["bits"].get<double>();
    EXPECT_EQ(point["allocation"].size(), 72u);
  }
  EXPECT_GT(front["hypervolume"].get<double>(), 0.4);
  EXPECT_GT(front["full_passes"].get<double>(), 60);
  EXPECT_GT(front["reference_point"]["divergence"].get<double>(), 0);
  for (const nlohmann::json& search : front["searches"]) EXPECT_TRUE(search["finished"].get<bool>());
  // Repeating a search measures nothing.
  const nlohmann::json again =
      must("search " + opt_ + " --run " + scratch("run") + " --strategy mxq --set points=5 --json").json();
  EXPECT_EQ(again["measured"], 0);
  EXPECT_THAT(must("front " + scratch("run") + " --strategy mxq").out, HasSubstr("mxq"));
  must("report " + scratch("run") + " -o " + scratch("report.html"));
}

TEST_F(SearchCommand, PickWritesOtherCodesAndSizesNearTheOneAsked) {
  must(search("run", "--strategy front --set rounds=1"));
  const std::string run = scratch("run");
  must("bank " + opt_ + " -o " + scratch("hqq") + " --menu b2g128,b3g128,b4g128 --method hqq");
  const nlohmann::json own =
      must("pick " + run + " --bits 3 --near 0.05 -o " + scratch("own") + " --json").json();
  EXPECT_NEAR(own["shipped"]["bits"].get<double>(), 3, 0.05);
  const nlohmann::json other = must("pick " + run + " --bits 3 --near 0.05 --codes " + scratch("hqq") +
                                    " -o " + scratch("other") + " --json")
                                   .json();
  EXPECT_EQ(other["allocation"], own["allocation"]);
  const nlohmann::json info = must("info " + scratch("other") + " --json").json();
  EXPECT_EQ(info["linears"].size(), 73u);
  EXPECT_NE(read_file(scratch("own") + "/model.safetensors"),
            read_file(scratch("other") + "/model.safetensors"));
  must("bank " + opt_ + " -o " + scratch("small") + " --menu b4g128 --method hqq");
  expect_refused("pick " + run + " --bits 3 --codes " + scratch("small") + " -o " + scratch("none"), 2,
                 "counterpart");
}

/// Everything that the front tells but times.
nlohmann::json told(nlohmann::json front) {
  front.erase("run");
  return front;
}

TEST_F(SearchCommand, AKilledSearchGoesOnToTheSameEnd) {
  const std::string options = "--set rounds=2";
  const std::size_t calls = count_calls(calls_of(search("whole", options)), kWriting);
  EXPECT_GT(kill_until_done(search("killed", options), calls / 32), 5);
  EXPECT_EQ(told(must("front " + scratch("killed") + " --json").json()),
            told(must("front " + scratch("whole") + " --json").json()));
}

TEST_F(SearchCommand, SeedsOfOneRunShareItsTextAndBank) {
  must(search("run", "--strategy random --evaluations 5"));
  const std::string again =
      "search " + opt_ + " --run " + scratch("run") + " --strategy random --evaluations 5";
  EXPECT_EQ(must(again + " --json").json()["measured"], 0);
  EXPECT_EQ(must(again + " --seed 1 --json").json()["measured"], 5);
  EXPECT_EQ(must(search("run", "--strategy random --evaluations 5 --seed 2 --json")).json()["measured"], 5);
}

TEST_F(SearchCommand, AnotherBankIsNoticed) {
  must(search("run", "--strategy uniform"));
  fs::remove_all(fs::path(scratch("run")) / "bank");
  must("bank " + opt_ + " -o " + scratch("run") + "/bank --menu b2g128,b3g128,b4g128 --method rtn" +
       " --text self --samples 2 --window 64");
  expect_refused("search " + opt_ + " --run " + scratch("run"), 2, "another bank");
}

TEST_F(SearchCommand, PinsHold) {
  const nlohmann::json said =
      must("fit " + opt_ + " --bits 3 --effort quick -o " + scratch("pinned") + small_ +
           "--set rounds-at-budget=1 --pin '0.*=b4g128' --pin '*.fc2>=3' --json")
          .json();
  for (const nlohmann::json& entry : said["allocation"]) {
    const std::string name = entry["linear"];
    const std::string scheme = entry["scheme"];
    const bool first = name.find("layers.0.") != std::string::npos;
    EXPECT_TRUE(!first || scheme == "rtn:b4g128") << name << " " << scheme;
    EXPECT_TRUE(!name.ends_with("fc2") || scheme != "rtn:b2g128") << name << " " << scheme;
  }
}

TEST_F(SearchCommand, StudyComparesAndGoesOn) {
  const std::string study = "study " + opt_ + " --run " + scratch("study") +
                            " --strategies ga,sa --repeats 3 --evaluations 12 --window 64 --tokens 256 "
                            "--heldout 128 --samples 8 ";
  const nlohmann::json said = must(study + "--json").json();
  EXPECT_EQ(said["strategies"].size(), 2u);
  EXPECT_EQ(said["strategies"][0]["runs"].size(), 3u);
  EXPECT_EQ(said["tests"].size(), 1u);
  std::set<std::string> names;
  for (const nlohmann::json& row : said["baselines"]) names.insert(row["name"].get<std::string>());
  EXPECT_TRUE(names.contains("nf4"));
  EXPECT_TRUE(names.contains("awq b4g128"));
  EXPECT_EQ(names.size(), 5u);  // and three uniform ones
  for (const char* file : {"study.json", "runs.csv", "curves.csv", "tests.csv"})
    EXPECT_TRUE(fs::exists(fs::path(scratch("study")) / file)) << file;
  const nlohmann::json again = must(study + "--json").json();
  EXPECT_EQ(again["strategies"][0]["runs"][0]["levels"], said["strategies"][0]["runs"][0]["levels"]);
  must("report " + scratch("study") + " -o " + scratch("study.html"));
}

TEST_F(SearchCommand, WhatCannotBeDoneIsSaidInOneLine) {
  must(search("run", "--strategy uniform"));
  const std::string run = scratch("run");
  expect_refused("fit " + opt_ + " --budget 100kB -o " + scratch("o") + small_, 1, "smallest model");
  EXPECT_FALSE(fs::exists(scratch("o.run")));  // refused before anything was made
  expect_refused("pick " + run + " --budget 100kB -o " + scratch("o"), 1, "smallest model");
  expect_refused("pick " + run + " -o " + scratch("o"), 2, "--budget");
  expect_refused("search " + llama_ + " --run " + run, 2, "not the model");
  expect_refused("search " + llama_ + " --run " + run + small_, 2, "another model");
  expect_refused(search("run", "--tokens 512"), 2, "tokens");
  expect_refused("search " + opt_ + " --run " + run + " --menu b2g64,b4g64", 2, "another window");
  expect_refused("search " + opt_ + " --run " + run +
                     " --menu b2g64,b4g64 --method rtn --window 64 --tokens 256 --heldout 512",
                 2, "menu");
  expect_refused(search("run", "--pin '*=b2g128' --pin '*=b3g128'"), 2, "pin");
  expect_refused(search("other", "--pin 'nothing=b2g128'"), 2, "nothing");
  expect_refused(search("other", "--pin 'lm_tail=b4g128'"), 2, "nothing that is chosen about");
  expect_refused("search " + opt_ + " --run " + scratch("none") + " --resume", 2, "no run");
  expect_refused("front " + scratch("none"), 2, "no run");
  expect_refused("report " + scratch("none") + " -o " + scratch("r.html"), 2, "no run");
  expect_refused("search " + opt_ + " --run " + run + " --strategy annealing", 2, "strategies");
  expect_refused("search " + opt_ + " --run " + run + " --resume", 2, "no such search");
  expect_refused("pick " + run + " --bits 3 --strategy amq -o " + scratch("o"), 2, "it has uniform");
  expect_refused("pick " + run + " --bits 3 --near 0.1 --budget 3MiB -o " + scratch("o"), 2, "--near");
  expect_refused("pick " + run + " --bits 3 --force -o " + run, 2, "needed");
  expect_refused("pick " + run + " --bits 1e30 -o " + scratch("o"), 2, "1e+30");
  expect_refused("pick " + run + " --bits 3 --model " + scratch("gone") + " -o " + scratch("o"), 2,
                 "--model");
  expect_refused("study " + opt_ + " --run " + scratch("s") + " --set psoo.inertia=1", 2, "psoo");
  // Refused by the search space, before a bank is built.
  for (const std::string wrong : {"--strategy ga", "--set rounds=x", "--bits 1", "--bits 3 --budget 3MiB"}) {
    EXPECT_NE(CommandTest::run(search("early", wrong)).code, 0) << wrong;
    EXPECT_FALSE(fs::exists(scratch("early"))) << wrong;
  }
  expect_refused("search " + opt_ + " --run " + run + " --set rounds=0x", 2, "rounds");
  expect_refused("search " + opt_ + " --run " + run + " --set speed=3", 2, "speed");
  expect_refused("search " + opt_ + " --run " + run + " --strategy ga", 2, "budget");
  write_file(run + "/archive.db", "this is no archive, and long enough to look like a file of something");
  expect_refused("front " + run, 1, "archive.db");
}

}  // namespace
}  // namespace knapsaq
