// `knapsaq tune` as a user meets it, kills included.

#include <filesystem>
#include <string>

#include "apps/command_fixture.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/stored_layout.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

class TuneCommand : public InterventionTest {
 protected:
  std::string tune(const std::string& from, const std::string& to, const std::string& options = "") const {
    return "tune " + scratch(from) + " --model " + opt_ + " -o " + scratch(to) + " --text " + text_ +
           " --steps 4 --batch 2 --window 64 --heldout 512 " + options;
  }
  void quantize(const std::string& to, const std::string& scheme) {
    must("quantize " + opt_ + " -o " + scratch(to) + " --scheme " + scheme);
  }
  std::uintmax_t bytes(const std::string& folder) const {
    return fs::file_size(scratch(folder + "/model.safetensors"));
  }
};

TEST_F(TuneCommand, WritesABetterModelOfTheSameBytes) {
  quantize("q", "rtn:b3g64");
  const nlohmann::json said = must(tune("q", "t", "--json --foreign " + text_)).json();
  EXPECT_LT(said["heldout"]["after"]["kl"], said["heldout"]["before"]["kl"]);
  EXPECT_EQ(said["bytes"], bytes("q"));
  EXPECT_EQ(bytes("t"), bytes("q"));
  EXPECT_FALSE(fs::exists(scratch("t.tuning")));
  const auto schemes = [&](const std::string& folder) {
    return must("info --json " + scratch(folder)).json()["linears"];
  };
  EXPECT_EQ(schemes("t"), schemes("q"));
  // Tuned once more: the norms are those of the folder, not of the model.
  const nlohmann::json again = must(tune("t", "u", "--json --foreign " + text_)).json();
  EXPECT_EQ(again["foreign"]["before"]["kl"], said["foreign"]["after"]["kl"]);
}

TEST_F(TuneCommand, GoesOnAfterKillsWithTheSameBytes) {
  quantize("q", "q4_0");
  must(tune("q", "whole", "--threads 1"));
  EXPECT_GT(kill_until_done(tune("q", "killed", "--threads 2"), 9), 1);
  for (const char* name : {"model.safetensors", "config.json"})
    EXPECT_EQ(read_file(scratch("whole/" + std::string(name))),
              read_file(scratch("killed/" + std::string(name))));
  EXPECT_FALSE(fs::exists(scratch("killed.tuning")));
}

// The tuned numbers, and none besides, arrive in the formats of engines.
TEST_F(TuneCommand, ExportsAreExact) {
  const std::string samples = " --samples 2 --window 64 --text " + text_;
  must("quantize " + llama_ + " -o " + scratch("k") + " --scheme q4_k" + samples);
  must("quantize " + llama_ + " -o " + scratch("z") + " --scheme rtn:b4g64z" + samples);
  for (const auto& [from, format] : {std::pair{"k", "gguf"}, {"z", "gptq"}, {"z", "mlx"}}) {
    const std::string tuned = std::string(from) + "-tuned";
    if (!fs::exists(scratch(tuned)))
      must("tune " + scratch(from) + " --model " + llama_ + " -o " + scratch(tuned) + " --text " + text_ +
           " --steps 2 --batch 2 --window 64 --heldout 256");
    const std::string exported = scratch(tuned + "-" + format);
    const nlohmann::json said =
        must("export " + scratch(tuned) + " --format " + format + " -o " + exported + " --json").json();
    EXPECT_TRUE(said["changes"].empty());
    const auto score = [&](const std::string& model) {
      return must("eval " + model + " --text " + text_ + " --window 64 --windows 4 --precision fp32 --json")
          .json()["nll"];
    };
    if (std::string(format) == "gguf") {
      EXPECT_EQ(score(exported), score(scratch(tuned)));
    }
    if (std::string(format) != "mlx") continue;
    // An MLX folder has our tensors.
    const Checkpoint before = Checkpoint::open(scratch(from));
    const Checkpoint own = Checkpoint::open(scratch(tuned));
    const Checkpoint theirs = Checkpoint::open(exported);
    const std::string module = "model.layers.1.mlp.up_proj";
    const auto scales = [&](const Checkpoint& model) { return model.floats(module + ".scales"); };
    EXPECT_EQ(scales(own), scales(theirs));
    EXPECT_NE(scales(own), scales(before));
  }
}

TEST_F(TuneCommand, RefusesWhatCannotBeTuned) {
  quantize("q", "rtn:b4g64");
  expect_refused("tune " + opt_ + " --model " + opt_ + " -o " + scratch("t"), 2, "nothing to tune");
  expect_refused("tune " + scratch("q") + " --model " + llama_ + " -o " + scratch("t"), 2,
                 "give the model that it was quantized from");
  expect_refused(tune("q", "q", "--force"), 2, "is the quantized model");
  expect_refused(
      "tune " + scratch("q") + " --model " + opt_ + " -o " + scratch("t") + " --text self " + text_, 2,
      "does not mix");
  fs::create_directory(scratch("t.tuning"));
  write_file(scratch("t.tuning/notes.txt"), "mine");
  expect_refused(tune("q", "t"), 2, "is not of a tuning");
  EXPECT_FALSE(fs::exists(scratch("t")));
}

}  // namespace
}  // namespace knapsaq
