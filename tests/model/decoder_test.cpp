#include "knapsaq/model/decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <ostream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/random.h"
#include "knapsaq/checkpoint/safetensors.h"
#include "loaded_model.h"
#include "model/families.h"
#include "scratch.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

/// What Transformers computed (tools/make_decoder_references.py).
struct Reference {
  explicit Reference(const fs::path& folder) {
    const auto json = nlohmann::json::parse(read_file(folder / "reference.json"));
    tokens = json.at("tokens").get<std::vector<std::int32_t>>();
    const std::string bytes = read_file(folder / "logits.f32");
    logits.resize(bytes.size() / sizeof(float));
    std::memcpy(logits.data(), bytes.data(), bytes.size());
    first = static_cast<std::int64_t>(tokens.size()) - json.at("positions").get<std::int64_t>();
  }
  std::vector<std::int32_t> tokens;
  std::int64_t first;         ///< position of the first logits
  std::vector<float> logits;  ///< [tokens.size() - first, vocabulary]
};

std::vector<std::int32_t> random_tokens(std::int64_t count, std::int64_t vocab, std::uint64_t seed = 7) {
  Random random(seed);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  for (auto& token : tokens) token = static_cast<std::int32_t>(random.uniform() * static_cast<double>(vocab));
  return tokens;
}

std::vector<float> losses_of(Decoder& decoder, const std::vector<std::int32_t>& tokens,
                             std::int64_t windows) {
  const std::int64_t length = static_cast<std::int64_t>(tokens.size()) / windows;
  std::vector<float> losses(static_cast<std::size_t>(windows * (length - 1)));
  decoder.losses(tokens, windows, length, losses);
  return losses;
}

class DecoderReference : public ::testing::TestWithParam<fs::path> {};

TEST_P(DecoderReference, LogitsInFp32) {
  const Reference reference(GetParam());
  for (const std::string& device : devices()) {
    LoadedModel model(GetParam(), Precision::fp32, device);
    const std::vector<float> logits = model.decoder.logits(reference.tokens, reference.first);
    ASSERT_EQ(logits.size(), reference.logits.size());
    float worst = 0;
    for (std::size_t i = 0; i < logits.size(); ++i)
      worst = std::max(worst, std::abs(logits[i] - reference.logits[i]));
    EXPECT_LE(worst, 1e-4f) << model.backend->description();
  }
}

// In bf16 every input of a product is rounded by up to 2^-9 relative. The errors of a product are
// independent, so that its result is off by about 2^-9 of its typical size, and some ten products lie in
// series: 2^-9 * sqrt(10), under one percent of the logits' root mean square; three percent leave room for
// tiny models.
TEST_P(DecoderReference, LogitsInBf16) {
  const Reference reference(GetParam());
  for (const std::string& device : devices()) {
    LoadedModel model(GetParam(), Precision::bf16, device);
    const std::vector<float> logits = model.decoder.logits(reference.tokens, reference.first);
    ASSERT_EQ(logits.size(), reference.logits.size());
    double error = 0;
    double size = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      error += std::pow(logits[i] - reference.logits[i], 2);
      size += std::pow(reference.logits[i], 2);
    }
    EXPECT_LE(std::sqrt(error / size), 0.03) << model.backend->description();
  }
}

// A pass kept between two stages, gone on with twice, ends as one that was never stopped.
TEST_P(DecoderReference, StagesMakeABlock) {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    LoadedModel model(GetParam(), precision);
    Decoder& decoder = model.decoder;
    Backend& backend = *model.backend;
    const std::int64_t length = 24;
    const std::int64_t windows = 3;
    const auto tokens = random_tokens(windows * length, decoder.config().vocab);
    const auto values_of = [&](const Array& array) {
      std::vector<float> values(static_cast<std::size_t>(windows * length * array.cols()));
      backend.download(array, 0, values);
      return values;
    };
    Hidden whole = decoder.embed(tokens, windows, length);
    for (std::int64_t block = 0; block < decoder.config().layers; ++block) decoder.block(block, whole);
    const std::vector<float> expected = values_of(whole.state);

    const std::int64_t stages = decoder.config().layers * static_cast<std::int64_t>(kStages.size());
    const auto run = [&](PartialPass& pass, std::int64_t from, std::int64_t to) {
      for (std::int64_t s = from; s < to; ++s)
        decoder.run(s / 4, kStages[static_cast<std::size_t>(s % 4)], pass);
    };
    for (std::int64_t stop = 0; stop < stages; ++stop) {
      PartialPass pass{decoder.embed(tokens, windows, length)};
      run(pass, 0, stop);
      PartialPass copy = pass;
      copy.hidden.state = backend.allocate(windows * length, decoder.config().hidden, Element::full);
      backend.copy(pass.hidden.state, windows * length, copy.hidden.state);
      if (stop % 4 != 1) copy.attended = {};
      if (stop % 4 != 3) {
        copy.mlp = {};
        copy.mixture = {};
      }
      if (!pass.mlp_input.empty()) {
        copy.mlp_input = backend.allocate(windows * length, decoder.config().hidden, Element::working);
        backend.copy(pass.mlp_input, windows * length, copy.mlp_input);
      }
      // Only what the next stage reads; afterwards arrays of its own.
      run(copy, stop, stop + 1);
      copy.attended = stop % 4 == 0 ? copy.attended : Array();
      copy.mlp = stop % 4 == 2 ? copy.mlp : Array();
      copy.mixture = stop % 4 == 2 ? copy.mixture : Mixture();
      run(copy, stop + 1, stages);
      EXPECT_EQ(values_of(copy.hidden.state), expected) << stop;
      run(pass, stop, stages);
      EXPECT_EQ(values_of(pass.hidden.state), expected) << stop;
    }
    PartialPass empty{decoder.embed(tokens, windows, length)};
    EXPECT_THROW(decoder.run(0, Stage::attention_output, empty), std::invalid_argument);
    EXPECT_THROW(decoder.run(0, Stage::mlp_output, empty), std::invalid_argument);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, DecoderReference, ::testing::ValuesIn(all_models()), name_of_folder);

TEST(Decoder, LossesAreThoseOfTheLogits) {
  LoadedModel model(tiny_model() / "llama-gqa", Precision::fp32);
  const std::int64_t vocab = model.decoder.config().vocab;
  const std::vector<std::int32_t> tokens = random_tokens(140, vocab);
  const std::vector<float> losses = losses_of(model.decoder, tokens, 1);
  const std::vector<float> logits = model.decoder.logits(tokens, 0);
  for (std::size_t t = 0; t + 1 < tokens.size(); ++t) {
    const float* row = logits.data() + t * static_cast<std::size_t>(vocab);
    double sum = 0;
    for (std::int64_t i = 0; i < vocab; ++i) sum += std::exp(static_cast<double>(row[i]));
    EXPECT_NEAR(losses[t], std::log(sum) - row[tokens[t + 1]], 2e-6);
  }
}

TEST(Decoder, SameLossesWhateverTheThreads) {
  for (const char* name : {"llama-gqa", "mistral-window", "qwen3", "opt-350m"}) {
    for (const Precision precision : {Precision::fp32, Precision::bf16}) {
      LoadedModel model(tiny_model(name), precision);
      const std::vector<std::int32_t> tokens = random_tokens(64 * 45, model.decoder.config().vocab);
      std::vector<float> expected;
      for (const int threads : {1, 2, 5}) {
        work_with_threads(threads);
        const std::vector<float> losses = losses_of(model.decoder, tokens, 45);
        if (expected.empty()) expected = losses;
        EXPECT_EQ(losses, expected) << name << " with " << threads << " threads";
      }
      work_with_threads(0);
    }
  }
}

TEST(Decoder, WindowsDoNotSeeEachOther) {
  for (const char* name : {"llama-d80", "mistral-window", "opt-project"}) {
    for (const Precision precision : {Precision::fp32, Precision::bf16}) {
      LoadedModel model(tiny_model(name), precision);
      // Lengths below, at and above the tiles' sizes; one token has no loss but must pass.
      for (const std::int64_t length : {1, 2, 6, 16, 17, 31, 64}) {
        const std::int64_t windows = 37;
        const auto tokens = random_tokens(windows * length, model.decoder.config().vocab);
        const std::vector<float> together = losses_of(model.decoder, tokens, windows);
        std::vector<float> alone;
        for (std::int64_t w = 0; w < windows; ++w) {
          const std::vector<std::int32_t> one(tokens.begin() + w * length, tokens.begin() + (w + 1) * length);
          const std::vector<float> losses = losses_of(model.decoder, one, 1);
          alone.insert(alone.end(), losses.begin(), losses.end());
        }
        ASSERT_EQ(together.size(), alone.size());
        for (std::size_t i = 0; i < alone.size(); ++i)
          ASSERT_NEAR(together[i], alone[i], precision == Precision::fp32 ? 1e-5 : 1e-4)
              << name << ' ' << length;
      }
    }
  }
}

TEST(Decoder, StepByStepIsTheSame) {
  for (const char* name : {"llama3", "opt-350m"}) {
    LoadedModel model(tiny_model(name), Precision::bf16);
    Decoder& decoder = model.decoder;
    const auto tokens = random_tokens(3 * 50, decoder.config().vocab);
    Hidden hidden = decoder.embed(tokens, 3, 50);
    for (std::int64_t i = 0; i < decoder.config().layers; ++i) decoder.block(i, hidden);
    std::vector<float> losses(3 * 49);
    decoder.head_losses(hidden, tokens, losses);
    EXPECT_EQ(losses, losses_of(decoder, tokens, 3));
  }
}

TEST(Decoder, ReplacedLinears) {
  LoadedModel model(tiny_model() / "opt", Precision::fp32);
  Decoder& decoder = model.decoder;
  const auto tokens = random_tokens(2 * 30, decoder.config().vocab);
  const std::vector<float> before = losses_of(decoder, tokens, 2);
  const std::string name = "model.decoder.layers.1.fc1";
  const TensorView original = model.checkpoint.tensor(name + ".weight");
  decoder.replace(name, original);
  EXPECT_EQ(losses_of(decoder, tokens, 2), before);

  // A packed matrix and the dense one that it stands for.
  PackedMatrix packed;
  packed.rows = original.shape[0];
  packed.cols = original.shape[1];
  packed.bits = 4;
  packed.group = static_cast<int>(packed.cols);
  Random random(3);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(packed.cols));
  for (std::int64_t r = 0; r < packed.rows; ++r) {
    for (auto& code : codes) code = static_cast<std::uint8_t>(random.uniform() * 16);
    std::vector<std::uint32_t> words(static_cast<std::size_t>(packed.words_per_row()));
    pack_codes(codes, 4, words);
    packed.codes.insert(packed.codes.end(), words.begin(), words.end());
    packed.scales.push_back(0x2400);  // 2^-6
    packed.biases.push_back(0xB000);  // -2^-3
  }
  packed.check();
  std::vector<float> dense(static_cast<std::size_t>(packed.rows * packed.cols));
  for (std::int64_t r = 0; r < packed.rows; ++r)
    packed.dequantize_row(r, std::span(dense).subspan(static_cast<std::size_t>(r * packed.cols),
                                                      static_cast<std::size_t>(packed.cols)));
  decoder.replace(name, packed);
  const std::vector<float> by_codes = losses_of(decoder, tokens, 2);
  EXPECT_NE(by_codes, before);
  decoder.replace(name, TensorView{DType::F32, original.shape, std::as_bytes(std::span(dense))});
  EXPECT_EQ(losses_of(decoder, tokens, 2), by_codes);

  dense[5] = std::numeric_limits<float>::infinity();
  EXPECT_THROW(decoder.replace(name, TensorView{DType::F32, original.shape, std::as_bytes(std::span(dense))}),
               InputError);
  EXPECT_THROW(decoder.replace("model.decoder.layers.9.fc1", original), UsageError);
  EXPECT_THROW(decoder.replace("model.decoder.layers.1.fc2", original), std::invalid_argument);
}

TEST(Decoder, RefusesTokensOutsideTheVocabulary) {
  LoadedModel model(tiny_model() / "llama2", Precision::fp32);
  for (const std::int32_t bad : {-1, static_cast<std::int32_t>(model.decoder.config().vocab)}) {
    std::vector<std::int32_t> tokens = random_tokens(20, model.decoder.config().vocab);
    tokens[11] = bad;
    try {
      losses_of(model.decoder, tokens, 1);
      FAIL();
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), HasSubstr(std::to_string(bad)));
      EXPECT_THAT(error.what(), HasSubstr("index 11"));
    }
  }
}

TEST(Decoder, RefusesWindowsBeyondLearnedPositions) {
  LoadedModel model(tiny_model() / "opt", Precision::fp32);
  EXPECT_NO_THROW(model.decoder.check_length(64));
  EXPECT_THROW(losses_of(model.decoder, random_tokens(65, model.decoder.config().vocab), 1), InputError);
  // Rotary positions have no end.
  LoadedModel rotary(tiny_model() / "qwen2", Precision::fp32);
  EXPECT_NO_THROW(losses_of(rotary.decoder, random_tokens(200, rotary.decoder.config().vocab), 1));
}

TEST(Decoder, RefusesWeightsThatAreNotFinite) {
  const fs::path source = tiny_model() / "llama2";
  // One tensor of every kind: embedding, head, linear, norm.
  for (const std::string name : {"model.embed_tokens.weight", "lm_head.weight",
                                 "model.layers.1.mlp.up_proj.weight", "model.norm.weight"}) {
    for (const std::uint16_t bad : std::initializer_list<std::uint16_t>{0x7C00, 0xFC00, 0x7E01}) {
      Scratch scratch;
      fs::copy(source / "config.json", scratch / "config.json");
      std::string bytes = read_file(source / "model.safetensors");
      {
        const SafetensorsFile file(source / "model.safetensors");
        const TensorView& tensor = file.tensors().at(name);
        const std::ptrdiff_t place = tensor.bytes.data() - file.file().bytes().data();
        std::memcpy(bytes.data() + place + 2 * 7, &bad, 2);
      }
      write_file(scratch / "model.safetensors", bytes);
      try {
        LoadedModel model(scratch.path(), Precision::bf16);
        FAIL() << name;
      } catch (const InputError& error) {
        EXPECT_THAT(error.what(), HasSubstr(name));
        EXPECT_THAT(error.what(), HasSubstr("index 7"));
      }
    }
  }
}

TEST(Decoder, WikiModelsAgreeWithTheirReferences) {
  fs::path models = fs::path(KNAPSAQ_SOURCE_DIR) / "assets";
  if (!fs::exists(models / "wiki-llama-6m")) models = shared_folder() / "models";
  if (!fs::exists(models / "wiki-llama-6m")) GTEST_SKIP() << "neither assets/ nor shared/models is there";
  for (const char* name : {"wiki-llama-6m", "wiki-opt-3m"}) {
    LoadedModel model(models / name, Precision::fp32);
    const auto reference = nlohmann::json::parse(read_file(models / name / "reference.json"));
    for (const auto& text : reference.at("texts")) {
      const auto ids = text.at("ids").get<std::vector<std::int32_t>>();
      const auto expected = text.at("last_logits_first_32").get<std::vector<float>>();
      const auto logits = model.decoder.logits(ids, static_cast<std::int64_t>(ids.size()) - 1);
      for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(logits[i], expected[i], 1e-4);
      const auto top = std::max_element(logits.begin(), logits.end());
      EXPECT_EQ(top - logits.begin(), text.at("last_logits_argmax").get<std::ptrdiff_t>());
      double sum = 0;
      for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
      EXPECT_NEAR(std::log(sum), text.at("last_logits_logsumexp").get<double>(), 1e-4);
    }
  }
}

}  // namespace
}  // namespace knapsaq
