// The command line as a user meets it: the built program is run, its exit code, output and files are looked
// at.

#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "apps/command_fixture.h"
#include "knapsaq/base/files.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

using Command = InterventionTest;

TEST_F(Command, WrongUseExitsWithTwo) {
  expect_refused("fly", 2, "knapsaq --help");
  expect_refused("eval " + llama_, 2, "--text");
  expect_refused("eval " + llama_ + " --text " + text_ + " --protocol hf", 2, "gptq");
  expect_refused("eval " + llama_ + " --text " + text_ + " --window 513", 2, "512");
  expect_refused("quantize " + llama_ + " -o " + scratch("out"), 2, "--budget");
  expect_refused("quantize " + llama_ + " -o " + scratch("out") + " --bits 3 --scheme b4g64", 2, "one of");
  expect_refused("quantize " + llama_ + " -o " + scratch("out") + " --scheme b7g64", 2, "b7g64");
  expect_refused("quantize " + llama_ + " -o " + scratch("out") + " --budget lots", 2, "lots");
  EXPECT_FALSE(fs::exists(scratch("out")));
}

TEST_F(Command, WorkThatFailsExitsWithOne) {
  expect_refused("info " + scratch("nowhere"), 1, "nowhere");
  expect_refused("eval " + llama_ + " --text " + scratch("nothing.txt"), 1, "nothing.txt");
  write_file(scratch("empty.txt"), "");
  expect_refused("eval " + llama_ + " --text " + scratch("empty.txt"), 1, "empty.txt");
  write_file(scratch("short.txt"), "Too short.");
  expect_refused("eval " + llama_ + " --text " + scratch("short.txt"), 1, "tokens");
  expect_refused("quantize " + llama_ + " -o " + scratch("out") + " --budget 1MiB", 1, "smallest");
  EXPECT_FALSE(fs::exists(scratch("out")));
}

TEST_F(Command, InfoTellsWhatTheModelIs) {
  const nlohmann::json info = run("info " + llama_ + " --json").json();
  EXPECT_EQ(info["architecture"], "LlamaForCausalLM");
  std::uint64_t header = 0;
  std::ifstream(llama_ + "/model.safetensors", std::ios::binary).read(reinterpret_cast<char*>(&header), 8);
  EXPECT_EQ(info["bytes"], fs::file_size(llama_ + "/model.safetensors") - header - 8);
  EXPECT_EQ(info["parameters"].get<std::int64_t>() * 2, info["bytes"].get<std::int64_t>());
  ASSERT_EQ(info["linears"].size(), 43u);
  EXPECT_EQ(info["linears"][0]["name"], "model.embed_tokens");
  EXPECT_EQ(info["linears"][2]["name"], "model.layers.0.self_attn.k_proj");
  EXPECT_EQ(info["linears"][2]["shape"], nlohmann::json({128, 256}));
  EXPECT_EQ(info["linears"][2]["scheme"], "f16");
  EXPECT_THAT(run("info " + opt_).out, HasSubstr("OPTForCausalLM"));
}

TEST_F(Command, InfoTellsTheMemoryOfAContext) {
  EXPECT_EQ(run("info " + llama_ + " --json").json()["memory"], nullptr);
  const nlohmann::json info =
      run("info " + llama_ + " --context 300 --cache q8_0 --for llama.cpp --json").json();
  const nlohmann::json& memory = info["memory"];
  EXPECT_EQ(memory["context"], 300);
  EXPECT_EQ(memory["cache_type"], "q8_0");
  EXPECT_EQ(memory["weights"], info["bytes"]);
  EXPECT_EQ(memory["cache"], 2 * 6 * 512 * 128 / 32 * 34);
  EXPECT_EQ(memory["total"].get<std::uint64_t>(), memory["weights"].get<std::uint64_t>() +
                                                      memory["cache"].get<std::uint64_t>() +
                                                      memory["work_space"].get<std::uint64_t>());
  const Outcome unknown = run("info " + llama_ + " --context 300 --for vllm");
  EXPECT_THAT(unknown.out, HasSubstr("its work space, which is not known"));
  expect_refused("info " + llama_ + " --context 513", 2, "at most 512 tokens");
  expect_refused("info " + llama_ + " --cache int8", 2, "--context");
}

TEST_F(Command, ABudgetMayBeForAContextToo) {
  const std::string out = scratch("out");
  const std::string quantize = "quantize " + llama_ + " -o " + out + " --context 512 ";
  const nlohmann::json result = must(quantize + "--cache int8 --budget 8MB --json").json();
  EXPECT_EQ(result["budget_bytes"], 8'000'000);
  const nlohmann::json& memory = result["memory"];
  EXPECT_EQ(memory["weights"].get<std::uint64_t>(), weight_bytes(out));
  EXPECT_EQ(memory["cache"], 2 * 6 * 512 * 4 * (32 + 4));
  EXPECT_LE(memory["total"].get<std::uint64_t>(), 8'000'000u);
  EXPECT_GT(memory["total"].get<double>(), 8e6 * 0.995);

  const std::string again = "quantize " + llama_ + " -o " + scratch("other") + " --context 512 ";
  expect_refused(again + "--bits 3", 2, "--context goes with --budget");
  expect_refused(again + "--budget 8MB --cache q8_0", 2, "give fp16, int8");
  expect_refused("quantize " + llama_ + " -o " + scratch("other") + " --budget 8MB --cache int8", 2,
                 "--cache goes with --context");
  // What it takes is said, and what would fit: the sum that is named does.
  const std::string refused = run(again + "--budget 5.7MB").err;
  EXPECT_THAT(refused, HasSubstr("keys and values of 512 tokens (fp16) take 1572864"));
  EXPECT_THAT(refused, HasSubstr("this budget would do for"));
  const std::size_t digits = refused.find("together ") + 9;
  const std::string least = refused.substr(digits, refused.find(' ', digits) - digits);
  must(again + "--budget " + least);
  expect_refused(again + "--force --budget " + std::to_string(std::stoull(least) - 1), 1,
                 "together " + least);
  EXPECT_THAT(run(again + "--force --budget 1MB").err, Not(HasSubstr("would do")));
}

TEST_F(Command, EvalReportsItsContract) {
  const nlohmann::json result =
      run("eval " + llama_ + " --text " + text_ + " --window 256 --windows 4 --precision fp32 --json").json();
  EXPECT_EQ(result["protocol"], "gptq");
  EXPECT_EQ(result["windows"], 4);
  EXPECT_EQ(result["tokens"], 4 * 255);
  EXPECT_NEAR(std::log(result["perplexity"].get<double>()), result["nll"].get<double>(), 1e-9);
  EXPECT_GE(result["seconds"].get<double>(), 0);
  for (const std::string field : {"linear_bytes", "head_bytes", "embedding_bytes", "workspace_bytes"})
    EXPECT_GT(result[field].get<std::uint64_t>(), 0U) << field;
  EXPECT_GT(result["peak_resident_bytes"].get<std::uint64_t>(), result["linear_bytes"].get<std::uint64_t>());
  for (const std::string protocol : {"stride", "llama"})
    EXPECT_EQ(run("eval " + opt_ + " --text " + text_ + " --windows 2 --json --protocol " + protocol)
                  .json()["protocol"],
              protocol);
}

TEST_F(Command, BenchReportsItsContract) {
  const std::string base = "bench " + llama_ + " --prompt 20 --generate 4 --repeats 2 ";
  const Outcome outcome = run(base + "--threads 2 --activations bf16 --json");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const nlohmann::json result = outcome.json();
  for (const std::string field :
       {"prompt_tokens_per_second", "generation_tokens_per_second", "first_token_seconds", "weight_bytes",
        "resident_bytes", "dram_bytes_per_second", "bandwidth_fraction", "load_seconds", "linear_bytes",
        "head_bytes", "embedding_bytes", "workspace_bytes", "cache_bytes", "peak_resident_bytes"})
    EXPECT_GT(result[field].get<double>(), 0) << field;
  EXPECT_EQ(result["threads"], 2);
  EXPECT_EQ(result["activations"], "bf16");
  EXPECT_EQ(result["weight_bytes"].get<std::uint64_t>(),
            result["linear_bytes"].get<std::uint64_t>() + result["head_bytes"].get<std::uint64_t>());
  EXPECT_NEAR(result["bandwidth_fraction"].get<double>(),
              result["weight_bytes"].get<double>() * result["generation_tokens_per_second"].get<double>() /
                  result["dram_bytes_per_second"].get<double>(),
              1e-9);
  EXPECT_NEAR(result["prompt_tokens_per_second"].get<double>() * result["first_token_seconds"].get<double>(),
              20, 1e-9);
  EXPECT_THAT(run(base).out, AllOf(HasSubstr("tokens/s"), HasSubstr("GB/s"), HasSubstr("resident")));
  expect_refused(base + "--context 23", 2, "no room");
  expect_refused("bench " + llama_ + " --prompt 0", 2, "--prompt");
  expect_refused("bench " + opt_ + " --prompt 512 --generate 1", 1, "positions");
}

TEST_F(Command, TablesAllocateAndQuantizeGoTogether) {
  const std::string table = scratch("tables.csv");
  ASSERT_EQ(run("tables " + opt_ + " -o " + table).code, 0);
  const Outcome allocated = run("allocate --table " + table + " --bits 3.25 --json");
  ASSERT_EQ(allocated.code, 0) << allocated.err;
  const nlohmann::json allocation = allocated.json();
  EXPECT_LE(allocation["bits"].get<double>(), 3.25);
  EXPECT_GT(allocation["bits"].get<double>(), 3.2);
  EXPECT_LE(allocation["bound"].get<double>(), allocation["objective"].get<double>() * (1 + 1e-12));
  EXPECT_LE(allocation["gap"].get<double>(), 1e-6);
  EXPECT_EQ(allocation["allocation"].size(), 72u);
  write_file(scratch("allocation.json"), allocated.out);

  // Measured anew, from the table, or as given: the same model, to the byte.
  const std::string base = "quantize " + opt_ + " --json -o ";
  const nlohmann::json fresh = run(base + scratch("fresh") + " --bits 3.25").json();
  ASSERT_EQ(run(base + scratch("from-table") + " --bits 3.25 --table " + table).code, 0);
  ASSERT_EQ(run(base + scratch("given") + " --allocation " + scratch("allocation.json")).code, 0);
  EXPECT_EQ(fresh["allocation"], allocation["allocation"]);
  EXPECT_NEAR(fresh["objective"].get<double>(), allocation["objective"].get<double>(),
              1e-6 * allocation["objective"].get<double>());
  const std::string weights = read_file(scratch("fresh") + "/model.safetensors");
  EXPECT_EQ(weights, read_file(scratch("from-table") + "/model.safetensors"));
  EXPECT_EQ(weights, read_file(scratch("given") + "/model.safetensors"));
  EXPECT_EQ(fresh["bytes"], weight_bytes(scratch("fresh")));

  const nlohmann::json info = run("info " + scratch("fresh") + " --json").json();
  EXPECT_EQ(info["linears"].size(), 73u);
  EXPECT_EQ(info["linears"][0]["scheme"], "f16");  // the embedding, about which --bits does not decide
  EXPECT_THAT(info["linears"][1]["scheme"].get<std::string>(), HasSubstr("/m8g128"));
  EXPECT_EQ(run("eval " + scratch("fresh") + " --text " + text_ + " --windows 4 --json").code, 0);

  expect_refused("quantize " + scratch("fresh") + " -o " + scratch("twice") + " --bits 3", 1,
                 "quantized already");
  expect_refused("quantize " + opt_ + " -o " + scratch("other") + " --bits 3 --table " + table + ".missing",
                 1, "missing");
  expect_refused("quantize " + llama_ + " -o " + scratch("other") + " --bits 3 --table " + table, 1,
                 "this model");
}

/// The bytes that a refused budget is told to be possible.
std::string named_smallest(const std::string& message) {
  const std::size_t digits = message.find("takes ") + 6;
  return message.substr(digits, message.find(' ', digits) - digits);
}

TEST_F(Command, BothSolversFindTheSameAllocationCost) {
  const std::string table = scratch("t.csv");
  must("tables " + llama_ + " --menu rtn:b2g128,rtn:b3g64,rtn:b4g32 -o " + table);
  const std::string allocate = "allocate --table " + table + " --bits 3.1 --json";
  const nlohmann::json ours = must(allocate).json();
  const nlohmann::json highs = must(allocate + " --solver highs --time-limit 100").json();
  EXPECT_EQ(ours["gap"], 0);
  EXPECT_EQ(ours["bound"], ours["objective"]);
  EXPECT_NEAR(highs["objective"].get<double>(), ours["objective"].get<double>(),
              1e-9 * ours["objective"].get<double>());
  EXPECT_LE(highs["gap"].get<double>(), 1e-9);
  expect_refused(allocate + " --solver simplex", 2, "solver");
}

TEST_F(Command, TheBudgetIsHardAndUsedUp) {
  for (const std::string budget : {"3700000", "3.9MiB", "4.2MiB"}) {
    const std::string out = scratch("model-" + budget);
    const Outcome outcome = run("quantize " + llama_ + " -o " + out + " --budget " + budget + " --json");
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const nlohmann::json result = outcome.json();
    EXPECT_LE(weight_bytes(out), result["budget_bytes"].get<std::uint64_t>());
    EXPECT_EQ(weight_bytes(out), result["bytes"].get<std::uint64_t>());
    // With 43 matrices of different sizes some combination comes close to any budget inside the range.
    EXPECT_GT(weight_bytes(out), result["budget_bytes"].get<double>() * 0.995);
  }
}

TEST_F(Command, TheSmallestBudgetThatIsNamedIsPossibleAndTheLeast) {
  // Of menus whose schemes have one, three, five or six tensors to a linear.
  for (const std::string menu : {"rtn:b2g128/m8g128,rtn:b8g32", "q2_k,rtn:b8g32/m8g128", "q8_0,nf4"}) {
    const std::string quantize =
        "quantize " + llama_ + " --menu " + menu + " -o " + scratch(menu.substr(0, 2));
    const std::string named = named_smallest(run(quantize + " --budget 1MiB").err);
    EXPECT_EQ(named_smallest(run(quantize + " --budget " + std::to_string(std::stoull(named) - 1)).err),
              named);
    must(quantize + " --budget " + named);
    EXPECT_EQ(weight_bytes(scratch(menu.substr(0, 2))), std::stoull(named)) << menu;
  }
  // More than the largest allocation takes: the largest.
  const nlohmann::json largest =
      run("quantize " + llama_ + " -o " + scratch("largest") + " --budget 1GB --json").json();
  for (const auto& entry : largest["allocation"]) EXPECT_EQ(entry["scheme"], "hqq:b8g32/m8g128");
}

TEST_F(Command, AnExistingOutputIsKeptUnlessForced) {
  const std::string out = scratch("out");
  fs::create_directory(out);
  write_file(out + "/precious", "data");
  expect_refused("quantize " + opt_ + " -o " + out + " --scheme rtn:b4g64", 2, "--force");
  // What Knapsaq did not write is not replaced at all.
  expect_refused("quantize " + opt_ + " -o " + out + " --scheme rtn:b4g64 --force", 2,
                 "not written by Knapsaq");
  EXPECT_EQ(read_file(out + "/precious"), "data");
  fs::remove(out + "/precious");
  EXPECT_EQ(run("quantize " + opt_ + " -o " + out + " --scheme rtn:b2g64 --force").code, 0);
  const auto bytes = weight_bytes(out);
  EXPECT_EQ(run("quantize " + opt_ + " -o " + out + " --scheme rtn:b4g64 --force").code, 0);
  EXPECT_GT(weight_bytes(out), bytes);
  EXPECT_TRUE(fs::exists(out + "/tokenizer.json"));
  EXPECT_TRUE(fs::exists(out + "/config.json"));
}

TEST_F(Command, AnImatrixThatCannotBeIsRefusedBeforeTheCalibration) {
  expect_refused("calibrate " + opt_ + " --text " + text_ + " --samples 8 --window 64 -o " +
                     scratch("calibration") + " --imatrix " + scratch("imatrix.gguf"),
                 2, "GGUF has no name");
  EXPECT_FALSE(fs::exists(scratch("calibration")));
}

TEST_F(Command, APropagationThatGoesOnInOtherArithmeticStartsAnew) {
  const std::string sizes = " --scheme gptq:b3g64 --propagate --text " + text_ + " --samples 8 --window 64 ";
  const std::string command = "quantize " + opt_ + sizes + " -o ";
  ASSERT_EQ(run(command + scratch("bf16")).code, 0);
  ASSERT_EQ(run(command + scratch("fp32") + " --precision fp32").code, 0);
  EXPECT_NE(read_file(scratch("bf16/model.safetensors")), read_file(scratch("fp32/model.safetensors")));
  // Killed once the first linear is there.
  const std::string killed = scratch("killed");
  EXPECT_EQ(run(command + killed, with({"kill", "n", 2})).code, 128 + SIGKILL);
  ASSERT_TRUE(fs::exists(killed + ".propagated"));
  ASSERT_EQ(run(command + killed + " --precision fp32").code, 0);
  EXPECT_EQ(read_file(killed + "/model.safetensors"), read_file(scratch("fp32/model.safetensors")));
}

TEST_F(Command, AFolderInThePlaceOfAPropagationIsKept) {
  const std::string command = "quantize " + opt_ + " --scheme gptq:b3g64 --propagate --text " + text_ +
                              " --samples 8 --window 64 -o " + scratch("out");
  const std::string kept = scratch("out.propagated");
  write_file(kept, "data");
  expect_refused(command, 2, "out.propagated");
  EXPECT_EQ(read_file(kept), "data");
  fs::remove(kept);
  fs::create_directory(kept);
  for (const std::string name : {"precious", "precious.safetensors", "precious.safetensors.partial-1"}) {
    write_file(kept + "/" + name, "data");
    expect_refused(command, 2, name);
    EXPECT_EQ(read_file(kept + "/" + name), "data");
    fs::remove(kept + "/" + name);
  }
  EXPECT_FALSE(fs::exists(scratch("out")));
  // What a killed run left is finished and cleared away.
  const std::string linear = kept + "/model.decoder.layers.0.self_attn.q_proj.safetensors";
  write_file(linear, "half");
  write_file(linear + ".partial-1", "half");
  EXPECT_EQ(run(command).code, 0);
  EXPECT_TRUE(fs::exists(scratch("out/model.safetensors")));
  EXPECT_FALSE(fs::exists(kept));
}

TEST_F(Command, ASlashAfterTheOutputIsNoPartOfItsName) {
  const std::string sizes = " --text " + text_ + " --samples 8 --window 64";
  for (const std::string more : {"", " --propagate"}) {
    const std::string out = scratch("out" + std::to_string(more.size()));
    const Outcome outcome = run("quantize " + opt_ + " -o " + out + "/ --scheme gptq:b4g64" + more + sizes);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_TRUE(fs::exists(out + "/model.safetensors"));
    EXPECT_FALSE(fs::exists(out + "/.calibration"));
    EXPECT_EQ(fs::exists(out + ".calibration"), more.empty());
  }
}

TEST_F(Command, TiesMakeSiblingsEqual) {
  const nlohmann::json result =
      run("quantize " + llama_ + " -o " + scratch("out") + " --bits 3.1 --tie qkv,gate-up --json").json();
  std::map<std::string, std::string> schemes;
  for (const auto& entry : result["allocation"]) schemes[entry["linear"]] = entry["scheme"];
  for (int layer = 0; layer < 6; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer);
    EXPECT_EQ(schemes[prefix + ".self_attn.q_proj"], schemes[prefix + ".self_attn.k_proj"]);
    EXPECT_EQ(schemes[prefix + ".self_attn.q_proj"], schemes[prefix + ".self_attn.v_proj"]);
    EXPECT_EQ(schemes[prefix + ".mlp.gate_proj"], schemes[prefix + ".mlp.up_proj"]);
  }
}

TEST_F(Command, ADamagedModelIsOneLineAndLeavesNothing) {
  const fs::path copy = scratch("copy");
  fs::copy(opt_, copy);
  fs::permissions(copy / "model.safetensors", fs::perms::owner_all);
  fs::resize_file(copy / "model.safetensors", 1000000);
  for (const std::string& verb : {"info " + copy.string(), "eval " + copy.string() + " --text " + text_,
                                  "tables " + copy.string() + " -o " + scratch("t.csv"),
                                  "quantize " + copy.string() + " -o " + scratch("out") + " --bits 3"})
    expect_refused(verb, 1, "model.safetensors");
  EXPECT_FALSE(fs::exists(scratch("out")));
  EXPECT_FALSE(fs::exists(scratch("t.csv")));
}

TEST_F(Command, ADiskThatFillsUpLeavesNothing) {
  // A limit on the size of files, with its signal ignored, fails writes as a full disk does.
  const Outcome outcome = run_shell("trap '' XFSZ; ulimit -f 1000; " KNAPSAQ_COMMAND " quantize " + opt_ +
                                    " -o " + scratch("out") + " --scheme rtn:b8g32");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("model.safetensors"), HasSubstr("cannot write")));
  for (const auto& entry : fs::directory_iterator(scratch_.path()))
    EXPECT_THAT(entry.path().filename().string(), Not(HasSubstr("out.partial")));
  EXPECT_FALSE(fs::exists(scratch("out")));
}

TEST_F(Command, AnInterruptedRunLeavesNothingHalfWritten) {
  const std::string command = "quantize " + opt_ + " -o " + scratch("out") + " --bits 3 --force";
  const std::size_t calls = count_calls(calls_of(command), kWriting);
  fs::remove_all(scratch("out"));
  for (const std::size_t at : {std::size_t{1}, calls / 3, calls / 2, calls}) {
    const Outcome outcome = run(command, with({"int", kWriting, at}));
    // The last call may come after the last look at the signal.
    EXPECT_TRUE(outcome.code == 130 || (outcome.code == 0 && at == calls)) << at << ": " << outcome.code;
    EXPECT_EQ(outcome.err, outcome.code == 130 ? "knapsaq: interrupted\n" : "");
    EXPECT_EQ(fs::exists(scratch("out")), outcome.code == 0);
    for (const auto& entry : fs::directory_iterator(scratch_.path()))
      EXPECT_THAT(entry.path().filename().string(), Not(HasSubstr("partial")));
  }
}

TEST_F(Command, ThreadsDoNotChangeTheResult) {
  for (const std::string threads : {"1", "2", "5"})
    ASSERT_EQ(
        run("quantize " + opt_ + " -o " + scratch("t" + threads) + " --bits 2.9 --threads " + threads).code,
        0);
  const std::string one = read_file(scratch("t1") + "/model.safetensors");
  EXPECT_EQ(one, read_file(scratch("t2") + "/model.safetensors"));
  EXPECT_EQ(one, read_file(scratch("t5") + "/model.safetensors"));
  const auto nll = [&](const std::string& threads) {
    return run("eval " + llama_ + " --text " + text_ + " --windows 3 --json --threads " + threads)
        .json()["nll"];
  };
  EXPECT_EQ(nll("1"), nll("2"));
  EXPECT_EQ(nll("1"), nll("5"));
}

// Made by tools/make_perplexity_references.py with Transformers, each protocol written down as its own
// project runs it.
TEST_F(Command, PerplexityEqualsTransformersByEveryProtocol) {
  const nlohmann::json reference =
      nlohmann::json::parse(read_file(KNAPSAQ_TEST_DATA "/apps/perplexity.json"));
  for (const auto& expected : reference["results"]) {
    const nlohmann::json result =
        run("eval " + assets_ + "/" + expected["model"].get<std::string>() + " --text " + text_ +
            " --json --precision fp32 --protocol " + expected["protocol"].get<std::string>() + " --window " +
            expected["window"].dump() + " --windows " + expected["windows"].dump())
            .json();
    EXPECT_NEAR(result["nll"].get<double>() / expected["nll"].get<double>(), 1, 1e-6) << expected;
  }
}

TEST_F(Command, ExportCarriesExactlyOrSaysWhy) {
  const std::string q = scratch("q");
  ASSERT_EQ(run("quantize " + llama_ + " -o " + q +
                " --bits 3.6 --tie vllm --menu rtn:b2g64s,rtn:b3g64s,rtn:b4g64s,rtn:b8g64s")
                .code,
            0);
  for (const std::string format : {"compressed-tensors", "gptq", "auto-round", "mlx"}) {
    const std::string out = scratch(format);
    const nlohmann::json result =
        run("export " + q + " --format " + format + " -o " + out + " --json").json();
    EXPECT_EQ(result["format"], format);
    EXPECT_EQ(result["bytes"], weight_bytes(out));
    EXPECT_TRUE(result["changes"].empty());
    EXPECT_TRUE(result["notes"].empty()) << result;  // the ties held
    EXPECT_TRUE(fs::exists(fs::path(out) / "tokenizer.json"));
    expect_refused("export " + q + " --format " + format + " -o " + out, 2, "exists");
  }
  const std::string real = scratch("real");
  ASSERT_EQ(run("quantize " + llama_ + " -o " + real + " --scheme hqq:b3g64").code, 0);
  expect_refused("export " + real + " --format gptq -o " + scratch("none"), 2, "allow --requantize");
  EXPECT_FALSE(fs::exists(scratch("none")));
  const Outcome changed = run("export " + real + " --format gptq -o " + scratch("none") + " --requantize");
  EXPECT_THAT(changed.out,
              AllOf(HasSubstr("changed: model.layers.0.self_attn.q_proj: hqq:b3g64 quantized once more "
                              "as rtn:b3g64z: zero point"),
                    HasSubstr("42 linears changed")));
  expect_refused("export " + real + " --format awq -o " + scratch("x"), 2, "there is no format 'awq'");
  // An export is read as what other tools make.
  EXPECT_THAT(run("info " + scratch("gptq")).out, HasSubstr("quantized already: GPTQ"));
}

// The models' own reference values (made with PyTorch by tools/eval_lm.py) on real text, which is not part of
// the project.
TEST_F(Command, PerplexityEqualsTheReferenceOnWikiText) {
  if (shared_folder().empty()) GTEST_SKIP() << "needs shared/data beside the project";
  const std::string text = (shared_folder() / "data" / "wikitext2-test.raw").string();
  for (const std::string& model : {llama_, opt_}) {
    const nlohmann::json reference = nlohmann::json::parse(read_file(model + "/reference.json"));
    for (const auto& expected : reference["files"][0]["results"]) {
      // All 733 windows are a matter of minutes under sanitizers; the first 64 tell as much about the code.
      if (expected["windows"] != 64) continue;
      const nlohmann::json result =
          run("eval " + model + " --text " + text + " --json --precision fp32 --protocol gptq --window " +
              expected["window"].dump() + " --windows 64")
              .json();
      EXPECT_EQ(result["tokens"], expected["tokens_scored"]);
      EXPECT_NEAR(result["perplexity"].get<double>() / expected["perplexity"].get<double>(), 1, 1e-3);
    }
  }
}

}  // namespace
}  // namespace knapsaq
