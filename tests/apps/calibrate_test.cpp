// `knapsaq calibrate` as a user meets it, kills included.

#include <filesystem>
#include <string>

#include "apps/command_fixture.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

class CalibrateCommand : public InterventionTest {
 protected:
  std::string calibrate(const std::string& folder, const std::string& options) const {
    return "calibrate " + llama_ + " -o " + scratch(folder) + " " + options;
  }

  const std::string sizes_ = " --samples 6 --window 256 ";
  const std::string small_ = "--text " + text_ + sizes_;
};

TEST_F(CalibrateCommand, WritesAFolderAndSaysSo) {
  for (const std::string name : {"wiki-llama-6m", "wiki-opt-3m"}) {
    const nlohmann::json said =
        must("calibrate " + assets_ + "/" + name + " -o " + scratch(name) + " --json " + small_).json();
    const auto kept = nlohmann::json::parse(read_file(scratch(name + "/calibration.json")));
    EXPECT_EQ(said.at("tokens"), 6 * 256);
    EXPECT_EQ(said.at("fingerprint"), kept.at("model"));
    // The ends of the model are one block more.
    EXPECT_EQ(kept.at("blocks").size(), kept.at("layers").get<std::size_t>() + 1);
    EXPECT_EQ(content_of(scratch(name)).size(), kept.at("layers").get<std::size_t>() + 2);
  }
}

TEST_F(CalibrateCommand, AKilledRunEndsWithTheSameFiles) {
  must(calibrate("whole", small_));
  // Killed while the second block gets its name.
  EXPECT_EQ(run(calibrate("killed", small_), with({"kill", "n", 3})).code, 128 + SIGKILL);
  EXPECT_TRUE(fs::exists(scratch("killed/block-00000.safetensors")));
  EXPECT_FALSE(fs::exists(scratch("killed/block-00001.safetensors")));
  must(calibrate("killed", small_));
  EXPECT_EQ(content_of(scratch("killed")), content_of(scratch("whole")));
}

TEST_F(CalibrateCommand, TheModelSpeaksForItself) {
  EXPECT_EQ(must(calibrate("whole", "--json" + sizes_)).json().at("text"), "self calibration seed 0");
  // A killed run goes on with the same text: as if only two blocks were finished.
  fs::copy(scratch("whole"), scratch("killed"));
  auto kept = nlohmann::json::parse(read_file(scratch("killed/calibration.json")));
  while (kept["blocks"].size() > 2) kept["blocks"].erase(kept["blocks"].size() - 1);
  write_file(scratch("killed/calibration.json"), kept.dump());
  for (const std::string block : {"00002", "00003", "00004", "00005"})
    fs::remove(scratch("killed/block-" + block + ".safetensors"));
  must(calibrate("killed", "--text self --threads 1" + sizes_));
  EXPECT_EQ(content_of(scratch("killed")), content_of(scratch("whole")));
  must(calibrate("other", "--seed 1" + sizes_));
  EXPECT_NE(content_of(scratch("other")), content_of(scratch("whole")));
}

TEST_F(CalibrateCommand, RefusesInOneLine) {
  expect_refused(calibrate("c", "--text " + text_), 1, "need 65536");
  expect_refused(calibrate("c", "--window 513 --text " + text_), 2, "512");
  expect_refused(calibrate("c", "--text self " + text_), 2, "./self");
  expect_refused(calibrate("c", "--text " + scratch("none.txt")), 1, "none.txt");
  EXPECT_FALSE(fs::exists(scratch("c")));

  must(calibrate("c", small_));
  expect_refused(calibrate("c", "--seed 2 " + small_), 2, "--force");
  must(calibrate("c", "--seed 2 --force " + small_));
}

}  // namespace
}  // namespace knapsaq
