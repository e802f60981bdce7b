#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/execution.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {
namespace {

Checkpoint embedded_model() {
  return Checkpoint::open(std::filesystem::path(KNAPSAQ_SOURCE_DIR) / "assets" / "wiki-llama-6m");
}

TEST(BuildErrorTable, MeasuresEveryMatrixOfTheEmbeddedModel) {
  const Checkpoint checkpoint = embedded_model();
  const ModelConfig config = parse_model_config(checkpoint.config());
  const Menu menu = parse_menu("mxq");
  const std::vector<Matrix> expected = matrices(config);
  const ErrorTable table = build_error_table(checkpoint, expected, menu);
  ASSERT_EQ(table.rows.size(), expected.size());
  EXPECT_EQ(table.menu, menu.schemes);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const ErrorRow& row = table.rows[i];
    SCOPED_TRACE(row.name);
    EXPECT_EQ(row.name, expected[i].name);
    EXPECT_EQ(row.module, expected[i].module);
    EXPECT_EQ(row.layer, expected[i].block);
    EXPECT_EQ(row.parameters, expected[i].parameters());
    EXPECT_TRUE(row.has_statistics);
    EXPECT_GT(row.statistics.kurtosis, 1);
    const std::vector<float> values = read_floats(checkpoint.tensor(row.name + ".weight"));
    const MatrixView weights{expected[i].out, expected[i].in, values};
    ASSERT_EQ(row.cells.size(), menu.schemes.size());
    for (std::size_t s = 0; s < menu.schemes.size(); ++s) {
      EXPECT_EQ(row.cells[s].scheme, menu.schemes[s]);
      const PackedMatrix packed = std::get<PackedMatrix>(quantize(weights, menu.schemes[s]));
      EXPECT_EQ(row.cells[s].bytes, packed.bytes());
      const double error = frobenius_error(weights, packed);
      EXPECT_NEAR(row.cells[s].fnorm, error, 1e-6 * error) << to_string(menu.schemes[s]);
    }
  }
}

TEST(BuildErrorTable, RefusesMenusAndModelsThatDoNotFit) {
  const Checkpoint checkpoint = embedded_model();
  ModelConfig config = parse_model_config(checkpoint.config());
  EXPECT_THROW(build_error_table(checkpoint, linears(config), {}), UsageError);
  EXPECT_THROW(build_error_table(checkpoint, linears(config), parse_menu("hqq:b4g64s")), UsageError);
  EXPECT_THROW(build_error_table(checkpoint, linears(config), parse_menu("b4g64,best:b4g64")), UsageError);
  config.ffn += 32;
  try {
    build_error_table(checkpoint, linears(config), parse_menu("b4g64"));
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("model.layers.0.mlp.gate_proj.weight"));
  }
}

TEST(BuildErrorTable, StopsWhenAsked) {
  const Checkpoint checkpoint = embedded_model();
  const ModelConfig config = parse_model_config(checkpoint.config());
  Cancellation cancellation;
  const ExecutionScope scope({.cancellation = &cancellation});
  cancellation.request();
  EXPECT_THROW(build_error_table(checkpoint, linears(config), parse_menu("b4g64")), Cancelled);
  cancellation.reset();
  EXPECT_NO_THROW(build_error_table(checkpoint, linears(config), parse_menu("b4g64")));
}

}  // namespace
}  // namespace knapsaq
