#include "knapsaq/pipeline/status_listener.h"

#include <system_error>

#include "knapsaq/search/run_files.h"

namespace knapsaq {

void StatusListener::begin(std::string_view what, std::uint64_t total, std::string_view unit) {
  next_.begin(what, total, unit);
  open();
  if (file_) file_->begin(what, total, unit);
}

void StatusListener::advance(std::uint64_t done) {
  next_.advance(done);
  if (file_) file_->advance(done);
}

void StatusListener::end() {
  next_.end();
  if (file_) file_->end();
}

void StatusListener::note(std::string_view line) {
  next_.note(line);
  if (file_) file_->note(line);
}

void StatusListener::run_begins(const std::filesystem::path& folder) {
  folder_.emplace(folder);
  next_.run_begins(folder);
}

void StatusListener::open() {
  if (folder_ && !file_) file_ = std::make_unique<StatusFile>(folder_->path());
}

void StatusListener::search_begins(const SearchView& view) {
  next_.search_begins(view);
  open();
  if (!file_) return;
  if (view.budget) file_->budget(*view.budget);
  file_->search_begins(*view.space, view.divergence, view.strategy, view.can_stop);
}

void StatusListener::searching(const SearchStatus& status) {
  next_.searching(status);
  if (file_) file_->searching(status);
}

void StatusListener::search_ends() {
  next_.search_ends();
  if (file_) file_->search_ends();
}

void StatusListener::run_finished(std::string_view text) {
  if (file_) file_->finished(text);
}

void StatusListener::run_ends() {
  if (!folder_) return;
  file_.reset();
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path status = folder_->path() / kStatusName;
  fs::directory_iterator entry(folder_->path(), error);
  if (!error && entry != fs::directory_iterator() && entry->path() == status &&
      ++entry == fs::directory_iterator())
    fs::remove(status, error);
  folder_.reset();
}

void StatusListener::run_failed(std::string_view reason) {
  if (file_) file_->failed(reason);
}

}  // namespace knapsaq
