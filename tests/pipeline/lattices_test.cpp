// A model whose weights were made of codes, as QAT checkpoints and dequantized models are, the whole way.

#include "knapsaq/pipeline/lattices.h"

#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/files.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/pipeline/fit.h"
#include "knapsaq/pipeline/info.h"
#include "knapsaq/pipeline/make_bank.h"
#include "knapsaq/quant/quantizer.h"
#include "scratch.h"
#include "test_models.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::Each;
using testing::HasSubstr;

/// wiki-llama-6m in bf16 with its matrices made of the scheme's codes.
void write_lattice_model(const fs::path& folder, const Scheme& scheme) {
  const fs::path from = asset("wiki-llama-6m");
  fs::create_directories(folder);
  for (const auto& entry : fs::directory_iterator(from))
    if (entry.path().extension() == ".json") fs::copy(entry.path(), folder / entry.path().filename());
  const Checkpoint checkpoint = Checkpoint::open(from);
  std::vector<TensorSpec> specs;
  for (const std::string& name : checkpoint.names()) {
    specs.push_back(checkpoint.spec(name));
    specs.back().type = DType::BF16;
  }
  SafetensorsWriter writer(folder / "model.safetensors", specs);
  for (const TensorSpec& spec : specs) {
    std::vector<float> values = checkpoint.floats(spec.name);
    if (spec.shape.size() == 2) {
      const std::int64_t cols = spec.shape[1];
      const StoredMatrix stored = quantize(MatrixView{spec.shape[0], cols, values}, scheme);
      for (std::int64_t r = 0; r < spec.shape[0]; ++r)
        dequantize_row(stored, r, std::span(values).subspan(static_cast<std::size_t>(r * cols), cols));
    }
    std::vector<std::uint16_t> halves;
    for (const float value : values) halves.push_back(float_to_bfloat16(value));
    writer.write(std::as_bytes(std::span(halves)));
  }
  writer.commit();
}

class Notes final : public Listener {
 public:
  void note(std::string_view line) override { notes.emplace_back(line); }
  std::vector<std::string> notes;
};

class LatticesOfModels : public testing::Test {
 protected:
  LatticesOfModels() { write_lattice_model(model_, parse_scheme("q4_0")); }

  const Scratch scratch_;
  const fs::path model_ = scratch_ / "model";
  Notes notes_;
  Environment environment_{{.threads = 2, .listener = &notes_}};
};

TEST_F(LatticesOfModels, InfoNamesThem) {
  const Session session(environment_, model_);
  for (const ModelInfo::StoredAs& one : info(session).matrices) EXPECT_EQ(one.lattice, "q4_0") << one.name;
}

TEST_F(LatticesOfModels, MenusGetTheirSchemes) {
  const Session session(environment_, model_);
  const std::vector<Matrix> all = matrices(session.config());
  const auto added = [&](const char* text, const char* engine) {
    Menu menu = parse_menu(text);
    const std::size_t before = menu.schemes.size();
    const std::string line =
        add_lattices(session.checkpoint(), all, *engine == 0 ? nullptr : &find_engine(engine), menu);
    EXPECT_EQ(line.empty(), menu.schemes.size() == before);
    std::vector<std::string> names;
    for (std::size_t i = before; i < menu.schemes.size(); ++i) names.push_back(to_string(menu.schemes[i]));
    return names;
  };
  const auto are = [](auto... names) { return testing::ElementsAre(std::string(names)...); };
  EXPECT_THAT(added("q4_k,q6_k", ""), are("q4_0"));
  EXPECT_THAT(added("q4_k,q6_k", "llama.cpp"), are("q4_0"));
  EXPECT_THAT(added("gguf", "llama.cpp"), are());
  EXPECT_THAT(added("hqq:b3g64", ""), are("hqq:b4g32"));
  EXPECT_THAT(added("gptq:b3g64", "mlx"), are("gptq:b4g32"));
  EXPECT_THAT(added("gptq:b3g64s", "vllm"), are("gptq:b4g32s"));
  EXPECT_THAT(added("gptq:b3g64z", "gptqmodel"), are());
  EXPECT_THAT(added("nf4", ""), are());
}

TEST_F(LatticesOfModels, FitLosesNothingWhereTheyFit) {
  Session session(environment_, model_);
  FitOptions options;
  options.output = (scratch_ / "out.gguf").string();
  options.budget.bytes = 3'100'000;
  options.effort = "quick";
  options.of.menu = "q4_k,q6_k,q8_0";
  options.of.engine = "llama.cpp";
  options.of.calibration.samples = {.samples = 8, .window = 128};
  options.of.calibration.text = {asset("wiki-llama-6m-sample.txt").string()};
  options.of.tokens = 512;
  options.of.heldout = 512;
  options.search.strategy = "uniform";
  const FitResult result = fit(session, options);
  EXPECT_THAT(notes_.notes, Contains(HasSubstr("q4_0 (43 matrices)")));
  // What is left is the rounding of the weights to bf16.
  EXPECT_LT(result.model.chosen.kl, 1e-4);
  for (const NamedScheme& one : result.model.allocation) EXPECT_EQ(one.scheme, "q4_0") << one.matrix;
}

}  // namespace
}  // namespace knapsaq
