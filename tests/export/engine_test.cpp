// For every engine: what its search space holds can be written in its format, and takes the bytes that were
// counted.

#include "knapsaq/export/engine.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/bank/match_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/random.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/export/writer.h"
#include "random_model.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

/// The weight files of a folder, or a file.
std::uint64_t written_bytes(const fs::path& path) {
  if (fs::is_regular_file(path)) return fs::file_size(path);
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(path))
    if (entry.path().filename().string().starts_with("model")) bytes += entry.file_size();
  return bytes;
}

/// Methods that need no calibration.
Menu plain_menu(const Engine& engine) {
  Menu menu = parse_menu(engine.menu);
  for (Scheme& scheme : menu.schemes)
    if (!ggml_type(scheme)) scheme.method = "rtn";
  return menu_for(engine, std::move(menu));
}

class Engines : public ::testing::TestWithParam<std::tuple<std::string, bool, std::int64_t>> {};

TEST_P(Engines, WhatIsFoundIsWrittenInTheBytesThatWereCounted) {
  const auto& [name, tied, hidden] = GetParam();
  const Engine& engine = find_engine(name);
  const Scratch scratch;
  nlohmann::json json = random_llama(tied, hidden);
  json["vocab_size"] = 611;  // at least the tokenizer's, and no multiple of anything
  write_random_model(scratch / "model", json);
  for (const auto& entry : fs::directory_iterator(fs::path(KNAPSAQ_TEST_DATA) / "text/small/qwen2"))
    fs::copy(entry.path(), scratch / "model" / entry.path().filename());
  const Checkpoint model = Checkpoint::open(scratch / "model");
  const ModelConfig config = parse_model_config(json);
  const MatrixSelection selection = selection_for(engine, select_matrices(config, {}));
  const ErrorTable table = size_table(selection.quantized, plain_menu(engine));
  const auto sizes = writer(engine.format).file_sizes(model, config, table, {}, "a name");

  Random random(3);
  for (int round = 0; round < 6; ++round) {
    std::vector<std::size_t> forms;
    std::vector<MatrixScheme> allocation;
    for (std::size_t i = 0; i < table.rows.size(); ++i) {
      // Engines that fuse get one scheme for everything, which they load.
      const std::size_t form =
          engine.ties == "none" || i == 0 ? random.below(table.menu.size()) : forms.front();
      forms.push_back(form);
      allocation.push_back({selection.quantized[i], table.rows[i].cells[form].scheme});
    }
    write_quantized(model, config, allocation, scratch / "native", true);
    ExportOptions options;
    options.replace = true;
    options.name = "a name";
    const ExportReport report =
        writer(engine.format)
            .write(Checkpoint::open(scratch / "native"), config, scratch / "out", options, Progress::none());
    EXPECT_EQ(report.bytes, written_bytes(scratch / "out"));
    EXPECT_EQ(sizes->total(forms), report.bytes);
    EXPECT_TRUE(report.changes.empty());
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, Engines,
    ::testing::Combine(::testing::ValuesIn(engine_names()), ::testing::Bool(),
                       // Whole K blocks, and rows that neither these nor groups of 64 fill.
                       ::testing::Values(256, 96)),
    [](const auto& tried) {
      std::string name = std::get<0>(tried.param) + (std::get<1>(tried.param) ? "_tied_" : "_apart_") +
                         std::to_string(std::get<2>(tried.param));
      std::erase(name, '.');
      return name;
    });

TEST(Engine, SchemesThatItDoesNotLoadAreRefused) {
  const auto complaint = [](const char* engine, const char* menu) {
    try {
      menu_for(find_engine(engine), parse_menu(menu));
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string("none");
  };
  EXPECT_THAT(complaint("llama.cpp", "q4_k,b4g64"), HasSubstr("hqq:b4g64"));
  EXPECT_THAT(complaint("mlx", "q4_k"), HasSubstr("affine"));
  EXPECT_THAT(complaint("mlx", "b4g64/m8g128"), HasSubstr("metadata"));
  EXPECT_THAT(complaint("mlx", "b4row"), HasSubstr("whole rows"));
  EXPECT_THAT(complaint("vllm", "b4g64"), HasSubstr("symmetric"));
  EXPECT_THAT(complaint("vllm", "rtn:b4g64z"), HasSubstr("symmetric"));
  EXPECT_EQ(complaint("vllm", "rtn:b4g64s"), "none");
  EXPECT_THAT(complaint("gptqmodel", "b4g64"), HasSubstr("whole numbers"));
  EXPECT_EQ(complaint("gptqmodel", "rtn:b3g64z"), "none");
  EXPECT_THROW(find_engine("ollama"), UsageError);
}

TEST(Engine, WhatItWantsDenseIsNoMatrixOfTheSearch) {
  const ModelConfig config = parse_model_config(random_llama(false, 64));
  const auto dense = [&](const char* engine) {
    return selection_for(find_engine(engine), select_matrices(config, {})).dense;
  };
  EXPECT_TRUE(dense("llama.cpp").empty());
  EXPECT_TRUE(dense("mlx").empty());
  EXPECT_THAT(dense("vllm"), ::testing::ElementsAre("lm_head", "model.embed_tokens"));
  // Rows of 40 are no whole blocks of any type.
  nlohmann::json json = random_llama(false, 40);
  json["intermediate_size"] = 96;
  const ModelConfig odd = parse_model_config(json);
  const MatrixSelection rest = selection_for(find_engine("llama.cpp"), select_matrices(odd, {}));
  EXPECT_TRUE(std::ranges::all_of(rest.quantized, [](const Matrix& matrix) { return matrix.in % 32 == 0; }));
  EXPECT_FALSE(rest.dense.empty());
}

}  // namespace
}  // namespace knapsaq
