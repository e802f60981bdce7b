#include "knapsaq/export/rewrite_quantized.h"

#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "export/made_model.h"
#include "knapsaq/base/error.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

class RewriteQuantized : public ::testing::Test {
 protected:
  RewriteQuantized() {
    write_made_model(scratch_ / "q", made_config(),
                     {{.bits = 4}, {.bits = 3, .zeros = MadeLinear::real}, {.bits = 2, .meta_group = 4}},
                     {.bits = 8});
    // The writer's own order of tensors.
    rewrite_quantized(Checkpoint::open(scratch_ / "q"), config_of(scratch_ / "q"), {}, scratch_ / "own",
                      false);
  }
  static ModelConfig config_of(const fs::path& folder) {
    return parse_model_config(Checkpoint::open(folder).config());
  }
  std::string file(const std::string& name) const { return read_file(scratch_ / name); }

  Scratch scratch_;
};

TEST_F(RewriteQuantized, IsACopyWithoutReplacements) {
  const Checkpoint own = Checkpoint::open(scratch_ / "own");
  const std::uint64_t bytes =
      rewrite_quantized(own, config_of(scratch_ / "own"), {}, scratch_ / "copy", false);
  EXPECT_EQ(bytes, fs::file_size(scratch_ / "copy/model.safetensors"));
  for (const char* name : {"model.safetensors", "config.json", "tokenizer.json"})
    EXPECT_EQ(file("own/" + std::string(name)), file("copy/" + std::string(name))) << name;
  const Checkpoint made = Checkpoint::open(scratch_ / "q");
  for (const std::string& name : made.names()) {
    const auto before = made.tensor(name).bytes;
    const auto after = own.tensor(name).bytes;
    EXPECT_TRUE(std::ranges::equal(before, after)) << name;
  }
}

TEST_F(RewriteQuantized, WritesReplacements) {
  const Checkpoint own = Checkpoint::open(scratch_ / "own");
  const std::string name = "model.layers.0.self_attn.q_proj";
  auto matrix = std::get<PackedMatrix>(own.stored(name));
  for (std::uint16_t& scale : matrix.scales) scale = float_to_half(2 * half_to_float(scale));
  const StoredMatrix stored = matrix;
  Replacements other;
  other.matrices.emplace(name, &stored);
  const std::string norm = "model.norm.weight";
  other.vectors.emplace(norm, std::vector<float>(64, 1.5f));
  rewrite_quantized(own, config_of(scratch_ / "own"), other, scratch_ / "other", false);
  EXPECT_EQ(fs::file_size(scratch_ / "other/model.safetensors"),
            fs::file_size(scratch_ / "own/model.safetensors"));
  const Checkpoint read = Checkpoint::open(scratch_ / "other");
  for (const std::string& tensor : own.names()) {
    const bool replaced = tensor == name + ".scales" || tensor == norm;
    EXPECT_NE(std::ranges::equal(own.tensor(tensor).bytes, read.tensor(tensor).bytes), replaced) << tensor;
  }
  EXPECT_EQ(std::get<PackedMatrix>(read.stored(name)).scales, matrix.scales);
  EXPECT_EQ(read.floats(norm), std::vector<float>(64, 1.5f));
}

TEST_F(RewriteQuantized, RefusesWhatDoesNotFit) {
  const Checkpoint own = Checkpoint::open(scratch_ / "own");
  const ModelConfig config = config_of(scratch_ / "own");
  const auto refused = [&](const Replacements& other) {
    EXPECT_THROW(rewrite_quantized(own, config, other, scratch_ / "refused", false), std::invalid_argument);
    EXPECT_FALSE(fs::exists(scratch_ / "refused"));
  };
  const StoredMatrix other_form = made_matrix(64, 64, {.bits = 8});
  Replacements form;
  form.matrices.emplace("model.layers.0.self_attn.q_proj", &other_form);
  refused(form);
  Replacements unknown;
  unknown.vectors.emplace("model.nothing.weight", std::vector<float>(64));
  refused(unknown);
  Replacements short_vector;
  short_vector.vectors.emplace("model.norm.weight", std::vector<float>(63));
  refused(short_vector);
  EXPECT_THROW(rewrite_quantized(own, config, {}, scratch_ / "q", false), UsageError);
}

}  // namespace
}  // namespace knapsaq
