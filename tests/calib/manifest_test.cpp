#include "knapsaq/calib/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "message_of.h"

namespace knapsaq {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

Manifest example() {
  Manifest manifest;
  manifest.source = {
      "model hash", "text hash", {.samples = 3, .window = 20, .seed = ~std::uint64_t{0}}, Precision::fp32};
  manifest.tokens_hash = "tokens hash";
  manifest.layers = 2;
  manifest.blocks = {{.bytes = 77, .hash = "file hash", .inputs = {{{"a", "b"}, 4}, {{"c"}, 5}}, .rows = 0}};
  return manifest;
}

TEST(Manifest, ComesBackAsItWas) {
  const Manifest manifest = example();
  const Manifest back = parse_manifest(to_json(manifest));
  EXPECT_EQ(back.source, manifest.source);
  EXPECT_EQ(back.tokens_hash, manifest.tokens_hash);
  EXPECT_EQ(back.layers, 2);
  ASSERT_EQ(back.blocks.size(), 1u);
  EXPECT_EQ(back.blocks[0].bytes, 77u);
  EXPECT_EQ(back.blocks[0].hash, "file hash");
  ASSERT_EQ(back.blocks[0].inputs.size(), 2u);
  EXPECT_EQ(back.blocks[0].inputs[0].linears, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(back.blocks[0].inputs[1].width, 5);
  EXPECT_EQ(to_json(back), to_json(manifest));
}

TEST(Manifest, EndsAreOneBlockMore) {
  Manifest manifest = example();
  EXPECT_FALSE(manifest.has_ends());
  manifest.blocks.push_back({.bytes = 78, .hash = "x", .inputs = {{{"d"}, 4}}, .rows = 0});
  EXPECT_FALSE(manifest.has_ends());
  manifest.blocks.push_back({.bytes = 79, .hash = "y", .inputs = {{{"lm_head"}, 4}}, .rows = 67});
  EXPECT_TRUE(manifest.has_ends());
  const Manifest back = parse_manifest(to_json(manifest));
  EXPECT_TRUE(back.has_ends());
  EXPECT_EQ(back.blocks[1].rows, 0);
  EXPECT_EQ(back.blocks[2].rows, 67);
  EXPECT_EQ(to_json(back), to_json(manifest));
  const json good = json::parse(to_json(manifest));
  for (const json& rows : {json(0), json(-1), json(1.5), json("x"), json(std::uint64_t{1} << 40)}) {
    json bad = good;
    bad["blocks"][2]["rows"] = rows;
    EXPECT_THAT(message_of([&] { parse_manifest(bad.dump()); }), HasSubstr("rows")) << rows;
  }
}

TEST(Manifest, RefusesWhatCannotBe) {
  const json good = json::parse(to_json(example()));
  const auto complaint_about = [&](const char* pointer, const json& value) {
    json bad = good;
    bad[json::json_pointer(pointer)] = value;
    return message_of([&] { parse_manifest(bad.dump()); });
  };
  EXPECT_THAT(complaint_about("/format", "bank"), HasSubstr("not the description"));
  EXPECT_THAT(complaint_about("/version", 2), HasSubstr("version 2"));
  EXPECT_THAT(complaint_about("/samples", -1), HasSubstr("samples"));
  EXPECT_THAT(complaint_about("/samples", 4), HasSubstr("samples times window"));
  EXPECT_THAT(complaint_about("/window", 1.5), HasSubstr("window"));
  EXPECT_THAT(complaint_about("/layers", 0), HasSubstr("layers"));
  EXPECT_THAT(complaint_about("/layers", std::uint64_t{1} << 40), HasSubstr("layers"));
  EXPECT_THAT(complaint_about("/precision", "fp8"), HasSubstr("precision"));
  EXPECT_THAT(complaint_about("/model", 7), HasSubstr("model"));
  EXPECT_THAT(complaint_about("/blocks", 7), HasSubstr("blocks"));
  EXPECT_THAT(complaint_about("/blocks/0", 7), HasSubstr("block"));
  EXPECT_THAT(complaint_about("/blocks/0/bytes", "many"), HasSubstr("bytes"));
  EXPECT_THAT(complaint_about("/blocks/0/inputs/0/width", std::uint64_t{1} << 33), HasSubstr("width"));
  EXPECT_THAT(complaint_about("/blocks/0/inputs/1/linears/0", "a"), HasSubstr("twice"));
  EXPECT_THAT(complaint_about("/blocks/0/inputs/1/linears", json::array()), HasSubstr("without linears"));
  EXPECT_THAT(message_of([] { parse_manifest("[]"); }), HasSubstr("not the description"));
  EXPECT_THAT(message_of([] { parse_manifest("{"); }), HasSubstr("JSON"));
  // More blocks than layers and the ends.
  json many = good;
  for (int i = 0; i < 3; ++i) {
    many["blocks"].push_back(good["blocks"][0]);
    many["blocks"].back()["inputs"] = json::array();
  }
  EXPECT_THAT(message_of([&] { parse_manifest(many.dump()); }), HasSubstr("blocks"));
}

}  // namespace
}  // namespace knapsaq
