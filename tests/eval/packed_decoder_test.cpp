// The embedded models with packed weights: what their dequantized twins say.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "knapsaq/base/files.h"
#include "knapsaq/compute/cpu/cpu_backend.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/quant/quantizer.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// One of the embedded models, its linears quantized by these schemes in turn.
class PackedDecoder : public testing::TestWithParam<const char*> {
 protected:
  PackedDecoder()
      : folder(fs::path(KNAPSAQ_SOURCE_DIR) / "assets" / GetParam()),
        checkpoint(Checkpoint::open(folder)),
        config(parse_model_config(checkpoint.config())),
        all(linears(config)),
        text(Tokenizer::load(folder).encode(read_file(folder.string() + "-sample.txt"))) {}

  void quantize_by(const std::vector<std::string>& schemes) {
    stored.clear();
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::vector<float> weights = checkpoint.floats(all[i].name + ".weight");
      stored.push_back(
          quantize({all[i].out, all[i].in, weights}, parse_scheme(schemes[i % schemes.size()]), nullptr));
    }
  }

  struct Model {
    std::unique_ptr<Backend> backend;
    Decoder decoder;
  };
  Model load(std::unique_ptr<Backend> backend) const {
    Decoder decoder = Decoder::load(checkpoint, config, *backend);
    for (std::size_t i = 0; i < all.size(); ++i)
      decoder.place(all[i].number, decoder.prepare(all[i].number, stored[i]));
    return {std::move(backend), std::move(decoder)};
  }

  /// `count` tokens, each the likeliest after those before. (A cache of int8 would turn the last bit of a sum
  /// into a step of 1 / 127 now and then, and some token in a thousand into another.)
  std::vector<std::int32_t> greedy(Decoder& decoder, std::span<const std::int32_t> prompt,
                                   std::int64_t count) const {
    KeyValueCache cache(config, decoder.backend(), 1, std::ssize(prompt) + count, CacheElement::half);
    std::vector<std::int32_t> out;
    std::vector<float> logits = decoder.next(prompt, cache);
    for (std::int64_t i = 0; i < count; ++i) {
      out.push_back(
          static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
      logits = decoder.next(std::span(out).last(1), cache);
    }
    return out;
  }

  fs::path folder;
  Checkpoint checkpoint;
  ModelConfig config;
  std::vector<Matrix> all;
  std::vector<std::int32_t> text;
  std::vector<StoredMatrix> stored;
};

INSTANTIATE_TEST_SUITE_P(, PackedDecoder, testing::Values("wiki-llama-6m", "wiki-opt-3m"),
                         [](const auto& one) {
                           return std::string(one.param).substr(5, one.param[5] == 'o' ? 3 : 5);
                         });

TEST_P(PackedDecoder, GreedyTextIsThatOfTheDequantizedTwin) {
  for (const std::vector<std::string>& schemes :
       {std::vector<std::string>{"rtn:b4g64"},
        {"rtn:b2g32", "rtn:b3g128", "rtn:b8g64", "rtn:b4g64s"},
        {"rtn:b5g64", "rtn:b6g32", "rtn:b6g64s", "hqq:b5g128/m8g128"},
        {"hqq:b4g64/m8g128", "nf4", "q4_0", "q5_1", "q8_0"}}) {
    quantize_by(schemes);
    Model twin = load(make_backend({.precision = Precision::fp32}));
    for (const std::string& device : devices()) {
      Model packed =
          load(make_backend({.device = device, .precision = Precision::fp32, .packed = Packed::exact}));
      for (const std::int64_t start : {0, 1000}) {
        if (start > 0 && device != devices().front()) continue;
        const auto prompt = std::span(text).subspan(static_cast<std::size_t>(start), 40);
        EXPECT_EQ(greedy(packed.decoder, prompt, 220), greedy(twin.decoder, prompt, 220))
            << schemes.front() << ' ' << device << ' ' << start;
      }
    }
  }
}

// 24 windows of 128 tokens. Also the bound of the issue that asked for int8: 0.3 % of the perplexity.
TEST_P(PackedDecoder, PerplexityOfInt8Inputs) {
  constexpr std::int64_t kWindows = 24;
  constexpr std::int64_t kLength = 128;
  const auto tokens = std::span(text).first(kWindows * kLength);
  for (const std::vector<std::string>& schemes :
       {std::vector<std::string>{"rtn:b4g64"}, {"rtn:b3g64", "rtn:b2g32", "rtn:b4g128", "rtn:b8g64"}}) {
    quantize_by(schemes);
    const auto perplexity = [&](std::unique_ptr<Backend> backend) {
      Model model = load(std::move(backend));
      std::vector<float> losses(static_cast<std::size_t>(kWindows * (kLength - 1)));
      model.decoder.losses(tokens, kWindows, kLength, losses);
      return std::exp(std::accumulate(losses.begin(), losses.end(), 0.0) /
                      static_cast<double>(losses.size()));
    };
    const double exact = perplexity(make_backend({.precision = Precision::fp32}));
    // All rows from the codes, as generation does it one by one.
    const double found = perplexity(make_cpu_backend({.packed = Packed::int8, .packed_rows = 1 << 20}));
    EXPECT_NEAR(found / exact, 1.0, 0.003) << schemes.front();
    EXPECT_NE(found, exact);
    fmt::print("{} {}: fp32 {:.4f}, int8 {:.4f} ({:+.3f} %)\n", GetParam(), schemes.front(), exact, found,
               100 * (found / exact - 1));
  }
}

}  // namespace
}  // namespace knapsaq
