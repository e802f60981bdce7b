#include "knapsaq/checkpoint/torch_file.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/checkpoint/torch_pickle.h"
#include "message_of.h"
#include "reference_values.h"
#include "scratch.h"

namespace knapsaq {
namespace {

using testing::HasSubstr;
using Shape = std::vector<std::int64_t>;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

std::string complaint(std::string_view name) {
  return message_of([&] { TorchFile file(checkpoint_data(name)); });
}

std::string pickle_complaint(std::string_view pickle) {
  return message_of([&] { read_torch_pickle(bytes_of(pickle)); });
}

class StateDict : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(TorchFile, StateDict, testing::Values("state.bin", "plain_dict.bin"));

TEST_P(StateDict, IsReadAsTorchWroteIt) {
  const TorchFile file(checkpoint_data(GetParam()));
  const auto& tensors = file.tensors();
  ASSERT_EQ(tensors.size(), 14u);
  EXPECT_EQ(read_floats(tensors.at("weight")), reference_floats(48));
  EXPECT_EQ(tensors.at("weight").shape, (Shape{6, 8}));
  EXPECT_EQ(tensors.at("bias").type, DType::F16);
  EXPECT_EQ(read_floats(tensors.at("bias")), reference_floats(6));
  EXPECT_EQ(read_floats(tensors.at("half")), reference_floats(15));
  EXPECT_EQ(tensors.at("brain").type, DType::BF16);
  EXPECT_EQ(read_floats(tensors.at("brain")), reference_floats(15));
  EXPECT_EQ(as_numbers<std::int64_t>(tensors.at("long")), (std::vector<std::int64_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(as_numbers<std::uint8_t>(tensors.at("bool")), (std::vector<std::uint8_t>{0, 1, 0, 1, 0}));
  EXPECT_EQ(read_floats(tensors.at("scalar")), std::vector<float>{2.5f});
  EXPECT_EQ(tensors.at("empty").shape, (Shape{0, 3}));
  EXPECT_EQ(read_floats(tensors.at("parameter")), reference_floats(4));
}

TEST_P(StateDict, TiedTensorsShareTheirBytes) {
  const TorchFile file(checkpoint_data(GetParam()));
  EXPECT_EQ(file.tensors().at("tied").bytes.data(), file.tensors().at("weight").bytes.data());
}

TEST_P(StateDict, WindowsOnAStorageAreFollowed) {
  const TorchFile file(checkpoint_data(GetParam()));
  const auto& tensors = file.tensors();
  const std::vector<float> values = reference_floats(64);
  EXPECT_EQ(read_floats(tensors.at("slice")), std::vector<float>(values.begin() + 10, values.begin() + 30));

  std::vector<float> transposed;
  for (std::size_t row = 0; row < 6; ++row)
    for (std::size_t col = 0; col < 4; ++col) transposed.push_back(values[col * 6 + row]);
  EXPECT_EQ(tensors.at("transposed").shape, (Shape{6, 4}));
  EXPECT_EQ(read_floats(tensors.at("transposed")), transposed);

  std::vector<float> strided;
  for (std::size_t row = 0; row < 10; row += 2)
    for (std::size_t col = 1; col < 4; ++col) strided.push_back(values[row * 6 + col]);
  EXPECT_EQ(tensors.at("strided").shape, (Shape{5, 3}));
  EXPECT_EQ(read_floats(tensors.at("strided")), strided);

  EXPECT_EQ(tensors.at("column").shape, (Shape{5, 1}));
  EXPECT_EQ(read_floats(tensors.at("column")),
            (std::vector<float>{values[1], values[4], values[7], values[10], values[13]}));
}

TEST(TorchFile, WhatIsNoDictionaryOfTensorsIsRefused) {
  EXPECT_THAT(complaint("legacy.bin"), HasSubstr("before version 1.6"));
  EXPECT_THAT(complaint("legacy.bin"), HasSubstr("torch.save(torch.load"));
  EXPECT_THAT(complaint("expanded.bin"), HasSubstr("'a' repeats its elements"));
  EXPECT_THAT(complaint("not_a_tensor.bin"), HasSubstr("'step' of its dictionary is not a tensor"));
  EXPECT_THAT(complaint("module.bin"), HasSubstr("'torch.nn.modules.linear Linear'"));
  EXPECT_THAT(complaint("protocol4.bin"), HasSubstr("protocol 4"));
  EXPECT_THAT(complaint("compressed.bin"), HasSubstr("is compressed"));
  EXPECT_THAT(complaint("all_types.safetensors"), HasSubstr("is a safetensors file"));
}

TEST(TorchFile, NothingIsEverExecuted) {
  std::filesystem::remove("/tmp/knapsaq-was-fooled");
  EXPECT_THAT(complaint("harmful.bin"), HasSubstr("'posix system', which is not needed"));
  EXPECT_FALSE(std::filesystem::exists("/tmp/knapsaq-was-fooled"));
}

TEST(TorchFile, EveryTruncationIsNoticed) {
  const std::string file = read_file(checkpoint_data("state.bin"));
  for (std::size_t size = 0; size < file.size(); ++size)
    EXPECT_THROW(parse_torch_file(bytes_of(std::string_view(file).substr(0, size))), InputError) << size;
}

TEST(TorchFile, FlippedBitsNeverDoHarm) {
  const std::string file = read_file(checkpoint_data("state.bin"));
  std::size_t refused = 0;
  for (std::size_t at = 0; at < file.size(); ++at) {
    std::string damaged = file;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << at % 8));
    try {
      for (const auto& [name, tensor] : parse_torch_file(bytes_of(damaged)).tensors) {
        std::int64_t elements = 1;
        for (const std::int64_t size : tensor.shape) elements *= size;
        EXPECT_EQ(elements, tensor.elements()) << name;
      }
    } catch (const InputError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 0u);
}

TEST(TorchPickle, InstructionsAreNamedWhenRefused) {
  EXPECT_THAT(pickle_complaint("\x80\x02]q."), HasSubstr("instruction 0x5d EMPTY_LIST"));
  EXPECT_THAT(pickle_complaint("\x80\x02(i__builtin__\neval\n"), HasSubstr("0x69 INST"));
  EXPECT_THAT(pickle_complaint("\x80\x02\x93."), HasSubstr("STACK_GLOBAL"));
  EXPECT_THAT(pickle_complaint("\x80\x02"
                               "c__builtin__\neval\n."),
              HasSubstr("'__builtin__ eval'"));
  EXPECT_THAT(pickle_complaint("\x80\x02"
                               "ctorch._utils\n_rebuild_tensor_v3\n."),
              HasSubstr("_rebuild_tensor_v3"));
}

TEST(TorchPickle, BrokenProgramsAreRefused) {
  EXPECT_THAT(pickle_complaint(""), HasSubstr("truncated"));
  EXPECT_THAT(pickle_complaint("."), HasSubstr("not a dictionary"));
  EXPECT_THAT(pickle_complaint("}}."), HasSubstr("not a dictionary"));
  EXPECT_THAT(pickle_complaint("R."), HasSubstr("takes more values"));
  EXPECT_THAT(pickle_complaint("}s."), HasSubstr("takes more values"));
  EXPECT_THAT(pickle_complaint("}NN(s."), HasSubstr("takes more values"));  // not through the mark
  EXPECT_THAT(pickle_complaint("}u."), HasSubstr("no mark"));
  EXPECT_THAT(pickle_complaint("}(Nu."), HasSubstr("key without a value"));
  EXPECT_THAT(pickle_complaint("}(NNu."), HasSubstr("a text belongs"));
  EXPECT_THAT(pickle_complaint("N(NNu."), HasSubstr("no dictionary"));
  EXPECT_THAT(pickle_complaint("hx."), HasSubstr("never remembered"));
  EXPECT_THAT(pickle_complaint("qx."), HasSubstr("takes more values"));
  EXPECT_THAT(pickle_complaint("X\xff\xff\xff\xff"
                               "abc"),
              HasSubstr("truncated"));
  EXPECT_THAT(pickle_complaint(std::string_view("X\x01\0\0\0\xff.", 7)), HasSubstr("not UTF-8"));
  EXPECT_THAT(pickle_complaint("\x8a\x09"
                               "123456789."),
              HasSubstr("more than 64 bits"));
  EXPECT_THAT(pickle_complaint("ccollections\nOrderedDict\n)R)R."), HasSubstr("cannot be called"));
  EXPECT_THAT(pickle_complaint("ctorch\nFloatStorage\n)R."), HasSubstr("storage class"));
  EXPECT_THAT(pickle_complaint("NQ."), HasSubstr("no tuple"));
  EXPECT_THAT(pickle_complaint(")Q."), HasSubstr("no storage of a known type"));
}

TEST(TorchPickle, ADictionaryThatContainsItselfDoesNoHarm) {
  EXPECT_THAT(pickle_complaint(std::string_view("}q\0(X\1\0\0\0ah\0u.", 15)),
              HasSubstr("'a' of its dictionary"));
}

TEST(TorchPickle, AnEmptyDictionaryHasNoTensors) {
  EXPECT_TRUE(read_torch_pickle(bytes_of("\x80\x02}q\1.")).empty());
}

}  // namespace
}  // namespace knapsaq
