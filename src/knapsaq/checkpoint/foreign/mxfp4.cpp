// MXFP4 as gpt-oss has it: experts of a layer in one tensor <name>_blocks U8 [experts, rows, groups, 16], two
// codes a byte, the low one first, and <name>_scales U8 [experts, rows, groups]. w = e2m1 * 2^(scale - 127),
// as Transformers makes it (integrations/mxfp4.py). Its tensor <name> is [experts, columns, rows], this one
// is <name>.weight [experts, rows, columns].

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"
#include "knapsaq/checkpoint/foreign/foreign.h"
#include "knapsaq/checkpoint/foreign/parts.h"
#include "knapsaq/checkpoint/foreign/scaled.h"

namespace knapsaq {
namespace {

using nlohmann::json;

constexpr std::string_view kBlocks = "_blocks";

bool recognises(const json& quantization) { return foreign::text(quantization, "quant_method") == "mxfp4"; }

DerivedTensor dequantized(const ForeignFiles& files, const std::string& name) {
  const std::string base = name.substr(0, name.size() - kBlocks.size());
  const TensorView blocks = foreign::part(files.tensors, name, name, DType::U8, 4);
  const TensorView scales = foreign::part(files.tensors, base + "_scales", name, DType::U8, 3);
  const std::int64_t bytes = blocks.shape[3];
  if (blocks.elements() == 0 || bytes != 16 ||
      !std::equal(scales.shape.begin(), scales.shape.end(), blocks.shape.begin()))
    foreign::refuse(name,
                    fmt::format("of shape [{}] with scales of shape [{}] is not in blocks of 32 weights",
                                fmt::join(blocks.shape, ", "), fmt::join(scales.shape, ", ")));
  const std::int64_t rows = blocks.shape[1];
  const std::int64_t groups = blocks.shape[2];
  const DType type = files.type;
  DerivedTensor out{
      {base + ".weight", type, {blocks.shape[0], rows, groups * 2 * bytes}}, {name, base + "_scales"}, {}};
  out.make = [=](std::int64_t first, std::int64_t count) {
    return foreign::make_rows(
        type, count * rows, groups * 2 * bytes, 1, [&](std::int64_t row, std::span<float> to) {
          const std::int64_t begin = (first * rows + row) * groups;
          for (std::int64_t g = 0; g < groups; ++g) {
            const std::byte* codes = blocks.bytes.data() + (begin + g) * bytes;
            const float scale = std::ldexp(1.0f, std::to_integer<int>(scales.bytes[begin + g]) - 127);
            float* group = to.data() + g * 2 * bytes;
            for (std::int64_t i = 0; i < bytes; ++i) {
              const auto both = std::to_integer<std::size_t>(codes[i]);
              group[2 * i] = foreign::kE2m1[both & 15] * scale;
              group[2 * i + 1] = foreign::kE2m1[both >> 4] * scale;
            }
          }
        });
  };
  return out;
}

ForeignModel read(const ForeignFiles& files) {
  ForeignModel model;
  model.format = "MXFP4, 4 bits in groups of 32";
  for (const std::string& name : files.tensors.names()) {
    if (name.ends_with(kBlocks)) {
      model.tensors.push_back(dequantized(files, name));
    } else if (constexpr std::string_view kScales = "_scales"; name.ends_with(kScales)) {
      const std::string blocks = name.substr(0, name.size() - kScales.size()) + std::string(kBlocks);
      foreign::part(files.tensors, blocks, name, DType::U8, 4);
    }
  }
  if (model.tensors.empty())
    throw InputError(
        "is described as quantized to MXFP4, but has no tensor that ends in _blocks: config.json "
        "belongs to another model");
  return model;
}

}  // namespace

const ForeignFormat& mxfp4_format() {
  static const ForeignFormat format{"MXFP4", recognises, read};
  return format;
}

}  // namespace knapsaq
