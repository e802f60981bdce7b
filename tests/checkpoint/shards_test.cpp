#include "knapsaq/checkpoint/shards.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/checkpoint/checkpoint.h"
#include "message_of.h"
#include "reference_values.h"
#include "scratch.h"

namespace knapsaq {
namespace {

using testing::HasSubstr;

std::string complaint(std::string_view text) {
  return message_of([&] { static_cast<void>(parse_shard_index(text)); });
}

TEST(ShardIndex, MapsTensorsToFiles) {
  const auto index =
      parse_shard_index(R"({"metadata":{"total_size":8},"weight_map":{"a":"x.bin","b":"y.bin"}})");
  EXPECT_EQ(index, (std::map<std::string, std::string>{{"a", "x.bin"}, {"b", "y.bin"}}));
}

TEST(ShardIndex, FilesElsewhereAreRefused) {
  for (const char* file :
       {"../x.bin", "/etc/passwd", "sub/x.bin", "..", ".", "", ".hidden", "a\\\\b", "a\\u0000b"})
    EXPECT_THAT(complaint(std::string(R"({"weight_map":{"a":")").append(file).append("\"}}")),
                HasSubstr("not the name of a file"))
        << file;
  EXPECT_THAT(complaint(R"({"weight_map":{"a":7}})"), HasSubstr("'7'"));
}

TEST(ShardIndex, OtherTextsAreRefused) {
  EXPECT_THAT(complaint(""), HasSubstr("not valid JSON"));
  EXPECT_THAT(complaint("[]"), HasSubstr("no weight_map"));
  EXPECT_THAT(complaint(R"({"weight_map":[]})"), HasSubstr("no weight_map"));
  EXPECT_THAT(complaint(R"({"weight_map":{}})"), HasSubstr("empty"));
  EXPECT_THAT(complaint(std::string(1'000'000, '[')), HasSubstr("nested deeper than 64"));
  EXPECT_THAT(complaint(std::string("{\"weight_map\":").append(100, '[').append(100, ']').append("}")),
              HasSubstr("nested"));
}

TEST(CheckpointWriter, SplitsAndIsReadBack) {
  std::vector<TensorSpec> specs;
  std::vector<std::byte> data;
  for (int i = 0; i < 10; ++i) {
    specs.push_back({std::string("t").append(std::to_string(i)), DType::U8, {i * 7}});
    for (int k = 0; k < i * 7; ++k) data.push_back(static_cast<std::byte>(i + k));
  }
  for (const std::uint64_t limit : {std::uint64_t{1}, std::uint64_t{60}, std::uint64_t{100}, kShardBytes}) {
    const Scratch scratch;
    write_file(scratch / "config.json", "{}");
    CheckpointWriter writer(scratch.path(), specs, limit);
    writer.write(std::span(data).first(50));
    writer.write(std::span(data).subspan(50));
    writer.commit();

    std::uint64_t bytes = 0;
    for (const auto& entry : std::filesystem::directory_iterator(scratch.path()))
      if (entry.path().filename() != "config.json") bytes += entry.file_size();
    EXPECT_EQ(bytes, checkpoint_bytes(specs, limit));
    EXPECT_EQ(std::filesystem::exists(scratch / "model.safetensors"), limit == kShardBytes);

    const Checkpoint checkpoint = Checkpoint::open(scratch.path());
    EXPECT_EQ(checkpoint.names().size(), 10u);
    EXPECT_EQ(checkpoint.tensor_bytes(), data.size());
    std::size_t at = 0;
    for (const TensorSpec& spec : specs) {
      const TensorView view = checkpoint.tensor(spec.name);
      ASSERT_EQ(view.bytes.size(), spec.bytes());
      EXPECT_TRUE(
          std::equal(view.bytes.begin(), view.bytes.end(), data.begin() + static_cast<std::ptrdiff_t>(at)));
      at += spec.bytes();
    }
  }
}

TEST(CheckpointWriter, InsistsOnExactlyWhatWasDeclared) {
  const Scratch scratch;
  const std::vector<TensorSpec> specs{{"a", DType::U8, {4}}, {"b", DType::U8, {4}}};
  const std::vector<std::byte> data(9);
  CheckpointWriter missing(scratch.path(), specs, 4);
  missing.write(std::span(data).first(6));
  EXPECT_THROW(missing.commit(), std::logic_error);
  CheckpointWriter surplus(scratch.path(), specs, 4);
  EXPECT_THROW(surplus.write(data), std::logic_error);
}

}  // namespace
}  // namespace knapsaq
