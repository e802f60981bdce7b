// `knapsaq bank` and the verbs that work from a bank, as a user meets them, killed in the middle included.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "apps/command_fixture.h"
#include "knapsaq/base/files.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class BankCommand : public InterventionTest {
 protected:
  /// Few and short windows: what is tested does not depend on how good the statistics are.
  const std::string calibration_ =
      " --text " + assets_ + "/wiki-llama-6m-sample.txt --samples 8 --window 64 ";
};

TEST_F(BankCommand, EveryVerbWorksFromABank) {
  const std::string bank = scratch("bank");
  const nlohmann::json built =
      must("bank " + llama_ + " -o " + bank + " --method gptq --json" + calibration_).json();
  EXPECT_EQ(built["linears"], 43);  // the embedding, which is the head, and 42 linears
  EXPECT_EQ(built["schemes"], 12);
  EXPECT_EQ(built["kept"], 0);
  // Again: nothing to do, and neither text nor method changes who it belongs to.
  EXPECT_EQ(must("bank " + llama_ + " -o " + bank + " --method gptq --json").json()["kept"], 43);

  // Allocated from the bank, or from its table: the same.
  must("tables --bank " + bank + " -o " + scratch("bank.csv"));
  const Outcome allocated = must("allocate --bank " + bank + " --bits 3 --json");
  write_file(scratch("allocation.json"), allocated.out);
  const nlohmann::json allocation = allocated.json();
  EXPECT_EQ(allocation["cost"], "hessian");
  EXPECT_EQ(must("allocate --table " + scratch("bank.csv") + " --bits 3 --json").json()["allocation"],
            allocation["allocation"]);
  for (const std::string cost : {"fnorm", "relative"}) {
    const nlohmann::json other = must("allocate --bank " + bank + " --bits 3 --json --cost " + cost).json();
    EXPECT_EQ(other["cost"], cost);
    EXPECT_NE(other["objective"], allocation["objective"]);
  }

  // Written from the bank, by budget or allocation: the same bytes, those that direct quantization gives with
  // the same statistics.
  must("quantize " + llama_ + " --bank " + bank + " -o " + scratch("solved") + " --bits 3");
  must("quantize " + llama_ + " --bank " + bank + " -o " + scratch("given") + " --allocation " +
       scratch("allocation.json"));
  must("quantize " + llama_ + " --calibration " + bank + "/calibration -o " + scratch("direct") +
       " --allocation " + scratch("allocation.json"));
  EXPECT_EQ(content_of(scratch("solved")), content_of(scratch("given")));
  EXPECT_EQ(content_of(scratch("solved")), content_of(scratch("direct")));
  must("quantize " + llama_ + " --bank " + bank + " -o " + scratch("uniform") +
       " --scheme gptq:b3g64/m8g128");
  EXPECT_LE(
      must("quantize " + llama_ + " --bank " + bank + " -o " + scratch("budget") + " --budget 3.7MiB --json")
          .json()["bytes"],
      3.7 * 1024 * 1024);

  expect_refused("quantize " + opt_ + " --bank " + bank + " -o " + scratch("other") + " --bits 3", 1,
                 "another model");
  expect_refused("quantize " + llama_ + " --bank " + bank + " -o " + scratch("other") + " --scheme rtn:b4g64",
                 2, "gptq:b2g32/m8g128");
  expect_refused("quantize " + llama_ + " --bank " + bank + " -o " + scratch("other") + " --bits 1", 1,
                 "smallest");
  expect_refused("allocate --bank " + bank + " --table x --bits 3", 2, "either");
  expect_refused("bank " + llama_ + " -o " + bank + " --method hqq", 2, "another menu");
  expect_refused("bank " + opt_ + " -o " + bank + " --method gptq" + calibration_, 2, "another model");
  EXPECT_FALSE(fs::exists(scratch("other")));
}

TEST_F(BankCommand, KilledAnywhereItGoesOnAndEndsTheSame) {
  const std::string whole = scratch("whole");
  const auto command = [&](const std::string& bank) {
    return "bank " + opt_ + " -o " + bank + " --method gptq --menu b2g32,b3g64/m8g128,b4g128" + calibration_;
  };
  const std::size_t calls = count_calls(calls_of(command(whole)), kWriting);
  const std::string killed = scratch("killed");
  EXPECT_GT(kill_until_done(command(killed), calls / 16), 4);
  // Half a file is what a kill leaves.
  write_file(killed + "/linears/model.decoder.layers.0.fc1.safetensors.partial-1", "half");
  const nlohmann::json end = must(command(killed) + " --json").json();
  EXPECT_EQ(end["linears"], 73);
  EXPECT_EQ(end["damaged"], 0);
  EXPECT_EQ(content_of(killed), content_of(whole));
}

TEST_F(BankCommand, DamageIsFoundAndRepaired) {
  const std::string bank = scratch("bank");
  const std::string command = "bank " + opt_ + " -o " + bank + " --menu b3g64,b4g64";
  must(command);
  const auto whole = content_of(bank);
  const fs::path file = bank + "/linears/model.decoder.layers.2.fc1.safetensors";
  std::string bytes = read_file(file);
  bytes[bytes.size() / 3] ^= 1;
  write_file(file, bytes);
  // What is not damaged can still be used.
  must("allocate --bank " + bank + " --bits 4");
  expect_refused("quantize " + opt_ + " --bank " + bank + " -o " + scratch("out") + " --scheme b3g64", 1,
                 "model.decoder.layers.2.fc1.safetensors: is damaged");
  EXPECT_FALSE(fs::exists(scratch("out")));
  EXPECT_EQ(must(command + " --json").json()["damaged"], 1);
  EXPECT_EQ(content_of(bank), whole);

  fs::resize_file(file, bytes.size() - 100);
  expect_refused("allocate --bank " + bank + " --bits 4", 1, file.filename().string());
  fs::remove(file);
  expect_refused("allocate --bank " + bank + " --bits 4", 1, "1 of its 73 linears are missing");
  must(command);
  EXPECT_EQ(content_of(bank), whole);
  expect_refused("allocate --bank " + scratch("nowhere") + " --bits 4", 1, "not a bank");
}

TEST_F(BankCommand, ThreadsDoNotChangeABank) {
  for (const std::string threads : {"1", "3"})
    must("bank " + opt_ + " -o " + scratch("t" + threads) +
         " --menu b2g32,b4g64/m8g128 --method gptq --threads " + threads + calibration_);
  EXPECT_EQ(content_of(scratch("t1")), content_of(scratch("t3")));
}

TEST_F(BankCommand, FoldedScalesAreWrittenWithTheWeights) {
  const std::string bank = scratch("bank");
  for (const std::string& model : {llama_, opt_}) {
    fs::remove_all(bank);
    // Enough text that channels which are rarely active are seen to be alive.
    must("bank " + model + " -o " + bank + " --method awq --menu b4g64,b8g32 --text " + assets_ +
         "/wiki-llama-6m-sample.txt --samples 64 --window 256");
    ASSERT_TRUE(fs::exists(bank + "/folding.safetensors"));
    must("quantize " + model + " --bank " + bank + " -o " + scratch("out") + " --scheme awq:b8g32 --force");
    const auto nll = [&](const std::string& folder) {
      return must("eval " + folder + " --text " + assets_ + "/wiki-llama-6m-sample.txt --windows 8 --json")
          .json()["nll"]
          .get<double>();
    };
    // With 8 bits the model is the same again only if norms and biases are folded too.
    EXPECT_NEAR(nll(scratch("out")), nll(model), 0.1);
    fs::remove(bank + "/folding.safetensors");
    expect_refused("quantize " + model + " --bank " + bank + " -o " + scratch("none") + " --scheme awq:b8g32",
                   1, "folding.safetensors");
  }
}

TEST_F(BankCommand, ScalesOfAnotherCalibrationAreNotTaken) {
  const std::string common = "bank " + opt_ + " --method awq --menu b4g64 --text " + assets_ +
                             "/wiki-llama-6m-sample.txt --window 64 --samples ";
  const std::string bank = scratch("bank");
  must(common + "8 -o " + bank);
  const auto whole = content_of(bank);
  EXPECT_EQ(must("bank " + opt_ + " --method awq --menu b4g64 --json -o " + bank).json()["kept"], 73);
  // Another calibration for the bank that is begun: refused.
  const std::string other = " --calibration " + scratch("calibration");
  expect_refused(common + "4 -o " + bank + other, 2, "with other statistics");
  EXPECT_EQ(content_of(bank), whole);
  // Where only the scales are there yet, they are found again.
  must(common + "4 -o " + scratch("fresh") + other);
  fs::create_directory(scratch("mixed"));
  fs::copy_file(bank + "/folding.safetensors", scratch("mixed") + "/folding.safetensors");
  must(common + "4 -o " + scratch("mixed") + other);
  EXPECT_EQ(content_of(scratch("mixed")), content_of(scratch("fresh")));
  EXPECT_NE(content_of(scratch("mixed"))["folding.safetensors"], whole.at("folding.safetensors"));
  // The folder that is named holds none, and there is no text to make one: nothing is made.
  fs::remove_all(scratch("calibration"));
  expect_refused("bank " + opt_ + " --method awq --menu b4g64 -o " + scratch("none") + other, 2, "--text");
  EXPECT_FALSE(fs::exists(scratch("none")));
}

TEST_F(BankCommand, GgmlTypesFallBackWhereRowsAreNotWholeBlocks) {
  const std::string bank = scratch("bank");
  must("bank " + llama_ + " -o " + bank + " --menu q2_k,q4_k,q6_k,q8_0 " + calibration_);
  const nlohmann::json result =
      must("quantize " + llama_ + " --bank " + bank + " -o " + scratch("out") + " --bits 5 --tie qkv --json")
          .json();
  EXPECT_LE(result["bits"].get<double>(), 5);
  must("tables --bank " + bank + " -o " + scratch("bank.csv"));
  EXPECT_EQ(
      must("allocate --table " + scratch("bank.csv") + " --bits 5 --tie qkv --json").json()["allocation"],
      result["allocation"]);
  // Rows of down_proj have 704 weights, which are no whole blocks of 256.
  for (const auto& entry : result["allocation"]) {
    if (entry["linear"].get<std::string>().ends_with("down_proj")) {
      EXPECT_THAT(entry["scheme"].get<std::string>(), testing::Not(testing::EndsWith("_k")));
    }
  }
}

TEST_F(BankCommand, PropagationGoesOnAfterAKill) {
  const auto command = [&](const std::string& out) {
    return "quantize " + opt_ + " -o " + scratch(out) + " --scheme gptq:b3g64 --propagate" + calibration_;
  };
  const std::size_t calls = count_calls(calls_of(command("whole")), kWriting);
  EXPECT_GT(kill_until_done(command("killed"), calls / 8), 2);
  EXPECT_EQ(content_of(scratch("whole")), content_of(scratch("killed")));
  EXPECT_FALSE(fs::exists(scratch("whole") + ".propagated"));
  // Only the first linears see the same inputs as without.
  must("quantize " + opt_ + " -o " + scratch("plain") + " --scheme gptq:b3g64" + calibration_);
  EXPECT_NE(content_of(scratch("whole"))["model.safetensors"],
            content_of(scratch("plain"))["model.safetensors"]);
}

TEST_F(BankCommand, EveryMethodIsCorrected) {
  for (const std::string scheme : {"hqq:b3g64", "awq:b3g64", "q4_0"}) {
    const std::string command = "quantize " + opt_ + " --scheme " + scheme + calibration_ + " -o ";
    must(command + scratch("plain-" + scheme.substr(0, 3)));
    must(command + scratch("corrected-" + scheme.substr(0, 3)) + " --propagate");
    EXPECT_NE(content_of(scratch("plain-" + scheme.substr(0, 3)))["model.safetensors"],
              content_of(scratch("corrected-" + scheme.substr(0, 3)))["model.safetensors"]);
  }
  // A bank's folding, and its codes outside the blocks.
  must("bank " + opt_ + " -o " + scratch("bank") + " --method awq --menu b3g64,b4g64" + calibration_);
  const std::string of_bank = "quantize " + opt_ + " --budget 2MiB --bank " + scratch("bank") + " -o ";
  must(of_bank + scratch("of-bank") + " --propagate" + calibration_);
  must(of_bank + scratch("bank-alone"));
  EXPECT_EQ(fs::file_size(scratch("of-bank/model.safetensors")),
            fs::file_size(scratch("bank-alone/model.safetensors")));
  EXPECT_NE(content_of(scratch("of-bank"))["model.safetensors"],
            content_of(scratch("bank-alone"))["model.safetensors"]);
}

TEST_F(BankCommand, WithoutATextTheModelSpeaks) {
  const std::string sizes = " --method gptq --menu b4g64 --samples 4 --window 32 ";
  must("bank " + opt_ + " -o " + scratch("silent") + sizes);
  must("bank " + opt_ + " -o " + scratch("asked") + sizes + "--text self");
  EXPECT_EQ(content_of(scratch("silent")), content_of(scratch("asked")));
  const auto kept = nlohmann::json::parse(read_file(scratch("silent/calibration/calibration.json")));
  EXPECT_EQ(kept.at("text"), "self calibration seed 0");
  // The calibration that is there serves the next run, whatever it was made from.
  EXPECT_EQ(must("bank " + opt_ + " -o " + scratch("silent") + sizes + "--json").json()["kept"], 73);
  must("bank " + opt_ + " -o " + scratch("other") + sizes + "--seed 1");
  EXPECT_NE(content_of(scratch("other")), content_of(scratch("silent")));
  // A run that was stopped while it calibrated goes on when it is repeated.
  fs::create_directories(scratch("killed/calibration"));
  auto begun = kept;
  begun["blocks"] = {kept["blocks"][0]};
  write_file(scratch("killed/calibration/calibration.json"), begun.dump());
  fs::copy_file(scratch("silent/calibration/block-00000.safetensors"),
                scratch("killed/calibration/block-00000.safetensors"));
  must("bank " + opt_ + " -o " + scratch("killed") + sizes);
  EXPECT_EQ(content_of(scratch("killed")), content_of(scratch("asked")));
  must("quantize " + opt_ + " -o " + scratch("out") +
       " --scheme gptq:b4g64 --propagate --samples 4 --window 32");
}

TEST_F(BankCommand, WhatItNeedsIsAskedFor) {
  expect_refused("bank " + opt_ + " -o " + scratch("bank") + " --method gptq --text self " + assets_, 2,
                 "self alone");
  expect_refused("bank " + opt_ + " -o " + scratch("bank") + " --method magic", 2, "gptq");
  expect_refused("bank " + opt_ + " -o " + scratch("bank") + " --menu b7g64", 2, "b7g64");
  expect_refused("bank " + opt_ + " -o " + scratch("bank") + " --method gptq --text " + scratch("no.txt"), 1,
                 "no.txt");
  expect_refused("bank " + opt_ + " -o " + scratch("bank") + " --menu hqq:b4g64s", 2, "hqq:b4g64s");
  EXPECT_FALSE(fs::exists(scratch("bank")));
  expect_refused("quantize " + opt_ + " -o " + scratch("out") + " --menu gptq:b4g64,gptq:b3g64 --bits 4", 2,
                 "knapsaq bank");
  expect_refused("allocate --table " + scratch("none.csv") + " --bits 3 --cost luck", 1, "none.csv");
  expect_refused("tables -o " + scratch("t.csv"), 2, "--bank");
  must("tables " + opt_ + " -o " + scratch("t.csv") + " --menu b3g64,b4g64");
  expect_refused("allocate --table " + scratch("t.csv") + " --bits 4 --cost hessian", 2, "--cost fnorm");
  expect_refused("allocate --table " + scratch("t.csv") + " --bits 4 --cost luck", 2, "relative");
  fs::create_directory(scratch("papers"));
  write_file(scratch("papers/precious"), "data");
  expect_refused("bank " + opt_ + " -o " + scratch("papers"), 2, "is not a bank");
}

}  // namespace
}  // namespace knapsaq
