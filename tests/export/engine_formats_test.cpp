// The formats of serving engines, read back by decoders that share no code with the writers: every code is
// taken from its bits one by one, and every weight has to be the very number that Knapsaq computes.

#include <cmath>
#include <regex>

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/export/writer.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/quantizer.h"
#include "made_model.h"
#include "random_model.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// `bits` bits of a stream of words, from bit bits * i on.
int field(const std::function<std::uint32_t(std::int64_t word)>& words, std::int64_t i, int bits) {
  int value = 0;
  for (int b = 0; b < bits; ++b) {
    const std::int64_t at = i * bits + b;
    value |= static_cast<int>(words(at / 32) >> (at % 32) & 1) << b;
  }
  return value;
}

/// A safetensors folder without any idea of what is in it.
struct Folder {
  explicit Folder(const fs::path& path) {
    for (const auto& entry : fs::directory_iterator(path))
      if (entry.path().extension() == ".safetensors") files.emplace_back(entry.path());
    config = ordered_json::parse(read_file(path / "config.json"));
  }
  bool has(const std::string& name) const { return find(name) != nullptr; }
  const TensorView* find(const std::string& name) const {
    for (const SafetensorsFile& file : files)
      if (const auto found = file.tensors().find(name); found != file.tensors().end()) return &found->second;
    return nullptr;
  }
  const TensorView& at(const std::string& name, DType type, const std::vector<std::int64_t>& shape) const {
    const TensorView* view = find(name);
    if (view == nullptr) throw std::runtime_error(name + " is missing");
    EXPECT_EQ(view->type, type) << name;
    EXPECT_EQ(view->shape, shape) << name;
    return *view;
  }
  std::vector<SafetensorsFile> files;
  ordered_json config;
};

template <class Number>
Number element(const TensorView& view, std::int64_t i) {
  Number value;
  std::memcpy(&value, view.bytes.data() + i * static_cast<std::int64_t>(sizeof value), sizeof value);
  return value;
}

using Weights = std::vector<float>;

Weights decode_compressed_tensors(const Folder& folder, const Matrix& linear) {
  const ordered_json& quantization = folder.config["quantization_config"];
  const ordered_json* own = nullptr;
  for (const auto& group : quantization["config_groups"]) {
    for (const std::string target : group["targets"]) {
      EXPECT_TRUE(target.starts_with("re:"));
      if (!std::regex_match(linear.name, std::regex(target.substr(3)))) continue;
      EXPECT_EQ(own, nullptr) << linear.name << " is a target twice";
      own = &group["weights"];
    }
  }
  if (own == nullptr) return {};
  const int bits = (*own)["num_bits"];
  const bool per_row = (*own)["strategy"] == "channel";
  const std::int64_t size = per_row ? linear.in : (*own)["group_size"].get<std::int64_t>();
  const std::int64_t groups = linear.in / size;
  const std::int64_t words = (linear.in * bits + 31) / 32;
  const std::int64_t zero_words = (linear.out * bits + 31) / 32;
  const TensorView& packed = folder.at(linear.name + ".weight_packed", DType::I32, {linear.out, words});
  const TensorView& scales = folder.at(linear.name + ".weight_scale", DType::F16, {linear.out, groups});
  const TensorView& shape = folder.at(linear.name + ".weight_shape", DType::I64, {2});
  EXPECT_EQ(element<std::int64_t>(shape, 0), linear.out);
  EXPECT_EQ(element<std::int64_t>(shape, 1), linear.in);
  const bool symmetric = (*own)["symmetric"];
  EXPECT_EQ(folder.has(linear.name + ".weight_zero_point"), !symmetric);
  Weights weights;
  for (std::int64_t n = 0; n < linear.out; ++n) {
    for (std::int64_t k = 0; k < linear.in; ++k) {
      const std::int64_t g = k / size;
      const int middle = 1 << (bits - 1);
      const int code =
          field([&](auto w) { return element<std::uint32_t>(packed, n * words + w); }, k, bits) - middle;
      int zero = 0;
      if (!symmetric) {
        const TensorView& zeros =
            folder.at(linear.name + ".weight_zero_point", DType::I32, {zero_words, groups});
        zero = field([&](auto w) { return element<std::uint32_t>(zeros, w * groups + g); }, n, bits) - middle;
      }
      weights.push_back(static_cast<float>(code - zero) *
                        half_to_float(element<std::uint16_t>(scales, n * groups + g)));
    }
  }
  return weights;
}

Weights decode_gptq(const Folder& folder, const Matrix& linear, int bits, int group, int added_to_zeros) {
  const std::int64_t size = group < 0 ? linear.in : group;
  const std::int64_t groups = linear.in / size;
  const std::int64_t zero_words = linear.out * bits / 32;
  const TensorView& packed =
      folder.at(linear.name + ".qweight", DType::I32, {linear.in * bits / 32, linear.out});
  const TensorView& zeros = folder.at(linear.name + ".qzeros", DType::I32, {groups, zero_words});
  const TensorView& scales = folder.at(linear.name + ".scales", DType::F16, {groups, linear.out});
  EXPECT_FALSE(folder.has(linear.name + ".weight"));
  Weights weights;
  for (std::int64_t n = 0; n < linear.out; ++n) {
    for (std::int64_t k = 0; k < linear.in; ++k) {
      const std::int64_t g = k / size;
      const int code =
          field([&](auto w) { return element<std::uint32_t>(packed, w * linear.out + n); }, k, bits);
      const int zero =
          field([&](auto w) { return element<std::uint32_t>(zeros, g * zero_words + w); }, n, bits) +
          added_to_zeros;
      weights.push_back(static_cast<float>(code - zero) *
                        half_to_float(element<std::uint16_t>(scales, g * linear.out + n)));
    }
  }
  return weights;
}

/// What GPTQModel, vLLM and SGLang find for a module: the first key that matches counts.
ordered_json look_up_dynamic(const ordered_json& quantization, const std::string& name) {
  const ordered_json dynamic = quantization.value("dynamic", ordered_json::object());
  for (const auto& [key, value] : dynamic.items()) {
    if (!std::regex_match(name, std::regex(key.substr(2)))) continue;
    if (key.starts_with("-:")) return nullptr;
    EXPECT_TRUE(key.starts_with("+:"));
    return value;
  }
  return quantization;
}

Weights read_gptq(const Folder& folder, const Matrix& linear) {
  const ordered_json& quantization = folder.config["quantization_config"];
  const ordered_json own = look_up_dynamic(quantization, linear.name);
  if (own.is_null()) return {};
  const int group = own["group_size"];
  const TensorView& group_of = folder.at(linear.name + ".g_idx", DType::I32, {linear.in});
  for (std::int64_t k = 0; k < linear.in; ++k)
    EXPECT_EQ(element<std::int32_t>(group_of, k), group < 0 ? 0 : k / group);
  return decode_gptq(folder, linear, own["bits"], group, quantization["checkpoint_format"] == "gptq" ? 1 : 0);
}

Weights read_auto_round(const Folder& folder, const Matrix& linear) {
  ordered_json own = folder.config["quantization_config"];
  const bool plain = own["packing_format"] == "auto_round";
  if (own.contains("extra_config") && own["extra_config"].contains(linear.name))
    own.update(ordered_json(own["extra_config"][linear.name]));
  if (own["bits"] == 16) return {};
  EXPECT_FALSE(folder.has(linear.name + ".g_idx"));
  return decode_gptq(folder, linear, own["bits"], own["group_size"], plain ? 0 : 1);
}

Weights read_as(const std::string& format, const Folder& folder, const Matrix& linear) {
  if (format == "compressed-tensors") return decode_compressed_tensors(folder, linear);
  if (format == "gptq") return read_gptq(folder, linear);
  return read_auto_round(folder, linear);
}

class EngineFormats : public ::testing::Test {
 protected:
  ExportReport write(const std::string& format, const ExportOptions& options = {}) const {
    const Checkpoint model = Checkpoint::open(scratch_ / "q");
    return writer(format).write(model, parse_model_config(model.config()), scratch_ / "out", options,
                                Progress::none());
  }

  /// Refused with a line that holds `part`, and nothing is left behind.
  void expect_refused(const std::string& format, const std::string& part, const ExportOptions& options = {}) {
    try {
      write(format, options);
      ADD_FAILURE() << format << " was written";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(part));
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    }
    EXPECT_EQ(std::distance(fs::directory_iterator(scratch_.path()), fs::directory_iterator()), 1);
  }

  /// Every linear of `out` is that of `q` to the bit.
  void expect_exact(const std::string& format) const {
    const Checkpoint model = Checkpoint::open(scratch_ / "q");
    const Folder folder(scratch_ / "out");
    for (const Matrix& linear : linears(parse_model_config(model.config()))) {
      SCOPED_TRACE(format + " " + linear.name);
      const Weights weights = read_as(format, folder, linear);
      if (!model.packing(linear.name)) {
        EXPECT_TRUE(weights.empty());
        const TensorView expected = model.tensor(linear.name + ".weight");
        EXPECT_TRUE(std::ranges::equal(
            folder.at(linear.name + ".weight", expected.type, expected.shape).bytes, expected.bytes));
        continue;
      }
      const StoredMatrix stored = model.stored(linear.name);
      Weights expected(static_cast<std::size_t>(linear.in));
      ASSERT_EQ(weights.size(), static_cast<std::size_t>(linear.out * linear.in));
      for (std::int64_t n = 0; n < linear.out; ++n) {
        dequantize_row(stored, n, expected);
        ASSERT_TRUE(std::equal(expected.begin(), expected.end(), weights.begin() + n * linear.in))
            << "row " << n;
      }
    }
    for (const char* name :
         {"model.embed_tokens.weight", "model.norm.weight", "model.layers.3.input_layernorm.weight"}) {
      const TensorView expected = model.tensor(name);
      EXPECT_TRUE(std::ranges::equal(folder.at(name, expected.type, expected.shape).bytes, expected.bytes));
    }
    EXPECT_TRUE(fs::exists(scratch_ / "out" / "tokenizer.json"));
    EXPECT_FALSE(folder.config.contains("quantization"));
  }

  Scratch scratch_;
};

// Seven linears a block, five kinds: every kind comes to stand in every place.
const std::vector<MadeLinear> kSymmetric{{2, 32}, {3, 32}, {4, 0}, {8, 32}, {3, 0}};
const std::vector<MadeLinear> kMixed{{2, 32, MadeLinear::integer},   {3, 32, MadeLinear::integer},
                                     {4, 0, MadeLinear::integer},    {8, 32, MadeLinear::symmetric},
                                     {4, 32, MadeLinear::symmetric}, {4, -1},
                                     {3, 0, MadeLinear::integer},    {8, 32, MadeLinear::integer}};

TEST_F(EngineFormats, CarryEveryWidthAndGroupExactly) {
  for (const std::string format : {"compressed-tensors", "gptq", "auto-round"}) {
    for (const auto& kinds : {kSymmetric, kMixed}) {
      fs::remove_all(scratch_ / "out");
      write_made_model(scratch_ / "q", made_config(), kinds);
      const ExportReport report = write(format);
      EXPECT_TRUE(report.changes.empty());
      EXPECT_EQ(report.bytes, fs::file_size(scratch_ / "out" / "model.safetensors"));
      expect_exact(format);
    }
  }
}

TEST_F(EngineFormats, FiveAndSixBitsWhereReadersTakeThem) {
  const std::vector<MadeLinear> kinds{{5, 32}, {6, 0, MadeLinear::integer}, {6, 32}, {5, 0}};
  write_made_model(scratch_ / "q", made_config(), kinds);
  EXPECT_TRUE(write("compressed-tensors").changes.empty());
  expect_exact("compressed-tensors");
  for (const std::string format : {"gptq", "auto-round"}) {
    fs::remove_all(scratch_ / "out");
    expect_refused(format, "model.layers.0.self_attn.q_proj (b5g32) cannot be carried exactly by " + format +
                               ": " + format +
                               " has no codes of 5 bits; use schemes of 2, 3, 4, 8 bits, or allow "
                               "--requantize");
    ExportOptions options;
    options.requantize = true;
    const ExportReport report = write(format, options);
    EXPECT_EQ(report.changes.size(), 28u);
    EXPECT_EQ(report.changes[0],
              "model.layers.0.self_attn.q_proj: b5g32 quantized once more as rtn:b8g32s: " + format +
                  " has no codes of 5 bits");
    EXPECT_THAT(report.changes[1], HasSubstr("b6row quantized once more as rtn:b8rows"));
  }
}

TEST_F(EngineFormats, ShardsHoldTheSame) {
  write_made_model(scratch_ / "q", made_config(), kMixed);
  ExportOptions options;
  options.shard_bytes = 10000;
  const ExportReport report = write("gptq", options);
  expect_exact("gptq");
  std::uint64_t bytes = 0;
  int files = 0;
  for (const auto& entry : fs::directory_iterator(scratch_ / "out")) {
    if (!entry.path().filename().string().starts_with("model")) continue;
    bytes += entry.file_size();
    ++files;
  }
  EXPECT_GT(files, 4);
  EXPECT_EQ(report.bytes, bytes);
}

TEST_F(EngineFormats, OldZeroFieldsOnlyForModelsThatAreSymmetricThroughout) {
  write_made_model(scratch_ / "q", made_config(),
                   {{2, 32}, {3, 32}, {4, 32}, {8, 32}, {4, 32}, {4, 32}, {4, 32}});
  write("gptq");
  const Folder folder(scratch_ / "out");
  EXPECT_EQ(folder.config["quantization_config"]["checkpoint_format"], "gptq");
  EXPECT_EQ(json::parse(read_file(scratch_ / "out" / "quantize_config.json")),
            json(folder.config["quantization_config"]));
  const auto first = [&](const char* module, std::int64_t words) {
    return element<std::uint32_t>(
        folder.at(std::string("model.layers.0.self_attn.") + module + ".qzeros", DType::I32, {2, words}), 0);
  };
  EXPECT_EQ(first("q_proj", 4), 0x55555555u);
  EXPECT_EQ(first("v_proj", 8), 0x77777777u);
  EXPECT_EQ(first("o_proj", 16), 0x7F7F7F7Fu);
  EXPECT_EQ(first("k_proj", 6) & 0x3FFFFFFFu, 033333333333u & 0x3FFFFFFFu);  // threes, three bits each

  fs::remove_all(scratch_ / "out");
  write_made_model(scratch_ / "q", made_config(), kMixed);
  write("gptq");
  EXPECT_EQ(Folder(scratch_ / "out").config["quantization_config"]["checkpoint_format"], "gptq_v2");
}

TEST_F(EngineFormats, DynamicIsFoundUnderFusedNamesToo) {
  // q, k, v of a block alike; gate and up alike; blocks all the same.
  write_made_model(scratch_ / "q", made_config(),
                   {{3, 32}, {3, 32}, {3, 32}, {4, 32}, {2, 32}, {2, 32}, {4, 32}});
  write("gptq");
  const ordered_json quantization = Folder(scratch_ / "out").config["quantization_config"];
  EXPECT_EQ(quantization["bits"], 3);
  EXPECT_EQ(look_up_dynamic(quantization, "model.layers.2.mlp.gate_up_proj")["bits"], 2);
  EXPECT_EQ(look_up_dynamic(quantization, "model.layers.2.self_attn.qkv_proj")["bits"], 3);
  std::vector<std::string> keys;
  for (const auto& [key, value] : quantization["dynamic"].items()) keys.push_back(key);
  EXPECT_THAT(keys, ElementsAre("+:^model\\.layers\\.\\d+\\.mlp\\.(gate_proj|gate_up_proj|up_proj)$",
                                "+:^model\\.layers\\.\\d+\\.mlp\\.down_proj$",
                                "+:^model\\.layers\\.\\d+\\.self_attn\\.o_proj$"));
  // Shards that differ have no fused name: an engine that fuses must fail, not load something else.
  fs::remove_all(scratch_ / "out");
  write_made_model(scratch_ / "q", made_config(),
                   {{4, 32}, {4, 32}, {4, 32}, {4, 32}, {2, 32}, {3, 32}, {4, 32}});
  write("gptq");
  EXPECT_EQ(read_file(scratch_ / "out" / "quantize_config.json").find("gate_up_proj"), std::string::npos);
}

TEST_F(EngineFormats, FusedSiblingsShareOneDescription) {
  // k_proj's zero points happen to be the symmetric ones.
  const MadeLinear integer{4, 32, MadeLinear::integer};
  const MadeLinear symmetric{4, 32, MadeLinear::symmetric};
  write_made_model(scratch_ / "q", made_config(),
                   {integer, symmetric, integer, symmetric, symmetric, symmetric, symmetric});
  write("compressed-tensors");
  expect_exact("compressed-tensors");
  const Folder folder(scratch_ / "out");
  EXPECT_TRUE(folder.has("model.layers.1.self_attn.k_proj.weight_zero_point"));
  EXPECT_FALSE(folder.has("model.layers.1.self_attn.o_proj.weight_zero_point"));
}

TEST_F(EngineFormats, NotesSayWhichEnginesWillNotLoadTheResult) {
  write_made_model(scratch_ / "q", made_config(), kMixed);
  for (const std::string format : {"compressed-tensors", "gptq", "auto-round"}) {
    fs::remove_all(scratch_ / "out");
    const ExportReport report = write(format);
    ASSERT_EQ(report.notes.size(), format == "compressed-tensors" ? 2u : 1u);
    EXPECT_THAT(report.notes[0], HasSubstr("model.layers.0.self_attn.q_proj and "
                                           "model.layers.0.self_attn.k_proj as one matrix"));
  }
  fs::remove_all(scratch_ / "out");
  write_made_model(scratch_ / "q", made_config(),
                   {{3, 32}, {3, 32}, {3, 32}, {4, 32}, {2, 32}, {2, 32}, {4, 32}});
  EXPECT_TRUE(write("compressed-tensors").notes.empty());
}

TEST_F(EngineFormats, ConfigGroupsAreFewAndAnchored) {
  write_made_model(scratch_ / "q", made_config(),
                   {{3, 32}, {3, 32}, {3, 32}, {4, 32}, {2, 32}, {2, 32}, {4, 32}});
  write("compressed-tensors");
  const ordered_json quantization = Folder(scratch_ / "out").config["quantization_config"];
  EXPECT_EQ(quantization["config_groups"].size(), 3u);
  EXPECT_EQ(quantization["config_groups"]["group_1"]["targets"],
            ordered_json({"re:(.*\\.)?layers\\.\\d+\\.self_attn\\.(k_proj|q_proj|v_proj)$"}));
  EXPECT_EQ(quantization["ignore"], ordered_json({"lm_head"}));
  EXPECT_EQ(quantization["config_groups"]["group_1"]["weights"]["group_size"], 32);
}

TEST_F(EngineFormats, RealZeroPointsAreRefusedOrQuantizedOnceMore) {
  std::vector<MadeLinear> kinds{
      {4, 32}, {3, 32, MadeLinear::real}, {4, 32, MadeLinear::integer, 32}, {8, 32, MadeLinear::real}};
  for (const std::string format : {"compressed-tensors", "gptq", "auto-round"}) {
    fs::remove_all(scratch_ / "out");
    write_made_model(scratch_ / "q", made_config(), kinds);
    expect_refused(format, "model.layers.0.self_attn.k_proj (b3g32) cannot be carried exactly by " + format +
                               ": zero point 0.5 of row 0 group 0 is not a whole number; quantize with "
                               "schemes that end in z or s, or allow --requantize");
    ExportOptions options;
    options.requantize = true;
    const ExportReport report = write(format, options);
    EXPECT_EQ(report.changes.size(), 21u);  // three of four linears in 28
    EXPECT_EQ(report.changes[0],
              "model.layers.0.self_attn.k_proj: b3g32 quantized once more as rtn:b3g32z: zero point 0.5 of "
              "row 0 group 0 is not a whole number");
    EXPECT_THAT(report.changes[1], HasSubstr("b4g32/m8g32 quantized once more as rtn:b4g32z"));
    EXPECT_THAT(report.changes[2], HasSubstr("quantized once more as rtn:b8g32s"));

    const Checkpoint model = Checkpoint::open(scratch_ / "q");
    const Folder folder(scratch_ / "out");
    const std::vector<Matrix> all = linears(parse_model_config(model.config()));
    for (std::size_t i = 0; i < 4; ++i) {
      const StoredMatrix stored = model.stored(all[i].name);
      const auto in = static_cast<std::size_t>(all[i].in);
      Weights expected(static_cast<std::size_t>(all[i].out) * in);
      for (std::int64_t n = 0; n < all[i].out; ++n)
        dequantize_row(stored, n, std::span(expected).subspan(static_cast<std::size_t>(n) * in, in));
      if (i != 0) {
        const Scheme scheme = parse_scheme(i == 1 ? "rtn:b3g32z" : i == 2 ? "rtn:b4g32z" : "rtn:b8g32s");
        const StoredMatrix fitted = quantize({all[i].out, all[i].in, expected}, scheme);
        for (std::int64_t n = 0; n < all[i].out; ++n)
          dequantize_row(fitted, n, std::span(expected).subspan(static_cast<std::size_t>(n) * in, in));
      }
      EXPECT_EQ(read_as(format, folder, all[i]), expected) << all[i].name;
    }
  }
}

TEST_F(EngineFormats, QuantizedMetadataIsRefused) {
  write_made_model(scratch_ / "q", made_config(), {{4, 32, MadeLinear::integer, 32}});
  for (const std::string format : {"compressed-tensors", "gptq", "auto-round", "mlx"})
    expect_refused(format, "its scales and zero points are quantized (m8g32); use schemes without /m, or");
}

TEST_F(EngineFormats, ZeroPointsOutOfRangeAndScalesOfZero) {
  write_made_model(scratch_ / "q", made_config(), {{4, 32}});
  const auto patch = [&](const char* tensor, std::uint16_t value) {
    const SafetensorsFile file(scratch_ / "q" / "model.safetensors");
    const auto at = file.tensors().at(tensor).bytes.data() - file.file().bytes().data();
    std::string bytes = read_file(scratch_ / "q" / "model.safetensors");
    std::memcpy(bytes.data() + at, &value, sizeof value);
    write_file(scratch_ / "q" / "model.safetensors", bytes);
  };
  // -0.5 * 16: one above the largest zero point of four bits.
  patch("model.layers.0.self_attn.q_proj.biases", float_to_half(-8));
  expect_refused("gptq", "zero point 16 of row 0 group 0 is not in 0 .. 15");
  patch("model.layers.0.self_attn.q_proj.scales", 0);
  expect_refused("gptq", "row 0 group 0 has the scale 0 and the bias -8");
  patch("model.layers.0.self_attn.q_proj.biases", 0);  // a group of zeros
  write("gptq");
  expect_exact("gptq");
}

TEST_F(EngineFormats, ShapesThatReadersCannotHold) {
  write_made_model(scratch_ / "q", made_config(64, 80), {{4, 32}});
  expect_refused("gptq",
                 "model.layers.0.mlp.gate_proj (b4g32) cannot be carried exactly by gptq: its shape "
                 "[80, 64] is not in multiples of 32");
  expect_refused("compressed-tensors",
                 "model.layers.0.mlp.down_proj (b4g32) cannot be carried exactly by compressed-tensors: its "
                 "rows of 80 weights are not whole groups of 32; use smaller groups or b4row");
  ExportOptions options;
  options.requantize = true;
  expect_refused("gptq", "not even quantized once more", options);
}

TEST_F(EngineFormats, WhatIsNotQuantizedOrThereAlready) {
  write_made_model(scratch_ / "q", made_config(), {{4, -1}});
  expect_refused("compressed-tensors", "no linear is quantized; quantize the model first");
  EXPECT_THROW(writer("awq"), UsageError);

  write_made_model(scratch_ / "q", made_config(), kMixed);
  fs::create_directory(scratch_ / "out");
  EXPECT_THROW(write("gptq"), UsageError);
  ExportOptions options;
  options.replace = true;
  write("gptq", options);
  expect_exact("gptq");
}

TEST_F(EngineFormats, MlxIsTheLayoutItself) {
  json config = made_config();
  config.erase("rope_theta");
  config["rope_parameters"] = {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 5000.0}};
  write_made_model(scratch_ / "q", config,
                   {{2, 32, MadeLinear::real},
                    {3, 32, MadeLinear::integer},
                    {8, 32},
                    {4, -1},
                    {5, 32, MadeLinear::real},
                    {6, 32, MadeLinear::real}});
  EXPECT_TRUE(write("mlx").changes.empty());
  const Checkpoint model = Checkpoint::open(scratch_ / "q");
  const Checkpoint out = Checkpoint::open(scratch_ / "out");
  EXPECT_EQ(model.names(), out.names());
  for (const std::string& name : model.names())
    EXPECT_TRUE(std::ranges::equal(model.tensor(name).bytes, out.tensor(name).bytes)) << name;
  const json& quantization = out.config()["quantization"];
  EXPECT_EQ(quantization["model.layers.0.self_attn.k_proj"],
            (json{{"bits", 3}, {"group_size", 32}, {"mode", "affine"}}));
  EXPECT_FALSE(quantization.contains("model.layers.0.self_attn.o_proj"));
  EXPECT_EQ(out.config()["quantization_config"], quantization);
  // mlx-lm's Llama reads the old spelling only.
  EXPECT_EQ(out.config()["rope_theta"], 5000.0);
  EXPECT_EQ(out.config()["rope_scaling"]["factor"], 2.0);
}

/// Weights as the model decodes them.
Weights weights_of(const Checkpoint& model, const Matrix& matrix) {
  const StoredMatrix stored = model.stored(matrix.name);
  const auto in = static_cast<std::size_t>(matrix.in);
  Weights weights(static_cast<std::size_t>(matrix.out) * in);
  for (std::int64_t n = 0; n < matrix.out; ++n)
    dequantize_row(stored, n, std::span(weights).subspan(static_cast<std::size_t>(n) * in, in));
  return weights;
}

TEST_F(EngineFormats, MlxHasEmbeddingAndHeadQuantized) {
  for (const bool tied : {true, false}) {
    json config = made_config();
    config["tie_word_embeddings"] = tied;
    fs::remove_all(scratch_ / "out");
    write_made_model(scratch_ / "q", config, {{2, 32, MadeLinear::real}, {4, 32}}, {8, 32, MadeLinear::real});
    EXPECT_TRUE(write("mlx").changes.empty());
    const Checkpoint model = Checkpoint::open(scratch_ / "q");
    const Checkpoint out = Checkpoint::open(scratch_ / "out");
    EXPECT_EQ(model.names(), out.names());
    for (const std::string& name : model.names())
      EXPECT_TRUE(std::ranges::equal(model.tensor(name).bytes, out.tensor(name).bytes)) << name;
    const json description{{"bits", 8}, {"group_size", 32}, {"mode", "affine"}};
    EXPECT_EQ(out.config()["quantization"]["model.embed_tokens"], description);
    EXPECT_EQ(out.config()["quantization"].contains("lm_head"), !tied);
    if (!tied) {
      EXPECT_EQ(out.config()["quantization"]["lm_head"], description);
    }
    for (const Matrix& matrix : matrices(parse_model_config(config)))
      EXPECT_EQ(weights_of(out, matrix), weights_of(model, matrix)) << matrix.name;
    // MLX has no second level there either.
    fs::remove_all(scratch_ / "out");
    write_made_model(scratch_ / "q", config, {{4, 32}}, {4, 32, MadeLinear::integer, 32});
    expect_refused("mlx", "model.embed_tokens (b4g32/m8g32) cannot be carried exactly by mlx");
    ExportOptions options;
    options.requantize = true;
    const std::vector<std::string> changes = write("mlx", options).changes;
    ASSERT_EQ(changes.size(), tied ? 1U : 2U);
    EXPECT_THAT(changes[0], HasSubstr("model.embed_tokens: b4g32/m8g32 quantized once more as rtn:b4g32"));
  }
}

TEST_F(EngineFormats, OthersWantEmbeddingAndHeadDense) {
  json config = made_config();
  config["tie_word_embeddings"] = false;
  for (const std::string format : {"compressed-tensors", "gptq", "auto-round"}) {
    SCOPED_TRACE(format);
    fs::remove_all(scratch_ / "out");
    // With symmetric zero points, which all of these could hold in a linear.
    write_made_model(scratch_ / "q", config, {{4, 32}}, {8, 32});
    expect_refused(format, "model.embed_tokens (b8g32) cannot be carried by " + format);
    ExportOptions options;
    options.requantize = true;
    const ExportReport report = write(format, options);
    EXPECT_THAT(
        report.changes,
        ElementsAre("model.embed_tokens: b8g32 written in F16: " + format + " keeps embedding and head dense",
                    "lm_head: b8g32 written in F16: " + format + " keeps embedding and head dense"));
    EXPECT_EQ(report.bytes, fs::file_size(scratch_ / "out/model.safetensors"));
    const Checkpoint model = Checkpoint::open(scratch_ / "q");
    const Folder folder(scratch_ / "out");
    for (const Matrix& matrix : matrices(parse_model_config(config))) {
      Weights expected = weights_of(model, matrix);
      if (matrix.in_block()) {
        EXPECT_EQ(read_as(format, folder, matrix), expected) << matrix.name;
        continue;
      }
      for (float& value : expected) value = half_to_float(float_to_half(value));
      EXPECT_EQ(read_floats(folder.at(matrix.name + ".weight", DType::F16, {matrix.out, matrix.in})),
                expected);
      EXPECT_FALSE(folder.has(matrix.name + ".scales"));
    }
    EXPECT_EQ(read_file(scratch_ / "out/config.json").find("embed_tokens"), std::string::npos);
    // Alone they are no quantized model.
    fs::remove_all(scratch_ / "out");
    write_made_model(scratch_ / "q", config, {{4, -1}}, {8, 32});
    expect_refused(format, "no linear is quantized", options);
  }
}

/// What an F32 model keeps in F32 stays so.
TEST_F(EngineFormats, DenseMatricesAreCarriedAsTheyAre) {
  const json config = random_opt(64, 32);
  write_random_model(scratch_ / "m", config, DType::F32);
  const Checkpoint source = Checkpoint::open(scratch_ / "m");
  const ModelConfig parsed = parse_model_config(config);
  WriteOptions kept;
  kept.kept = {"model.decoder.embed_positions", "model.decoder.project_in"};
  write_quantized(source, parsed, uniform_allocation(linears(parsed), parse_scheme("rtn:b4g32s")),
                  scratch_ / "q", false, Progress::none(), kept);
  fs::remove_all(scratch_ / "m");
  write("compressed-tensors");
  const Checkpoint model = Checkpoint::open(scratch_ / "q");
  const Folder folder(scratch_ / "out");
  for (const auto& [name, type] :
       {std::pair{"embed_positions", DType::F32}, std::pair{"project_in", DType::F32},
        std::pair{"project_out", DType::F16}, std::pair{"embed_tokens", DType::F16}}) {
    const std::string tensor = fmt::format("model.decoder.{}.weight", name);
    const TensorView expected = model.tensor(tensor);
    EXPECT_EQ(expected.type, type) << name;
    EXPECT_TRUE(std::ranges::equal(folder.at(tensor, type, expected.shape).bytes, expected.bytes)) << name;
  }
}

TEST_F(EngineFormats, MlxRefusesWhatItHasNot) {
  write_made_model(scratch_ / "q", made_config(), {{4, 0}});
  expect_refused("mlx", "MLX has no groups of 96 weights");
  ExportOptions options;
  options.requantize = true;
  write_made_model(scratch_ / "q", made_config(96, 160), {{4, 0}});
  EXPECT_EQ(
      write("mlx", options).changes.front().find("quantized once more as rtn:b4g32:") != std::string::npos,
      true);
}

TEST_F(EngineFormats, MlxHasNoOpt) {
  const json config{{"architectures", {"OPTForCausalLM"}},
                    {"model_type", "opt"},
                    {"hidden_size", 64},
                    {"ffn_dim", 96},
                    {"num_hidden_layers", 1},
                    {"num_attention_heads", 2},
                    {"vocab_size", 40},
                    {"max_position_embeddings", 64},
                    {"word_embed_proj_dim", 64}};
  write_made_model(scratch_ / "q", config, {{4, 32}});
  expect_refused("mlx", "mlx-lm has no model for OPTForCausalLM");
  // The other formats have it.
  write("compressed-tensors");
  const Folder folder(scratch_ / "out");
  EXPECT_FALSE(decode_compressed_tensors(folder, linears(parse_model_config(config)).back()).empty());
}

}  // namespace
}  // namespace knapsaq
