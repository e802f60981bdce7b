#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/quant/quantizer.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

class Nf4Checkpoint : public ::testing::Test {
 protected:
  Nf4Checkpoint()
      : model_(Checkpoint::open(fs::path(KNAPSAQ_SOURCE_DIR) / "assets" / "wiki-opt-3m")),
        config_(parse_model_config(model_.config())),
        linears_(linears(config_)) {}

  fs::path write(const std::vector<Scheme>& schemes) {
    const fs::path out = scratch_ / "out";
    const QuantizedModel written =
        write_quantized(model_, config_, allocation_of(linears_, schemes), out, true);
    EXPECT_EQ(written.bytes, fs::file_size(out / "model.safetensors"));
    return out;
  }

  Scratch scratch_;
  Checkpoint model_;
  ModelConfig config_;
  std::vector<Matrix> linears_;
};

TEST_F(Nf4Checkpoint, IsReadBackAndTellsTransformersHowToLoadIt) {
  const fs::path out = write(std::vector<Scheme>(linears_.size(), nf4_scheme()));
  const auto config = nlohmann::json::parse(read_file(out / "config.json"));
  const nlohmann::json& quantization = config["quantization_config"];
  EXPECT_EQ(quantization["quant_method"], "bitsandbytes");
  EXPECT_EQ(quantization["load_in_4bit"], true);
  EXPECT_EQ(quantization["bnb_4bit_quant_type"], "nf4");
  EXPECT_EQ(quantization["bnb_4bit_use_double_quant"], true);
  EXPECT_EQ(quantization["bnb_4bit_compute_dtype"], "float16");
  EXPECT_FALSE(config.contains("quantization"));

  const Checkpoint read = Checkpoint::open(out);
  const auto backend = make_backend({.precision = Precision::fp32});
  Decoder from_file = Decoder::load(read, config_, *backend);
  Decoder expected = Decoder::load(model_, config_, *backend);
  for (const Matrix& linear : linears_) {
    EXPECT_EQ(read.packing(linear.name)->scheme, "nf4");
    const std::vector<float> weights = model_.floats(linear.name + ".weight");
    expected.replace(linear.name, quantize({linear.out, linear.in, weights}, nf4_scheme()));
  }
  const std::vector<std::int32_t> tokens{5, 900, 17, 4000, 33};
  EXPECT_EQ(from_file.logits(tokens, 0), expected.logits(tokens, 0));
}

TEST_F(Nf4Checkpoint, InPartIsOnlyForKnapsaq) {
  std::vector<Scheme> schemes(linears_.size(), nf4_scheme());
  schemes[3] = parse_scheme("rtn:b4g64");
  const fs::path out = write(schemes);
  const auto config = nlohmann::json::parse(read_file(out / "config.json"));
  EXPECT_FALSE(config["quantization_config"].contains("quant_method"));
  const Checkpoint read = Checkpoint::open(out);
  for (std::size_t i = 0; i < linears_.size(); ++i)
    EXPECT_EQ(read.packing(linears_[i].name)->scheme, to_string(schemes[i]));
}

TEST_F(Nf4Checkpoint, QuantizedByOthersIsStillRefused) {
  const fs::path out = write(std::vector<Scheme>(linears_.size(), nf4_scheme()));
  auto config = nlohmann::json::parse(read_file(out / "config.json"));
  config.erase("knapsaq");
  write_file(out / "config.json", config.dump());
  EXPECT_THROW(Checkpoint::open(out), InputError);
}

}  // namespace
}  // namespace knapsaq
