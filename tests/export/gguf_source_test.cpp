// A GGUF file as the source of what is written: its weights decoded, its tokenizer and its metadata carried.

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/checkpoint/fingerprint.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/export/carried.h"
#include "knapsaq/export/gguf/description.h"
#include "knapsaq/export/gguf/source_metadata.h"
#include "knapsaq/export/gguf/vocabulary.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/export/rewrite_quantized.h"
#include "knapsaq/export/tokenizer_check.h"
#include "knapsaq/export/writer.h"
#include "knapsaq/quant/quantizer.h"
#include "knapsaq/text/chat_template.h"
#include "knapsaq/text/gguf_tokenizer.h"
#include "knapsaq/text/tokenizer.h"
#include "knapsaq/text/tokenizer_writer.h"
#include "message_of.h"
#include "random_model.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const fs::path kSmallTokenizers = fs::path(KNAPSAQ_TEST_DATA) / "text/small";

json config_json() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", 64},
          {"intermediate_size", 96},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"vocab_size", 1200},
          {"max_position_embeddings", 512},
          {"rms_norm_eps", 1e-5},
          {"tie_word_embeddings", true}};
}

std::string text_of(const GgufMetadata& metadata, std::string_view key) {
  const GgufValue* value = metadata.find(key);
  return value != nullptr && std::holds_alternative<std::string>(*value) ? std::get<std::string>(*value) : "";
}

class GgufSourceTest : public testing::Test {
 protected:
  GgufSourceTest() : config_(parse_model_config(config_json())) {
    fs::copy(kSmallTokenizers / "qwen2", folder_, fs::copy_options::recursive);
    write_random_model(folder_, config_json());
  }

  void write_gguf(const fs::path& model, const fs::path& out) const {
    ExportOptions options;
    options.replace = true;
    options.name = "made model";
    writer("gguf").write(Checkpoint::open(model), config_, out, options, Progress::none());
  }

  void quantize_folder(const Checkpoint& model, const std::string& scheme, const fs::path& out) const {
    const std::vector<MatrixScheme> allocation = uniform_allocation(linears(config_), parse_scheme(scheme));
    write_quantized(model, config_, allocation, out, true, Progress::none());
  }

  /// A file with quantized linears and whatever an author says of it.
  fs::path quantized_gguf(const std::string& scheme = "q8_0") const {
    quantize_folder(Checkpoint::open(folder_), scheme, scratch_ / "native");
    write_gguf(scratch_ / "native", scratch_ / "plain.gguf");
    const GgufFile plain(scratch_ / "plain.gguf");
    GgufMetadata metadata;
    for (const auto& [key, value] : plain.metadata().entries()) metadata.add(key, value);
    metadata.add("general.author", "somebody");
    metadata.add("general.languages", GgufArray(std::vector<std::string>{"en", "de"}));
    metadata.add("general.quantized_by", "somebody else");
    metadata.add("general.sampling.temp", 0.6F);
    metadata.add("llama.something", std::uint32_t{7});
    metadata.add("quantize.imatrix.file", "imatrix.dat");
    metadata.add("tokenizer.chat_template", "{{ messages[0]['content'] }}");
    metadata.add("tokenizer.chat_template.tools", "{{ tools }}");
    metadata.add("tokenizer.chat_templates", GgufArray(std::vector<std::string>{"tools"}));
    std::vector<GgufTensorSpec> specs;
    for (const auto& [name, tensor] : plain.tensors()) specs.push_back({name, tensor.type, tensor.shape});
    GgufWriter writer(scratch_ / "source.gguf", metadata, specs);
    for (const auto& [name, tensor] : plain.tensors()) writer.write(tensor.bytes);
    writer.commit();
    return scratch_ / "source.gguf";
  }

  Scratch scratch_;
  fs::path folder_ = scratch_ / "model";
  ModelConfig config_;
};

TEST_F(GgufSourceTest, QuantizedWeightsAreDecoded) {
  const fs::path file = quantized_gguf("q4_k");
  const Checkpoint stored = Checkpoint::open(file);
  const Checkpoint dense = Checkpoint::open(file, Checkpoint::As::dense);
  EXPECT_THAT(stored.notes(), IsEmpty());
  EXPECT_THAT(dense.notes(),
              ElementsAre(AllOf(HasSubstr("quantizing from an already quantized source"), HasSubstr("q"))));
  EXPECT_EQ(dense.names(), stored.names());
  EXPECT_EQ(fingerprint(dense), fingerprint(stored));
  for (const Matrix& one : matrices(config_)) {
    SCOPED_TRACE(one.name);
    EXPECT_FALSE(dense.packing(one.name));
    const std::string weight = one.name + ".weight";
    EXPECT_EQ(dense.is_decoded(weight), stored.packing(one.name).has_value());
    if (!dense.is_decoded(weight)) continue;
    const StoredMatrix matrix = stored.stored(one.name);
    const std::vector<float> values = dense.floats(weight);
    EXPECT_EQ(dense.spec(weight).shape, (std::vector<std::int64_t>{one.out, one.in}));
    std::vector<float> row(static_cast<std::size_t>(one.in));
    for (std::int64_t r = 0; r < one.out; ++r) {
      dequantize_row(matrix, r, row);
      ASSERT_TRUE(std::equal(row.begin(), row.end(), values.begin() + r * one.in)) << r;
    }
    dense.release(weight);
  }
  // A full-precision file is itself.
  write_gguf(folder_, scratch_ / "full.gguf");
  EXPECT_THAT(Checkpoint::open(scratch_ / "full.gguf", Checkpoint::As::dense).notes(), IsEmpty());
}

TEST_F(GgufSourceTest, MetadataReachAnotherGguf) {
  const fs::path file = quantized_gguf();
  quantize_folder(Checkpoint::open(file, Checkpoint::As::dense), "q4_0", scratch_ / "out");
  write_gguf(scratch_ / "out", scratch_ / "again.gguf");
  const GgufFile again(scratch_ / "again.gguf");
  const GgufFile source(file);
  for (const auto& [key, value] : source.metadata().entries()) {
    SCOPED_TRACE(key);
    const GgufValue* found = again.metadata().find(key);
    if (key == "general.quantized_by" || key == "quantize.imatrix.file") {
      EXPECT_EQ(found, nullptr);
    } else if (key != "general.file_type") {
      ASSERT_NE(found, nullptr);
      EXPECT_EQ(*found, value);
    }
  }
  EXPECT_EQ(std::get<std::uint32_t>(*again.metadata().find("general.file_type")), 2u);  // mostly Q4_0
  // The same from the file itself.
  write_gguf(file, scratch_ / "copy.gguf");
  EXPECT_EQ(text_of(GgufFile(scratch_ / "copy.gguf").metadata(), "general.author"), "somebody");
  // Somebody's own template is what counts.
  write_file(scratch_ / "out/chat_template.jinja", "{{ mine }}");
  write_gguf(scratch_ / "out", scratch_ / "mine.gguf");
  EXPECT_EQ(text_of(GgufFile(scratch_ / "mine.gguf").metadata(), "tokenizer.chat_template"), "{{ mine }}");
}

TEST_F(GgufSourceTest, FoldersHaveHuggingFacesFiles) {
  const fs::path file = quantized_gguf();
  const fs::path out = scratch_ / "out";
  quantize_folder(Checkpoint::open(file, Checkpoint::As::dense), "rtn:b4g32z", out);
  const auto parsed = [&](const fs::path& name) { return json::parse(read_file(name)); };
  EXPECT_EQ(parsed(out / "config.json")["model_type"], "llama");
  const json config = parsed(out / "tokenizer_config.json");
  EXPECT_EQ(config["chat_template"][0]["template"], "{{ messages[0]['content'] }}");
  EXPECT_EQ(config["chat_template"][1]["name"], "tools");
  EXPECT_EQ(config["model_max_length"], 512);
  EXPECT_EQ(parsed(out / "generation_config.json")["temperature"], 0.6);
  EXPECT_TRUE(fs::exists(out / kGgufMetadataName));
  const Tokenizer source = Tokenizer::load(folder_);
  const auto same_ids = [&](const fs::path& other) {
    const Tokenizer tokenizer = Tokenizer::load(other);
    EXPECT_TRUE(
        compare_tokenizers(source.model(), tokenizer.model(), trial_texts(source.model().parts())).none());
    EXPECT_EQ(tokenizer.eos(), source.eos());
  };
  same_ids(out);
  writer("compressed-tensors")
      .write(Checkpoint::open(out), config_, scratch_ / "theirs", {}, Progress::none());
  same_ids(scratch_ / "theirs");
  EXPECT_FALSE(fs::exists(scratch_ / "theirs" / kGgufMetadataName));
  EXPECT_EQ(find_chat_template(scratch_ / "theirs")->text, "{{ messages[0]['content'] }}");
}

TEST_F(GgufSourceTest, ATunedFileBecomesAFolder) {
  const fs::path file = quantized_gguf();
  const Checkpoint stored = Checkpoint::open(file);
  rewrite_quantized(stored, config_, {}, scratch_ / "out", false);
  const Checkpoint out = Checkpoint::open(scratch_ / "out");
  for (const Matrix& one : linears(config_)) {
    ASSERT_TRUE(out.packing(one.name)) << one.name;
    EXPECT_EQ(out.packing(one.name)->scheme, "q8_0");
    EXPECT_EQ(std::get<GgmlMatrix>(out.stored(one.name)).blocks,
              std::get<GgmlMatrix>(stored.stored(one.name)).blocks);
  }
}

/// Every kind of tokenizer that GGUF has, written as tokenizer.json.
TEST(GgufTokenizerAsJson, GivesTheSameIds) {
  for (const char* name : {"gpt2", "llama2", "llama2-metaspace", "llama3", "qwen2", "opt-files",
                           "sentencepiece-llama", "tiktoken"}) {
    SCOPED_TRACE(name);
    GgufMetadata metadata;
    std::vector<std::string> notes;
    add_vocabulary(kSmallTokenizers / name, 1 << 14, metadata, notes);
    const TokenizerParts parts = read_gguf_tokenizer(metadata, "made");
    const Scratch scratch;
    write_file(scratch / "tokenizer.json", tokenizer_json(parts));
    write_file(scratch / "tokenizer_config.json", tokenizer_config_json(parts).dump());
    const Tokenizer reread = Tokenizer::load(scratch.path());
    const TokenizerModel made(parts);
    const TokenizerDifference difference =
        compare_tokenizers(made, reread.model(), trial_texts(made.parts()));
    EXPECT_TRUE(difference.none()) << describe(
        difference.ordinary.empty() ? difference.unusual : difference.ordinary, difference.texts);
    EXPECT_EQ(reread.eos(), parts.eos);
    EXPECT_EQ(reread.model().parts().before, parts.before);
  }
}

/// Tokenizers built as those of the families are (tests/text/family_tokenizer_test.cpp), through GGUF.
TEST(GgufVocabularyOfFamilies, GivesTheSameIds) {
  const std::map<std::string, std::string> names = {
      {"gpt-oss", "gpt-4o"},     {"granite", "smollm"},    {"lfm2", "llama-bpe"},  {"mixtral", ""},
      {"neox", "gpt-2"},         {"olmo2", "smaug-bpe"},   {"olmoe", "gpt-2"},     {"phi3", ""},
      {"phi4", "smaug-bpe"},     {"phi4-mini", "gpt-4o"},  {"qwen3-moe", "qwen2"}, {"qwen3.5", "qwen35"},
      {"qwen3.5-moe", "qwen35"}, {"smollm3", "llama-bpe"}, {"tekken", "tekken"}};
  const fs::path families = fs::path(KNAPSAQ_TEST_DATA) / "text/families";
  for (const fs::directory_entry& entry : fs::directory_iterator(families)) {
    const std::string name = entry.path().filename().string();
    SCOPED_TRACE(name);
    // Made here, they have tokens of several blanks that their merges do not make first. llama.cpp takes them
    // as one, as SentencePiece and the published ones' merges do.
    if (name.starts_with("gemma")) continue;
    GgufMetadata metadata;
    std::vector<std::string> notes;
    add_vocabulary(entry.path(), 1 << 14, metadata, notes);
    ASSERT_TRUE(names.contains(name));
    if (!names.at(name).empty()) {
      EXPECT_EQ(text_of(metadata, "tokenizer.ggml.pre"), names.at(name));
    } else {
      EXPECT_THAT(text_of(metadata, "tokenizer.ggml.model"), testing::AnyOf("llama", "gemma4"));
    }
    const Tokenizer source = Tokenizer::load(entry.path());
    const TokenizerModel reread(read_gguf_tokenizer(metadata, "made"));
    EXPECT_TRUE(compare_tokenizers(source.model(), reread, trial_texts(source.model().parts())).none());
  }
}

TEST(FrontMatter, HasTextsAndLists) {
  const auto fields = front_matter(
      "---\r\nlicense: apache-2.0  # open\nlanguage:\n- en\n- \"no\"\ntags: [a, 'b c' ]\n"
      "base_model:\n  - Qwen/Qwen3-0.6B\nextra: |\n  text: more\nmodel-index:\n- name: x\n  results: "
      "[]\n---\n# Title\nlicense: mit\n");
  EXPECT_THAT(fields.at("license"), ElementsAre("apache-2.0"));
  EXPECT_THAT(fields.at("language"), ElementsAre("en", "no"));
  EXPECT_THAT(fields.at("tags"), ElementsAre("a", "b c"));
  EXPECT_THAT(fields.at("base_model"), ElementsAre("Qwen/Qwen3-0.6B"));
  EXPECT_THAT(fields.at("extra"), IsEmpty());
  EXPECT_THAT(fields.at("model-index"), IsEmpty());
  EXPECT_THAT(front_matter("# Title\nlicense: mit\n"), IsEmpty());
  EXPECT_THAT(front_matter("---\nlicense: mit\n"), IsEmpty());
}

TEST_F(GgufSourceTest, AFoldersDescriptionReachesGguf) {
  write_file(
      folder_ / "README.md",
      "---\nlicense: other\nlicense_name: own\nbase_model: org/base\nlanguage: en\ntags: [chat]\n---\n");
  write_file(folder_ / "generation_config.json",
             R"({"eos_token_id": 1, "top_k": 20, "top_p": 0.95, "temperature": 0.6})");
  write_file(folder_ / "LICENSE-own.txt", "do what you like");
  fs::create_directories(folder_ / "additional_chat_templates");
  write_file(folder_ / "chat_template.jinja", "{{ usual }}");
  write_file(folder_ / "additional_chat_templates/rag.jinja", "{{ documents }}");
  write_file(folder_ / "modeling_own.py", "raise SystemExit");
  // By way of Knapsaq's own format, in which there is no README.
  quantize_folder(Checkpoint::open(folder_), "q8_0", scratch_ / "out");
  EXPECT_EQ(read_file(scratch_ / "out/LICENSE-own.txt"), "do what you like");
  EXPECT_EQ(read_file(scratch_ / "out/additional_chat_templates/rag.jinja"), "{{ documents }}");
  EXPECT_FALSE(fs::exists(scratch_ / "out/README.md"));
  EXPECT_FALSE(fs::exists(scratch_ / "out/modeling_own.py"));
  write_gguf(scratch_ / "out", scratch_ / "out.gguf");
  write_gguf(folder_, scratch_ / "direct.gguf");
  for (const char* name : {"out.gguf", "direct.gguf"}) {
    SCOPED_TRACE(name);
    const GgufFile file(scratch_ / name);
    EXPECT_EQ(text_of(file.metadata(), "general.license"), "other");
    EXPECT_EQ(text_of(file.metadata(), "general.license.name"), "own");
    EXPECT_EQ(text_of(file.metadata(), "general.base_model.0.repo_url"), "https://huggingface.co/org/base");
    EXPECT_EQ(std::get<std::int32_t>(*file.metadata().find("general.sampling.top_k")), 20);
    EXPECT_EQ(text_of(file.metadata(), "tokenizer.chat_template"), "{{ usual }}");
    EXPECT_EQ(text_of(file.metadata(), "tokenizer.chat_template.rag"), "{{ documents }}");
  }
}

}  // namespace
}  // namespace knapsaq
