// Matrices that are exchanged in a decoder, embedding and output head among them.

#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "compute/stored_forms.h"
#include "knapsaq/base/error.h"
#include "knapsaq/compute/ggml_matrix.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/model/expected_tensors.h"
#include "random_model.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using test::Codes;

const std::vector<std::int32_t> kTokens{5, 0, 17, 71, 33, 2};

std::vector<std::pair<std::string, nlohmann::json>> models() {
  return {{"tied", random_llama(true)},
          {"apart", random_llama(false)},
          {"opt", random_opt()},
          {"opt-project", random_opt(128, 64)}};
}

class PlacedMatrices : public ::testing::TestWithParam<std::pair<std::string, nlohmann::json>> {
 protected:
  PlacedMatrices() { write_random_model(scratch_ / "model", GetParam().second); }

  /// A copy of the model with the weights that `stored` decodes to, in F32.
  void write_decoded(const std::map<std::string, StoredMatrix>& stored) {
    const Checkpoint model = Checkpoint::open(scratch_ / "model");
    fs::create_directories(scratch_ / "decoded");
    write_file(scratch_ / "decoded/config.json", model.config().dump());
    std::vector<TensorSpec> specs;
    for (const std::string& name : model.names()) specs.push_back({name, DType::F32, model.spec(name).shape});
    SafetensorsWriter writer(scratch_ / "decoded/model.safetensors", specs);
    for (const std::string& name : model.names()) {
      std::vector<float> values = model.floats(name);
      const auto found = stored.find(name.substr(0, name.rfind('.')));
      if (found != stored.end() && name.ends_with(".weight")) {
        const auto cols = static_cast<std::size_t>(cols_of(found->second));
        for (std::int64_t row = 0; row < rows_of(found->second); ++row)
          dequantize_row(found->second, row,
                         std::span(values).subspan(static_cast<std::size_t>(row) * cols, cols));
      }
      writer.write(std::as_bytes(std::span(values)));
    }
    writer.commit();
  }

  Scratch scratch_;
};

INSTANTIATE_TEST_SUITE_P(Models, PlacedMatrices, ::testing::ValuesIn(models()), [](const auto& one) {
  std::string name = one.param.first;
  std::ranges::replace(name, '-', '_');
  return name;
});

TEST_P(PlacedMatrices, AreTheModelThatHasThem) {
  const Checkpoint model = Checkpoint::open(scratch_ / "model");
  const ModelConfig config = parse_model_config(model.config());
  const std::vector<Matrix> all = matrices(config);
  const std::map<std::string, std::function<StoredMatrix(std::int64_t, std::int64_t, std::uint64_t)>> forms =
      {{"b4g32",
        [](auto r, auto c, auto s) { return test::affine_matrix(r, c, 4, 32, false, 0, Codes::random, s); }},
       {"b3row",
        [](auto r, auto c, auto s) { return test::affine_matrix(r, c, 3, 0, false, 0, Codes::random, s); }},
       {"m8", [](auto r, auto c,
                 auto s) { return test::affine_matrix(r, c, 4, 32, false, 128, Codes::random, s); }},
       {"q8_0",
        [](auto r, auto c, auto s) { return test::ggml_matrix(GgmlType::Q8_0, r, c, Codes::random, s); }},
       {"nf4", [](auto r, auto c, auto s) { return test::nf4_matrix(r, c, Codes::random, s); }}};
  for (const auto& [name, make] : forms) {
    std::map<std::string, StoredMatrix> stored;
    for (const Matrix& matrix : all)
      if (!matrix.in_block()) stored.emplace(matrix.name, make(matrix.out, matrix.in, matrix.number + 1));
    write_decoded(stored);
    const Checkpoint decoded = Checkpoint::open(scratch_ / "decoded");
    for (const Precision precision : {Precision::fp32, Precision::bf16}) {
      SCOPED_TRACE(name + (precision == Precision::fp32 ? " fp32" : " bf16"));
      const auto backend = make_backend({.precision = precision});
      Decoder expected = Decoder::load(decoded, config, *backend);
      Decoder found = Decoder::load(model, config, *backend);
      const std::vector<float> before = found.logits(kTokens, 0);
      std::map<std::size_t, PreparedMatrix> old;
      for (const Matrix& matrix : all) {
        if (matrix.in_block()) continue;
        old[matrix.number] = found.placed(matrix.number);
        found.place(matrix.number, found.prepare(matrix.number, stored.at(matrix.name)));
      }
      const std::vector<float> after = found.logits(kTokens, 0);
      EXPECT_EQ(after, expected.logits(kTokens, 0));
      EXPECT_NE(after, before);
      // The old ones back.
      for (const auto& [number, matrix] : old) found.place(number, matrix);
      EXPECT_EQ(found.logits(kTokens, 0), before);
      // By name, as one.
      for (const auto& [module, matrix] : stored) found.replace(module, matrix);
      EXPECT_EQ(found.logits(kTokens, 0), after);
    }
  }
}

TEST_P(PlacedMatrices, ArePreparedForWhatTheyDo) {
  const Checkpoint model = Checkpoint::open(scratch_ / "model");
  const ModelConfig config = parse_model_config(model.config());
  const std::vector<Matrix> all = matrices(config);
  const auto backend = make_backend({.precision = Precision::fp32});
  Decoder decoder = Decoder::load(model, config, *backend);
  const auto made = [&](const Matrix& matrix) {
    return test::affine_matrix(matrix.out, matrix.in, 4, 32, false, 0, Codes::random, 1);
  };
  for (const Matrix& matrix : all) {
    const PreparedMatrix prepared = decoder.prepare(matrix.number, made(matrix));
    EXPECT_EQ(prepared.weight != nullptr, matrix.is_multiplied()) << matrix.name;
    EXPECT_EQ(prepared.table != nullptr, matrix.is_looked_up()) << matrix.name;
    EXPECT_GT(prepared.bytes(), 0U);
    const PreparedMatrix own = decoder.placed(matrix.number);
    EXPECT_EQ(own.weight != nullptr, matrix.is_multiplied());
    EXPECT_EQ(own.table != nullptr, matrix.is_looked_up());
  }
  // A linear's weight is no embedding, and nothing is no matrix.
  EXPECT_THROW(decoder.place(0, decoder.prepare(1, made(all[1]))), std::invalid_argument);
  EXPECT_THROW(decoder.place(1, decoder.prepare(0, made(all[0]))), std::invalid_argument);
  EXPECT_THROW(decoder.place(0, {}), std::invalid_argument);
  EXPECT_THROW(decoder.prepare(0, made(all[1])), std::invalid_argument);
  EXPECT_THROW(decoder.replace("model.nothing", made(all[0])), UsageError);

  Decoder empty = Decoder::open(model, config, *backend);
  for (const Matrix& matrix : all) {
    EXPECT_THROW(empty.prepare(matrix.number, made(matrix)), std::logic_error) << matrix.name;
    EXPECT_THROW(empty.placed(matrix.number), std::logic_error) << matrix.name;
  }
  empty.load_embedding(model);
  if (config.tied) {
    EXPECT_THROW(empty.prepare(0, made(all[0])), std::logic_error) << "the head is missing";
    empty.load_head(model);
  }
  EXPECT_NO_THROW(empty.place(0, empty.prepare(0, made(all[0]))));
}

TEST_P(PlacedMatrices, NormsAndBiasesAreExchanged) {
  const Checkpoint model = Checkpoint::open(scratch_ / "model");
  const ModelConfig config = parse_model_config(model.config());
  const auto backend = make_backend({.precision = Precision::fp32});
  Decoder decoder = Decoder::load(model, config, *backend);
  const std::vector<Matrix> all = matrices(config);
  const Matrix& matrix = all[1];
  const StoredMatrix stored = test::affine_matrix(matrix.out, matrix.in, 4, 32, false, 0, Codes::random, 1);
  decoder.place(matrix.number, decoder.prepare(matrix.number, stored));
  const std::vector<float> before = decoder.logits(kTokens, 0);
  for (const ExpectedTensor& tensor : dense_tensors(config)) {
    const bool is_norm = tensor.name.find("norm") != std::string::npos;
    const std::vector<float> own = model.floats(tensor.name);
    std::vector<float> other = own;
    for (float& value : other) value += 0.25f;
    if (is_norm) {
      decoder.set_norm(tensor.name, other);
    } else if (tensor.name == matrix.name + ".bias") {
      decoder.place(matrix.number, decoder.prepare(matrix.number, stored, other));
    } else {
      EXPECT_THROW(decoder.set_norm(tensor.name, other), std::invalid_argument) << tensor.name;
      continue;
    }
    EXPECT_NE(decoder.logits(kTokens, 0), before) << tensor.name;
    if (is_norm) {
      decoder.set_norm(tensor.name, own);
    } else {
      decoder.place(matrix.number, decoder.prepare(matrix.number, stored, own));
    }
    EXPECT_EQ(decoder.logits(kTokens, 0), before) << tensor.name;
  }
  EXPECT_THROW(decoder.set_norm(matrix.name + ".weight", std::vector<float>(64)), std::invalid_argument);
  EXPECT_THROW(decoder.prepare(matrix.number, stored, std::vector<float>(3)), std::invalid_argument);
}

}  // namespace
}  // namespace knapsaq
