// archive.db from anywhere: opened for reading, told to a report, and written to. Everything is refused with
// one line, or gives measurements that fit its space.

#include "knapsaq/search/archive.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "knapsaq/base/error.h"
#include "knapsaq/checkpoint/file_sizes.h"
#include "knapsaq/report/collect_report.h"

namespace {

using namespace knapsaq;

const std::vector<std::string>& endings() {
  static const std::vector<std::string> all = {"", "-wal", "-shm", "-journal", ".lock"};
  return all;
}

/// Three linears in two schemes: points of three bytes, each 0 or 1, as the corpus has them.
const SearchSpace& space() {
  static const SearchSpace made = [] {
    SearchSpace result;
    result.menu = parse_menu("b2g64,b4g64").schemes;
    std::vector<FilePart> parts;
    for (std::size_t i = 0; i < 3; ++i) {
      FilePart& part = parts.emplace_back();
      part.module = i;
      for (const std::int64_t bytes : {1100, 2100})
        part.forms.push_back(
            {{.name = std::string(i + 1, 'l') + ".weight", .type = DType::U8, .shape = {bytes}}});
      result.linears.emplace_back(i + 1, 'l');
      result.schemes.push_back(result.menu);
      result.variables.push_back({.name = result.linears.back(),
                                  .block = static_cast<std::int64_t>(i),
                                  .linears = {i},
                                  .parameters = 4096,
                                  .levels = {{0, 1100, 2, 4.0}, {1, 2100, 4, 1.0}}});
    }
    result.parameters = 3 * 4096;
    result.files = std::make_shared<CheckpointSizes>(parts);
    return result;
  }();
  return made;
}

void read(Archive archive) {
  for (const char* name : {"settings", "search tokens", "model folder"})
    static_cast<void>(archive.about(name));
  for (const SearchRecord& search : archive.searches()) {
    static_cast<void>(archive.steps(search.id));
    static_cast<void>(archive.notes(search.id));
  }
  static_cast<void>(archive.entries(kSearchSet));
  archive.expect(space());
  for (const Archive::Entry& entry : archive.entries(kSearchSet)) {
    if (entry.point.size() != 3) std::abort();
    const auto found = archive.find(kSearchSet, entry.point, entry.measurement.windows);
    if (found && !found->per_token.empty() && std::ssize(found->per_token) != found->tokens) std::abort();
    static_cast<void>(archive.find_at_most(kHeldOutSet, entry.point, entry.measurement.windows));
  }
  ReportSources sources;
  sources.archive = &archive;
  sources.space = &space();
  sources.windows = 4;
  sources.tokens = 28;
  static_cast<void>(to_json(collect_report(std::move(sources)))
                        .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

void write(Archive archive) {
  archive.expect(space());
  Measurement measurement;
  measurement.windows = 2;
  measurement.tokens = 3;
  measurement.kl = measurement.loss = 0.5;
  measurement.per_token = {0.25f, 0.5f, 0.75f};
  archive.set_about("settings", "{}");
  archive.add(kSearchSet, {0, 1, 1}, measurement, 0.1);
  const SearchRecord search = archive.search("front", "", 7);
  Step step;
  step.search = search.id;
  step.phase = "begin";
  step.point = {0, 1, 1};
  step.measurement = measurement;
  archive.add_batch(search.id, 0, {step}, {{"round", {{"value", 1.0}}}});
  archive.finish(search.id);
  static_cast<void>(archive.steps(search.id));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::string file =
      (std::filesystem::temp_directory_path() / ("knapsaq-fuzz-" + std::to_string(::getpid()) + ".db"))
          .string();
  for (const bool writes : {false, true}) {
    for (const std::string& ending : endings()) std::filesystem::remove(file + ending);
    std::ofstream(file, std::ios::binary)
        .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
    try {
      if (writes)
        write(Archive::create(file));
      else
        read(Archive::open(file));
    } catch (const Error& error) {
      if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
    }
  }
  for (const std::string& ending : endings()) std::filesystem::remove(file + ending);
  return 0;
}
