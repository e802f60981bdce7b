// What readers of a model see, Knapsaq sees, and what it writes holds it: a head of its own in spite of the
// config, tensors that nothing reads, and the tokenizer.

#include <algorithm>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/export/gguf/vocabulary.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/export/tokenizer_check.h"
#include "knapsaq/export/writer.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/text/gguf_tokenizer.h"
#include "knapsaq/text/tokenizer.h"
#include "made_model.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

const fs::path kSmallTokenizers = fs::path(KNAPSAQ_TEST_DATA) / "text/small";

/// Adds tensors to the one weight file of a folder.
void add_tensors(const fs::path& folder,
                 const std::vector<std::pair<TensorSpec, std::vector<std::byte>>>& more) {
  std::vector<TensorSpec> specs;
  std::vector<std::byte> bytes;
  {
    const Checkpoint old = Checkpoint::open(folder);
    for (const std::string& name : old.names()) {
      specs.push_back(old.spec(name));
      const TensorView view = old.tensor(name);
      bytes.insert(bytes.end(), view.bytes.begin(), view.bytes.end());
    }
  }
  for (const auto& [spec, data] : more) {
    specs.push_back(spec);
    bytes.insert(bytes.end(), data.begin(), data.end());
  }
  CheckpointWriter writer(folder, specs);
  writer.write(bytes);
  writer.commit();
}

/// A made model that says it is tied, with the embedding times `factor` as its head.
void write_with_head(const fs::path& folder, const std::vector<MadeLinear>& how, float factor) {
  write_made_model(folder, made_config(), how);
  std::vector<std::uint16_t> head;
  {
    const Checkpoint model = Checkpoint::open(folder);
    for (const float value : model.floats("model.embed_tokens.weight"))
      head.push_back(float_to_half(factor * value));
  }
  const auto bytes = std::as_bytes(std::span(head));
  add_tensors(folder, {{{"lm_head.weight", DType::F16, {40, 64}}, {bytes.begin(), bytes.end()}}});
}

TEST(TiedHead, OneThatDiffersIsUsedWhateverTheConfigSays) {
  const Scratch scratch;
  write_with_head(scratch / "m", {{.group = -1}}, 2);
  const Checkpoint model = Checkpoint::open(scratch / "m");
  EXPECT_EQ(model.config()["tie_word_embeddings"], false);
  EXPECT_THAT(model.notes(), ElementsAre(HasSubstr("the head that is there is used")));
  const ModelConfig config = parse_model_config(model.config());
  EXPECT_FALSE(config.tied);
  EXPECT_THAT(unread_tensors(model, config), IsEmpty());

  const std::vector<MatrixScheme> schemes = uniform_allocation(linears(config), parse_scheme("rtn:b4g32s"));
  const QuantizedLayout layout = layout_quantized(model, config, schemes);
  const QuantizedModel written = write_quantized(model, config, schemes, scratch / "q", false);
  EXPECT_EQ(written.bytes, layout.bytes);
  EXPECT_EQ(fs::file_size(scratch / "q/model.safetensors"), layout.bytes);
  const auto head = model.floats("lm_head.weight");
  const auto expect_head = [&](const fs::path& folder) {
    const Checkpoint out = Checkpoint::open(folder);
    EXPECT_EQ(out.config()["tie_word_embeddings"], false) << folder;
    EXPECT_THAT(out.notes(), IsEmpty());  // said rightly, there is nothing to correct
    EXPECT_EQ(out.floats("lm_head.weight"), head) << folder;
  };
  expect_head(scratch / "q");
  const Checkpoint quantized = Checkpoint::open(scratch / "q");
  for (const char* format : {"mlx", "gptq", "auto-round", "compressed-tensors"}) {
    writer(format).write(quantized, config, scratch / format, {}, Progress::none());
    const json out = json::parse(read_file(scratch / format / "config.json"));
    EXPECT_EQ(out["tie_word_embeddings"], false) << format;
    EXPECT_TRUE(SafetensorsFile(scratch / format / "model.safetensors").tensors().contains("lm_head.weight"))
        << format;
  }
  fs::copy(kSmallTokenizers / "gpt2/tokenizer.json", scratch / "q/tokenizer.json",
           fs::copy_options::overwrite_existing);
}

TEST(TiedHead, TheSameBytesAreTied) {
  const Scratch scratch;
  write_with_head(scratch / "m", {{.group = -1}}, 1);
  const Checkpoint model = Checkpoint::open(scratch / "m");
  EXPECT_EQ(model.config()["tie_word_embeddings"], true);
  EXPECT_THAT(model.notes(), IsEmpty());
  const ModelConfig config = parse_model_config(model.config());
  EXPECT_THAT(unread_tensors(model, config), IsEmpty());
  const std::vector<MatrixScheme> schemes = uniform_allocation(linears(config), parse_scheme("rtn:b4g32"));
  write_quantized(model, config, schemes, scratch / "q", false);
  EXPECT_FALSE(Checkpoint::open(scratch / "q").contains("lm_head.weight"));
}

TEST(UnreadTensors, AreNamed) {
  const Scratch scratch;
  write_made_model(scratch / "m", made_config(), {{.group = -1}});
  const std::vector<std::byte> eight(8);
  add_tensors(scratch / "m", {{{"model.layers.0.self_attn.q_proj.bias", DType::F16, {4}}, eight},
                              {{"model.layers.9.mlp.up_proj.weight", DType::F16, {2, 2}}, eight},
                              {{"model.layers.0.self_attn.rotary_emb.inv_freq", DType::F16, {4}}, eight},
                              {{"visual.patch", DType::F32, {2}}, eight}});
  const Checkpoint model = Checkpoint::open(scratch / "m");
  const ModelConfig config = parse_model_config(model.config());
  EXPECT_THAT(unread_tensors(model, config),
              ElementsAre("model.layers.0.self_attn.q_proj.bias", "model.layers.9.mlp.up_proj.weight",
                          "visual.patch"));
  EXPECT_THAT(notes_about(model, config),
              ElementsAre(HasSubstr("3 tensors of the checkpoint are no part of a LlamaForCausalLM")));
}

TEST(UnreadTensors, PackedLinearsAreRead) {
  const Scratch scratch;
  write_made_model(scratch / "m", made_config(), {{}, {.bits = 8}, {.group = 32, .meta_group = 2}});
  const Checkpoint model = Checkpoint::open(scratch / "m");
  EXPECT_THAT(unread_tensors(model, parse_model_config(model.config())), IsEmpty());
}

// ---------------------------------------------------------------- tokenizers

/// Reads what add_vocabulary() makes of a folder, as Knapsaq or as llama.cpp does, and compares.
TokenizerDifference reread(const fs::path& folder, GgufReading reading, std::vector<std::string>& notes) {
  GgufMetadata metadata;
  notes.clear();
  add_vocabulary(folder, 1 << 14, metadata, notes);
  const Tokenizer source = Tokenizer::load(folder);
  return compare_tokenizers(source.model(), TokenizerModel(read_gguf_tokenizer(metadata, "made", reading)),
                            trial_texts(source.model().parts()));
}

TEST(TokenizerCheck, TellsTokenizersApart) {
  const Tokenizer one = Tokenizer::load(kSmallTokenizers / "sentencepiece");
  const Tokenizer other = Tokenizer::load(kSmallTokenizers / "sentencepiece-llama");
  const std::vector<TrialText> texts = trial_texts(one.model().parts());
  EXPECT_TRUE(compare_tokenizers(one.model(), one.model(), texts).none());
  const TokenizerDifference difference = compare_tokenizers(one.model(), other.model(), texts);
  EXPECT_THAT(difference.ordinary, IsEmpty());
  EXPECT_THAT(difference.unusual, Contains(" one blank in front"));
  EXPECT_THAT(difference.unusual, Contains("[M]"));
  EXPECT_THAT(describe(difference.unusual, difference.texts), HasSubstr("trial texts, such as '"));
}

TEST(TokenizerCheck, MetaspaceWithoutSplitInGguf) {
  for (const char* scheme : {"always", "first", "never"}) {
    SCOPED_TRACE(scheme);
    const Scratch scratch;
    json tokenizer = json::parse(read_file(kSmallTokenizers / "llama2/tokenizer.json"));
    tokenizer["normalizer"] = nullptr;
    tokenizer["pre_tokenizer"] = {
        {"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", scheme}, {"split", false}};
    write_file(scratch / "tokenizer.json", tokenizer.dump());
    std::vector<std::string> notes;
    EXPECT_TRUE(reread(scratch.path(), GgufReading::knapsaq, notes).none());
    const TokenizerDifference theirs = reread(scratch.path(), GgufReading::llama_cpp, notes);
    EXPECT_THAT(theirs.ordinary, IsEmpty());
    if (std::string_view(scheme) == "never") {
      EXPECT_TRUE(theirs.none());
      EXPECT_THAT(notes, IsEmpty());
    } else {
      EXPECT_THAT(theirs.unusual, Contains(" one blank in front"));
      EXPECT_THAT(notes,
                  Contains(HasSubstr("llama.cpp gives other ids than this model's own tokenizer for")));
    }
  }
}

TEST(TokenizerCheck, UserDefinedSymbolsInGguf) {
  std::vector<std::string> notes;
  EXPECT_TRUE(reread(kSmallTokenizers / "sentencepiece", GgufReading::knapsaq, notes).none());
  EXPECT_THAT(notes, Contains(HasSubstr("[M]")));
}

TEST(TokenizerCheck, FilesThatAreMissingInACopyAreFound) {
  const Scratch scratch;
  fs::copy(kSmallTokenizers / "qwen2-files", scratch / "source");
  fs::copy(kSmallTokenizers / "qwen2-files", scratch / "copy");
  check_carried_tokenizer(scratch / "source", scratch / "copy");
  fs::remove(scratch / "copy/tokenizer_config.json");
  EXPECT_THROW(check_carried_tokenizer(scratch / "source", scratch / "copy"), InputError);
  fs::copy(kSmallTokenizers / "qwen2-files/tokenizer_config.json", scratch / "copy");
  write_file(scratch / "source/generation_config.json", R"({"eos_token_id": [500, 502]})");
  EXPECT_THROW(check_carried_tokenizer(scratch / "source", scratch / "copy"), InputError);
  fs::copy(scratch / "source/generation_config.json", scratch / "copy");
  check_carried_tokenizer(scratch / "source", scratch / "copy");
}

TEST(TokenizerCheck, TokensThatEndATextAreInGguf) {
  const Scratch scratch;
  fs::copy(kSmallTokenizers / "qwen2-files", scratch / "m");
  write_file(scratch / "m/generation_config.json", R"({"eos_token_id": [502, 500, 501]})");
  GgufMetadata metadata;
  std::vector<std::string> notes;
  add_vocabulary(scratch / "m", 600, metadata, notes);
  const auto id = [&](const char* role) {
    const GgufValue* value = metadata.find(std::string("tokenizer.ggml.") + role + "_token_id");
    return value == nullptr ? -1 : static_cast<std::int64_t>(std::get<std::uint32_t>(*value));
  };
  EXPECT_EQ(id("eos"), 500);
  EXPECT_EQ(id("eot"), 501);
  EXPECT_EQ(id("eom"), 502);
  EXPECT_THAT(notes, Not(Contains(HasSubstr("end a text"))));
  write_file(scratch / "m/generation_config.json", R"({"eos_token_id": [502, 500, 501, 7]})");
  GgufMetadata more;
  add_vocabulary(scratch / "m", 600, more, notes);
  EXPECT_THAT(notes, Contains(HasSubstr("places for three tokens that end a text")));
}

}  // namespace
}  // namespace knapsaq
