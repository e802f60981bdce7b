// GGUF files as models: what export writes is read back as the folder that it came from.

#include <cmath>
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/random.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/ggml_matrix.h"
#include "knapsaq/export/gguf/vocabulary.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/export/writer.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/model/rotation.h"
#include "knapsaq/quant/quantizer.h"
#include "knapsaq/text/corpus.h"
#include "knapsaq/text/gguf_tokenizer.h"
#include "knapsaq/text/tokenizer.h"
#include "knapsaq/text/tokenizer_model.h"
#include "message_of.h"
#include "random_model.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const fs::path kSource = KNAPSAQ_SOURCE_DIR;
const fs::path kSmallTokenizers = fs::path(KNAPSAQ_TEST_DATA) / "text/small";

// ---------------------------------------------------------------- tokenizers

/// Texts of many kinds: the hard strings of the tokenizers' own references, and some code and chat.
std::vector<std::string> texts() {
  std::vector<std::string> out = {
      "  two  blanks\t\tand tabs\n\n\nlines \r\n end ",
      "def f(x):\n    return [i**2 for i in range(1000000)]  # caf\u00e9",
      "<s>[INST] Hi [/INST]</s><|endoftext|><|im_start|>user\nHello<|im_end|>",
      "<|begin_of_text|><|eot_id|> \u4f60\u597d\uff0c\u4e16\u754c \U0001F600\U0001F468\u200D\U0001F469",
      "e\u0301 \u0410\u0411\u0412 \u0645\u0631\u062d\u0628\u0627 1234567890 3.14159"};
  const auto table = read_file(fs::path(KNAPSAQ_TEST_DATA) / "text/training.txt");
  out.push_back(table.substr(0, 20000));
  return out;
}

/// The tokenizer of a folder, by way of a GGUF file.
Tokenizer through_gguf(const fs::path& folder, const fs::path& file, std::int64_t vocab) {
  GgufMetadata metadata;
  std::vector<std::string> notes;
  add_vocabulary(folder, vocab, metadata, notes);
  GgufWriter(file, metadata, {}).commit();
  return Tokenizer::load(file);
}

void expect_same(const fs::path& folder) {
  const Scratch scratch;
  const Tokenizer wanted = Tokenizer::load(folder);
  const Tokenizer found = through_gguf(folder, scratch / "t.gguf", wanted.vocabulary_size() + 3);
  EXPECT_EQ(found.bos(), wanted.bos());
  EXPECT_EQ(found.eos(), wanted.eos());
  EXPECT_EQ(found.adds_bos(), wanted.adds_bos());
  std::vector<std::string> all = texts();
  for (const AddedToken& token : wanted.model().parts().added)
    all.push_back("a " + token.content + " b" + token.content + "\n" + token.content);
  for (const std::string& text : all) {
    for (const bool special : {true, false}) {
      const auto ids = wanted.encode(text, special);
      ASSERT_EQ(found.encode(text, special), ids) << text;
      EXPECT_EQ(found.decode(ids, special), wanted.decode(ids, special)) << text;
    }
  }
}

TEST(GgufTokenizer, GivesTheIdsOfTheOriginal) {
  int carried = 0;
  for (const auto& entry : fs::directory_iterator(kSmallTokenizers)) {
    SCOPED_TRACE(entry.path().filename());
    try {
      GgufMetadata metadata;
      std::vector<std::string> notes;
      add_vocabulary(entry.path(), 1 << 14, metadata, notes);
    } catch (const InputError&) {
      continue;  // no form in GGUF; gguf_test.cpp says which
    }
    ++carried;
    expect_same(entry.path());
  }
  EXPECT_GE(carried, 5);
  expect_same(kSource / "assets/wiki-llama-6m");
}

TEST(GgufTokenizer, GivesTheIdsOfRealOriginals) {
  const fs::path shared = kSource.parent_path() / "shared/tokenizers";
  if (!fs::exists(shared)) GTEST_SKIP() << "needs shared/, which is not part of the project";
  for (const char* name : {"llama2", "llama3", "qwen2", "pythia", "opt"}) {
    SCOPED_TRACE(name);
    expect_same(shared / name);
  }
}

TEST(GgufTokenizer, BadOnesAreNamed) {
  const Scratch scratch;
  const auto refusal = [&](const std::function<void(GgufMetadata&)>& fill) {
    GgufMetadata metadata;
    fill(metadata);
    return message_of([&] { read_gguf_tokenizer(metadata, "f.gguf"); });
  };
  const GgufArray three = std::vector<std::string>{"a", "b", "ab"};
  EXPECT_THAT(refusal([](GgufMetadata&) {}), HasSubstr("'tokenizer.ggml.model' is missing"));
  EXPECT_THAT(refusal([](GgufMetadata& m) { m.add("tokenizer.ggml.model", "bert"); }),
              HasSubstr("is 'bert', which is not supported"));
  EXPECT_THAT(refusal([&](GgufMetadata& m) {
                m.add("tokenizer.ggml.model", "gpt2");
                m.add("tokenizer.ggml.pre", "viking");
                m.add("tokenizer.ggml.tokens", three);
              }),
              HasSubstr("is 'viking', which is not a known pre-tokenizer; known are gpt-2, olmo"));
  EXPECT_THAT(refusal([&](GgufMetadata& m) {
                m.add("tokenizer.ggml.model", "llama");
                m.add("tokenizer.ggml.tokens", three);
              }),
              HasSubstr("'tokenizer.ggml.scores' is missing"));
  EXPECT_THAT(refusal([&](GgufMetadata& m) {
                m.add("tokenizer.ggml.model", "gpt2");
                m.add("tokenizer.ggml.pre", "gpt-2");
                m.add("tokenizer.ggml.tokens", three);
                m.add("tokenizer.ggml.merges", GgufArray(std::vector<std::string>{"a c"}));
              }),
              HasSubstr("needs the token 'c'"));
  EXPECT_THAT(refusal([&](GgufMetadata& m) {
                m.add("tokenizer.ggml.model", "gpt2");
                m.add("tokenizer.ggml.pre", "gpt-2");
                m.add("tokenizer.ggml.tokens", three);
                m.add("tokenizer.ggml.bos_token_id", std::uint32_t{3});
              }),
              HasSubstr("'tokenizer.ggml.bos_token_id' is not the number of a token"));
}

// ---------------------------------------------------------------- models

nlohmann::json config_json(const char* architecture) {
  return {{"architectures", {architecture}},
          {"hidden_size", 64},
          {"intermediate_size", 96},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 16},
          {"vocab_size", 1200},
          {"max_position_embeddings", 512},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 500000.0},
          {"sliding_window", nullptr}};
}

/// The weights of a matrix, dense or quantized.
std::vector<float> weights_of(const Checkpoint& checkpoint, const std::string& module) {
  if (!checkpoint.packing(module)) return checkpoint.floats(module + ".weight");
  const StoredMatrix stored = checkpoint.stored(module);
  const auto cols = static_cast<std::size_t>(cols_of(stored));
  std::vector<float> values(static_cast<std::size_t>(rows_of(stored)) * cols);
  for (std::int64_t row = 0; row < rows_of(stored); ++row)
    dequantize_row(stored, row, std::span(values).subspan(static_cast<std::size_t>(row) * cols, cols));
  return values;
}

class GgufReading : public ::testing::Test {
 protected:
  void make(const nlohmann::json& json) {
    config_ = parse_model_config(json);
    fs::remove_all(scratch_ / "model");
    fs::copy(kSmallTokenizers / "qwen2", scratch_ / "model", fs::copy_options::recursive);
    write_random_model(scratch_ / "model", json);
  }

  void export_folder(const fs::path& folder) {
    const Checkpoint model = Checkpoint::open(folder);
    ExportOptions options;
    options.replace = true;
    writer("gguf").write(model, config_, scratch_ / "out.gguf", options, Progress::none());
  }

  static std::vector<float> losses(const Checkpoint& checkpoint, const ModelConfig& config) {
    const auto backend = make_backend({.precision = Precision::fp32});
    Decoder decoder = Decoder::load(checkpoint, config, *backend);
    std::vector<std::int32_t> tokens(96);
    Random random(3);
    for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(random.below(1000));
    std::vector<float> out(tokens.size() - 2);
    decoder.losses(tokens, 2, 48, out);
    return out;
  }

  /// The file is the folder: configuration, every weight, every loss.
  void expect_same(const fs::path& folder, bool same_positions = true) {
    const Checkpoint wanted = Checkpoint::open(folder);
    const Checkpoint found = Checkpoint::open(scratch_ / "out.gguf");
    const ModelConfig read = parse_model_config(found.config());
    check_shapes(found, read);
    EXPECT_EQ(read.architecture, config_.architecture);
    EXPECT_EQ(
        std::tie(read.hidden, read.ffn, read.layers, read.heads, read.kv_heads, read.head_dim, read.vocab),
        std::tie(config_.hidden, config_.ffn, config_.layers, config_.heads, config_.kv_heads,
                 config_.head_dim, config_.vocab));
    EXPECT_EQ(std::tie(read.max_positions, read.norm_eps, read.rope().theta, read.qkv_bias, read.o_bias,
                       read.mlp_bias, read.qk_norm, read.tied),
              std::tie(config_.max_positions, config_.norm_eps, config_.rope().theta, config_.qkv_bias,
                       config_.o_bias, config_.mlp_bias, config_.qk_norm, config_.tied));
    for (std::int64_t i = 0; i < read.layers; ++i)
      EXPECT_EQ(layer_config(read, i).sliding_window, layer_config(config_, i).sliding_window);
    const auto frequencies_of = [](const ModelConfig& config) {
      return rotary_frequencies(config.rope().scaling, config.rope().theta, config.head_dim, 0);
    };
    const std::vector<float> frequencies = frequencies_of(config_);
    const std::vector<float> read_frequencies = frequencies_of(read);
    ASSERT_EQ(read_frequencies.size(), frequencies.size());
    for (std::size_t i = 0; i < frequencies.size(); ++i)
      EXPECT_NEAR(read_frequencies[i], frequencies[i], (same_positions ? 0 : 2e-7) * frequencies[i]);
    for (const Matrix& matrix : matrices(config_))
      EXPECT_EQ(weights_of(found, matrix.name), weights_of(wanted, matrix.name)) << matrix.name;
    for (const ExpectedTensor& tensor : dense_tensors(config_))
      EXPECT_EQ(found.floats(tensor.name), wanted.floats(tensor.name)) << tensor.name;
    const std::vector<float> a = losses(found, read);
    const std::vector<float> b = losses(wanted, config_);
    if (same_positions) {
      EXPECT_EQ(a, b);
    } else {
      for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 2e-4);
    }
  }

  ModelConfig config_;
  Scratch scratch_;
};

TEST_F(GgufReading, DenseModelsOfEveryArchitecture) {
  std::map<std::string, nlohmann::json> cases;
  cases["bias"] = config_json("LlamaForCausalLM");
  cases["bias"]["attention_bias"] = cases["bias"]["mlp_bias"] = true;
  cases["tied"] = config_json("LlamaForCausalLM");
  cases["tied"]["tie_word_embeddings"] = true;
  cases["linear"] = config_json("LlamaForCausalLM");
  cases["linear"]["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 4.0}};
  cases["wide heads"] = config_json("LlamaForCausalLM");
  cases["wide heads"]["head_dim"] = 32;
  cases["window"] = config_json("MistralForCausalLM");
  cases["window"]["sliding_window"] = 16;
  cases["qwen2"] = config_json("Qwen2ForCausalLM");
  cases["qwen2 window"] = config_json("Qwen2ForCausalLM");
  cases["qwen2 window"].update(
      {{"use_sliding_window", true}, {"sliding_window", 16}, {"max_window_layers", 1}});
  cases["qwen3"] = config_json("Qwen3ForCausalLM");
  for (const auto& [name, json] : cases) {
    SCOPED_TRACE(name);
    make(json);
    export_folder(scratch_ / "model");
    expect_same(scratch_ / "model");
  }
}

TEST_F(GgufReading, Llama3sPositionsComeFromTheirFrequencyFactors) {
  nlohmann::json json = config_json("LlamaForCausalLM");
  json["rope_scaling"] = {{"rope_type", "llama3"},
                          {"factor", 8.0},
                          {"low_freq_factor", 1.0},
                          {"high_freq_factor", 4.0},
                          {"original_max_position_embeddings", 256}};
  make(json);
  export_folder(scratch_ / "model");
  expect_same(scratch_ / "model", false);
  EXPECT_EQ(parse_model_config(Checkpoint::open(scratch_ / "out.gguf").config()).rope().scaling.kind,
            RopeScaling::Kind::frequency_factors);
  // The limits of all published models are recognised, and so is the rule.
  json["rope_scaling"]["original_max_position_embeddings"] = 8192;
  make(json);
  export_folder(scratch_ / "model");
  expect_same(scratch_ / "model");
  EXPECT_EQ(Checkpoint::open(scratch_ / "out.gguf").config()["rope_scaling"], json["rope_scaling"]);
}

TEST_F(GgufReading, QuantizedModelsOfEveryType) {
  for (const char* architecture : {"LlamaForCausalLM", "Qwen3ForCausalLM"}) {
    nlohmann::json json = config_json(architecture);
    json["hidden_size"] = json["intermediate_size"] = 256;
    json["num_hidden_layers"] = 1;
    json["head_dim"] = 64;
    for (const GgmlTypeInfo& type : ggml_types()) {
      SCOPED_TRACE(std::string(architecture) + " " + std::string(type.name));
      make(json);
      write_quantized(Checkpoint::open(scratch_ / "model"), config_,
                      uniform_allocation(matrices(config_), parse_scheme(type.name)), scratch_ / "quantized",
                      true);
      export_folder(scratch_ / "quantized");
      expect_same(scratch_ / "quantized");
      const Checkpoint found = Checkpoint::open(scratch_ / "out.gguf");
      for (const Matrix& matrix : matrices(config_))
        EXPECT_EQ(found.packing(matrix.name)->scheme, type.name) << matrix.name;
    }
  }
}

/// The file again, with what `change` makes of its metadata and tensors.
struct Content {
  std::map<std::string, GgufValue> metadata;
  std::map<std::string, std::pair<GgufTensorSpec, std::vector<std::byte>>> tensors;

  explicit Content(const fs::path& path) {
    const GgufFile file(path);
    for (const auto& [key, value] : file.metadata().entries()) metadata.emplace(key, value);
    for (const auto& [name, tensor] : file.tensors())
      tensors[name] = {{name, tensor.type, tensor.shape}, {tensor.bytes.begin(), tensor.bytes.end()}};
  }
  void write(const fs::path& path) const {
    GgufMetadata all;
    for (const auto& [key, value] : metadata) all.add(key, value);
    std::vector<GgufTensorSpec> specs;
    for (const auto& [name, tensor] : tensors) specs.push_back(tensor.first);
    GgufWriter writer(path, all, specs);
    for (const auto& [name, tensor] : tensors) writer.write(tensor.second);
    writer.commit();
  }
};

/// As llama-quantize makes it: embedding and head in blocks too.
TEST_F(GgufReading, EmbeddingAndHeadInBlocks) {
  for (const bool tied : {false, true}) {
    nlohmann::json json = config_json("LlamaForCausalLM");
    json["tie_word_embeddings"] = tied;
    make(json);
    export_folder(scratch_ / "model");
    Content content(scratch_ / "out.gguf");
    std::map<std::string, std::vector<float>> decoded;
    for (const std::string name : {"token_embd.weight", "output.weight"}) {
      if (tied && name == "output.weight") continue;
      auto& [spec, bytes] = content.tensors.at(name);
      const std::vector<float> values = read_floats({std::get<DType>(spec.type), spec.shape, bytes});
      const StoredMatrix stored = quantize({spec.shape[0], spec.shape[1], values}, parse_scheme("q8_0"));
      bytes = std::get<GgmlMatrix>(stored).blocks;
      spec.type = GgmlType::Q8_0;
      std::vector<float>& all = decoded[name];
      all.resize(values.size());
      for (std::int64_t row = 0; row < spec.shape[0]; ++row)
        dequantize_row(stored, row, std::span(all).subspan(static_cast<std::size_t>(row * 64), 64));
    }
    content.write(scratch_ / "blocks.gguf");
    const Checkpoint blocks = Checkpoint::open(scratch_ / "blocks.gguf");
    EXPECT_EQ(weights_of(blocks, "model.embed_tokens"), decoded.at("token_embd.weight"));
    // The same model with those matrices as floats.
    for (auto& [name, values] : decoded) {
      auto& [spec, bytes] = content.tensors.at(name);
      spec.type = DType::F32;
      const auto raw = std::as_bytes(std::span(values));
      bytes.assign(raw.begin(), raw.end());
    }
    content.write(scratch_ / "floats.gguf");
    EXPECT_EQ(losses(blocks, config_), losses(Checkpoint::open(scratch_ / "floats.gguf"), config_));
  }
}

TEST_F(GgufReading, SplitFiles) {
  make(config_json("LlamaForCausalLM"));
  export_folder(scratch_ / "model");
  const Content whole(scratch_ / "out.gguf");
  const std::vector<float> wanted = losses(Checkpoint::open(scratch_ / "out.gguf"), config_);
  Content first = whole;
  Content second = whole;
  first.metadata["split.no"] = std::uint16_t{0};
  first.metadata["split.count"] = std::uint16_t{2};
  second.metadata = {{"split.no", std::uint16_t{1}}, {"split.count", std::uint16_t{2}}};
  std::size_t index = 0;
  for (const auto& [name, tensor] : whole.tensors) (index++ % 2 == 0 ? first : second).tensors.erase(name);
  first.write(scratch_ / "m-00001-of-00002.gguf");
  EXPECT_THAT(message_of([&] { Checkpoint::open(scratch_ / "m-00001-of-00002.gguf"); }),
              HasSubstr("m-00002-of-00002.gguf: is missing; the model is split into 2 files"));
  second.write(scratch_ / "m-00002-of-00002.gguf");
  EXPECT_EQ(losses(Checkpoint::open(scratch_ / "m-00001-of-00002.gguf"), config_), wanted);
  EXPECT_THAT(message_of([&] { Checkpoint::open(scratch_ / "m-00002-of-00002.gguf"); }),
              HasSubstr("the first of them is expected"));
  whole.write(scratch_ / "m-00002-of-00002.gguf");
  EXPECT_THAT(message_of([&] { Checkpoint::open(scratch_ / "m-00001-of-00002.gguf"); }),
              HasSubstr("is in an earlier file of the model too"));
}

TEST_F(GgufReading, WhatIsNotSupportedIsNamed) {
  make(config_json("LlamaForCausalLM"));
  export_folder(scratch_ / "model");
  const Content whole(scratch_ / "out.gguf");
  const auto refusal = [&](const std::function<void(Content&)>& change) {
    Content content = whole;
    change(content);
    content.write(scratch_ / "bad.gguf");
    return message_of([&] {
      const Checkpoint read = Checkpoint::open(scratch_ / "bad.gguf");
      check_shapes(read, parse_model_config(read.config()));
    });
  };
  EXPECT_EQ(refusal([](Content&) {}), "");
  EXPECT_THAT(
      refusal([](Content& c) { c.metadata["general.architecture"] = "opt"; }),
      ::testing::AllOf(
          HasSubstr("bad.gguf: the architecture 'opt' is not supported; supported in GGUF files are gemma2"),
          HasSubstr(", llama, "), HasSubstr(", qwen3, ")));
  EXPECT_THAT(refusal([](Content& c) { c.metadata.erase("general.architecture"); }), HasSubstr("is missing"));
  EXPECT_THAT(refusal([](Content& c) { c.metadata["llama.expert_count"] = std::uint32_t{8}; }),
              HasSubstr("num_experts_per_tok is missing"));
  EXPECT_THAT(refusal([](Content& c) { c.metadata["llama.rope.scaling.type"] = "mrope"; }),
              HasSubstr("is 'mrope', which is not supported"));
  EXPECT_THAT(refusal([](Content& c) { c.metadata["llama.rope.dimension_count"] = std::uint32_t{7}; }),
              HasSubstr("not a part of a head"));
  EXPECT_THAT(refusal([](Content& c) { c.metadata["llama.block_count"] = "two"; }),
              HasSubstr("'llama.block_count' is not a whole number"));
  EXPECT_THAT(refusal([](Content& c) { c.metadata["llama.block_count"] = std::uint64_t{1} << 60; }),
              HasSubstr("num_hidden_layers"));
  EXPECT_THAT(refusal([](Content& c) { c.metadata["llama.attention.head_count"] = std::uint32_t{0}; }),
              HasSubstr("is not above 0"));
  EXPECT_THAT(refusal([](Content& c) { c.metadata["llama.attention.head_count"] = std::uint32_t{7}; }),
              HasSubstr("7 attention heads cannot share"));
  EXPECT_THAT(refusal([](Content& c) {
                c.metadata["llama.attention.head_count_kv"] = GgufArray(std::vector<std::int32_t>{2, 4});
              }),
              HasSubstr("not the same whole number for every layer"));
  EXPECT_THAT(refusal([](Content& c) { c.tensors.erase("token_embd.weight"); }),
              HasSubstr("token_embd.weight"));
  EXPECT_THAT(refusal([](Content& c) { c.tensors.erase("blk.1.ffn_up.weight"); }),
              HasSubstr("'model.layers.1.mlp.up_proj.weight' is missing"));
  EXPECT_THAT(refusal([](Content& c) {
                c.tensors["blk.0.attn_sub_norm.weight"] = {{"blk.0.attn_sub_norm.weight", DType::F32, {2}},
                                                           std::vector<std::byte>(8)};
              }),
              HasSubstr("'blk.0.attn_sub_norm.weight' has no place"));
  EXPECT_THAT(refusal([](Content& c) {
                c.tensors["blk.0.attn_q.weight"] = {
                    {"blk.0.attn_q.weight", DType::F16, {std::int64_t{1} << 40, 0}}, {}};
              }),
              HasSubstr("'blk.0.attn_q.weight' is empty"));
  EXPECT_THAT(
      refusal([](Content& c) {
        c.tensors["rope_freqs.weight"] = {{"rope_freqs.weight", DType::F32, {2}}, std::vector<std::byte>(8)};
      }),
      HasSubstr("rope_freqs.weight is not a number for each of 8 pairs"));
}

/// The weights of a file by gguf-py (tools/make_gguf_model_references.py), against the sums of rows beside
/// it.
void expect_sums(const fs::path& file, const Checkpoint& checkpoint, std::size_t matrices) {
  const auto sums = nlohmann::json::parse(read_file(fs::path(file).replace_extension(".json")));
  ASSERT_EQ(sums.size(), matrices);
  for (const auto& [module, wanted] : sums.items()) {
    SCOPED_TRACE(module);
    const std::vector<float> values = weights_of(checkpoint, module);
    const std::size_t cols = values.size() / wanted.size();
    for (std::size_t row = 0; row < wanted.size(); ++row) {
      double sum = 0;
      for (std::size_t i = 0; i < cols; ++i) sum += values[row * cols + i];
      EXPECT_NEAR(sum, wanted[row].get<double>(), 1e-12) << row;
    }
  }
}

/// q and k are permuted by llama.cpp's own converter.
TEST(GgufReference, AnotherWritersFileIsRead) {
  const fs::path folder = fs::path(KNAPSAQ_TEST_DATA) / "checkpoint";
  const Checkpoint checkpoint = Checkpoint::open(folder / "gguf_model.gguf");
  const ModelConfig config = parse_model_config(checkpoint.config());
  check_shapes(checkpoint, config);
  EXPECT_EQ(config.architecture, "LlamaForCausalLM");
  EXPECT_TRUE(config.tied);
  expect_sums(folder / "gguf_model.gguf", checkpoint, 8);
  const auto backend = make_backend({.precision = Precision::fp32});
  Decoder decoder = Decoder::load(checkpoint, config, *backend);
  const Tokenizer tokenizer = Tokenizer::load(folder / "gguf_model.gguf");
  // By hand, the best score first: the blank and "a", then "b" to them; nothing has a "c" behind that.
  EXPECT_EQ(tokenizer.encode("abc"), (std::vector<std::int32_t>{1, 265, 262}));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("abc \u00e9"), true), "abc \u00e9");
  const std::vector<std::int32_t> ids = tokenizer.encode("abc abc a bc");
  for (const float logit : decoder.logits(ids, 0)) ASSERT_TRUE(std::isfinite(logit));
  EXPECT_EQ(gguf_chat_template(folder / "gguf_model.gguf"), "{{ messages }}");
}

TEST(GgufReference, IqTypesAreReadAndRun) {
  const fs::path file = fs::path(KNAPSAQ_TEST_DATA) / "checkpoint/gguf_iq_model.gguf";
  const Checkpoint checkpoint = Checkpoint::open(file);
  const ModelConfig config = parse_model_config(checkpoint.config());
  check_shapes(checkpoint, config);
  expect_sums(file, checkpoint, 15);
  std::set<std::string> schemes;
  for (const Matrix& matrix : matrices(config)) schemes.insert(checkpoint.packing(matrix.name)->scheme);
  EXPECT_THAT(schemes, testing::ElementsAre("iq1_m", "iq1_s", "iq2_s", "iq2_xs", "iq2_xxs", "iq3_s",
                                            "iq3_xxs", "iq4_nl", "iq4_xs"));
  // From panels and from dense numbers.
  const std::vector<std::int32_t> ids = Tokenizer::load(file).encode("abc abc a bc");
  std::vector<std::vector<float>> logits;
  for (const Packed packed : {Packed::off, Packed::exact}) {
    const auto backend = make_backend({.precision = Precision::fp32, .packed = packed});
    Decoder decoder = Decoder::load(checkpoint, config, *backend);
    logits.push_back(decoder.logits(ids, 0));
  }
  ASSERT_EQ(logits[0].size(), logits[1].size());
  for (std::size_t i = 0; i < logits[0].size(); ++i)
    ASSERT_NEAR(logits[0][i], logits[1][i], 1e-4 * (1 + std::abs(logits[0][i]))) << i;
}

TEST(GgufChatTemplate, IsFound) {
  const Scratch scratch;
  GgufMetadata metadata;
  metadata.add("general.architecture", "llama");
  GgufWriter(scratch / "none.gguf", metadata, {}).commit();
  EXPECT_EQ(gguf_chat_template(scratch / "none.gguf"), std::nullopt);
  metadata.add("tokenizer.chat_template", "{{ x }}");
  GgufWriter(scratch / "one.gguf", metadata, {}).commit();
  EXPECT_EQ(gguf_chat_template(scratch / "one.gguf"), "{{ x }}");
}

}  // namespace
}  // namespace knapsaq
