// Embedding and output head in Knapsaq's own format: as they are placed in a decoder, so they are read from
// the folder, and its size is known to the byte before.

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/bank/match_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/quant/quantizer.h"
#include "random_model.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const std::vector<std::int32_t> kTokens{5, 0, 17, 71, 33, 2};

class QuantizedEnds : public ::testing::TestWithParam<std::pair<std::string, nlohmann::json>> {
 protected:
  QuantizedEnds() : config_(parse_model_config(GetParam().second)) {
    write_random_model(scratch_ / "model", GetParam().second);
  }

  std::vector<MatrixScheme> allocation(std::initializer_list<const char*> schemes) const {
    std::vector<MatrixScheme> all;
    for (const Matrix& matrix : matrices(config_)) {
      const Scheme scheme = parse_scheme(schemes.begin()[all.size() % schemes.size()]);
      all.push_back({matrix, scheme_for(matrix, scheme)});
    }
    return all;
  }

  std::uint64_t weight_bytes(const fs::path& folder) const {
    std::uint64_t bytes = 0;
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().filename().string().starts_with("model")) bytes += entry.file_size();
    return bytes;
  }

  ModelConfig config_;
  Scratch scratch_;
};

INSTANTIATE_TEST_SUITE_P(Models, QuantizedEnds,
                         ::testing::Values(std::pair{std::string("tied"), random_llama(true, 256)},
                                           std::pair{std::string("apart"), random_llama(false, 256)},
                                           std::pair{std::string("opt"), random_opt(256, 256)},
                                           std::pair{std::string("narrow_opt"), random_opt(256, 64)}),
                         [](const auto& one) { return one.param.first; });

TEST_P(QuantizedEnds, FolderIsTheModelWithThePlacedMatrices) {
  const Checkpoint model = Checkpoint::open(scratch_ / "model");
  for (const std::initializer_list<const char*> schemes :
       {std::initializer_list<const char*>{"rtn:b4g32", "hqq:b3g64/m8g128", "rtn:b8row"},
        {"hqq:b3g64/m8g128", "rtn:b2g32"},
        {"q4_k", "q6_k", "q8_0", "q3_k"},
        {"nf4"},
        {"rtn:b4g64z", "nf4", "q5_0"}}) {
    SCOPED_TRACE(*schemes.begin());
    const std::vector<MatrixScheme> chosen = allocation(schemes);
    const QuantizedLayout layout = layout_quantized(model, config_, chosen);
    const QuantizedModel written = write_quantized(model, config_, chosen, scratch_ / "q", true);
    EXPECT_EQ(written.bytes, layout.bytes);
    EXPECT_EQ(weight_bytes(scratch_ / "q"), layout.bytes);

    const Checkpoint folder = Checkpoint::open(scratch_ / "q");
    EXPECT_NO_THROW(check_shapes(folder, parse_model_config(folder.config())));
    for (const Precision precision : {Precision::fp32, Precision::bf16}) {
      const auto backend = make_backend({.precision = precision});
      Decoder placed = Decoder::load(model, config_, *backend);
      for (const MatrixScheme& one : chosen) {
        EXPECT_EQ(folder.packing(one.matrix.name)->scheme, to_string(one.scheme));
        const std::vector<float> weights = model.floats(one.matrix.name + ".weight");
        const StoredMatrix stored = quantize({one.matrix.out, one.matrix.in, weights}, one.scheme);
        placed.place(one.matrix.number, placed.prepare(one.matrix.number, stored));
      }
      Decoder read = Decoder::load(folder, parse_model_config(folder.config()), *backend);
      EXPECT_EQ(read.logits(kTokens, 0), placed.logits(kTokens, 0));
    }
  }
}

TEST_P(QuantizedEnds, FileSizesAreThoseOfTheFiles) {
  const Checkpoint model = Checkpoint::open(scratch_ / "model");
  const Menu menu = parse_menu("rtn:b2g32,hqq:b4g64/m8g128,q4_k,nf4,rtn:b8row");
  std::vector<Matrix> some = matrices(config_);
  const ErrorTable whole = size_table(some, menu);
  some.erase(some.begin() + 3, some.begin() + 6);
  const ErrorTable part = size_table(some, menu);
  Random random(3);
  for (const ErrorTable& table : {whole, part}) {
    for (const std::uint64_t shard : {kShardBytes, std::uint64_t{40000}}) {
      const WriteOptions options{.shard_bytes = shard};
      const auto sizes = quantized_file_sizes(model, config_, table, options);
      ASSERT_EQ(sizes->modules(), table.rows.size());
      for (int round = 0; round < 5; ++round) {
        std::vector<std::size_t> forms;
        std::vector<MatrixScheme> chosen;
        for (const ErrorRow& row : table.rows) {
          forms.push_back(random.below(menu.schemes.size()));
          const std::string names[] = {row.name};
          chosen.push_back({find_matrices(config_, names).front(), row.cells[forms.back()].scheme});
        }
        EXPECT_EQ(sizes->total(forms), layout_quantized(model, config_, chosen, options).bytes);
        write_quantized(model, config_, chosen, scratch_ / "q", true, Progress::none(), options);
        EXPECT_EQ(sizes->total(forms), weight_bytes(scratch_ / "q"));
      }
    }
  }
  ErrorTable other = whole;
  other.rows.back().name = "model.layers.9.mlp.down_proj";
  EXPECT_THROW(quantized_file_sizes(model, config_, other), InputError);
}

TEST_P(QuantizedEnds, ConfigDescribesThemAsMlxDoes) {
  const Checkpoint model = Checkpoint::open(scratch_ / "model");
  write_quantized(model, config_, allocation({"rtn:b4g32", "rtn:b3g64"}), scratch_ / "q", false);
  const auto config = nlohmann::json::parse(read_file(scratch_ / "q/config.json"));
  for (const Matrix& matrix : matrices(config_)) {
    EXPECT_TRUE(config["quantization"].contains(matrix.name)) << matrix.name;
    EXPECT_TRUE(config["knapsaq"]["schemes"].contains(matrix.name)) << matrix.name;
  }
  // A head that the model does not have is not described.
  EXPECT_EQ(config["quantization"].contains("lm_head"), !config_.tied);
  // Transformers reads linears in NF4, and no embedding.
  write_quantized(model, config_, allocation({"nf4"}), scratch_ / "nf4", false);
  EXPECT_FALSE(Checkpoint::open(scratch_ / "nf4").config().contains("quantization_config"));
}

TEST_P(QuantizedEnds, MatricesInF32AreWrittenInF16UnlessKept) {
  write_random_model(scratch_ / "wide", GetParam().second, DType::F32);
  const Checkpoint model = Checkpoint::open(scratch_ / "wide");
  // One linear is quantized, one is kept, and with it one end.
  const std::vector<Matrix> all = matrices(config_);
  const std::string end = all.front().name;
  const WriteOptions options{.kept = {end, all[2].name}};
  const std::vector<MatrixScheme> chosen{{all[1], parse_scheme("rtn:b4g32")}};
  const QuantizedLayout layout = layout_quantized(model, config_, chosen, options);
  write_quantized(model, config_, chosen, scratch_ / "q", false, Progress::none(), options);
  EXPECT_EQ(weight_bytes(scratch_ / "q"), layout.bytes);
  const Checkpoint folder = Checkpoint::open(scratch_ / "q");
  std::size_t narrowed = 0;
  for (const std::string& name : model.names()) {
    const std::string module = name.substr(0, name.rfind('.'));
    if (module == all[1].name && name.ends_with(".weight")) continue;
    const TensorSpec before = model.spec(name);
    const bool is_kept = before.shape.size() == 1 || module == end || module == all[2].name;
    EXPECT_EQ(folder.spec(name).type, is_kept ? DType::F32 : DType::F16) << name;
    std::vector<float> expected = model.floats(name);
    if (!is_kept)
      for (float& value : expected) value = half_to_float(float_to_half(value));
    EXPECT_EQ(folder.floats(name), expected) << name;
    narrowed += !is_kept;
  }
  EXPECT_GE(narrowed, all.size() - 3);  // positions and projections too, where there are any
  // The sizes that a search goes by are these.
  const ErrorTable table = size_table(std::span(all).subspan(1, 1), parse_menu("rtn:b4g32"));
  EXPECT_EQ(quantized_file_sizes(model, config_, table, options)->total(std::vector<std::size_t>{0}),
            layout.bytes);
}

TEST_P(QuantizedEnds, OtherTypesStayAsTheyAre) {
  write_random_model(scratch_ / "bf16", GetParam().second, DType::BF16);
  const Checkpoint model = Checkpoint::open(scratch_ / "bf16");
  const std::vector<Matrix> all = matrices(config_);
  const std::vector<MatrixScheme> chosen{{all[1], parse_scheme("rtn:b4g32")}};
  write_quantized(model, config_, chosen, scratch_ / "q", false);
  const Checkpoint folder = Checkpoint::open(scratch_ / "q");
  for (const std::string& name : model.names()) {
    if (name == all[1].name + ".weight") continue;
    EXPECT_TRUE(std::ranges::equal(folder.tensor(name).bytes, model.tensor(name).bytes)) << name;
  }
}

/// A model in F32 with one weight that F16 does not hold.
TEST(CarriedMatrices, BeyondF16AreRefusedAndNamed) {
  const Scratch scratch;
  write_random_model(scratch / "model", random_llama(false), DType::F32);
  const ModelConfig config = parse_model_config(random_llama(false));
  {
    std::string bytes = read_file(scratch / "model/model.safetensors");
    const SafetensorsFile file(scratch / "model/model.safetensors");
    const auto at = file.tensors().at("lm_head.weight").bytes.data() - file.file().bytes().data();
    const float large = 65520;  // rounds to infinity
    std::memcpy(bytes.data() + at + 20, &large, sizeof large);
    write_file(scratch / "model/model.safetensors", bytes);
  }
  const Checkpoint model = Checkpoint::open(scratch / "model");
  const std::vector<MatrixScheme> chosen = uniform_allocation(linears(config), parse_scheme("rtn:b4g32"));
  try {
    write_quantized(model, config, chosen, scratch / "q", false);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("lm_head.weight: 65520 at 5"));
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
  }
  EXPECT_FALSE(fs::exists(scratch / "q"));
  const WriteOptions kept{.kept = {"lm_head"}};
  write_quantized(model, config, chosen, scratch / "q", false, Progress::none(), kept);
  EXPECT_EQ(Checkpoint::open(scratch / "q").floats("lm_head.weight"), model.floats("lm_head.weight"));
}

TEST(TiedHeadAlone, IsTheEmbeddingOfWhatIsWritten) {
  const Scratch scratch;
  const fs::path source = fs::path(KNAPSAQ_TEST_DATA) / "model/decoder/llama-head-only";
  const Checkpoint model = Checkpoint::open(source);
  EXPECT_FALSE(model.contains("lm_head.weight"));
  const ModelConfig config = parse_model_config(model.config());
  write_quantized(model, config, uniform_allocation(matrices(config), parse_scheme("rtn:b4g32")),
                  scratch / "q", false);
  const Checkpoint folder = Checkpoint::open(scratch / "q");
  EXPECT_EQ(folder.packing("model.embed_tokens")->scheme, "rtn:b4g32");
  EXPECT_FALSE(folder.packing("lm_head"));
}

}  // namespace
}  // namespace knapsaq
