// `knapsaq compare FILES --reference MODEL`, `eval --reference` and recipes as a user meets them.

#include <cmath>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "apps/command_fixture.h"
#include "huge_weight.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

class CompareFiles : public InterventionTest {
 protected:
  void SetUp() override {
    must("quantize " + llama_ + " -o " + scratch("four") + " --scheme q4_k");
    must("export " + scratch("four") + " --format gguf -o " + scratch("four.gguf"));
    must("quantize " + llama_ + " -o " + scratch("two") + " --scheme rtn:b2g64");
    must("export " + llama_ + " --format gguf -o " + scratch("full.gguf"));
  }
  const std::string how_ = " --text " + text_ + " --window 64 --windows 6 --precision fp32";
  std::string compare(const std::string& files, const std::string& more = {}) {
    return filled("compare " + files + " --reference " + llama_ + how_ + more);
  }
};

TEST_F(CompareFiles, FilesOfAnyKindOnOneText) {
  const json found =
      must(compare("{four} {two} {full.gguf} {four.gguf}", " --json -o {r.csv} --page {p.html}")).json();
  ASSERT_EQ(found["files"].size(), 4u);
  std::vector<std::string> names;
  for (const json& one : found["files"]) names.push_back(one["name"]);
  EXPECT_EQ(names.front(), "two");
  EXPECT_EQ(names.back(), "full.gguf");
  EXPECT_EQ(found["tokens"], 6 * 63);
  for (const json& one : found["files"]) {
    const fs::path path = one["file"].get<std::string>();
    const fs::path weights = fs::is_directory(path) ? path / "model.safetensors" : path;
    EXPECT_EQ(one["bytes"], fs::file_size(weights)) << path;
    EXPECT_GE(one["kl"]["largest"], one["kl"]["quantile_99_9"]);
    EXPECT_GE(one["kl"]["quantile_99_9"], one["kl"]["quantile_99"]);
    EXPECT_GE(one["kl"]["quantile_99"], one["kl"]["median"]);
    // The same as of one file alone.
    const json alone =
        must(filled("eval " + path.string() + " --reference " + llama_ + how_ + " --json")).json();
    EXPECT_EQ(alone["reference"]["kl"], one["kl"]) << path;
    EXPECT_EQ(alone["perplexity"], one["perplexity"]);
    EXPECT_EQ(alone["reference"]["flips"], one["flips"]);
    EXPECT_EQ(alone["reference"]["perplexity"], found["reference_perplexity"]);
    const json without = must(filled("eval " + path.string() + how_ + " --json")).json();
    EXPECT_NEAR(without["perplexity"].get<double>(), one["perplexity"].get<double>(), 1e-3);
  }
  const json& files = found["files"];
  EXPECT_GT(files[0]["kl"]["mean"], 0.1);
  EXPECT_EQ(files[3]["kl"]["mean"], 0);  // the model itself
  EXPECT_EQ(files[3]["flips"], 0);
  EXPECT_TRUE(files[0]["rival"].is_null());  // nothing is as small
  // A GGUF file and the folder that it was made of compute the same; in differences of pairs nothing is left.
  const std::size_t gguf = names[1] == "four.gguf" ? 1 : 2;
  EXPECT_EQ(files[1]["kl"], files[2]["kl"]);
  EXPECT_EQ(found["differences"][1][2]["mean"], 0);
  EXPECT_EQ(found["differences"][1][2]["standard_error"], 0);
  EXPECT_NEAR(found["differences"][0][gguf]["mean"].get<double>(),
              files[0]["kl"]["mean"].get<double>() - files[gguf]["kl"]["mean"].get<double>(), 1e-6);
  EXPECT_THAT(read_file(scratch_ / "r.csv"), HasSubstr("run,file,bytes"));
  EXPECT_THAT(read_file(scratch_ / "p.html"), HasSubstr("comparison of files"));
  // Once more, with a file less: only what is asked for is in the CSV, and nothing is measured again.
  const json again = must(compare("{two} {four.gguf}", " --json -o {r.csv}")).json();
  EXPECT_EQ(again["files"][1]["kl"], files[gguf]["kl"]);
  EXPECT_EQ(again["reference_perplexity"], found["reference_perplexity"]);
}

TEST_F(CompareFiles, KilledItGoesOnAndEndsWithTheSameRows) {
  const auto line = [&](const std::string& csv) {
    return compare("{four.gguf} {two} {four}", " -o {" + csv + "} --page {" + csv + ".html}");
  };
  const std::size_t calls = count_calls(calls_of(line("whole.csv")), kWriting);
  const std::string whole = read_file(scratch_ / "whole.csv");
  EXPECT_GT(kill_until_done(line("killed.csv"), calls / 8 + 1), 2);
  EXPECT_EQ(read_file(scratch_ / "killed.csv"), whole);
  EXPECT_EQ(read_file(scratch_ / "killed.csv.html"), read_file(scratch_ / "whole.csv.html"));
}

/// Any model of the same vocabulary can be judged: here one of another family and half the width.
TEST_F(CompareFiles, AModelOfAnotherShapeIsJudgedTheSameWay) {
  const json found = must(filled("eval " + opt_ + " --reference " + llama_ + how_ + " --json")).json();
  EXPECT_GT(found["reference"]["kl"]["mean"], 0.3);
  EXPECT_LT(found["reference"]["flips"], 0.7);
}

TEST_F(CompareFiles, AFileThatComputesNothingFiniteHasLostAndTheOthersGoOn) {
  copy_with_huge_weight(llama_, scratch_ / "broken", "model.layers.5.mlp.down_proj.weight");
  const json found = must(compare("{broken} {two}", " --json -o {r.csv}")).json();
  EXPECT_TRUE(found["files"][1]["kl"]["mean"].is_null());
  EXPECT_GT(found["files"][0]["kl"]["mean"], 0.1);
  EXPECT_THAT(must(compare("{broken} {two}")).out, HasSubstr("model.layers.5.mlp.down_proj in block 5"));
  expect_refused(filled("eval {broken} --reference " + llama_ + how_), 1, "model.layers.5.mlp.down_proj");
}

TEST_F(CompareFiles, WhatCannotBeComparedIsSaidBeforeTheWork) {
  expect_refused(compare("{two} {two}/"), 2, "are the same model");
  expect_refused(compare("{two} {nothing}"), 1, "nothing");
  expect_refused(compare("{two}", " --protocol stride"), 2, "not stride");
  expect_refused(compare("{two}", " --methods rtn"), 2, "--methods is for one model that is quantized");
  expect_refused(filled("compare {two} {four} --text " + text_), 2, "--reference MODEL");
  expect_refused(filled("compare " + llama_ + " --text " + text_ + " --page {p.html}"), 2, "--page");
  expect_refused(filled("eval {two} --reference " + llama_), 2, "--text");
  expect_refused(compare("{two}", " -o {two}/r.csv"), 2, "lies in");
  expect_refused(compare("{two}", " --page {four.gguf}"), 2, "four.gguf");
  write_file(scratch_ / "theirs.csv", "a,b\n");
  expect_refused(compare("{two}", " -o {theirs.csv}"), 2, "theirs.csv");
  fs::create_directory(scratch_ / "new.csv.work");
  write_file(scratch_ / "new.csv.work/notes", "mine");
  expect_refused(compare("{two}", " -o {new.csv}"), 2, "notes");
  // The rows of another text stay.
  must(compare("{two}", " -o {r.csv}"));
  const std::string before = read_file(scratch_ / "r.csv");
  expect_refused(compare("{two}", " -o {r.csv} --protocol llama"), 1, "another reference, text, protocol");
  EXPECT_EQ(read_file(scratch_ / "r.csv"), before);
}

/// Another vocabulary of the same size: the ids mean something else.
TEST_F(CompareFiles, TokensOfTheSameNumberMayMeanSomethingElse) {
  fs::copy(llama_, scratch_ / "other");
  std::string text = read_file(scratch_ / "other/tokenizer.json");
  json tokenizer = json::parse(text);
  json& vocabulary = tokenizer["model"]["vocab"];
  // The pieces of two common words change places.
  std::string one, two;
  for (const auto& [piece, id] : vocabulary.items()) {
    if (piece.ends_with("the") && piece.size() > 3) one = piece;
    if (piece.ends_with("of") && piece.size() > 2) two = piece;
  }
  ASSERT_FALSE(one.empty() || two.empty());
  std::swap(vocabulary[one], vocabulary[two]);
  write_file(scratch_ / "other/tokenizer.json", tokenizer.dump());
  expect_refused(compare("{other}"), 1, "another vocabulary");
}

TEST_F(CompareFiles, ARecipeMakesTheSameTypesAgain) {
  must(filled("quantize " + llama_ + " -o {mixed} --menu gguf --bits 4"));
  const json said = must(filled("export {mixed} --recipe {types.txt} --json")).json();
  EXPECT_EQ(said["recipe"]["matrices"], 43);
  EXPECT_THAT(said["recipe"]["command"].get<std::string>(), HasSubstr("llama-quantize --tensor-type-file"));
  const std::string recipe = read_file(scratch_ / "types.txt");
  // Of the file, too.
  must(filled("export {mixed} --format gguf -o {mixed.gguf} --recipe {types2.txt}"));
  must(filled("export {mixed.gguf} --recipe {types3.txt}"));
  EXPECT_EQ(read_file(scratch_ / "types2.txt"), recipe);
  EXPECT_EQ(read_file(scratch_ / "types3.txt"), recipe);
  // And Knapsaq makes the same of it.
  must(filled("quantize " + llama_ + " -o {again} --allocation {types.txt}"));
  must(filled("export {again} --recipe {types4.txt}"));
  EXPECT_EQ(read_file(scratch_ / "types4.txt"), recipe);
  // By rules as people write them: the first that is found decides.
  write_file(scratch_ / "rules.txt",
             "blk\\.0\\.=q8_0 ATTN_V=Q6_K\nffn_(up|gate|down)\\.weight=q3_k token_embd=q8_0 weight=q4_k");
  must(filled("quantize " + llama_ + " -o {ruled} --allocation {rules.txt}"));
  must(filled("export {ruled} --recipe {types5.txt}"));
  const std::string ruled = read_file(scratch_ / "types5.txt");
  for (const char* line : {"^token_embd\\.weight$=q8_0", "^blk\\.0\\.attn_v\\.weight$=q8_0",
                           "^blk\\.1\\.attn_v\\.weight$=q6_k", "^blk\\.5\\.attn_q\\.weight$=q4_k",
                           "^blk\\.2\\.ffn_up\\.weight$=q3_k", "^blk\\.2\\.ffn_down\\.weight$=q4_0"})
    EXPECT_THAT(ruled, HasSubstr(line));
}

TEST_F(CompareFiles, RecipesThatCannotBeAreRefused) {
  must(filled("export {four} --recipe {types.txt}"));
  expect_refused(filled("export {four} --recipe {types.txt}"), 2, "types.txt");  // without --force
  must(filled("export {four} --recipe {types.txt} --force"));
  expect_refused(filled("export {full.gguf} --recipe {t2.txt}"), 2, "no recipe");
  expect_refused(filled("export {two} --recipe {t2.txt}"), 2, "--requantize");
  must(filled("export {two} --recipe {t2.txt} --requantize"));
  expect_refused(filled("export {four} --format mlx --recipe {t3.txt}"), 2, "--format gguf");
  expect_refused(filled("export {four} --format gguf"), 2, "nothing to write");
  expect_refused(filled("export {four} -o {t3}"), 2, "--format");
  expect_refused(filled("export {four} --recipe {four}/t.txt"), 2, "lies in");
  // For another model.
  const auto refused = [&](const std::string& text, const std::string& part) {
    write_file(scratch_ / "r.txt", text);
    expect_refused(filled("quantize " + llama_ + " -o {q} --allocation {r.txt}"), 1, part);
  };
  const std::string recipe = read_file(scratch_ / "types.txt");
  refused(recipe + "^blk\\.31\\.attn_q\\.weight$=q4_k", "recipe for another model");
  refused(recipe.substr(recipe.find("^blk\\.1\\.")), "no entry names blk.0.attn_q.weight");
  expect_refused(filled("quantize " + opt_ + " -o {q} --allocation {types.txt}"), 1,
                 "GGUF has no name for this one's model.decoder.");
  refused("attn_v=q6_k attn_q", "not an entry");
  refused("(=q4_k", "is not one that Knapsaq reads");
  refused("weight=f16", "dense");
}

}  // namespace
}  // namespace knapsaq
