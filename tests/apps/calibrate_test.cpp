// `knapsaq calibrate` as a user meets it, kills included.

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>

#include "knapsaq/base/files.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

class CalibrateCommand : public ::testing::Test {
 protected:
  int run(const std::string& arguments) {
    const std::string line = std::string(KNAPSAQ_COMMAND) + " calibrate " + arguments + " >" +
                             path("stdout") + " 2>" + path("stderr") + " </dev/null";
    const int status = std::system(line.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string errors() const { return read_file(path("stderr")); }
  std::string path(const std::string& name) const { return (scratch_ / name).string(); }
  static std::map<std::string, std::string> contents(const fs::path& folder) {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::directory_iterator(folder))
      files[entry.path().filename().string()] = read_file(entry.path());
    return files;
  }

  const std::string assets_ = KNAPSAQ_SOURCE_DIR "/assets";
  const std::string text_ = assets_ + "/wiki-llama-6m-sample.txt";
  const std::string llama_ = assets_ + "/wiki-llama-6m";
  const std::string sizes_ = " --samples 6 --window 256 ";
  Scratch scratch_;
};

TEST_F(CalibrateCommand, WritesAFolderAndSaysSo) {
  for (const char* name : {"wiki-llama-6m", "wiki-opt-3m"}) {
    const std::string model = assets_ + "/" + name;
    ASSERT_EQ(run(model + " --text " + text_ + sizes_ + "--json -o " + path(name)), 0) << errors();
    const auto told = nlohmann::json::parse(read_file(path("stdout")));
    const auto kept = nlohmann::json::parse(read_file(path(std::string(name) + "/calibration.json")));
    EXPECT_EQ(told.at("tokens"), 6 * 256);
    EXPECT_EQ(told.at("fingerprint"), kept.at("model"));
    // The ends of the model are one block more.
    EXPECT_EQ(kept.at("blocks").size(), kept.at("layers").get<std::size_t>() + 1);
    EXPECT_EQ(contents(path(name)).size(), kept.at("layers").get<std::size_t>() + 2);
  }
}

TEST_F(CalibrateCommand, AKilledRunEndsWithTheSameFiles) {
  ASSERT_EQ(run(llama_ + " --text " + text_ + sizes_ + "-o " + path("whole")), 0) << errors();
  // Killed without warning once the second block is there.
  const std::string script = std::string(KNAPSAQ_COMMAND) + " calibrate " + llama_ + " --text " + text_ +
                             sizes_ + "-o " + path("killed") +
                             " >/dev/null & pid=$!; "
                             "while kill -0 $pid 2>/dev/null && ! [ -e " +
                             path("killed/block-00001.safetensors") + " ]; do sleep 0.01; done; kill -9 $pid";
  static_cast<void>(std::system(script.c_str()));
  EXPECT_TRUE(fs::exists(path("killed/block-00000.safetensors")));
  ASSERT_EQ(run(llama_ + " --text " + text_ + sizes_ + "-o " + path("killed")), 0) << errors();
  EXPECT_EQ(contents(path("killed")), contents(path("whole")));
}

TEST_F(CalibrateCommand, TheModelSpeaksForItself) {
  ASSERT_EQ(run(llama_ + sizes_ + "--json -o " + path("whole")), 0) << errors();
  EXPECT_EQ(nlohmann::json::parse(read_file(path("stdout"))).at("text"), "self calibration seed 0");
  // A killed run goes on with the same text: as if only two blocks were finished.
  fs::copy(path("whole"), path("killed"));
  auto kept = nlohmann::json::parse(read_file(path("killed/calibration.json")));
  while (kept["blocks"].size() > 2) kept["blocks"].erase(kept["blocks"].size() - 1);
  write_file(path("killed/calibration.json"), kept.dump());
  for (const char* block : {"00002", "00003", "00004", "00005"})
    fs::remove(path(std::string("killed/block-") + block + ".safetensors"));
  ASSERT_EQ(run(llama_ + sizes_ + "--text self --threads 1 -o " + path("killed")), 0) << errors();
  EXPECT_EQ(contents(path("killed")), contents(path("whole")));
  ASSERT_EQ(run(llama_ + sizes_ + "--seed 1 -o " + path("other")), 0) << errors();
  EXPECT_NE(contents(path("other")), contents(path("whole")));
}

TEST_F(CalibrateCommand, RefusesInOneLine) {
  const auto refusal = [&](const std::string& arguments, int code) {
    EXPECT_EQ(run(arguments), code) << arguments;
    const std::string line = errors();
    EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << line;
    return line;
  };
  EXPECT_THAT(refusal(llama_ + " --text " + text_ + " -o " + path("c"), 1),
              AllOf(HasSubstr("tokens"), HasSubstr("need 65536")));
  EXPECT_THAT(refusal(llama_ + " --text " + text_ + " --window 513 -o " + path("c"), 2), HasSubstr("512"));
  EXPECT_THAT(refusal(llama_ + " --text self " + text_ + " -o " + path("c"), 2), HasSubstr("./self"));
  EXPECT_THAT(refusal(llama_ + " --text " + path("none.txt") + " -o " + path("c"), 1), HasSubstr("none.txt"));
  EXPECT_FALSE(fs::exists(path("c")));

  ASSERT_EQ(run(llama_ + " --text " + text_ + sizes_ + "-o " + path("c")), 0) << errors();
  EXPECT_THAT(refusal(llama_ + " --text " + text_ + sizes_ + "--seed 2 -o " + path("c"), 2),
              HasSubstr("--force"));
  EXPECT_EQ(run(llama_ + " --text " + text_ + sizes_ + "--seed 2 --force -o " + path("c")), 0) << errors();
}

}  // namespace
}  // namespace knapsaq
