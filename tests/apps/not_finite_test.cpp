// A model with a finite weight of 3e38, whose products are not: every verb that measures fails and says
// where.

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "apps/command_fixture.h"
#include "huge_weight.h"

namespace knapsaq {
namespace {

class NotFiniteCommand : public CommandTest {
 protected:
  /// The embedded model with `tensor` so large.
  std::string broken(const std::string& tensor) {
    const std::string folder = scratch("broken");
    std::filesystem::remove_all(folder);
    copy_with_huge_weight(llama_, folder, tensor);
    return folder;
  }
  const std::string windows_ = " --text " + text_ + " --window 64 --windows 3";
};

TEST_F(NotFiniteCommand, WhatMeasuresFailsAndNamesTheLayer) {
  const std::string model = broken("model.layers.5.mlp.down_proj.weight");
  const std::string layer = "model.layers.5.mlp.down_proj in block 5";
  for (const char* protocol : {"gptq", "stride", "llama"})
    for (const char* more : {"", " --json", " --precision fp32"})
      expect_refused("eval " + model + windows_ + " --protocol " + protocol + more, 1, layer);
  const std::string tasks = " --tasks piqa,boolq --data " KNAPSAQ_TEST_DATA "/eval/tasks --limit 3";
  expect_refused("eval " + model + tasks, 1, layer);
  expect_refused("eval " + model + tasks + " --json --items " + scratch("samples.jsonl"), 1, layer);
  EXPECT_FALSE(std::filesystem::exists(scratch("samples.jsonl")));
  for (const char* more : {"", " --temperature 1", " --activations fp32", " --cache int8", " --json"})
    expect_refused("generate " + model + " --prompt Hi --max-tokens 5" + more, 1, layer);
  expect_refused("bench " + model + " --prompt 8 --generate 2 --repeats 1", 1, layer);
  expect_refused("calibrate " + model + " --text " + text_ + " --samples 2 --window 64 -o " + scratch("c"), 1,
                 layer);
  const std::string compare =
      run("compare " + model + windows_ + " --methods rtn --configurations b4g64").err;
  EXPECT_THAT(compare, testing::HasSubstr(layer));
}

TEST_F(NotFiniteCommand, AFullModelThatIsBrokenShipsNothing) {
  const std::string model = broken("model.layers.2.input_layernorm.weight");
  const std::string fit = "fit " + model +
                          " --bits 6 --menu b4g64,b8g64 --method rtn --samples 4 --window 32 --tokens 64 "
                          "--heldout 64 -o " +
                          scratch("out");
  // Text that the model samples itself, and text from a file: there it is the reference that is wrong.
  for (const std::string& text : {std::string(), " --text " + text_}) {
    expect_refused(fit + text + " --run " + scratch(text.empty() ? "run" : "run-text"), 1,
                   "the norm before attention in block 2");
    EXPECT_FALSE(std::filesystem::exists(scratch("out")));
  }
}

/// The last norm is before the head: nothing but the head's input is broken.
TEST_F(NotFiniteCommand, TheEndOfTheModelIsNamedToo) {
  const std::string model = broken("model.norm.weight");
  expect_refused("eval " + model + windows_, 1, "the norm before the output head");
  expect_refused("generate " + model + " --prompt Hi --max-tokens 5", 1, "the norm before the output head");
}

}  // namespace
}  // namespace knapsaq
