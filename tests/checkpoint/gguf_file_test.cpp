#include "knapsaq/checkpoint/gguf_file.h"

#include <cstring>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/compute/ggml_matrix.h"
#include "message_of.h"
#include "scratch.h"

namespace knapsaq {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::filesystem::path kReference =
    std::filesystem::path(KNAPSAQ_TEST_DATA) / "checkpoint/reference.gguf";

std::string reference_bytes() { return read_file(kReference); }

GgufContent parse(std::string_view bytes) { return parse_gguf(std::as_bytes(std::span(bytes))); }

std::string refusal(std::string_view bytes) {
  return message_of([&] { parse(bytes); });
}

template <class T>
T value(const GgufMetadata& metadata, std::string_view key) {
  return std::get<T>(*metadata.find(key));
}
template <class T>
std::vector<T> list(const GgufMetadata& metadata, std::string_view key) {
  return std::get<std::vector<T>>(std::get<GgufArray>(*metadata.find(key)));
}

TEST(GgufFile, ReadsEveryTypeAsGgufPyWroteIt) {
  const GgufFile file(kReference);
  const GgufMetadata& data = file.metadata();
  EXPECT_EQ(value<std::string>(data, "general.architecture"), "llama");
  EXPECT_EQ(value<std::uint8_t>(data, "t.u8"), 200);
  EXPECT_EQ(value<std::int8_t>(data, "t.i8"), -100);
  EXPECT_EQ(value<std::uint16_t>(data, "t.u16"), 60000);
  EXPECT_EQ(value<std::int16_t>(data, "t.i16"), -30000);
  EXPECT_EQ(value<std::uint32_t>(data, "t.u32"), 4000000000U);
  EXPECT_EQ(value<std::int32_t>(data, "t.i32"), -2000000000);
  EXPECT_EQ(value<float>(data, "t.f32"), 0.1F);
  EXPECT_TRUE(value<bool>(data, "t.yes"));
  EXPECT_FALSE(value<bool>(data, "t.no"));
  EXPECT_EQ(value<std::string>(data, "t.text"), "Knapsack + q: é▁");
  EXPECT_EQ(value<std::string>(data, "t.empty"), "");
  EXPECT_EQ(value<std::uint64_t>(data, "t.u64"), (std::uint64_t{1} << 63) + 5);
  EXPECT_EQ(value<std::int64_t>(data, "t.i64"), -(std::int64_t{1} << 62));
  EXPECT_EQ(value<double>(data, "t.f64"), 0.1);
  EXPECT_THAT(list<std::uint8_t>(data, "t.list.u8"), ElementsAre(1, 255));
  EXPECT_THAT(list<std::int8_t>(data, "t.list.i8"), ElementsAre(-1, 127));
  EXPECT_THAT(list<std::uint16_t>(data, "t.list.u16"), ElementsAre(1, 65535));
  EXPECT_THAT(list<std::int16_t>(data, "t.list.i16"), ElementsAre(-1, 2));
  EXPECT_THAT(list<std::uint32_t>(data, "t.list.u32"), ElementsAre(1, 4294967295U));
  EXPECT_THAT(list<std::int32_t>(data, "t.list.i32"), ElementsAre(-1, 2));
  EXPECT_THAT(list<float>(data, "t.list.f32"), ElementsAre(0.5F, -0.25F));
  EXPECT_THAT(list<bool>(data, "t.list.bool"), ElementsAre(true, false, true));
  EXPECT_THAT(list<std::string>(data, "t.list.text"), ElementsAre("", "ab", "▁c"));
  EXPECT_THAT(list<std::uint64_t>(data, "t.list.u64"),
              ElementsAre(1, std::numeric_limits<std::uint64_t>::max()));
  EXPECT_THAT(list<std::int64_t>(data, "t.list.i64"), ElementsAre(-1));
  EXPECT_THAT(list<double>(data, "t.list.f64"), ElementsAre(0.1));
  EXPECT_EQ(data.find("t.other"), nullptr);

  ASSERT_EQ(file.tensors().size(), 24);
  const GgufTensor& dense = file.tensors().at("dense.f32");
  EXPECT_EQ(dense.type, GgufType(DType::F32));
  EXPECT_THAT(dense.shape, ElementsAre(3, 5));
  const std::vector<float> values = read_floats({DType::F32, dense.shape, dense.bytes});
  const std::vector<float> halves =
      read_floats({DType::F16, dense.shape, file.tensors().at("dense.f16").bytes});
  const std::vector<float> brains =
      read_floats({DType::BF16, dense.shape, file.tensors().at("dense.bf16").bytes});
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(halves[i], half_to_float(float_to_half(values[i])));
    EXPECT_EQ(brains[i], bfloat16_to_float(float_to_bfloat16(values[i])));
  }
  EXPECT_THAT(file.tensors().at("deep").shape, ElementsAre(2, 3, 2, 4));
  for (const GgmlTypeInfo& type : ggml_types()) {
    if (type.type == GgmlType::Q2_0) continue;  // gguf-py cannot write it
    const GgufTensor& blocks = file.tensors().at("blocks." + std::string(type.name));
    EXPECT_EQ(blocks.type, GgufType(type.type));
    EXPECT_EQ(blocks.shape.back(), std::max(64, type.block));
    EXPECT_EQ(blocks.bytes.size(), 2 * blocks.shape.back() / type.block * type.bytes);
  }
}

/// The reference's content, to be written again in the order of its file.
struct Rewritten {
  GgufMetadata metadata;
  std::vector<GgufTensorSpec> specs;
  std::vector<std::span<const std::byte>> data;
};

Rewritten rewritten(const GgufFile& file) {
  Rewritten again;
  again.metadata = file.metadata();
  std::vector<std::pair<const std::byte*, std::string>> order;
  for (const auto& [name, tensor] : file.tensors()) order.emplace_back(tensor.bytes.data(), name);
  std::ranges::sort(order);
  for (const auto& [begin, name] : order) {
    const GgufTensor& tensor = file.tensors().at(name);
    again.specs.push_back({name, tensor.type, tensor.shape});
    again.data.push_back(tensor.bytes);
  }
  return again;
}

TEST(GgufFile, WritesTheBytesThatGgufPyWrites) {
  const GgufFile file(kReference);
  const Rewritten again = rewritten(file);
  const Scratch scratch;
  {
    GgufWriter writer(scratch / "again.gguf", again.metadata, again.specs);
    // In pieces that cross the tensors' ends.
    std::vector<std::byte> all;
    for (const auto part : again.data) all.insert(all.end(), part.begin(), part.end());
    for (std::size_t at = 0; at < all.size(); at += 100)
      writer.write(std::span(all).subspan(at, std::min<std::size_t>(100, all.size() - at)));
    EXPECT_FALSE(std::filesystem::exists(scratch / "again.gguf"));
    writer.commit();
  }
  EXPECT_EQ(read_file(scratch / "again.gguf"), reference_bytes());
  EXPECT_EQ(gguf_file_bytes(again.metadata, again.specs), reference_bytes().size());
}

TEST(GgufFile, WritingChecksWhatItIsGiven) {
  const Scratch scratch;
  const std::vector<GgufTensorSpec> one = {{"t", DType::F32, {2}}};
  {
    GgufWriter writer(scratch / "short.gguf", {}, one);
    EXPECT_THROW(writer.commit(), std::logic_error);
    const std::vector<std::byte> bytes(12);
    EXPECT_THROW(writer.write(bytes), std::logic_error);
  }
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
  const std::vector<GgufTensorSpec> twice = {one[0], one[0]};
  EXPECT_THROW(gguf_file_bytes({}, twice), std::logic_error);
  const std::vector<GgufTensorSpec> half_block = {{"t", GgmlType::Q4_K, {2, 128}}};
  EXPECT_THROW(gguf_file_bytes({}, half_block), std::logic_error);
  GgufMetadata metadata;
  metadata.add("a", 1.0F);
  EXPECT_THROW(metadata.add("a", 2.0F), std::logic_error);
  EXPECT_THROW(metadata.add("b", GgufArray(std::vector<float>())), std::logic_error);
}

TEST(GgufFile, EveryTruncationIsRefused) {
  const std::string bytes = reference_bytes();
  const GgufContent whole = parse(bytes);
  // The last tensor's padding may be missing; ggml does not read it.
  std::size_t end = 0;
  for (const auto& [name, tensor] : whole.tensors)
    end = std::max<std::size_t>(
        end, reinterpret_cast<const char*>(tensor.bytes.data()) - bytes.data() + tensor.bytes.size());
  EXPECT_EQ(parse(std::string_view(bytes).substr(0, end)).tensors.size(), whole.tensors.size());
  for (std::size_t size = 0; size < end; ++size)
    EXPECT_NE(refusal(std::string_view(bytes).substr(0, size)), "") << size;
}

/// A file put together by hand.
class Builder {
 public:
  Builder(std::uint64_t tensors, std::uint64_t entries) {
    bytes_ = "GGUF";
    number<std::uint32_t>(3).number(tensors).number(entries);
  }
  template <class T>
  Builder& number(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Builder& string(std::string_view text) {
    number<std::uint64_t>(text.size());
    bytes_ += text;
    return *this;
  }
  Builder& tensor(std::string_view name, std::vector<std::uint64_t> dims, std::uint32_t type,
                  std::uint64_t offset) {
    string(name).number(static_cast<std::uint32_t>(dims.size()));
    for (const std::uint64_t size : dims) number(size);
    return number(type).number(offset);
  }
  std::string with_data(std::size_t count) const {
    std::string all = bytes_;
    all.resize((all.size() + 31) / 32 * 32 + count, '\0');
    return all;
  }

 private:
  std::string bytes_;
};

TEST(GgufFile, LyingHeadersAreRefused) {
  EXPECT_THAT(refusal("GGML........"), HasSubstr("does not begin with GGUF"));
  std::string bytes = Builder(0, 0).with_data(0);
  EXPECT_EQ(refusal(bytes), "");
  bytes[4] = 1;
  EXPECT_THAT(refusal(bytes), HasSubstr("version 1"));
  bytes[4] = 0;
  bytes[7] = 3;
  EXPECT_THAT(refusal(bytes), HasSubstr("little-endian"));
  constexpr auto kHuge = std::numeric_limits<std::uint64_t>::max();
  EXPECT_THAT(refusal(Builder(kHuge, 0).with_data(64)), HasSubstr("tensor"));
  EXPECT_THAT(refusal(Builder(0, kHuge).with_data(64)), HasSubstr("occurs twice"));
  EXPECT_THAT(refusal(Builder(0, 1).number(kHuge).with_data(64)), HasSubstr("truncated"));
  const auto entry = [](auto&& build) {
    Builder builder(0, 1);
    build(builder.string("k"));
    return refusal(builder.with_data(64));
  };
  EXPECT_THAT(entry([](Builder& b) { b.number(std::uint32_t{13}); }), HasSubstr("type 13"));
  EXPECT_THAT(entry([](Builder& b) { b.number(std::uint32_t{7}).number(std::uint8_t{2}); }),
              HasSubstr("truth value"));
  EXPECT_THAT(entry([&](Builder& b) { b.number(std::uint32_t{9}).number(std::uint32_t{8}).number(kHuge); }),
              HasSubstr("18446744073709551615 elements"));
  EXPECT_THAT(entry([&](Builder& b) { b.number(std::uint32_t{9}).number(std::uint32_t{0}).number(kHuge); }),
              HasSubstr("truncated"));
  EXPECT_THAT(
      entry([](Builder& b) { b.number(std::uint32_t{9}).number(std::uint32_t{9}).number(std::uint64_t{1}); }),
      HasSubstr("list of lists"));
  EXPECT_THAT(entry([](Builder& b) {
                b.number(std::uint32_t{9}).number(std::uint32_t{77}).number(std::uint64_t{1});
              }),
              HasSubstr("type 77"));
  Builder twice(0, 2);
  for (int i = 0; i < 2; ++i) twice.string("k").number(std::uint32_t{0}).number(std::uint8_t{1});
  EXPECT_THAT(refusal(twice.with_data(0)), HasSubstr("'k' occurs twice"));
  Builder odd(0, 1);
  odd.string("general.alignment").number(std::uint32_t{4}).number(std::uint32_t{24});
  EXPECT_THAT(refusal(odd.with_data(0)), HasSubstr("power of two"));
}

TEST(GgufFile, LyingTensorsAreRefused) {
  const auto one = [](std::vector<std::uint64_t> dims, std::uint32_t type, std::uint64_t offset = 0) {
    return refusal(Builder(1, 0).tensor("t", std::move(dims), type, offset).with_data(64));
  };
  constexpr auto kHuge = std::numeric_limits<std::uint64_t>::max();
  EXPECT_EQ(one({4, 4}, 0), "");
  EXPECT_THAT(one({5, 4}, 0), HasSubstr("truncated"));
  EXPECT_THAT(one({kHuge}, 0), HasSubstr("too large"));
  EXPECT_THAT(one({std::uint64_t{1} << 40, std::uint64_t{1} << 40}, 0), HasSubstr("cannot be"));
  EXPECT_THAT(one({std::uint64_t{1} << 62}, 0), HasSubstr("cannot be"));
  EXPECT_THAT(one({std::uint64_t{1} << 60}, 0), HasSubstr("truncated"));
  EXPECT_THAT(one({}, 0), HasSubstr("0 dimensions"));
  EXPECT_THAT(one({1, 1, 1, 1, 1}, 0), HasSubstr("5 dimensions"));
  EXPECT_THAT(one({31}, 8), HasSubstr("cannot be of type q8_0"));
  EXPECT_THAT(one({4}, 34), HasSubstr("type TQ1_0 (number 34), which is not supported"));
  EXPECT_THAT(one({4}, 0, 32), HasSubstr("leave a gap"));
  EXPECT_THAT(refusal(Builder(1, 0).tensor(std::string(64, 'x'), {1}, 0, 0).with_data(64)),
              HasSubstr("name of 64"));
  EXPECT_THAT(refusal(Builder(2, 0).tensor("a", {4}, 0, 0).tensor("b", {4}, 0, 0).with_data(64)),
              HasSubstr("overlap"));
  EXPECT_THAT(refusal(Builder(2, 0).tensor("a", {4}, 0, 0).tensor("a", {4}, 0, 32).with_data(64)),
              HasSubstr("'a' occurs twice"));
}

TEST(GgufFile, ErrorsNameTheFile) {
  const Scratch scratch;
  write_file(scratch / "bad.gguf", "nothing");
  try {
    GgufFile file(scratch / "bad.gguf");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("bad.gguf: is not a GGUF file"));
  }
}

}  // namespace
}  // namespace knapsaq
