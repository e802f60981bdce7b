#include <cstring>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/random.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/checkpoint/gguf_names.h"
#include "knapsaq/compute/ggml_matrix.h"
#include "knapsaq/export/gguf/blocks.h"
#include "knapsaq/export/gguf/model_metadata.h"
#include "knapsaq/export/gguf/vocabulary.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/export/tokenizer_check.h"
#include "knapsaq/export/writer.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/quant/quantizer.h"
#include "knapsaq/text/gguf_tokenizer.h"
#include "knapsaq/text/tokenizer.h"
#include "knapsaq/text/tokenizer_readers.h"
#include "message_of.h"
#include "random_model.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const fs::path kSource = KNAPSAQ_SOURCE_DIR;
const fs::path kSmallTokenizers = fs::path(KNAPSAQ_TEST_DATA) / "text/small";

template <class T>
T value(const GgufMetadata& metadata, std::string_view key) {
  const GgufValue* found = metadata.find(key);
  if (found == nullptr) throw std::runtime_error("no key " + std::string(key));
  return std::get<T>(*found);
}
template <class T>
std::vector<T> list(const GgufMetadata& metadata, std::string_view key) {
  return std::get<std::vector<T>>(value<GgufArray>(metadata, key));
}

// ---------------------------------------------------------------- blocks

/// A random affine matrix; `zero` gives the zero point of group g, NaN a bias that is no multiple of the
/// scale.
PackedMatrix affine(int bits, int group, const std::function<float(std::int64_t)>& zero,
                    std::int64_t rows = 40, std::int64_t cols = 256) {
  PackedMatrix matrix;
  matrix.rows = rows;
  matrix.cols = cols;
  matrix.bits = bits;
  matrix.group = group;
  Random random(static_cast<std::uint64_t>(bits * 1000 + group));
  matrix.codes.resize(static_cast<std::size_t>(rows * matrix.words_per_row()));
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(cols));
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(random.below(std::uint64_t{1} << bits));
    pack_codes(codes, bits,
               std::span(matrix.codes).subspan(row * matrix.words_per_row(), matrix.words_per_row()));
  }
  for (std::int64_t g = 0; g < rows * matrix.groups(); ++g) {
    // Few significant bits, so that -scale * zero is an fp16 number too.
    const float scale = static_cast<float>(1 + random.below(7)) * 0.0078125F;
    const float z = zero(g);
    matrix.scales.push_back(float_to_half(scale));
    matrix.biases.push_back(float_to_half(std::isnan(z) ? -0.3713F * static_cast<float>(g % 5) : -scale * z));
  }
  return matrix;
}

void expect_exact(const PackedMatrix& matrix, GgmlType type) {
  const auto blocks = exact_blocks(matrix);
  ASSERT_TRUE(blocks) << why_not_exact(matrix);
  EXPECT_EQ(blocks->type, type);
  blocks->check();
  std::vector<float> wanted(static_cast<std::size_t>(matrix.cols));
  std::vector<float> found(wanted.size());
  for (std::int64_t row = 0; row < matrix.rows; ++row) {
    matrix.dequantize_row(row, wanted);
    blocks->dequantize_row(row, found);
    ASSERT_EQ(found, wanted) << row;
  }
}

TEST(GgufBlocks, CarryAffineCodesToTheBit) {
  const auto always = [](float zero) { return [zero](std::int64_t) { return zero; }; };
  const auto real = always(std::numeric_limits<float>::quiet_NaN());
  for (const int group : {32, 64, 128, 256}) {
    expect_exact(affine(8, group, always(128)), GgmlType::Q8_0);
    expect_exact(affine(4, group, always(8)), GgmlType::Q4_0);
    expect_exact(affine(4, group, always(5)), GgmlType::Q4_1);
    expect_exact(affine(4, group, real), GgmlType::Q4_1);
    expect_exact(affine(5, group, always(16)), GgmlType::Q5_0);
    expect_exact(affine(5, group, always(3)), GgmlType::Q5_1);
    expect_exact(affine(5, group, real), GgmlType::Q5_1);
    if (group == 32) continue;
    expect_exact(affine(2, group, always(2)), GgmlType::Q2_0);
    expect_exact(affine(2, group, [](std::int64_t g) { return static_cast<float>(1 + g % 2); }),
                 GgmlType::Q2_0);
  }
  // The last group of a row, and rows, may be longer than a task's piece.
  expect_exact(affine(4, 96, real, 70, 192), GgmlType::Q4_1);
  // A group whose weights are all the same.
  PackedMatrix flat = affine(4, 32, real);
  flat.scales[3] = 0;
  expect_exact(flat, GgmlType::Q4_1);
}

TEST(GgufBlocks, RefuseWhatNoTypeHolds) {
  const auto always = [](float zero) { return [zero](std::int64_t) { return zero; }; };
  const auto real = always(std::numeric_limits<float>::quiet_NaN());
  const auto reason = [](const PackedMatrix& matrix) {
    return exact_blocks(matrix) ? std::string("carried") : why_not_exact(matrix);
  };
  EXPECT_THAT(reason(affine(3, 64, always(4))), HasSubstr("no type for 3-bit codes"));
  EXPECT_THAT(reason(affine(6, 64, always(32))), HasSubstr("no type for 6-bit codes"));
  EXPECT_THAT(reason(affine(2, 64, real)), HasSubstr("zero points 1 and 2"));
  EXPECT_THAT(reason(affine(2, 64, always(0))), HasSubstr("zero points 1 and 2"));
  EXPECT_THAT(reason(affine(2, 32, always(2))), HasSubstr("not whole blocks of 64"));
  EXPECT_THAT(reason(affine(4, 64, real, 4, 80)), HasSubstr("not whole blocks of 32"));
  EXPECT_THAT(reason(affine(8, 64, real)), HasSubstr("integer zero points"));
  EXPECT_THAT(reason(affine(8, 64, always(3))), HasSubstr("integer zero points"));
  // One weight of a large matrix is enough.
  PackedMatrix almost = affine(8, 32, always(128), 200);
  EXPECT_EQ(reason(almost), "carried");
  almost.biases.back() = float_to_half(1);
  EXPECT_NE(reason(almost), "carried");

  const std::vector<float> weights(40 * 256, 0.25F);
  const auto two_levels = quantize({40, 256, weights}, parse_scheme("rtn:b4g64/m8g128"));
  EXPECT_THAT(why_not_exact(std::get<PackedMatrix>(two_levels)), HasSubstr("quantized themselves"));
}

// ---------------------------------------------------------------- model

nlohmann::json config_json(const std::string& architecture = "LlamaForCausalLM") {
  return {{"architectures", {architecture}},
          {"hidden_size", 64},
          {"intermediate_size", 96},
          {"ffn_dim", 96},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 16},
          {"vocab_size", 1200},
          {"rms_norm_eps", 1e-5},
          {"tie_word_embeddings", false},
          {"max_position_embeddings", 2048}};
}

TEST(GgufModel, HasTheKeysOfItsArchitecture) {
  GgufMetadata metadata;
  std::vector<std::string> notes;
  nlohmann::json json = config_json("Qwen3ForCausalLM");
  json["head_dim"] = 32;
  json["rope_theta"] = 1e6;
  add_model(parse_model_config(json), metadata, notes);
  EXPECT_EQ(value<std::uint32_t>(metadata, "qwen3.block_count"), 2U);
  EXPECT_EQ(value<std::uint32_t>(metadata, "qwen3.embedding_length"), 64U);
  EXPECT_EQ(value<std::uint32_t>(metadata, "qwen3.feed_forward_length"), 96U);
  EXPECT_EQ(value<std::uint32_t>(metadata, "qwen3.context_length"), 2048U);
  EXPECT_EQ(value<std::uint32_t>(metadata, "qwen3.attention.head_count"), 4U);
  EXPECT_EQ(value<std::uint32_t>(metadata, "qwen3.attention.head_count_kv"), 2U);
  EXPECT_EQ(value<std::uint32_t>(metadata, "qwen3.attention.key_length"), 32U);
  EXPECT_EQ(value<std::uint32_t>(metadata, "qwen3.attention.value_length"), 32U);
  EXPECT_EQ(value<std::uint32_t>(metadata, "qwen3.rope.dimension_count"), 32U);
  EXPECT_EQ(value<std::uint32_t>(metadata, "qwen3.vocab_size"), 1200U);
  EXPECT_EQ(value<float>(metadata, "qwen3.rope.freq_base"), 1e6F);
  EXPECT_EQ(value<float>(metadata, "qwen3.attention.layer_norm_rms_epsilon"), 1e-5F);
  EXPECT_THAT(notes, IsEmpty());
}

TEST(GgufModel, SaysWhatLlamaCppDoesOtherwise) {
  GgufMetadata metadata;
  std::vector<std::string> notes;
  nlohmann::json json = config_json("MistralForCausalLM");
  json["sliding_window"] = 128;
  json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 4.0}};
  add_model(parse_model_config(json), metadata, notes);
  EXPECT_EQ(value<std::string>(metadata, "llama.rope.scaling.type"), "linear");
  EXPECT_EQ(value<float>(metadata, "llama.rope.scaling.factor"), 4.0F);
  EXPECT_EQ(value<std::uint32_t>(metadata, "llama.attention.sliding_window"), 128U);
  ASSERT_EQ(notes.size(), 1);
  EXPECT_THAT(notes[0], HasSubstr("sliding window of 128 tokens"));
}

TEST(GgufModel, RefusesWhatLlamaCppHasNoCodeFor) {
  const auto refusal = [](const nlohmann::json& json) {
    return message_of<InputError>([&] { gguf_architecture(parse_model_config(json)); });
  };
  EXPECT_THAT(refusal(config_json("OPTForCausalLM")), HasSubstr("GGUF has no architecture for OPT"));
  nlohmann::json json = config_json();
  json["hidden_act"] = "gelu";
  EXPECT_THAT(refusal(json), HasSubstr("activations other than silu"));
  json = config_json("Qwen2ForCausalLM");
  json["rope_scaling"] = {{"rope_type", "llama3"},
                          {"factor", 8.0},
                          {"low_freq_factor", 1.0},
                          {"high_freq_factor", 4.0},
                          {"original_max_position_embeddings", 256}};
  EXPECT_THAT(refusal(json), HasSubstr("qwen2 with Llama 3's rescaling"));
  json = config_json("Qwen3ForCausalLM");
  json["attention_bias"] = true;
  EXPECT_THAT(refusal(json), HasSubstr("qwen3 with biases"));
}

TEST(GgufModel, RopeFrequencyFactorsAreThoseOfTransformers) {
  nlohmann::json json = config_json();
  EXPECT_THAT(rope_factors(parse_model_config(json)), IsEmpty());
  json["rope_theta"] = 500000.0;
  json["rope_scaling"] = {{"rope_type", "llama3"},
                          {"factor", 8.0},
                          {"low_freq_factor", 1.0},
                          {"high_freq_factor", 4.0},
                          {"original_max_position_embeddings", 256}};
  // theta^(-2i/16) over ROPE_INIT_FUNCTIONS["llama3"] of Transformers 5.23 for this configuration.
  const std::vector<float> expected = {1.0F,        0.99999993F, 3.56853367F, 7.99999963F,
                                       8.00000066F, 7.99999963F, 8.00000024F, 8.00000010F};
  const std::vector<float> factors = rope_factors(parse_model_config(json)).at(0).values;
  ASSERT_EQ(factors.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(factors[i], expected[i], 2e-6F * expected[i]) << i;
}

TEST(GgufModel, RowsOfHalvesBecomeNeighbours) {
  EXPECT_THAT(rotated_rows(2, 6), ElementsAre(0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11));
}

// ---------------------------------------------------------------- vocabulary

TEST(GgufVocabulary, IsThatOfLlamaCppsConverter) {
  const auto references =
      nlohmann::json::parse(read_file(fs::path(KNAPSAQ_TEST_DATA) / "export/gguf_vocabularies.json"));
  for (const auto& [name, wanted] : references.items()) {
    SCOPED_TRACE(name);
    GgufMetadata metadata;
    std::vector<std::string> notes;
    const std::size_t size = wanted["tokens"].size();
    add_vocabulary(kSmallTokenizers / name, static_cast<std::int64_t>(size) + 2, metadata, notes);
    EXPECT_EQ(value<std::string>(metadata, "tokenizer.ggml.model"), wanted["model"]);
    EXPECT_EQ(value<std::string>(metadata, "tokenizer.ggml.pre"), wanted["pre"]);
    auto tokens = list<std::string>(metadata, "tokenizer.ggml.tokens");
    auto types = list<std::int32_t>(metadata, "tokenizer.ggml.token_type");
    // The embedding's rows without a token.
    ASSERT_EQ(tokens.size(), size + 2);
    EXPECT_EQ(tokens.back(), "[PAD" + std::to_string(size + 1) + "]");
    EXPECT_EQ(types.back(), 5);
    tokens.resize(size);
    types.resize(size);
    EXPECT_EQ(nlohmann::json(tokens), wanted["tokens"]);
    EXPECT_EQ(nlohmann::json(types), wanted["types"]);
    if (wanted.contains("merges")) {
      EXPECT_EQ(nlohmann::json(list<std::string>(metadata, "tokenizer.ggml.merges")), wanted["merges"]);
    } else {
      auto scores = list<float>(metadata, "tokenizer.ggml.scores");
      ASSERT_EQ(scores.size(), size + 2);
      scores.resize(size);
      EXPECT_EQ(scores, wanted["scores"].get<std::vector<float>>());
      EXPECT_TRUE(value<bool>(metadata, "tokenizer.ggml.add_space_prefix"));
    }
  }
}

TEST(GgufVocabulary, ScoresFollowMergesWhereThereIsNoModel) {
  for (const char* name : {"llama2", "llama2-metaspace"}) {
    SCOPED_TRACE(name);
    GgufMetadata metadata;
    std::vector<std::string> notes;
    add_vocabulary(kSmallTokenizers / name, 1 << 14, metadata, notes);
    const auto tokens = list<std::string>(metadata, "tokenizer.ggml.tokens");
    const auto types = list<std::int32_t>(metadata, "tokenizer.ggml.token_type");
    const auto scores = list<float>(metadata, "tokenizer.ggml.scores");
    std::map<std::string, float> score_of;
    for (std::size_t i = 0; i < tokens.size(); ++i) score_of[tokens[i]] = scores[i];
    const auto json = nlohmann::json::parse(read_file(kSmallTokenizers / name / "tokenizer.json"));
    float last = 1;
    std::set<std::string> seen;
    for (const nlohmann::json& merge : json["model"]["merges"]) {
      std::string result;
      if (merge.is_array()) {
        result = merge[0].get<std::string>() + merge[1].get<std::string>();
      } else {
        result = merge.get<std::string>();
        result.erase(result.find(' '), 1);
      }
      if (!seen.insert(result).second) continue;
      EXPECT_LT(score_of.at(result), last) << result;
      last = score_of.at(result);
    }
    EXPECT_EQ(types[0], 2);
    EXPECT_EQ(types[1], 3);
    EXPECT_EQ(types[3], 6);
  }
}

TEST(GgufVocabulary, RefusesWhatDoesNotFit) {
  GgufMetadata metadata;
  std::vector<std::string> notes;
  const auto refusal = [&](const fs::path& folder, std::int64_t vocab) {
    GgufMetadata fresh;
    return message_of<InputError>([&] { add_vocabulary(folder, vocab, fresh, notes); });
  };
  EXPECT_THAT(refusal(kSmallTokenizers / "qwen2", 10), HasSubstr("the model's embedding only 10"));
  const Scratch scratch;
  auto json = nlohmann::json::parse(read_file(kSmallTokenizers / "gpt2/tokenizer.json"));
  json["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"use_regex", true}};
  write_file(scratch / "tokenizer.json", json.dump());
  EXPECT_THAT(refusal(scratch.path(), 1 << 14), HasSubstr("a blank in front of text"));
  json["pre_tokenizer"]["add_prefix_space"] = false;
  json["normalizer"] = {{"type", "Lowercase"}};
  write_file(scratch / "tokenizer.json", json.dump());
  EXPECT_THAT(refusal(scratch.path(), 1 << 14), HasSubstr("changes text before cutting it"));
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"}, {"pattern", {{"Regex", "[a-z]+"}}}, {"behavior", "Isolated"}},
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  write_file(scratch / "tokenizer.json", json.dump());
  EXPECT_THAT(refusal(scratch.path(), 1 << 14), HasSubstr("knows no pre-tokenizer that splits at '[a-z]+'"));
}

/// A tokenizer of the small ones with another file's way to split, and whether it ignores merges.
std::string pre_tokenizer_of(const nlohmann::json& split, bool ignore_merges) {
  const Scratch scratch;
  auto tokenizer = nlohmann::json::parse(read_file(kSmallTokenizers / "gpt2/tokenizer.json"));
  nlohmann::json steps = {{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}};
  steps.insert(steps.begin(), split);
  tokenizer["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", steps}};
  tokenizer["model"]["ignore_merges"] = ignore_merges;
  write_file(scratch / "tokenizer.json", tokenizer.dump());
  GgufMetadata metadata;
  std::vector<std::string> notes;
  add_vocabulary(scratch.path(), 1 << 14, metadata, notes);
  return value<std::string>(metadata, "tokenizer.ggml.pre");
}

TEST(GgufVocabulary, NamesWhatTheFamiliesDo) {
  const auto split = [](const char* expression, const char* behaviour = "Isolated", bool invert = false) {
    return nlohmann::json{
        {"type", "Split"}, {"pattern", {{"Regex", expression}}}, {"behavior", behaviour}, {"invert", invert}};
  };
  EXPECT_EQ(pre_tokenizer_of(split(kLlama3Split), true), "llama-bpe");  // SmolLM3
  // As tiktoken's files become tokenizer.json: OLMo 2, Phi-4.
  EXPECT_EQ(pre_tokenizer_of(split(kLlama3Split, "Removed", true), false), "smaug-bpe");
  EXPECT_EQ(pre_tokenizer_of(split(kQwen35Split), false), "qwen35");
  // These merges make every token, so that it does not matter whether they are ignored.
  EXPECT_EQ(pre_tokenizer_of(split(kQwen35Split), true), "qwen35");
  EXPECT_EQ(
      pre_tokenizer_of(
          split(
              R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"),
          false),
      "gpt-4o");  // gpt-oss
}

/// Gemma's: no blank in front, a step that splits at blanks when there are none left.
TEST(GgufVocabulary, GemmasTokenizer) {
  const Scratch scratch;
  auto tokenizer = nlohmann::json::parse(read_file(kSmallTokenizers / "llama2/tokenizer.json"));
  tokenizer["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}};
  tokenizer["pre_tokenizer"] = {{"type", "Split"},
                                {"pattern", {{"String", " "}}},
                                {"behavior", "MergedWithPrevious"},
                                {"invert", false}};
  tokenizer["decoder"]["decoders"].erase(3);
  for (const bool own_order : {false, true}) {
    SCOPED_TRACE(own_order);
    // In an order that no scores give, merges have to be there themselves.
    if (own_order) std::swap(tokenizer["model"]["merges"][0], tokenizer["model"]["merges"].back());
    write_file(scratch / "tokenizer.json", tokenizer.dump());
    GgufMetadata metadata;
    std::vector<std::string> notes;
    add_vocabulary(scratch.path(), 1 << 14, metadata, notes);
    const auto model = value<std::string>(metadata, "tokenizer.ggml.model");
    EXPECT_THAT(model, testing::AnyOf("llama", "gemma4"));
    if (model == "gemma4") {
      EXPECT_FALSE(list<std::string>(metadata, "tokenizer.ggml.merges").empty());
    } else {
      EXPECT_FALSE(value<bool>(metadata, "tokenizer.ggml.add_space_prefix"));
    }
    const Tokenizer source = Tokenizer::load(scratch.path());
    EXPECT_TRUE(compare_tokenizers(source.model(), TokenizerModel(read_gguf_tokenizer(metadata, "made")),
                                   trial_texts(source.model().parts()))
                    .none());
  }
}

TEST(GgufVocabulary, CarriesTheChatTemplate) {
  const Scratch scratch;
  fs::copy(kSmallTokenizers / "gpt2", scratch / "model", fs::copy_options::recursive);
  const auto carried = [&] {
    GgufMetadata metadata;
    std::vector<std::string> notes;
    add_vocabulary(scratch / "model", 1 << 14, metadata, notes);
    return value<std::string>(metadata, "tokenizer.chat_template");
  };
  write_file(scratch / "model/tokenizer_config.json", R"({"chat_template": "{{ one }}"})");
  EXPECT_EQ(carried(), "{{ one }}");
  write_file(
      scratch / "model/tokenizer_config.json",
      R"({"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]})");
  EXPECT_EQ(carried(), "d");
  write_file(scratch / "model/chat_template.jinja", "{{ file }}");
  EXPECT_EQ(carried(), "{{ file }}");
}

// ---------------------------------------------------------------- whole models

/// A random model in F16 with the small tokenizer of Qwen2.
class GgufExport : public ::testing::Test {
 protected:
  void make(const nlohmann::json& json) {
    config_ = parse_model_config(json);
    fs::remove_all(scratch_ / "model");
    fs::copy(kSmallTokenizers / "qwen2", scratch_ / "model", fs::copy_options::recursive);
    write_random_model(scratch_ / "model", json);
  }

  ExportReport run(std::string_view folder, bool requantize = false) {
    const Checkpoint model = Checkpoint::open(scratch_ / folder);
    ExportOptions options;
    options.requantize = requantize;
    options.replace = true;
    return writer("gguf").write(model, config_, scratch_ / "out.gguf", options, Progress::none());
  }

  void quantize_all(std::string_view scheme) {
    write_quantized(Checkpoint::open(scratch_ / "model"), config_,
                    uniform_allocation(linears(config_), parse_scheme(scheme)), scratch_ / "quantized", true);
  }

  /// Every tensor of the file decodes to the checkpoint's weights, the rows of q and k of arch llama in its
  /// order.
  void expect_weights(std::string_view folder) {
    const Checkpoint model = Checkpoint::open(scratch_ / folder);
    const GgufFile file(scratch_ / "out.gguf");
    const bool rotated = value<std::string>(file.metadata(), "general.architecture") == "llama";
    for (const Matrix& linear : matrices(config_)) {
      static const std::map<std::string, std::string> kNames = {
          {"embed_tokens", "token_embd"}, {"lm_head", "output"},          {"self_attn.q_proj", "attn_q"},
          {"self_attn.k_proj", "attn_k"}, {"self_attn.v_proj", "attn_v"}, {"self_attn.o_proj", "attn_output"},
          {"mlp.gate_proj", "ffn_gate"},  {"mlp.up_proj", "ffn_up"},      {"mlp.down_proj", "ffn_down"}};
      SCOPED_TRACE(linear.name);
      const std::string prefix = linear.in_block() ? "blk." + std::to_string(linear.block) + "." : "";
      const GgufTensor& tensor = file.tensors().at(prefix + kNames.at(linear.module) + ".weight");
      ASSERT_THAT(tensor.shape, ElementsAre(linear.out, linear.in));
      std::vector<float> all(static_cast<std::size_t>(linear.out * linear.in));
      if (const auto* blocks = std::get_if<GgmlType>(&tensor.type)) {
        const GgmlMatrix matrix{*blocks, linear.out, linear.in, {tensor.bytes.begin(), tensor.bytes.end()}};
        for (std::int64_t row = 0; row < linear.out; ++row)
          matrix.dequantize_row(row, std::span(all).subspan(row * linear.in, linear.in));
      } else {
        read_floats({std::get<DType>(tensor.type), tensor.shape, tensor.bytes}, 0, all);
      }
      std::vector<std::int64_t> order;
      if (rotated && linear.module == "self_attn.q_proj")
        order = rotated_rows(config_.heads, config_.head_dim);
      if (rotated && linear.module == "self_attn.k_proj")
        order = rotated_rows(config_.kv_heads, config_.head_dim);
      std::vector<float> wanted(static_cast<std::size_t>(linear.in));
      for (std::int64_t row = 0; row < linear.out; ++row) {
        const std::int64_t source = order.empty() ? row : order[static_cast<std::size_t>(row)];
        if (model.packing(linear.name)) {
          dequantize_row(model.stored(linear.name), source, wanted);
        } else {
          read_floats(model.tensor(linear.name + ".weight"), source * linear.in, wanted);
        }
        ASSERT_TRUE(std::ranges::equal(std::span(all).subspan(row * linear.in, linear.in), wanted)) << row;
      }
    }
  }

  ModelConfig config_;
  Scratch scratch_;
};

TEST_F(GgufExport, DenseModelsKeepTheirTypes) {
  nlohmann::json json = config_json();
  json["attention_bias"] = true;
  make(json);
  const ExportReport report = run("model");
  EXPECT_THAT(report.changes, IsEmpty());
  EXPECT_EQ(report.bytes, fs::file_size(scratch_ / "out.gguf"));
  expect_weights("model");
  const GgufFile file(scratch_ / "out.gguf");
  EXPECT_EQ(value<std::uint32_t>(file.metadata(), "general.file_type"), 1U);
  EXPECT_EQ(value<std::string>(file.metadata(), "general.name"), "model");
  EXPECT_EQ(file.metadata().find("general.quantization_version"), nullptr);
  EXPECT_EQ(list<std::string>(file.metadata(), "tokenizer.ggml.tokens").size(), 1200);
  EXPECT_EQ(file.tensors().at("token_embd.weight").type, GgufType(DType::F16));
  EXPECT_EQ(file.tensors().at("output.weight").type, GgufType(DType::F16));
  EXPECT_EQ(file.tensors().at("output_norm.weight").type, GgufType(DType::F32));
  EXPECT_EQ(file.tensors().at("blk.1.attn_norm.weight").type, GgufType(DType::F32));
  EXPECT_FALSE(file.tensors().contains("rope_freqs.weight"));
  // Biases of q go with its rows.
  const Checkpoint model = Checkpoint::open(scratch_ / "model");
  const std::vector<float> bias = model.floats("model.layers.0.self_attn.q_proj.bias");
  const GgufTensor& found = file.tensors().at("blk.0.attn_q.bias");
  const std::vector<float> values = read_floats({DType::F32, found.shape, found.bytes});
  const std::vector<std::int64_t> order = rotated_rows(config_.heads, config_.head_dim);
  for (std::size_t i = 0; i < values.size(); ++i)
    EXPECT_EQ(values[i], bias[static_cast<std::size_t>(order[i])]);
}

TEST_F(GgufExport, EmbeddingAndHeadInBlocks) {
  for (const bool tied : {true, false}) {
    nlohmann::json json = config_json();
    json["hidden_size"] = 256;
    json["tie_word_embeddings"] = tied;
    make(json);
    // Blocks as they are, affine codes that a type holds, and a linear beside them that is dense.
    std::vector<MatrixScheme> allocation = uniform_allocation(matrices(config_), parse_scheme("q4_k"));
    allocation.front().scheme = parse_scheme("q6_k");
    if (!tied) allocation.back().scheme = parse_scheme("rtn:b8g32s");
    allocation.erase(allocation.begin() + 2);
    write_quantized(Checkpoint::open(scratch_ / "model"), config_, allocation, scratch_ / "quantized", true);
    const ExportReport report = run("quantized");
    EXPECT_THAT(report.changes, IsEmpty());
    EXPECT_EQ(report.bytes, fs::file_size(scratch_ / "out.gguf"));
    expect_weights("quantized");
    const GgufFile file(scratch_ / "out.gguf");
    EXPECT_EQ(file.tensors().at("token_embd.weight").type, GgufType(GgmlType::Q6_K));
    EXPECT_EQ(file.tensors().contains("output.weight"), !tied);
    if (!tied) {
      EXPECT_EQ(file.tensors().at("output.weight").type, GgufType(GgmlType::Q8_0));
    }
    EXPECT_EQ(file.tensors().at("blk.0.attn_k.weight").type, GgufType(DType::F16));
    // What no type holds is refused there as everywhere.
    allocation.front().scheme = parse_scheme("rtn:b3g64");
    write_quantized(Checkpoint::open(scratch_ / "model"), config_, allocation, scratch_ / "quantized", true);
    EXPECT_THAT(message_of<UsageError>([&] { run("quantized"); }), HasSubstr("model.embed_tokens"));
    EXPECT_THAT(run("quantized", true).changes, ElementsAre(HasSubstr("model.embed_tokens")));
  }
}

TEST_F(GgufExport, TiedHeadsAndRopeFactors) {
  nlohmann::json json = config_json();
  json["tie_word_embeddings"] = true;
  json["rope_scaling"] = {{"rope_type", "llama3"},
                          {"factor", 8.0},
                          {"low_freq_factor", 1.0},
                          {"high_freq_factor", 4.0},
                          {"original_max_position_embeddings", 256}};
  make(json);
  run("model");
  const GgufFile file(scratch_ / "out.gguf");
  EXPECT_FALSE(file.tensors().contains("output.weight"));
  EXPECT_THAT(file.tensors().at("rope_freqs.weight").shape, ElementsAre(8));
}

TEST_F(GgufExport, QwenKeepsItsRowsAndNorms) {
  make(config_json("Qwen3ForCausalLM"));
  run("model");
  expect_weights("model");
  const GgufFile file(scratch_ / "out.gguf");
  EXPECT_THAT(file.tensors().at("blk.0.attn_q_norm.weight").shape, ElementsAre(16));
  make(config_json("Qwen2ForCausalLM"));
  run("model");
  expect_weights("model");
  EXPECT_TRUE(GgufFile(scratch_ / "out.gguf").tensors().contains("blk.1.attn_v.bias"));
}

TEST_F(GgufExport, QuantizedLinearsAreCarriedExactly) {
  make(config_json());
  for (const char* scheme : {"rtn:b8g32s", "rtn:b4g32s", "hqq:b4g32", "rtn:b4row", "q4_0", "q8_0"}) {
    SCOPED_TRACE(scheme);
    quantize_all(scheme);
    EXPECT_THAT(run("quantized").changes, IsEmpty());
    expect_weights("quantized");
    const GgufFile file(scratch_ / "out.gguf");
    EXPECT_EQ(value<std::uint32_t>(file.metadata(), "general.quantization_version"), 2U);
    EXPECT_EQ(value<std::string>(file.metadata(), "general.name"), "quantized");
  }
}

TEST_F(GgufExport, RefusalsNameTheLinearAndLeaveNothing) {
  make(config_json());
  quantize_all("hqq:b3g32");
  const std::string message = message_of<UsageError>([&] { run("quantized"); });
  EXPECT_THAT(message,
              HasSubstr("model.layers.0.self_attn.q_proj: hqq:b3g32 cannot be carried to GGUF exactly"));
  EXPECT_THAT(message, HasSubstr("--requantize"));
  quantize_all("hqq:b4g64/m8g128");
  EXPECT_THAT(message_of<UsageError>([&] { run("quantized"); }), HasSubstr("--menu gguf"));
  for (const auto& entry : fs::directory_iterator(scratch_.path()))
    EXPECT_TRUE(entry.is_directory()) << entry.path();
}

TEST_F(GgufExport, RequantizingSaysWhatItChanged) {
  make(config_json());
  quantize_all("hqq:b3g32");
  const ExportReport report = run("quantized", true);
  ASSERT_EQ(report.changes.size(), linears(config_).size());
  // Rows of 64 and 96 weights are no whole blocks of Q3_K.
  EXPECT_THAT(report.changes[0],
              HasSubstr("model.layers.0.self_attn.q_proj: hqq:b3g32 quantized once more, to q4_0"));
  const Checkpoint model = Checkpoint::open(scratch_ / "quantized");
  const GgufFile file(scratch_ / "out.gguf");
  const GgufTensor& tensor = file.tensors().at("blk.0.ffn_down.weight");
  const GgmlMatrix matrix{
      std::get<GgmlType>(tensor.type), 64, 96, {tensor.bytes.begin(), tensor.bytes.end()}};
  const StoredMatrix stored = model.stored("model.layers.0.mlp.down_proj");
  std::vector<float> wanted(96);
  std::vector<float> found(96);
  double error = 0;
  double norm = 0;
  for (std::int64_t row = 0; row < 64; ++row) {
    dequantize_row(stored, row, wanted);
    matrix.dequantize_row(row, found);
    for (std::size_t i = 0; i < found.size(); ++i) {
      error += (found[i] - wanted[i]) * (found[i] - wanted[i]);
      norm += wanted[i] * wanted[i];
    }
  }
  EXPECT_LT(error, 0.01 * norm);
}

TEST_F(GgufExport, RowsThatAreNoBlocksBecomeHalves) {
  nlohmann::json json = config_json();
  json["intermediate_size"] = 80;
  make(json);
  quantize_all("hqq:b4g32");
  EXPECT_THAT(
      message_of<UsageError>([&] { run("quantized"); }),
      HasSubstr("model.layers.0.mlp.down_proj: hqq:b4g32 cannot be carried to GGUF exactly: groups of 32 in "
                "rows of 80"));
  const ExportReport report = run("quantized", true);
  EXPECT_EQ(report.changes.size(), 2);
  EXPECT_EQ(GgufFile(scratch_ / "out.gguf").tensors().at("blk.0.ffn_down.weight").type, GgufType(DType::F16));
}

TEST_F(GgufExport, ExistingFilesAreKept) {
  make(config_json());
  write_file(scratch_ / "out.gguf", "mine");
  const Checkpoint model = Checkpoint::open(scratch_ / "model");
  EXPECT_THROW(writer("gguf").write(model, config_, scratch_ / "out.gguf", {}, Progress::none()), UsageError);
  EXPECT_EQ(read_file(scratch_ / "out.gguf"), "mine");
}

TEST(GgufExportOfAsset, OptHasNoArchitecture) {
  const Scratch scratch;
  const Checkpoint model = Checkpoint::open(kSource / "assets/wiki-opt-3m");
  EXPECT_THAT(message_of<InputError>([&] {
                writer("gguf").write(model, parse_model_config(model.config()), scratch / "o.gguf", {},
                                     Progress::none());
              }),
              HasSubstr("GGUF has no architecture for OPT"));
  EXPECT_TRUE(fs::is_empty(scratch.path()));
}

}  // namespace
}  // namespace knapsaq
