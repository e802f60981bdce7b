// Inputs that are not what they seem, through the verbs that take them: one line that says what they are.

#include <fstream>

#include "apps/command_fixture.h"
#include "knapsaq/checkpoint/safetensors.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using namespace std::string_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class InputsTest : public CommandTest {
 protected:
  /// A copy of the small Llama.
  std::string copy(const std::string& name = "m") const {
    fs::copy(llama_, scratch_ / name, fs::copy_options::recursive);
    return scratch(name);
  }
  void edit_config(const std::string& folder, const std::string& key, const std::string& literal) const {
    const fs::path path = fs::path(folder) / "config.json";
    std::string text = read_file(path);
    text.insert(text.find('{') + 1, "\"" + key + "\": " + literal + ",\n");
    write_file(path, text);
  }
};

TEST_F(InputsTest, TextsInOtherEncodingsAreRefusedByEveryVerb) {
  std::string text = "\xFF\xFE";
  for (const char c : read_file(text_).substr(0, 20000)) text += {c, '\0'};
  write_file(scratch_ / "utf16.txt", text);
  const std::string file = scratch("utf16.txt");
  const std::string wanted = file + ": is not UTF-8: it looks like UTF-16 (little-endian); convert it: iconv";
  expect_refused("eval " + llama_ + " --text " + file, 1, wanted);
  expect_refused("calibrate " + llama_ + " -o " + scratch("c") + " --text " + file, 1, wanted);
  expect_refused("bank " + llama_ + " -o " + scratch("b") + " --menu gptq:b4g64 --text " + file, 1, wanted);
  expect_refused("quantize " + llama_ + " -o " + scratch("q") + " --scheme gptq:b4g64 --text " + file, 1,
                 wanted);
  expect_refused(
      "fit " + llama_ + " -o " + scratch("f") + " --bits 4 --run " + scratch("r") + " --text " + file, 1,
      wanted);
  expect_refused("generate " + llama_ + " --prompt-file " + file, 1, wanted);
  fs::create_directory(scratch_ / "data");
  write_file(scratch_ / "data/piqa.jsonl", text);
  expect_refused("eval " + llama_ + " --tasks piqa --data " + scratch("data"), 1, "it looks like UTF-16");
  for (const char* made : {"c", "q", "f"}) EXPECT_FALSE(fs::exists(scratch_ / made)) << made;
}

TEST_F(InputsTest, PromptsAreTextToo) {
  expect_refused("generate " + llama_ + " --prompt \"$(printf 'caf\\351')\"", 1,
                 "--prompt: is not UTF-8: it looks like Latin-1");
}

TEST_F(InputsTest, FilesThatADownloadLeftBehind) {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
  for (const char* name : {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"}) {
    const std::string model = copy(name + "-model"s);
    write_file(fs::path(model) / name, pointer);
    expect_refused("eval " + model + " --text " + text_, 1, name + ": is a Git LFS pointer"s);
  }
  write_file(scratch_ / "text", pointer);
  expect_refused("eval " + llama_ + " --text " + scratch("text"), 1, "is a Git LFS pointer");
  write_file(scratch_ / "imatrix.gguf", pointer);
  expect_refused("quantize " + llama_ + " -o " + scratch("q") + " --scheme q4_k --calibration " +
                     scratch("imatrix.gguf"),
                 1, "is a Git LFS pointer");
}

TEST_F(InputsTest, NumbersOfConfigsThatAreNotFinite) {
  const std::string model = copy();
  edit_config(model, "time_step_limit", "[0.0, Infinity, -Infinity, NaN]");
  must("info " + model);
  must("quantize " + model + " -o " + scratch("q") + " --scheme rtn:b4g64");
  EXPECT_THAT(read_file(scratch_ / "q/config.json"),
              AllOf(HasSubstr("Infinity"), HasSubstr("-Infinity"), HasSubstr("NaN")));
  must("info " + scratch("q"));
  const std::string broken = copy("broken");
  edit_config(broken, "x", "Infinity");
  std::string text = read_file(fs::path(broken) / "config.json");
  const std::size_t at = text.find("\"rms_norm_eps\":");
  text.replace(at, text.find_first_of(",\n", at) - at, "\"rms_norm_eps\": Infinity");
  write_file(fs::path(broken) / "config.json", text);
  expect_refused("info " + broken, 1, "rms_norm_eps is 'Infinity', not a positive number");
}

TEST_F(InputsTest, NumbersOfOptionsAreRefusedInAShortLine) {
  expect_refused("generate " + llama_ + " --prompt a --max-tokens 0", 2,
                 "--max-tokens: '0' is not a whole number from 1 on");
  expect_refused("quantize " + llama_ + " -o " + scratch("q") + " --bits nan", 2,
                 "'nan' is not a number above 0");
}

TEST_F(InputsTest, WeightsThatNoSchemeStoresAreNamed) {
  const std::string model = copy();
  const fs::path path = fs::path(model) / "model.safetensors";
  std::size_t at = 0;
  {
    const SafetensorsFile file(path);
    const TensorView& view = file.tensors().at("model.layers.1.mlp.up_proj.weight");
    ASSERT_EQ(size_of(view.type), 2U);
    at = static_cast<std::size_t>(view.bytes.data() - file.file().bytes().data());
  }
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(at));
  file.write("\xFF\x7B", 2);  // 65504 in F16
  file.close();
  for (const char* scheme : {"rtn:b4g64", "hqq:b4g64", "q4_k", "nf4"})
    expect_refused("quantize " + model + " -o " + scratch("q") + " --scheme " + scheme, 1,
                   "model.layers.1.mlp.up_proj");
  expect_refused("tables " + model + " -o " + scratch("t.csv"), 1, "model.layers.1.mlp.up_proj");
}

TEST_F(InputsTest, AHeadThatDiffersIsUsed) {
  const std::string text = " --window 64 --windows 8 --precision fp32 --json --text " + text_;
  const double reference = must("eval " + llama_ + text).json()["nll"];
  // The same model with a head of its own: the embedding's bytes, negated.
  const std::string model = copy();
  const fs::path path = fs::path(model) / "model.safetensors";
  std::vector<TensorSpec> specs;
  std::string data;
  {
    const SafetensorsFile file(path);
    const auto add = [&](const std::string& name, const TensorView& view) {
      specs.push_back({name, view.type, view.shape});
      data.append(reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size());
    };
    for (const auto& [name, view] : file.tensors())
      if (name != "lm_head.weight") add(name, view);
    add("lm_head.weight", file.tensors().at("model.embed_tokens.weight"));
  }
  const auto write = [&] {
    SafetensorsWriter writer(path, specs);
    writer.write(std::as_bytes(std::span(data)));
    writer.commit();
  };
  write();
  const Outcome same = must("eval " + model + text);
  EXPECT_EQ(same.json()["nll"].get<double>(), reference);
  EXPECT_EQ(same.err, "");
  for (std::size_t i = data.size() - specs.back().bytes() + 1; i < data.size(); i += 2)
    data[i] = static_cast<char>(data[i] ^ '\x80');
  write();
  const Outcome other = must("eval " + model + text);
  EXPECT_THAT(other.err, HasSubstr("note: config.json says that the head is the embedding"));
  EXPECT_GT(other.json()["nll"].get<double>(), reference + 0.5);
  // Every form that is written has the head.
  must("quantize " + model + " -o " + scratch("q") + " --scheme rtn:b8g32s");
  EXPECT_NEAR(must("eval " + scratch("q") + text).json()["nll"].get<double>(),
              other.json()["nll"].get<double>(), 0.05);
  must("quantize " + model + " -o " + scratch("k") + " --scheme q8_0");
  must("export " + scratch("k") + " --format gguf -o " + scratch("k.gguf"));
  EXPECT_NEAR(must("eval " + scratch("k.gguf") + text).json()["nll"].get<double>(),
              other.json()["nll"].get<double>(), 0.05);
}

}  // namespace
}  // namespace knapsaq
