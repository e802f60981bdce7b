#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/files.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/pipeline/fit.h"
#include "knapsaq/pipeline/write_selection.h"
#include "knapsaq/search/run.h"
#include "scratch.h"
#include "test_models.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// A run of a few measurements, in its folder.
void make_run(const Scratch& scratch, const std::string& method) {
  Environment environment({.threads = 2});
  Session session(environment, asset("wiki-llama-6m"), Session::Weights::decoded);
  FitOptions options;
  options.output = (scratch / "out").string();
  options.run = (scratch / "run").string();
  options.budget.bytes = 4'300'000;
  options.of.menu = "b2g64,b4g64";
  options.of.method = method;
  options.of.calibration.samples = {.samples = 2, .window = 32};
  options.of.tokens = 64;
  options.of.heldout = 64;
  options.search.strategy = "uniform";
  options.effort = "quick";
  fit(session, options);
}

std::uint64_t write(const knapsaq::Run& run, const Point& point, const Samples& samples,
                    const fs::path& folder) {
  return write_quantized(run.checkpoint(), run.config(), allocation_of(run, point),
                         *correct_point(run, point, samples, nullptr, Progress::none()), folder, false)
      .bytes;
}

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) files.push_back(entry.path());
  return files;
}

TEST(CorrectPoint, GoesOnWhereItStoppedAndWritesTheBanksEnds) {
  for (const std::string method : {"gptq", "awq"}) {
    const Scratch scratch;
    make_run(scratch, method);
    const knapsaq::Run run = knapsaq::Run::open(scratch / "run", Access::read);
    const Samples samples =
        make_samples(std::vector<std::int32_t>(8 * 32, 17), {.samples = 8, .window = 32}, "made");
    const Point point = run.space().smallest();
    EXPECT_EQ(write(run, point, samples, scratch / "corrected"), run.space().bytes(point));
    EXPECT_EQ(write_point(run, point, {}, scratch / "bank", false, Progress::none()).bytes,
              run.space().bytes(point));
    EXPECT_TRUE(read_file(scratch / "corrected/model.safetensors") !=
                read_file(scratch / "bank/model.safetensors"));

    // A run that was killed has some of the files.
    const std::vector<fs::path> kept = files_in(scratch / "run/corrected");
    EXPECT_EQ(kept.size(), linears(run.config()).size());
    for (std::size_t i = 0; i < kept.size(); i += 2) fs::remove(kept[i]);
    const auto made = fs::last_write_time(kept[1]);
    write(run, point, samples, scratch / "again");
    EXPECT_TRUE(read_file(scratch / "again/model.safetensors") ==
                read_file(scratch / "corrected/model.safetensors"));
    EXPECT_EQ(fs::last_write_time(kept[1]), made);

    const std::unique_ptr<const MatrixSource> source =
        correct_point(run, point, samples, nullptr, Progress::none());
    EXPECT_EQ(source->folding() != nullptr, method == "awq");
    const Matrix embedding = matrices(run.config()).front();
    const Scheme scheme = run.space().allocation(point).front();
    EXPECT_EQ(run.space().linears.front(), embedding.name);
    EXPECT_TRUE(std::ranges::equal(std::get<PackedMatrix>(source->matrix(embedding, scheme).stored).codes,
                                   std::get<PackedMatrix>(run.bank().matrix(embedding.name, scheme)).codes));
    remove_corrections(run);
    EXPECT_FALSE(fs::exists(scratch / "run/corrected"));
  }
}

}  // namespace
}  // namespace knapsaq
