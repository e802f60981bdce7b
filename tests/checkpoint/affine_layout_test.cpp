#include "knapsaq/checkpoint/affine_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/random.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/shards.h"
#include "message_of.h"
#include "reference_values.h"
#include "scratch.h"

namespace knapsaq {
namespace {

using nlohmann::json;
using testing::HasSubstr;

PackedMatrix random_matrix(const AffineShape& shape, Random& random) {
  PackedMatrix matrix;
  matrix.rows = shape.rows;
  matrix.cols = shape.cols;
  matrix.bits = shape.bits;
  matrix.group = shape.effective_group();
  matrix.meta_bits = shape.meta_bits;
  matrix.meta_group = shape.meta_group;
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(shape.cols));
  const auto words = static_cast<std::size_t>(shape.words_per_row());
  matrix.codes.resize(static_cast<std::size_t>(shape.rows) * words);
  for (std::size_t row = 0; row < static_cast<std::size_t>(shape.rows); ++row) {
    for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(random.below(1u << shape.bits));
    pack_codes(codes, shape.bits, std::span(matrix.codes).subspan(row * words, words));
  }
  const auto half = [&] { return static_cast<std::uint16_t>(random.below(0x7C00)); };
  const auto groups = static_cast<std::size_t>(shape.rows * shape.groups());
  for (std::size_t i = 0; i < groups; ++i) {
    if (shape.meta_bits == 16) {
      matrix.scales.push_back(half());
      matrix.biases.push_back(half());
    } else {
      matrix.scale_codes.push_back(static_cast<std::uint8_t>(random.below(256)));
      matrix.zero_codes.push_back(static_cast<std::uint8_t>(random.below(256)));
      if (i % static_cast<std::size_t>(shape.meta_group) != 0) continue;
      matrix.scale_steps.push_back(half());
      matrix.scale_mins.push_back(half());
    }
  }
  matrix.check();
  return matrix;
}

void expect_equal(const PackedMatrix& a, const PackedMatrix& b) {
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.cols, b.cols);
  EXPECT_EQ(a.bits, b.bits);
  EXPECT_EQ(a.group, b.group);
  EXPECT_EQ(a.meta_bits, b.meta_bits);
  EXPECT_EQ(a.meta_group, b.meta_group);
  EXPECT_EQ(a.codes, b.codes);
  EXPECT_EQ(a.scales, b.scales);
  EXPECT_EQ(a.biases, b.biases);
  EXPECT_EQ(a.scale_codes, b.scale_codes);
  EXPECT_EQ(a.zero_codes, b.zero_codes);
  EXPECT_EQ(a.scale_steps, b.scale_steps);
  EXPECT_EQ(a.scale_mins, b.scale_mins);
}

/// Writes one matrix as the linear "m" of a checkpoint.
void write_checkpoint(const std::filesystem::path& folder, const PackedMatrix& matrix, const json& entry) {
  const json config{{"quantization", {{"group_size", 64}, {"bits", 4}, {"mode", "affine"}, {"m", entry}}}};
  write_file(folder / "config.json", config.dump());
  CheckpointWriter writer(folder, affine_tensors("m", affine_shape(matrix)));
  for (const auto bytes : affine_bytes(matrix)) writer.write(bytes);
  writer.commit();
}

TEST(AffineLayout, WhatMlxQuantizedIsReadAsMlxReadsIt) {
  const Checkpoint checkpoint = Checkpoint::open(checkpoint_data("mlx"));
  const SafetensorsFile expected(checkpoint_data("mlx/expected.safetensors"));
  ASSERT_EQ(expected.tensors().size(), 7u);
  for (const auto& [name, values] : expected.tensors()) {
    SCOPED_TRACE(name);
    const auto packing = checkpoint.packing(name);
    ASSERT_TRUE(packing.has_value());
    EXPECT_EQ(name, "model.layers.0." + packing->scheme);
    const PackedMatrix matrix = std::get<PackedMatrix>(checkpoint.stored(name));
    ASSERT_EQ(values.shape, (std::vector<std::int64_t>{matrix.rows, matrix.cols}));
    const std::vector<float> reference = read_floats(values);
    std::vector<float> row(static_cast<std::size_t>(matrix.cols));
    for (std::int64_t r = 0; r < matrix.rows; ++r) {
      matrix.dequantize_row(r, row);
      for (std::size_t c = 0; c < row.size(); ++c)
        ASSERT_NEAR(row[c], reference[static_cast<std::size_t>(r * matrix.cols) + c], 1e-7f);
    }
  }
  EXPECT_FALSE(checkpoint.packing("model.layers.0.dense").has_value());
}

TEST(AffineLayout, TheEntryHasOnlyTheKeysThatMlxKnows) {
  EXPECT_EQ(affine_config({8, 256, 3, 64}), (json{{"group_size", 64}, {"bits", 3}, {"mode", "affine"}}));
  EXPECT_EQ(affine_config({8, 256, 3, 0}), (json{{"group_size", 256}, {"bits", 3}, {"mode", "affine"}}));
}

TEST(AffineLayout, WrittenMatricesAreReadBack) {
  Random random(3);
  for (const int bits : kAffineWidths) {
    for (const int group : {0, 32, 64, 128}) {
      for (const int meta : {0, 3}) {
        for (const std::int64_t cols : {32, 100, 129}) {
          SCOPED_TRACE(testing::Message()
                       << "b" << bits << "g" << group << " meta " << meta << " cols " << cols);
          const AffineShape shape{5, cols, bits, group, meta == 0 ? 16 : 8, meta};
          const PackedMatrix matrix = random_matrix(shape, random);
          const Scratch scratch;
          write_checkpoint(scratch.path(), matrix, affine_config(shape));

          const std::vector<TensorSpec> specs = affine_tensors("m", shape);
          std::uint64_t bytes = 0;
          for (const TensorSpec& spec : specs) bytes += spec.bytes();
          EXPECT_EQ(bytes, matrix.bytes());
          EXPECT_EQ(std::filesystem::file_size(scratch / "model.safetensors"), safetensors_file_bytes(specs));

          const Checkpoint checkpoint = Checkpoint::open(scratch.path());
          const auto packing = checkpoint.packing("m");
          ASSERT_TRUE(packing.has_value());
          const auto read = std::get<AffineShape>(packing->shape);
          EXPECT_EQ(read.rows, shape.rows);
          EXPECT_EQ(read.cols, shape.cols);
          EXPECT_EQ(read.group, group >= cols ? 0 : group);
          expect_equal(std::get<PackedMatrix>(checkpoint.stored("m")), matrix);
        }
      }
    }
  }
}

TEST(AffineLayout, ContradictionsAreRefused) {
  Random random(4);
  const AffineShape shape{4, 128, 4, 64};
  const PackedMatrix matrix = random_matrix(shape, random);
  const auto complaint = [&](const char* key, const json& value) {
    json entry = affine_config(shape);
    entry[key] = value;
    const Scratch scratch;
    write_checkpoint(scratch.path(), matrix, entry);
    const Checkpoint checkpoint = Checkpoint::open(scratch.path());
    return message_of([&] { static_cast<void>(checkpoint.stored("m")); });
  };
  EXPECT_THAT(complaint("bits", 7), HasSubstr("2, 3, 4, 5, 6 and 8 are supported"));
  EXPECT_THAT(complaint("bits", "4"), HasSubstr("not a positive whole number"));
  EXPECT_THAT(complaint("bits", -4), HasSubstr("not a positive whole number"));
  EXPECT_THAT(complaint("bits", 3), HasSubstr("no whole number of 3-bit codes"));
  EXPECT_THAT(complaint("bits", 6), HasSubstr("no whole number of 6-bit codes"));
  EXPECT_THAT(complaint("bits", 8), HasSubstr("'m.scales' is F16 [4, 2]"));
  EXPECT_THAT(complaint("group_size", 32), HasSubstr("asks for F16 [4, 4]"));
  EXPECT_THAT(complaint("group_size", 1e300), HasSubstr("group_size"));
  EXPECT_THAT(complaint("in_features", 100), HasSubstr("16 words"));
  EXPECT_THAT(complaint("in_features", 2147483647), HasSubstr("16 words"));
  EXPECT_THAT(complaint("mode", "mxfp4"), HasSubstr("only affine"));
  EXPECT_THAT(complaint("meta_bits", 4), HasSubstr("meta_bits are 4"));
  EXPECT_THAT(complaint("meta_bits", 8), HasSubstr("no meta_group_size"));
}

TEST(AffineLayout, MetadataThatIsNotFiniteIsRefused) {
  Random random(5);
  const AffineShape shape{4, 128, 4, 64};
  PackedMatrix matrix = random_matrix(shape, random);
  matrix.scales[3] = 0x7C00;  // infinity
  const Scratch scratch;
  write_checkpoint(scratch.path(), matrix, affine_config(shape));
  EXPECT_THAT(message_of([&] { static_cast<void>(Checkpoint::open(scratch.path()).stored("m")); }),
              HasSubstr("scales"));
}

}  // namespace
}  // namespace knapsaq
