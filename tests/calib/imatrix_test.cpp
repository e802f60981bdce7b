#include "knapsaq/calib/imatrix.h"

#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/model/architecture.h"
#include "message_of.h"
#include "scratch.h"

namespace knapsaq {
namespace {

using testing::HasSubstr;

const std::filesystem::path kData = std::filesystem::path(KNAPSAQ_TEST_DATA) / "calib";

/// The model that tools/make_gguf_references.py made importance matrices for.
ModelConfig config_of(int layers = 1, int hidden = 4, const char* architecture = "LlamaForCausalLM") {
  return parse_model_config({{"architectures", {architecture}},
                             {"hidden_size", hidden},
                             {"intermediate_size", 6},
                             {"ffn_dim", 6},
                             {"num_hidden_layers", layers},
                             {"num_attention_heads", 2},
                             {"vocab_size", 16}});
}

/// The mean squares that the tool gave the entry of `linear`.
std::vector<float> expected(std::size_t entry, std::int64_t width) {
  std::vector<float> values;
  for (std::int64_t k = 0; k < width; ++k)
    values.push_back(static_cast<float>(entry + 1) * 0.25F + static_cast<float>(k) * 0.5F);
  return values;
}

void expect_entries(const InputSource& source, std::uint64_t tokens) {
  const std::vector<Matrix> all = linears(config_of());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const InputStatistics inputs = source.inputs(all[i].name, all[i].in);
    EXPECT_EQ(inputs.name, all[i].name);
    EXPECT_EQ(inputs.width, all[i].in);
    EXPECT_EQ(inputs.tokens, tokens);
    EXPECT_EQ(inputs.mean_square, expected(i, all[i].in)) << all[i].name;
    EXPECT_TRUE(inputs.mean_abs.empty());
    EXPECT_TRUE(inputs.second_moment.empty());
  }
  EXPECT_FALSE(source.has_second_moments());
}

TEST(Imatrix, ReadsBothFormatsOfLlamaCpp) {
  const Imatrix today = Imatrix::open(kData / "imatrix.gguf", config_of());
  expect_entries(today, 1024);
  EXPECT_THAT(today.identity(), HasSubstr("1024 tokens"));
  const Imatrix legacy = Imatrix::open(kData / "imatrix.dat", config_of());
  expect_entries(legacy, 8);
  EXPECT_NE(today.identity(), legacy.identity());
}

TEST(Imatrix, WrittenFilesHoldWhatLlamaImatrixWrites) {
  const Imatrix source = Imatrix::open(kData / "imatrix.gguf", config_of());
  const Scratch scratch;
  write_imatrix(source, config_of(), {.datasets = {"train.txt"}, .chunks = 2, .chunk_size = 512},
                scratch / "again.gguf");
  expect_entries(Imatrix::open(scratch / "again.gguf", config_of()), 1024);
  const GgufFile theirs(kData / "imatrix.gguf");
  const GgufFile ours(scratch / "again.gguf");
  auto entries = ours.metadata().entries();
  // By it a later command knows that the file is Knapsaq's and may be replaced.
  EXPECT_EQ(std::erase_if(entries, [](const auto& entry) { return entry.first == "knapsaq.writer"; }), 1u);
  EXPECT_EQ(entries, theirs.metadata().entries());
  for (const auto& [name, tensor] : ours.tensors()) {
    const GgufTensor& other = theirs.tensors().at(name);
    EXPECT_EQ(tensor.shape, other.shape) << name;
    // An entry of no tokens, whose sums say nothing.
    if (name == "output.weight.in_sum2") continue;
    EXPECT_TRUE(std::ranges::equal(tensor.bytes, other.bytes)) << name;
  }
}

TEST(Imatrix, OfAnotherModelIsRefusedInOneLine) {
  for (const char* name : {"imatrix.gguf", "imatrix.dat"}) {
    const auto path = kData / name;
    EXPECT_THAT(
        message_of([&] { Imatrix::open(path, config_of(3)); }),
        HasSubstr(
            "imatrix of another model: it has no entry blk.1.attn_q.weight, and none for 15 of 22 matrices"));
    EXPECT_THAT(
        message_of([&] { Imatrix::open(path, config_of(1, 8)); }),
        HasSubstr("imatrix of another model: blk.0.attn_q.weight has 4 inputs there, 8 in this model"));
    EXPECT_THAT(message_of([&] { Imatrix::open(path, config_of(1, 4, "OPTForCausalLM")); }),
                HasSubstr("GGUF has no name for the linear model.decoder.embed_tokens"));
  }
  const Imatrix source = Imatrix::open(kData / "imatrix.gguf", config_of());
  EXPECT_THAT(message_of([&] { source.inputs("model.embed_tokens", 4); }),
              HasSubstr("no entry token_embd.weight"));
  EXPECT_THAT(message_of([&] { source.inputs("something", 4); }), HasSubstr("no name"));
}

/// `file` without the tensors of some weights.
void write_without(const std::filesystem::path& file, const std::vector<std::string>& weights,
                   const std::filesystem::path& to) {
  const GgufFile whole(file);
  std::vector<GgufTensorSpec> specs;
  std::vector<std::byte> bytes;
  for (const auto& [name, tensor] : whole.tensors()) {
    if (std::ranges::any_of(weights, [&](const std::string& weight) { return name.starts_with(weight); }))
      continue;
    specs.push_back({name, tensor.type, tensor.shape});
    bytes.insert(bytes.end(), tensor.bytes.begin(), tensor.bytes.end());
  }
  GgufWriter writer(to, whole.metadata(), specs);
  writer.write(bytes);
  writer.commit();
}

TEST(Imatrix, EntriesThatAreMissingAreMadeUpForAndNamed) {
  const Scratch scratch;
  write_without(kData / "imatrix.gguf", {"blk.0.attn_q", "blk.0.ffn_down"}, scratch / "some.gguf");
  const Imatrix whole = Imatrix::open(kData / "imatrix.gguf", config_of());
  // llama-imatrix omits the head by default.
  ASSERT_EQ(whole.notes().size(), 1U);
  EXPECT_THAT(whole.notes()[0], HasSubstr("no entry for lm_head: their columns count alike"));
  EXPECT_EQ(whole.inputs("lm_head", 4).mean_square, std::vector<float>(4, 1.0F));
  const Imatrix some = Imatrix::open(scratch / "some.gguf", config_of());
  ASSERT_EQ(some.notes().size(), 1U);
  EXPECT_THAT(some.notes()[0],
              HasSubstr("no entry for model.layers.0.mlp.down_proj, lm_head: their columns count alike"));
  for (const Matrix& linear : linears(config_of())) {
    const InputStatistics inputs = some.inputs(linear.name, linear.in);
    if (linear.module == "mlp.down_proj") {
      EXPECT_EQ(inputs.mean_square, std::vector<float>(static_cast<std::size_t>(linear.in), 1.0F));
    } else if (linear.module == "self_attn.q_proj") {
      // k and v multiply the same input.
      EXPECT_EQ(inputs.mean_square, whole.inputs("model.layers.0.self_attn.k_proj", linear.in).mean_square);
    } else {
      EXPECT_EQ(inputs.mean_square, whole.inputs(linear.name, linear.in).mean_square) << linear.name;
    }
  }
  write_without(kData / "imatrix.gguf", {"blk.0.attn", "blk.0.ffn_down"}, scratch / "few.gguf");
  EXPECT_THAT(message_of([&] { Imatrix::open(scratch / "few.gguf", config_of()); }),
              HasSubstr("imatrix of another model"));
}

/// Mean squares that are known of every matrix that is multiplied.
class KnownInputs final : public InputSource {
 public:
  InputStatistics inputs(std::string_view matrix, std::int64_t width) const override {
    asked.emplace_back(matrix);
    InputStatistics inputs = columns_alike(matrix, width);
    inputs.tokens = 8;
    for (std::size_t k = 0; k < inputs.mean_square.size(); ++k)
      inputs.mean_square[k] = static_cast<float>(matrix.size() + k);
    return inputs;
  }
  bool has_second_moments() const override { return false; }
  std::string identity() const override { return "known"; }
  mutable std::vector<std::string> asked;
};

TEST(Imatrix, HoldsTheHead) {
  for (const bool tied : {false, true}) {
    ModelConfig config = config_of();
    config.tied = tied;
    const KnownInputs known;
    const Scratch scratch;
    write_imatrix(known, config, {.datasets = {"t"}, .chunks = 1, .chunk_size = 8}, scratch / "i.gguf");
    // An embedding that is no head multiplies nothing.
    EXPECT_EQ(known.asked.size(), 8U);
    EXPECT_EQ(known.asked.front() == "model.embed_tokens", tied);
    const Imatrix read = Imatrix::open(scratch / "i.gguf", config);
    EXPECT_TRUE(read.notes().empty());
    const std::string head = tied ? "model.embed_tokens" : "lm_head";
    EXPECT_EQ(read.inputs(head, 4).mean_square, known.inputs(head, 4).mean_square);
    EXPECT_TRUE(GgufFile(scratch / "i.gguf")
                    .tensors()
                    .contains(tied ? "token_embd.weight.in_sum2" : "output.weight.in_sum2"));
  }
}

TEST(Imatrix, DamagedFilesAreRefused) {
  const std::string legacy = read_file(kData / "imatrix.dat");
  const std::size_t needed =
      legacy.size() - 17;  // the last chunk's number and the data set's name are not read
  for (std::size_t size = 0; size < needed; ++size)
    EXPECT_THROW(parse_imatrix(std::as_bytes(std::span(legacy).first(size))), InputError) << size;
  EXPECT_EQ(parse_imatrix(std::as_bytes(std::span(legacy).first(needed))).size(), 7);

  // The first value becomes a NaN, then a negative number.
  std::string broken = legacy;
  const std::size_t value = 4 + 4 + std::strlen("blk.0.attn_q.weight") + 8;
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -1.0F}) {
    std::memcpy(broken.data() + value, &bad, sizeof bad);
    EXPECT_THROW(parse_imatrix(std::as_bytes(std::span(broken))), InputError);
  }
  const std::string model = read_file(std::filesystem::path(KNAPSAQ_TEST_DATA) / "checkpoint/reference.gguf");
  EXPECT_THAT(message_of([&] { parse_imatrix(std::as_bytes(std::span(model))); }), HasSubstr("no imatrix"));

  GgufMetadata metadata;
  metadata.add("general.type", "imatrix");
  const Scratch scratch;
  const std::vector<GgufTensorSpec> alone = {{"blk.0.attn_q.weight.in_sum2", DType::F32, {1, 4}}};
  const std::vector<std::byte> zeros(16);
  GgufWriter writer(scratch / "alone.gguf", metadata, alone);
  writer.write(zeros);
  writer.commit();
  EXPECT_THAT(message_of([&] { Imatrix::open(scratch / "alone.gguf", config_of()); }),
              HasSubstr("alone.gguf: has 'blk.0.attn_q.weight.in_sum2' without blk.0.attn_q.weight.counts"));
}

}  // namespace
}  // namespace knapsaq
