#include "knapsaq/checkpoint/safetensors.h"

#include <algorithm>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/random.h"
#include "message_of.h"
#include "reference_values.h"
#include "scratch.h"

namespace knapsaq {
namespace {

using testing::HasSubstr;

std::string file_of(std::string header, std::size_t data_bytes) {
  std::uint64_t length = header.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  return out + header + std::string(data_bytes, '\1');
}

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

std::string complaint(const std::string& file) {
  return message_of([&] { parse_safetensors(bytes_of(file), nullptr); });
}

std::string complaint(std::string header, std::size_t data_bytes) {
  return complaint(file_of(std::move(header), data_bytes));
}

TEST(Safetensors, ReadsWhatThePythonLibraryWrites) {
  const SafetensorsFile file(checkpoint_data("all_types.safetensors"));
  const auto& tensors = file.tensors();
  ASSERT_EQ(tensors.size(), 16u);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  EXPECT_EQ(read_floats(tensors.at("f32")), reference_floats(36));
  EXPECT_EQ(tensors.at("f32").shape, (std::vector<std::int64_t>{4, 9}));
  EXPECT_EQ(read_floats(tensors.at("f16")), reference_floats(30));
  EXPECT_EQ(tensors.at("f16").shape, (std::vector<std::int64_t>{2, 3, 5}));
  EXPECT_EQ(read_floats(tensors.at("bf16")), reference_floats(21));
  EXPECT_EQ(read_floats(tensors.at("scalar")), std::vector<float>{2.5f});
  EXPECT_TRUE(tensors.at("scalar").shape.empty());
  EXPECT_EQ(tensors.at("empty").shape, (std::vector<std::int64_t>{0, 4}));
  EXPECT_EQ(tensors.at("empty").elements(), 0);
  EXPECT_EQ(as_numbers<double>(tensors.at("f64")), (std::vector<double>{-4, -3.75, -3.5}));
  EXPECT_EQ(as_numbers<std::uint16_t>(tensors.at("u16")), (std::vector<std::uint16_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(as_numbers<std::int64_t>(tensors.at("i64")), (std::vector<std::int64_t>{0, 1}));
  EXPECT_EQ(tensors.at("bool").type, DType::BOOL);
  EXPECT_TRUE(tensors.contains("naïve \"name\"\\"));
}

TEST(Safetensors, WritesTheVeryBytesOfThePythonLibrary) {
  const SafetensorsFile reference(checkpoint_data("all_types.safetensors"));
  // In the order of the reference file, which the library sorts by alignment.
  std::vector<std::pair<TensorSpec, TensorView>> order;
  for (const auto& [name, view] : reference.tensors()) order.push_back({{name, view.type, view.shape}, view});
  std::ranges::sort(order, [](const auto& a, const auto& b) {
    return std::pair(a.second.bytes.data(), a.second.bytes.size()) <
           std::pair(b.second.bytes.data(), b.second.bytes.size());
  });
  std::vector<TensorSpec> specs;
  for (const auto& [spec, view] : order) specs.push_back(spec);

  const Scratch scratch;
  SafetensorsWriter writer(scratch / "copy", specs);
  for (const auto& [spec, view] : order) writer.write(view.bytes);
  writer.commit();
  EXPECT_EQ(read_file(scratch / "copy"), read_file(checkpoint_data("all_types.safetensors")));
  EXPECT_EQ(safetensors_file_bytes(specs), std::filesystem::file_size(scratch / "copy"));
}

TEST(Safetensors, WhatIsWrittenIsReadBack) {
  Random random(7);
  for (int round = 0; round < 50; ++round) {
    std::vector<TensorSpec> specs;
    std::string data;
    const std::size_t count = random.below(12);
    for (std::size_t i = 0; i < count; ++i) {
      TensorSpec spec{std::string("t").append(std::to_string(i)).append(random.below(9), 'x'),
                      static_cast<DType>(random.below(13)),
                      {}};
      for (std::size_t d = random.below(4); d > 0; --d)
        spec.shape.push_back(static_cast<std::int64_t>(random.below(7)));
      for (std::size_t b = 0; b < spec.bytes(); ++b) data += static_cast<char>(random.below(256));
      specs.push_back(std::move(spec));
    }
    const Scratch scratch;
    SafetensorsWriter writer(scratch / "file", specs);
    // In pieces that do not care for the borders between tensors.
    for (std::size_t at = 0; at < data.size();) {
      const std::size_t piece = std::min<std::size_t>(data.size() - at, 1 + random.below(100));
      writer.write(bytes_of(std::string_view(data).substr(at, piece)));
      at += piece;
    }
    writer.commit();
    EXPECT_EQ(std::filesystem::file_size(scratch / "file"), safetensors_file_bytes(specs));
    const SafetensorsFile file(scratch / "file");
    ASSERT_EQ(file.tensors().size(), specs.size());
    std::size_t at = 0;
    for (const TensorSpec& spec : specs) {
      const TensorView& view = file.tensors().at(spec.name);
      EXPECT_EQ(view.type, spec.type);
      EXPECT_EQ(view.shape, spec.shape);
      EXPECT_EQ(std::memcmp(view.bytes.data(), data.data() + at, spec.bytes()), 0);
      at += spec.bytes();
    }
  }
}

TEST(Safetensors, TheWriterInsistsOnExactlyWhatWasDeclared) {
  const Scratch scratch;
  const std::vector<TensorSpec> specs{{"a", DType::U8, {4}}};
  {
    SafetensorsWriter writer(scratch / "file", specs);
    writer.write(bytes_of("123"));
    EXPECT_THROW(writer.commit(), std::logic_error);
    EXPECT_THROW(writer.write(bytes_of("45")), std::logic_error);
  }
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
  const std::vector<TensorSpec> twice{{"a", DType::U8, {4}}, {"a", DType::U8, {4}}};
  EXPECT_THROW(SafetensorsWriter(scratch / "file", twice), std::logic_error);
  EXPECT_THROW(safetensors_file_bytes(std::vector<TensorSpec>{{"a", DType::U8, {-4}}}), std::logic_error);
}

TEST(Safetensors, EveryTruncationIsNoticed) {
  const std::string file = read_file(checkpoint_data("all_types.safetensors"));
  for (std::size_t size = 0; size < file.size(); ++size)
    EXPECT_THROW(parse_safetensors(bytes_of(std::string_view(file).substr(0, size)), nullptr), InputError)
        << size;
}

TEST(Safetensors, LyingHeadersAreRefused) {
  EXPECT_THAT(complaint(""), HasSubstr("truncated"));
  EXPECT_THAT(complaint(std::string(8, '\xff')), HasSubstr("header has 18446744073709551615 bytes"));
  EXPECT_THAT(complaint(std::string("\x64\0\0\0\0\0\0\0{}", 10)), HasSubstr("only 2 follow"));
  EXPECT_THAT(complaint("[]", 0), HasSubstr("does not begin with {"));
  EXPECT_THAT(complaint("{", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(complaint("{\"a\xff\":1}", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(complaint(R"({"a":1})", 0), HasSubstr("a number where none may be"));
  EXPECT_THAT(complaint(R"({"a":null})", 0), HasSubstr("'a'"));
  EXPECT_THAT(complaint(R"({"a":{"dtype":"F32","shape":[1]}})", 4), HasSubstr("needs dtype, shape and two"));
  EXPECT_THAT(complaint(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4),
              HasSubstr("needs dtype"));
  EXPECT_THAT(complaint(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}})", 4),
              HasSubstr("more than two"));
  EXPECT_THAT(complaint(R"({"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}})", 4),
              HasSubstr("shape twice"));
  EXPECT_THAT(complaint(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", 4),
              HasSubstr("unknown field 'x'"));
  EXPECT_THAT(complaint(R"({"a":{"dtype":"F8_E5M2","shape":[4],"data_offsets":[0,4]}})", 4),
              HasSubstr("type 'F8_E5M2', which is not supported"));
  EXPECT_THAT(complaint(R"({"__metadata__":{"a":1}})", 0), HasSubstr("a number"));
}

TEST(Safetensors, ImpossibleShapesAreRefused) {
  EXPECT_THAT(complaint(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4),
              HasSubstr("'a' of shape [2] and type F32 cannot have 4 bytes"));
  EXPECT_THAT(complaint(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4),
              HasSubstr("negative"));
  EXPECT_THAT(complaint(R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4),
              HasSubstr("fraction"));
  // 2^32 * 2^32 * 4 is 0 modulo 2^64.
  EXPECT_THAT(complaint(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0),
              HasSubstr("cannot have 0 bytes"));
  EXPECT_THAT(complaint(R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})", 4),
              HasSubstr("too large"));
  EXPECT_THAT(
      complaint(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})",
                4),
      HasSubstr("too many dimensions"));
}

TEST(Safetensors, GapsOverlapsAndStrayBytesAreRefused) {
  const auto two = [](std::string_view first, std::string_view second) {
    return std::string(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)")
        .append(first)
        .append(R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)")
        .append(second)
        .append("}}");
  };
  EXPECT_EQ(parse_safetensors(bytes_of(file_of(two("[4,8]", "[0,4]"), 8)), nullptr).size(), 2u);
  EXPECT_THAT(complaint(two("[0,4]", "[2,6]"), 6),
              HasSubstr("'b' starts at byte 2 of the data, but 4 was due"));
  EXPECT_THAT(complaint(two("[0,4]", "[0,4]"), 4), HasSubstr("overlap"));
  EXPECT_THAT(complaint(two("[0,4]", "[6,10]"), 10), HasSubstr("gap"));
  EXPECT_THAT(complaint(two("[0,4]", "[4,8]"), 9), HasSubstr("1 bytes after its last tensor"));
  EXPECT_THAT(complaint(two("[0,4]", "[4,8]"), 7), HasSubstr("only 7 bytes are there"));
  EXPECT_THAT(complaint(two("[4,0]", "[4,8]"), 8), HasSubstr("before its start"));
  EXPECT_THAT(complaint(two("[0,18446744073709551615]", "[4,8]"), 8), HasSubstr("only 8 bytes are there"));
}

TEST(Safetensors, NamesThatOccurTwiceAreRefused) {
  EXPECT_THAT(complaint(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                        R"("a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                        8),
              HasSubstr("'a' occurs twice"));
  EXPECT_THAT(complaint(R"({"__metadata__":{"k":"1","k":"2"}})", 0), HasSubstr("'k' occurs twice"));
}

TEST(Safetensors, DeepNestingAndLongNamesDoNoHarm) {
  EXPECT_THAT(complaint(std::string("{\"a\":").append(1'000'000, '['), 0), HasSubstr("a list"));
  EXPECT_THAT(complaint(std::string("{\"a\":{\"shape\":").append(1'000'000, '['), 0), HasSubstr("a list"));
  EXPECT_LT(complaint(std::string("{\"").append(1'000'000, 'n').append("\":1}"), 0).size(), 400u);
  EXPECT_LT(complaint(std::string("{\"").append(1'000'000, 'n'), 0).size(), 400u);
}

TEST(Safetensors, ErrorsNameTheFile) {
  const Scratch scratch;
  write_file(scratch / "broken.safetensors", "nonsense of some length");
  EXPECT_THAT(message_of([&] { SafetensorsFile file(scratch / "broken.safetensors"); }),
              HasSubstr("broken.safetensors: "));
  EXPECT_THROW(SafetensorsFile(scratch / "absent"), IoError);
}

}  // namespace
}  // namespace knapsaq
