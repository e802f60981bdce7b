// Models whose finite weights make numbers that are not: what a pass is asked for has no value, and the layer
// that is the first to have none is named.

#include <algorithm>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "huge_weight.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/model/generator.h"
#include "knapsaq/model/kv_cache.h"
#include "scratch.h"
#include "test_models.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr float kHuge = 3e38f;  // finite, in bf16 too

/// A model of which single linears are exchanged.
struct Model {
  Model(const fs::path& folder, Precision precision, Packed packed = Packed::off)
      : checkpoint(Checkpoint::open(folder)),
        config(parse_model_config(checkpoint.config())),
        backend(make_backend({.precision = precision, .packed = packed})),
        decoder(Decoder::load(checkpoint, config, *backend)) {
    for (std::int32_t i = 0; i < 12; ++i)
      tokens.push_back((7 * i + 3) % static_cast<std::int32_t>(config.vocab));
  }

  void replace(const Matrix& linear, const std::vector<float>& values) {
    decoder.replace(linear.name,
                    TensorView{DType::F32, {linear.out, linear.in}, std::as_bytes(std::span(values))});
  }
  void scale(const Matrix& linear, float factor) {
    std::vector<float> values = checkpoint.floats(linear.name + ".weight");
    for (float& value : values) value *= factor;
    replace(linear, values);
  }
  /// Its output overflows, to both sides: a ReLU makes 0 of all that is below.
  void overflow(const Matrix& linear) {
    std::vector<float> values;
    for (std::int64_t i = 0; i < linear.parameters(); ++i)
      values.push_back(i / linear.in % 2 == 0 ? kHuge : -kHuge);
    replace(linear, values);
  }

  /// Every way to ask the model something.
  std::vector<std::string> complaints() {
    std::vector<std::string> all;
    const auto length = static_cast<std::int64_t>(tokens.size());
    const auto hear = [&](auto&& ask) {
      try {
        ask();
        all.emplace_back("nothing");
      } catch (const NotFiniteError& error) {
        all.emplace_back(error.what());
      }
    };
    std::vector<float> losses(tokens.size() - 1);
    hear([&] { decoder.losses(tokens, 1, length, losses); });
    hear([&] { decoder.require_finite(tokens, 1, length); });
    hear([&] { static_cast<void>(decoder.logits(tokens, length - 2)); });
    hear([&] {
      KeyValueCache cache(config, *backend, 1, length + 4);
      try {
        static_cast<void>(decoder.next(tokens, cache));
      } catch (const NotFiniteError&) {
        EXPECT_EQ(cache.length(), 0) << "the cache is as it was";
        throw;
      }
    });
    hear([&] {
      const std::vector<Segment> segments = {{.length = length - 4, .parent = -1},
                                             {.length = 4, .parent = 0}};
      std::vector<std::int32_t> targets(tokens.size(), -1);
      targets.back() = 1;
      targets[tokens.size() - 3] = 2;
      std::vector<float> out(tokens.size());
      decoder.segment_losses(tokens, segments, targets, out);
    });
    return all;
  }

  Checkpoint checkpoint;
  ModelConfig config;
  std::unique_ptr<Backend> backend;
  Decoder decoder;
  std::vector<std::int32_t> tokens;
};

bool ends_with(const Matrix& linear, std::initializer_list<const char*> endings) {
  return std::ranges::any_of(endings, [&](const char* ending) { return linear.name.ends_with(ending); });
}

class NotFinite : public ::testing::TestWithParam<std::tuple<const char*, Precision>> {};

TEST_P(NotFinite, TheFirstLayerIsNamed) {
  const auto [name, precision] = GetParam();
  const fs::path folder = tiny_model(name);
  const std::vector<Matrix> all = linears(parse_model_config(Checkpoint::open(folder).config()));
  for (const Matrix& linear : all) {
    Model model(folder, precision);
    // What these two multiply is small in a random model.
    for (const Matrix& other : all)
      if (other.block == linear.block &&
          ((ends_with(linear, {"o_proj", "out_proj"}) && ends_with(other, {"v_proj"})) ||
           (ends_with(linear, {"down_proj", "fc2"}) && ends_with(other, {"up_proj", "fc1"}))))
        model.scale(other, 1e6f);
    EXPECT_THAT(model.complaints(), ::testing::Each("nothing")) << "before " << linear.name;
    model.overflow(linear);
    for (const std::string& complaint : model.complaints())
      EXPECT_THAT(complaint, AllOf(HasSubstr(linear.name + " in block " + std::to_string(linear.block)),
                                   HasSubstr(folder.string())));
    // It is no state: a sound weight makes a sound model.
    model.scale(linear, 1);
    EXPECT_THAT(model.complaints(), ::testing::Each("nothing")) << "after " << linear.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, NotFinite,
                         ::testing::Combine(::testing::Values("llama-gqa", "qwen3", "opt", "opt-350m"),
                                            ::testing::Values(Precision::fp32, Precision::bf16)),
                         [](const auto& test) {
                           std::string name = std::get<0>(test.param);
                           std::ranges::replace(name, '-', '_');
                           return name + (std::get<1>(test.param) == Precision::fp32 ? "_fp32" : "_bf16");
                         });

/// What is finite in the residual stream may be too large for the norm that follows: its squares overflow,
/// and what is left of them must not pass for a result.
TEST(NotFiniteNorm, SquaresThatOverflowAreNamed) {
  for (const auto& [tensor, layer] :
       {std::pair{"model.layers.1.mlp.down_proj.weight", "the norm before the output head"},
        std::pair{"model.layers.0.mlp.down_proj.weight", "the norm before attention in block 1"},
        std::pair{"model.layers.1.self_attn.o_proj.weight", "the norm before the MLP in block 1"}}) {
    const Scratch scratch;
    copy_with_huge_weight(tiny_model("llama-gqa"), scratch / "model", tensor, 1e30f);
    for (const Precision precision : {Precision::fp32, Precision::bf16}) {
      Model model(scratch / "model", precision);
      EXPECT_THAT(model.complaints(), ::testing::Each(HasSubstr(layer)));
    }
  }
}

TEST(NotFiniteHead, IsNamed) {
  const Scratch scratch;
  const fs::path folder = scratch / "model";
  copy_with_huge_weight(tiny_model("llama-gqa"), folder, "lm_head.weight");
  Model model(folder, Precision::fp32);
  EXPECT_THAT(model.complaints(), ::testing::Each(HasSubstr("the output head")));
}

/// A linear that stays packed, with inputs in int8, does not hide what came before it.
TEST(NotFinitePacked, IsNamedAsWell) {
  const fs::path folder = tiny_model("llama-gqa");
  const std::vector<Matrix> all = linears(parse_model_config(Checkpoint::open(folder).config()));
  for (const Packed packed : {Packed::exact, Packed::int8})
    for (const Matrix& linear : all) {
      if (!ends_with(linear, {"gate_proj", "up_proj", "v_proj", "q_proj"})) continue;
      Model model(folder, Precision::fp32, packed);
      model.overflow(linear);
      for (const std::string& complaint : model.complaints()) EXPECT_THAT(complaint, HasSubstr(linear.name));
    }
}

TEST(NotFiniteGeneration, IsAnErrorAndNotAnEmptyText) {
  Model model(tiny_model("llama-gqa"), Precision::bf16);
  model.overflow(linears(model.config).front());
  for (const double temperature : {0.0, 1.0}) {
    Generator generator(model.decoder, 32, CacheElement::half);
    GenerationOptions options;
    options.max_tokens = 4;
    options.sampler.temperature = temperature;
    EXPECT_THROW(generator.generate(model.tokens, options, {}), NotFiniteError);
  }
}

}  // namespace
}  // namespace knapsaq
