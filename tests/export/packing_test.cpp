// Words made by the libraries themselves (tools/make_export_references.py), compared bit for bit.

#include <gtest/gtest.h>

#include "knapsaq/export/gptq_tensors.h"
#include "knapsaq/export/words.h"
#include "made_model.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kRows = 32;
constexpr std::int64_t kCols = 96;

bool same(const TensorView& view, const auto& values) {
  return std::ranges::equal(view.bytes, std::as_bytes(std::span(values)));
}

TEST(Packing, CompressedTensors) {
  const SafetensorsFile file(fs::path(KNAPSAQ_TEST_DATA) / "export/packed_by_compressed_tensors.safetensors");
  for (const int bits : kAffineWidths) {
    const PackedMatrix matrix = made_matrix(kRows, kCols, {bits, 32, MadeLinear::integer});
    EXPECT_TRUE(same(file.tensors().at(std::to_string(bits) + ".weight_packed"), matrix.codes)) << bits;
    std::vector<std::uint8_t> zeros;
    for (std::int64_t n = 0; n < kRows; ++n)
      for (std::int64_t g = 0; g < 3; ++g) zeros.push_back(static_cast<std::uint8_t>(made_zero(n, g, bits)));
    const std::vector<std::uint32_t> along_rows = pack_zeros(zeros, kRows, bits);
    std::vector<std::uint32_t> packed(along_rows.size());
    transpose_words(along_rows, 3, bits, packed);
    EXPECT_TRUE(same(file.tensors().at(std::to_string(bits) + ".weight_zero_point"), packed)) << bits;
  }
}

TEST(Packing, GptqModel) {
  const SafetensorsFile file(fs::path(KNAPSAQ_TEST_DATA) / "export/packed_by_gptqmodel.safetensors");
  const Scratch scratch;
  for (const int bits : {2, 3, 4, 8}) {
    for (const ZeroFields fields : {ZeroFields::plain, ZeroFields::minus_one}) {
      const bool plain = fields == ZeroFields::plain;
      const PackedMatrix matrix =
          made_matrix(kRows, kCols, {bits, 32, plain ? MadeLinear::integer : MadeLinear::symmetric});
      PlannedLinear planned;
      planned.linear.name = std::to_string(bits) + (plain ? ".v2" : ".v1");
      planned.linear.out = kRows;
      planned.linear.in = kCols;
      planned.form = {bits, 32, !plain};
      CheckpointWriter writer(scratch.path(), gptq_tensors(planned, true));
      write_gptq(matrix, fields, true, writer);
      writer.commit();
      const SafetensorsFile written(scratch / "model.safetensors");
      for (const char* leaf : {".qweight", ".qzeros", ".scales", ".g_idx"}) {
        const TensorView& expected = file.tensors().at(planned.linear.name + leaf);
        const TensorView& actual = written.tensors().at(planned.linear.name + leaf);
        EXPECT_EQ(actual.type, expected.type);
        EXPECT_EQ(actual.shape, expected.shape);
        EXPECT_TRUE(std::ranges::equal(actual.bytes, expected.bytes)) << planned.linear.name << leaf;
      }
    }
  }
}

TEST(Words, TransposeOfAnyShape) {
  for (const std::int64_t rows : {1, 3, 15, 16, 17, 33, 64, 100}) {
    for (const std::int64_t cols : {1, 2, 8, 16, 31, 48, 65}) {
      std::vector<std::uint32_t> in(static_cast<std::size_t>(rows * cols));
      for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<std::uint32_t>(i * 2654435761u);
      std::vector<std::uint32_t> out(in.size());
      transpose_words(in, rows, cols, out);
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < cols; ++c)
          ASSERT_EQ(out[c * rows + r], in[r * cols + c]) << rows << "x" << cols;
    }
  }
}

}  // namespace
}  // namespace knapsaq
