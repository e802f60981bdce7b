#include "knapsaq/search/stop_file.h"

#include <system_error>

#include "knapsaq/base/files.h"
#include "knapsaq/search/run_files.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

bool is_there(const fs::path& file) {
  std::error_code ignored;
  return fs::is_regular_file(fs::symlink_status(file, ignored));
}

/// Only what request_stop() made: anything else of that name is not ours to remove.
void remove_request(const fs::path& file) {
  std::error_code ignored;
  if (is_there(file)) fs::remove(file, ignored);
}

}  // namespace

StopFile::StopFile(const fs::path& run) : file_(run / kStopName) { remove_request(file_); }

StopFile::~StopFile() { remove_request(file_); }

bool StopFile::requested() const { return is_there(file_); }

void request_stop(const fs::path& run) { write_file(run / kStopName, ""); }

bool stop_requested(const fs::path& run) { return is_there(run / kStopName); }

}  // namespace knapsaq
