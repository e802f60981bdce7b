// Embedding and output head as a user meets them: budgets that decide about all matrices, averages over the
// linears, what is kept, what is pinned.

#include <algorithm>
#include <map>
#include <set>

#include "apps/command_fixture.h"
#include "random_model.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Ends : public CommandTest {
 protected:
  Ends() {
    for (const bool tied : {true, false}) {
      nlohmann::json config = random_llama(tied);
      config["vocab_size"] = 4096;  // the tokenizer's
      const fs::path folder = tied ? tied_ : apart_;
      write_random_model(folder, config, DType::F32);
      for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
        fs::copy(fs::path(llama_) / name, folder / name);
    }
  }

  /// Module -> scheme, or the type of a dense one.
  std::map<std::string, std::string> stored(const std::string& folder) {
    std::map<std::string, std::string> schemes;
    const nlohmann::json info = must("info " + folder + " --json").json();
    for (const auto& one : info["linears"]) schemes[one["name"]] = one["scheme"];
    return schemes;
  }
  const std::string tied_ = scratch("tied");
  const std::string apart_ = scratch("apart");
};

TEST_F(Ends, InfoListsEveryMatrix) {
  const nlohmann::json apart = must("info " + apart_ + " --json").json();
  ASSERT_EQ(apart["linears"].size(), 16U);
  EXPECT_EQ(apart["linears"].front()["name"], "model.embed_tokens");
  EXPECT_EQ(apart["linears"].back()["name"], "lm_head");
  EXPECT_EQ(apart["linears"].back()["shape"], nlohmann::json({4096, 64}));
  EXPECT_EQ(apart["linears"].back()["scheme"], "f32");
  const nlohmann::json tied = must("info " + tied_ + " --json").json();
  EXPECT_EQ(tied["linears"].size(), 15U);
  EXPECT_EQ(tied["linear_parameters"], apart["linear_parameters"]);
  EXPECT_EQ(tied["parameters"].get<std::int64_t>() + 4096 * 64, apart["parameters"].get<std::int64_t>());
  // Shares are of all weights that are listed.
  EXPECT_THAT(must("info " + apart_).out, AllOf(HasSubstr("16 matrices with"), HasSubstr("100.0 %")));
}

TEST_F(Ends, ABudgetDecidesAboutAllMatrices) {
  for (const std::string& model : {tied_, apart_}) {
    const std::string out = model + "-q";
    const nlohmann::json result =
        must("quantize " + model + " --budget 260kB --menu mxq-f16 -o " + out + " --json").json();
    EXPECT_EQ(result["bytes"], weight_bytes(out));
    EXPECT_LE(weight_bytes(out), 260000U);
    EXPECT_EQ(result["allocation"].size(), model == tied_ ? 15U : 16U);
    EXPECT_EQ(result["allocation"].front()["linear"], "model.embed_tokens");
    for (const auto& [name, scheme] : stored(out)) EXPECT_THAT(scheme, HasSubstr("hqq:b")) << name;
    must("eval " + out + " --text " + assets_ + "/wiki-llama-6m-sample.txt --windows 2 --window 32 --json");
  }
}

TEST_F(Ends, BitsOfFilesAreBytesOfTheWholeModel) {
  const std::string out = scratch("out");
  const nlohmann::json result = must("quantize " + apart_ + " --bpw 4.5 -o " + out + " --json").json();
  const auto parameters = must("info " + apart_ + " --json").json()["parameters"].get<std::int64_t>();
  EXPECT_EQ(result["budget_bytes"], static_cast<std::uint64_t>(4.5 * static_cast<double>(parameters) / 8));
  EXPECT_EQ(result["budget_bits"], nullptr);
  EXPECT_LE(weight_bytes(out), result["budget_bytes"].get<std::uint64_t>());
  EXPECT_GT(weight_bytes(out), result["budget_bytes"].get<double>() * 0.95);
  expect_refused("quantize " + apart_ + " --bpw 4.5 --bits 3 -o " + scratch("x"), 2, "one of");
  expect_refused("quantize " + apart_ + " --bpw 1 -o " + scratch("x"), 1, "smallest");
}

TEST_F(Ends, BitsAreAnAverageOverTheLinears) {
  const std::string out = scratch("out");
  const nlohmann::json result = must("quantize " + apart_ + " --bits 3.5 -o " + out + " --json").json();
  EXPECT_EQ(result["allocation"].size(), 14U);
  EXPECT_LE(result["bits"].get<double>(), 3.5);
  EXPECT_GT(result["bits"].get<double>(), 3.3);
  // Embedding and head stay as they are stored, in all their bits.
  const auto schemes = stored(out);
  EXPECT_EQ(schemes.at("model.embed_tokens"), "f32");
  EXPECT_EQ(schemes.at("lm_head"), "f32");
}

TEST_F(Ends, WhatIsKeptStaysAsItIsStored) {
  const std::string quantize = "quantize " + apart_ + " --budget 1250kB ";
  const nlohmann::json result =
      must(quantize + "--keep lm_head --keep '1.*.v_proj' -o " + scratch("a") + " --json").json();
  EXPECT_EQ(result["allocation"].size(), 16U - 2);
  EXPECT_LE(weight_bytes(scratch("a")), 1250000U);
  const auto schemes = stored(scratch("a"));
  EXPECT_EQ(schemes.at("lm_head"), "f32");
  EXPECT_EQ(schemes.at("model.layers.1.self_attn.v_proj"), "f32");
  EXPECT_THAT(schemes.at("model.embed_tokens"), HasSubstr("hqq:b"));
  expect_refused(quantize + "--keep nothing -o " + scratch("b"), 2, "--keep 'nothing'");
  expect_refused(quantize + "--keep '*' -o " + scratch("b"), 2, "nothing is left");
  EXPECT_FALSE(fs::exists(scratch("b")));
}

TEST_F(Ends, ASchemeIsOfTheLinearsAndPinsOfAnything) {
  const std::string quantize = "quantize " + apart_ + " --scheme rtn:b4g64 -o ";
  must(quantize + scratch("plain"));
  EXPECT_EQ(stored(scratch("plain")).at("lm_head"), "f32");
  must(quantize + scratch("pinned") +
       " --pin lm_head=rtn:b8g64 --pin '0.*=rtn:b2g32' --pin embed_tokens=gptq:b4g64" + " --text " + assets_ +
       "/wiki-llama-6m-sample.txt --samples 4 --window 32");
  const auto schemes = stored(scratch("pinned"));
  EXPECT_EQ(schemes.at("lm_head"), "rtn:b8g64");
  // Nothing is multiplied by it.
  EXPECT_EQ(schemes.at("model.embed_tokens"), "hqq-diag:b4g64");
  EXPECT_EQ(schemes.at("model.layers.0.mlp.up_proj"), "rtn:b2g32");
  EXPECT_EQ(schemes.at("model.layers.1.mlp.up_proj"), "rtn:b4g64");
  must(quantize + scratch("all") + " --pin '*=q8_0'");
  for (const auto& [name, scheme] : stored(scratch("all"))) EXPECT_EQ(scheme, "q8_0") << name;

  expect_refused(quantize + scratch("x") + " --pin 'lm_head>=8'", 2, "PATTERN=SCHEME");
  expect_refused(quantize + scratch("x") + " --pin head=rtn:b8g64", 2, "'head=rtn:b8g64'");
  expect_refused("quantize " + apart_ + " --bits 3 --pin lm_head=b8g64 -o " + scratch("x"), 2, "--scheme");
  EXPECT_FALSE(fs::exists(scratch("x")));
}

TEST_F(Ends, TablesAndBanksAreOfAllMatrices) {
  const std::string text = " --text " + assets_ + "/wiki-llama-6m-sample.txt --samples 4 --window 32";
  const std::string table = scratch("t.csv");
  must("tables " + apart_ + " --menu b2g32,b4g32,b8g32 -o " + table);
  EXPECT_THAT(read_file(table), AllOf(HasSubstr("\n-1,embed_tokens,"), HasSubstr("\n-1,lm_head,")));
  // An average is over the linears, whatever the table has.
  EXPECT_EQ(must("allocate --table " + table + " --bits 4 --json").json()["allocation"].size(), 14U);
  must("bank " + apart_ + " -o " + scratch("bank") + " --menu b2g32,b4g32 --method gptq" + text);
  const nlohmann::json by_budget = must("quantize " + apart_ + " --bank " + scratch("bank") +
                                        " --budget 330kB -o " + scratch("q") + " --json")
                                       .json();
  EXPECT_EQ(by_budget["allocation"].size(), 16U);
  EXPECT_EQ(by_budget["cost"], "hessian");
  EXPECT_THAT(by_budget["allocation"].front()["scheme"].get<std::string>(), HasSubstr("hqq-diag:"));
  EXPECT_THAT(by_budget["allocation"].back()["scheme"].get<std::string>(), HasSubstr("gptq:"));
  EXPECT_LE(weight_bytes(scratch("q")), 330000U);
  // What was solved for is written again from its list.
  write_file(scratch("list.json"), by_budget.dump());
  const nlohmann::json by_bits =
      must("quantize " + apart_ + " --bank " + scratch("bank") + " --bits 3.5 -o " + scratch("b") + " --json")
          .json();
  EXPECT_EQ(by_bits["allocation"].size(), 14U);
  must("bank " + apart_ + " -o " + scratch("some") + " --menu b4g32 --method rtn --keep lm_head");
  expect_refused("bank " + apart_ + " -o " + scratch("none") + " --menu b4g32 --method rtn --keep '*'", 2,
                 "nothing is left");
}

TEST_F(Ends, FitDecidesAboutAllMatrices) {
  const std::string small =
      " --menu b2g32,b4g32,b8g32 --method rtn --window 32 --tokens 96 --heldout 96 --text " + assets_ +
      "/wiki-llama-6m-sample.txt --set rounds-at-budget=1 ";
  const std::string out = scratch("fitted");
  const nlohmann::json said =
      must("fit " + apart_ + " --budget 330kB --effort quick -o " + out + small + "--pin 'lm_head>=4' --json")
          .json();
  EXPECT_LE(weight_bytes(out), 330000U);
  EXPECT_EQ(said["bytes"], weight_bytes(out));
  ASSERT_EQ(said["allocation"].size(), 16U);
  const auto schemes = stored(out);
  EXPECT_THAT(schemes.at("lm_head"), Not(HasSubstr("b2g32")));
  for (const auto& [name, scheme] : schemes) EXPECT_THAT(scheme, HasSubstr("rtn:b")) << name;
  must("eval " + out + " --text " + assets_ + "/wiki-llama-6m-sample.txt --windows 2 --window 32 --json");
  // Another size of the same run, to the byte what is named.
  must("pick " + out + ".run --bpw 6 -o " + scratch("six") + " --json");
  // An average over the linears is another run's question.
  expect_refused("fit " + apart_ + " --bits 3 -o " + scratch("bits") + " --run " + out + ".run", 2,
                 "embedding and head");
  const nlohmann::json bits =
      must("fit " + apart_ + " --bits 4 --effort quick -o " + scratch("bits") + small + " --json").json();
  EXPECT_EQ(bits["allocation"].size(), 14U);
  EXPECT_EQ(stored(scratch("bits")).at("lm_head"), "f32");
}

TEST_F(Ends, ACalibrationOfVersion01IsGoneOnWith) {
  const std::string calibrate = "calibrate " + apart_ + " -o " + scratch("c") + " --text " + assets_ +
                                "/wiki-llama-6m-sample.txt --samples 4 --window 32";
  must(calibrate);
  const std::string whole = read_file(scratch("c") + "/calibration.json");
  // As version 0.1 left it.
  nlohmann::ordered_json manifest = nlohmann::ordered_json::parse(whole);
  manifest["blocks"].erase(manifest["blocks"].size() - 1);
  write_file(scratch("c") + "/calibration.json", manifest.dump());
  fs::remove(scratch("c") + "/block-00002.safetensors");
  const std::string bank =
      "bank " + apart_ + " -o " + scratch("b") + " --menu b4g32 --method gptq --calibration " + scratch("c");
  // The linears' statistics are there, the head's are not.
  expect_refused(bank, 1, "knapsaq calibrate");
  must("quantize " + apart_ + " --scheme gptq:b4g64 -o " + scratch("q") + " --calibration " + scratch("c"));
  must(calibrate);
  EXPECT_EQ(read_file(scratch("c") + "/calibration.json"), whole);
  must(bank);
}

}  // namespace
}  // namespace knapsaq
