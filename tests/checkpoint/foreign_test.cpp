// Models that other tools quantized, against what the tools' own readers make of them
// (tools/make_foreign_references.py), and what is wrong with damaged ones.

#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/files.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/fingerprint.h"
#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/checkpoint/shards.h"
#include "message_of.h"
#include "reference_values.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

fs::path data(std::string_view name) { return checkpoint_data("foreign") / name; }

struct Case {
  const char* folder;
  const char* format;
};

void PrintTo(const Case& one, std::ostream* out) { *out << one.folder; }

class Foreign : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(
    Checkpoint, Foreign,
    testing::Values(
        Case{"fp8_blocks", "FP8 (E4M3), scales of blocks of 16 x 32"}, Case{"fp8_rows", "scales of rows"},
        Case{"fp8_tensors", "scales of whole tensors"}, Case{"mxfp4", "MXFP4, 4 bits in groups of 32"},
        Case{"compressed_pack", "compressed-tensors, integers of 2 to 8 bits"},
        Case{"compressed_int", "integers of 8 bits"}, Case{"compressed_ordered", "integers of 4 bits"},
        Case{"compressed_float", "FP8 with scales of blocks of 1 x 32 and FP8"},
        Case{"compressed_fp4", "MXFP4 and NVFP4"}, Case{"gptq_v1", "GPTQ, 2 to 8 bits in groups of 32"},
        Case{"gptq_v2", "GPTQ, 2 to 8 bits in groups of 32, version 2"}, Case{"gptq_rows", "GPTQ, 4 bits"},
        Case{"auto_round", "AutoRound, 4 bits in groups of 32"}, Case{"awq", "AWQ, 4 bits in groups of 32"}),
    [](const auto& one) { return std::string(one.param.folder); });

TEST_P(Foreign, IsReadAsItsOwnReaderDoes) {
  const Checkpoint checkpoint = Checkpoint::open(data(GetParam().folder));
  ASSERT_NE(checkpoint.foreign(), nullptr);
  EXPECT_THAT(checkpoint.foreign()->format, HasSubstr(GetParam().format));
  EXPECT_GT(checkpoint.foreign()->bits, 2);
  EXPECT_LT(checkpoint.foreign()->bits, 10);
  EXPECT_THAT(checkpoint.notes(), ElementsAre(HasSubstr("quantized already (")));
  EXPECT_FALSE(checkpoint.config().contains("quantization_config"));
  EXPECT_EQ(checkpoint.config().at("model_type"), "llama");

  const SafetensorsFile expected(data(GetParam().folder) / "expected.safetensors");
  std::uint64_t bytes = 16;
  for (const auto& [name, tensor] : expected.tensors()) {
    SCOPED_TRACE(name);
    const TensorSpec spec = checkpoint.spec(name);
    EXPECT_EQ(name_of(spec.type), name_of(tensor.type));
    EXPECT_EQ(spec.shape, tensor.shape);
    bytes += spec.bytes();
    const TensorView read = checkpoint.tensor(name);
    ASSERT_EQ(read.bytes.size(), tensor.bytes.size());
    const std::vector<float> ours = read_floats(read);
    const std::vector<float> theirs = read_floats(tensor);
    for (std::size_t i = 0; i < ours.size(); ++i)
      ASSERT_TRUE(ours[i] == theirs[i] && std::signbit(ours[i]) == std::signbit(theirs[i]))
          << "element " << i << ": " << ours[i] << ", not " << theirs[i];
    checkpoint.release(name);
    EXPECT_EQ(read_floats(checkpoint.tensor(name)), theirs);
  }
  // The rest are carried: the norm, and the biases of the experts.
  for (const std::string& name : checkpoint.names()) {
    if (expected.tensors().contains(name)) continue;
    EXPECT_TRUE(name == "model.norm.weight" || name.ends_with("_bias")) << name;
    if (name.ends_with("_bias")) bytes += checkpoint.spec(name).bytes();
  }
  EXPECT_EQ(checkpoint.tensor_bytes(), bytes);
  EXPECT_EQ(checkpoint.file_bytes(), fs::file_size(data(GetParam().folder) / "model.safetensors"));
}

/// A folder with these files' content.
struct Folder {
  json config;
  std::map<std::string, std::pair<TensorSpec, std::vector<std::byte>>> tensors;

  explicit Folder(std::string_view name) {
    config = json::parse(read_file(data(name) / "config.json"));
    const SafetensorsFile file(data(name) / "model.safetensors");
    for (const auto& [tensor, view] : file.tensors())
      tensors[tensor] = {{tensor, view.type, view.shape}, {view.bytes.begin(), view.bytes.end()}};
  }

  void write(const fs::path& to) const {
    std::vector<TensorSpec> specs;
    for (const auto& [name, tensor] : tensors) specs.push_back(tensor.first);
    CheckpointWriter writer(to, specs);
    for (const auto& [name, tensor] : tensors) writer.write(tensor.second);
    writer.commit();
    write_file(to / "config.json", config.dump());
  }

  std::string complaint() const {
    const Scratch scratch;
    write(scratch.path());
    return message_of([&] { Checkpoint::open(scratch.path()); });
  }
};

/// Without any one of its parts, a weight cannot be read, except where the part has a default.
TEST_P(Foreign, MissingPartsAreNamed) {
  const Folder whole(GetParam().folder);
  for (const auto& [name, tensor] : whole.tensors) {
    const bool optional = name.ends_with("norm.weight") || name.ends_with("_bias") ||
                          name.ends_with("g_idx") || name.ends_with("zero_point") ||
                          name.ends_with("input_scale") || name.ends_with("k_scale");
    // What is left of weights without codes is no sign of a weight in every format.
    const bool codes = name.ends_with(".weight") || name.ends_with("proj") || name.ends_with(".qweight");
    if (optional || codes) continue;
    Folder folder = whole;
    folder.tensors.erase(name);
    EXPECT_THAT(folder.complaint(), testing::AnyOf(HasSubstr("is there without"), HasSubstr("scales"),
                                                   HasSubstr("that it could scale")))
        << name;
  }
}

TEST_P(Foreign, PartsThatDoNotFitAreRefused) {
  const Folder whole(GetParam().folder);
  for (const auto& [name, tensor] : whole.tensors) {
    if (tensor.first.shape.size() < 2 || name.ends_with("_bias")) continue;
    for (std::size_t dimension = 0; dimension < tensor.first.shape.size(); ++dimension) {
      Folder folder = whole;
      auto& [spec, bytes] = folder.tensors[name];
      spec.shape[dimension] *= 7;
      bytes.resize(bytes.size() * 7);
      const Scratch scratch;
      folder.write(scratch.path());
      // Blocks may follow from the shapes alone, so that some other shapes are as good.
      try {
        const Checkpoint checkpoint = Checkpoint::open(scratch.path());
        for (const std::string& read : checkpoint.names())
          EXPECT_EQ(checkpoint.tensor(read).bytes.size(), checkpoint.spec(read).bytes());
        EXPECT_THAT(checkpoint.foreign()->format,
                    testing::AnyOf(HasSubstr("FP8"), HasSubstr("integers of"), testing::Eq("GPTQ, 4 bits")))
            << name << " " << dimension;
      } catch (const InputError& error) {
        EXPECT_THAT(error.what(), AllOf(HasSubstr(scratch.path().string()), Not(HasSubstr("\n"))));
      }
    }
  }
}

TEST_P(Foreign, TheFingerprintDependsOnWhatIsStored) {
  const Scratch scratch;
  Folder folder(GetParam().folder);
  folder.write(scratch.path());
  const std::string before = fingerprint(Checkpoint::open(scratch.path()));
  EXPECT_EQ(before, fingerprint(Checkpoint::open(data(GetParam().folder))));
  folder.config["quantization_config"]["note"] = 1;
  folder.write(scratch.path());
  EXPECT_NE(fingerprint(Checkpoint::open(scratch.path())), before);
  folder = Folder(GetParam().folder);
  for (auto& [name, tensor] : folder.tensors) {
    if (name.ends_with("norm.weight")) continue;
    tensor.second[0] ^= std::byte{1};
    break;
  }
  folder.write(scratch.path());
  EXPECT_NE(fingerprint(Checkpoint::open(scratch.path())), before);
}

TEST_P(Foreign, AnyThreadMayAsk) {
  const Checkpoint checkpoint = Checkpoint::open(data(GetParam().folder));
  const std::vector<std::string> names = checkpoint.names();
  parallel_for(8 * names.size(), [&](std::size_t i) {
    const std::string& name = names[i % names.size()];
    EXPECT_EQ(checkpoint.tensor(name).bytes.size(), checkpoint.spec(name).bytes());
  });
}

TEST(ForeignFolder, WithoutScalesIsNoModel) {
  Folder folder("fp8_rows");
  folder.tensors.erase("model.layers.0.self_attn.q_proj.weight_scale");
  EXPECT_THAT(folder.complaint(), AllOf(HasSubstr("'model.layers.0.self_attn.q_proj.weight' is FP8"),
                                        HasSubstr("its scales are missing")));
  folder.config.erase("quantization_config");
  EXPECT_THAT(folder.complaint(), HasSubstr("its scales are missing"));
}

TEST(ForeignFolder, Fp8IsRecognisedWithoutADescription) {
  const Scratch scratch;
  Folder folder("fp8_rows");
  folder.config.erase("quantization_config");
  folder.write(scratch.path());
  EXPECT_THAT(Checkpoint::open(scratch.path()).foreign()->format, HasSubstr("FP8"));
}

/// The last row and column of blocks may be short: 128 x 128 over 130 x 200.
TEST(ForeignFolder, LastBlocksMayBeShort) {
  const Scratch scratch;
  std::mt19937 random(3);
  std::vector<std::byte> codes(130 * 200);
  for (std::byte& code : codes) code = static_cast<std::byte>(random() % 127);
  const std::vector<float> scales{1, 2, 4, 8};
  const std::vector<TensorSpec> specs{{"a.weight", DType::F8_E4M3, {130, 200}},
                                      {"a.weight_scale_inv", DType::F32, {2, 2}}};
  CheckpointWriter writer(scratch.path(), specs);
  writer.write(codes);
  writer.write(std::as_bytes(std::span(scales)));
  writer.commit();
  write_file(scratch / "config.json", R"({"quantization_config":{"quant_method":"fp8"}})");
  const Checkpoint checkpoint = Checkpoint::open(scratch.path());
  const std::vector<float> weights = checkpoint.floats("a.weight");
  for (int row = 0; row < 130; ++row) {
    for (int column = 0; column < 200; ++column) {
      const auto at = static_cast<std::size_t>(row * 200 + column);
      const int code = std::to_integer<int>(codes[at]);
      const float value = code < 8 ? std::ldexp(static_cast<float>(code), -9)
                                   : std::ldexp(static_cast<float>(8 + code % 8), code / 8 - 10);
      ASSERT_EQ(weights[at], value * scales[static_cast<std::size_t>(row / 128 * 2 + column / 128)]);
    }
  }
}

/// gpt-oss' stacks come apart into experts, gates and ups from alternating rows.
TEST(ForeignFolder, Mxfp4StacksAreExperts) {
  constexpr std::int64_t kExperts = 2, kHidden = 64, kFfn = 32;
  const std::string mlp = "model.layers.0.mlp.experts.";
  const std::vector<TensorSpec> specs{
      {mlp + "gate_up_proj_blocks", DType::U8, {kExperts, 2 * kFfn, kHidden / 32, 16}},
      {mlp + "gate_up_proj_scales", DType::U8, {kExperts, 2 * kFfn, kHidden / 32}},
      {mlp + "down_proj_blocks", DType::U8, {kExperts, kHidden, kFfn / 32, 16}},
      {mlp + "down_proj_scales", DType::U8, {kExperts, kHidden, kFfn / 32}}};
  const Scratch scratch;
  std::mt19937 random(4);
  CheckpointWriter writer(scratch.path(), specs);
  std::vector<std::vector<std::byte>> parts;
  for (const TensorSpec& spec : specs) {
    std::vector<std::byte>& part = parts.emplace_back(spec.bytes());
    for (std::byte& byte : part)
      byte = static_cast<std::byte>(spec.name.ends_with("_scales") ? 120 + random() % 8 : random() % 256);
    writer.write(part);
  }
  writer.commit();
  const json config{{"model_type", "gpt_oss"},
                    {"architectures", {"GptOssForCausalLM"}},
                    {"hidden_size", kHidden},
                    {"intermediate_size", kFfn},
                    {"num_hidden_layers", 1},
                    {"num_attention_heads", 2},
                    {"num_key_value_heads", 1},
                    {"head_dim", 32},
                    {"vocab_size", 64},
                    {"num_local_experts", kExperts},
                    {"num_experts_per_tok", 1},
                    {"hidden_act", "silu"},
                    {"rms_norm_eps", 1e-5},
                    {"rope_theta", 1e4},
                    {"quantization_config", {{"quant_method", "mxfp4"}}}};
  write_file(scratch / "config.json", config.dump());
  const Checkpoint checkpoint = Checkpoint::open(scratch.path());
  const auto expected = [&](std::size_t stack, std::int64_t row, std::int64_t column, std::int64_t columns) {
    constexpr std::array<float, 8> kValues{0, .5f, 1, 1.5f, 2, 3, 4, 6};
    const auto at = static_cast<std::size_t>(row * columns + column);
    const int code = std::to_integer<int>(parts[stack][at / 2]) >> (at % 2 * 4) & 15;
    const int scale = std::to_integer<int>(parts[stack + 1][at / 32]);
    return std::ldexp(
        code < 8 ? kValues[static_cast<std::size_t>(code)] : -kValues[static_cast<std::size_t>(code - 8)],
        scale - 127);
  };
  for (std::int64_t e = 0; e < kExperts; ++e) {
    const std::string expert = mlp + std::to_string(e) + ".";
    for (const auto& [name, offset] : {std::pair{"gate_proj.weight", 0}, {"up_proj.weight", 1}}) {
      const std::vector<float> weights = checkpoint.floats(expert + name);
      ASSERT_EQ(weights.size(), static_cast<std::size_t>(kFfn * kHidden));
      for (std::int64_t i = 0; i < kFfn * kHidden; ++i)
        ASSERT_EQ(weights[static_cast<std::size_t>(i)],
                  expected(0, (e * kFfn + i / kHidden) * 2 + offset, i % kHidden, kHidden));
    }
    const std::vector<float> down = checkpoint.floats(expert + "down_proj.weight");
    ASSERT_EQ(down.size(), static_cast<std::size_t>(kFfn * kHidden));
    for (std::int64_t i = 0; i < kFfn * kHidden; ++i)
      ASSERT_EQ(down[static_cast<std::size_t>(i)], expected(2, e * kHidden + i / kFfn, i % kFfn, kFfn));
  }
}

TEST(ForeignFolder, DescriptionsOfOthersAreRefused) {
  const auto with = [](std::string_view folder, const std::function<void(json&)>& change) {
    Folder changed(folder);
    change(changed.config["quantization_config"]);
    return changed.complaint();
  };
  EXPECT_THAT(with("gptq_v1", [](json& q) { q["checkpoint_format"] = "marlin"; }), HasSubstr("'marlin'"));
  EXPECT_THAT(with("gptq_v1", [](json& q) { q.erase("dynamic"); }), HasSubstr("in any width"));
  EXPECT_THAT(with("awq", [](json& q) { q["version"] = "gemv"; }), HasSubstr("packing 'gemv'"));
  EXPECT_THAT(with("awq", [](json& q) { q["bits"] = 3; }), HasSubstr("with 3 bits"));
  EXPECT_THAT(with("fp8_blocks", [](json& q) { q["weight_block_size"] = {16}; }),
              HasSubstr("two whole numbers"));
  EXPECT_THAT(with("compressed_pack",
                   [](json& q) {
                     q["sparsity_config"] = {{"format", "sparse-24-bitmask"}};
                   }),
              HasSubstr("sparse"));
  EXPECT_THAT(with("compressed_pack",
                   [](json& q) {
                     q["transform_config"] = {{"config_groups", {{"a", 1}}}};
                   }),
              HasSubstr("rotations"));
  EXPECT_THAT(with("awq", [](json& q) { q["quant_method"] = "quark"; }),
              AllOf(HasSubstr("by 'quark'"), HasSubstr("FP8, MXFP4, compressed-tensors, GPTQ and AWQ")));
  EXPECT_THAT(with("awq", [](json& q) { q["quant_method"] = "fp8"; }), HasSubstr("no tensor is FP8"));
  EXPECT_THAT(with("awq", [](json& q) { q["quant_method"] = "mxfp4"; }), HasSubstr("ends in _blocks"));
  EXPECT_THAT(with("mxfp4", [](json& q) { q["quant_method"] = "gptq"; }), HasSubstr("ends in .qweight"));
  EXPECT_THAT(with("gptq_v1", [](json& q) { q = 3; }), HasSubstr("is not an object"));
  Folder groups("gptq_v2");
  const std::int32_t wrong = 2;
  std::memcpy(groups.tensors["model.layers.0.self_attn.q_proj.g_idx"].second.data() + 12, &wrong,
              sizeof wrong);
  EXPECT_THAT(groups.complaint(), HasSubstr("says group 2 for input 3, but there are 2 groups"));
}

/// What AutoGPTQ and AutoAWQ wrote before config.json told of it.
TEST(ForeignFolder, OlderFilesDescribeToo) {
  const Scratch scratch;
  Folder awq("awq");
  awq.config.erase("quantization_config");
  awq.write(scratch.path());
  write_file(scratch / "quant_config.json",
             R"({"zero_point": true, "q_group_size": 32, "w_bit": 4, "version": "GEMM"})");
  EXPECT_THAT(Checkpoint::open(scratch.path()).foreign()->format, HasSubstr("AWQ, 4 bits in groups of 32"));
  fs::remove(scratch / "quant_config.json");
  EXPECT_THAT(message_of([&] { Checkpoint::open(scratch.path()); }), HasSubstr("AWQ or GPTQ"));

  const Scratch other;
  Folder text("gptq_rows");
  text.config["text_config"] = {{"quantization_config", text.config["quantization_config"]}};
  text.config.erase("quantization_config");
  text.write(other.path());
  const Checkpoint part = Checkpoint::open(other.path());
  EXPECT_THAT(part.foreign()->format, HasSubstr("GPTQ"));
  EXPECT_FALSE(part.config()["text_config"].contains("quantization_config"));
}

}  // namespace
}  // namespace knapsaq
