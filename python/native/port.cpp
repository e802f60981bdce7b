#include "port.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "knapsaq/base/error.h"
#include "knapsaq/base/helper.h"
#include "knapsaq/search/search_status.h"
#include "knapsaq/watch/launch_server.h"

namespace knapsaq::python {

void Port::begin_work(bool listens) {
  const std::lock_guard lock(mutex_);
  cancellation_.reset();
  listens_ = listens;
  ended_ = text_came_ = in_stage_ = false;
  events_.clear();
}

void Port::end_work() {
  const std::lock_guard lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

bool Port::wait(double seconds) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return ended_ || text_came_; });
  return ended_;
}

std::vector<Event> Port::take() {
  const std::lock_guard lock(mutex_);
  if (in_stage_ && done_ != shown_) events_.emplace_back(StageAdvanced{shown_ = done_});
  text_came_ = false;
  return std::exchange(events_, {});
}

void Port::add(Event event) {
  const std::lock_guard lock(mutex_);
  events_.push_back(std::move(event));
}

void Port::add_text(const std::string& piece) {
  const std::lock_guard lock(mutex_);
  events_.emplace_back(TextGrew{piece});
  text_came_ = true;
  changed_.notify_all();
}

void Port::begin(std::string_view what, std::uint64_t total, std::string_view unit) {
  if (!listens_) return;
  const std::lock_guard lock(mutex_);
  done_ = shown_ = 0;
  in_stage_ = true;
  events_.emplace_back(StageBegan{std::string(what), total, std::string(unit)});
}

void Port::advance(std::uint64_t done) { done_.fetch_add(done, std::memory_order_relaxed); }

void Port::end() {
  if (!listens_) return;
  const std::lock_guard lock(mutex_);
  if (in_stage_ && done_ != shown_) events_.emplace_back(StageAdvanced{done_});
  in_stage_ = false;
  events_.emplace_back(StageEnded{});
}

void Port::note(std::string_view line) { add(Noted{std::string(line)}); }

void Port::run_begins(const std::filesystem::path& folder) {
  if (!watches_) return;
  try {
    note("the run's page: " + launch_server(helper_program(), folder));
  } catch (const Error& error) {
    note(error.what());  // the page is not the work
  }
}

void Port::search_begins(const SearchView& view) {
  search_ = view;
  front_.clear();
  best_.reset();
}

void Port::searching(const SearchStatus& status) {
  if (!listens_) return;
  if (status.point != nullptr && status.measurement != nullptr) {
    const SearchSpace& space = *search_.space;
    const Outcome outcome{space.bits(*status.point), status.measurement->value(search_.divergence)};
    front_.push_back(outcome);
    std::vector<Outcome> kept;
    for (const std::size_t index : front(front_)) kept.push_back(front_[index]);
    front_ = std::move(kept);
    if (search_.budget && space.fits(*status.point, *search_.budget))
      best_ = std::min(best_.value_or(outcome.divergence), outcome.divergence);
  }
  Searching now{.strategy = search_.strategy,
                .phase = status.phase,
                .divergence = std::string(name_of(search_.divergence)),
                .evaluations = status.evaluations,
                .measured = status.measured,
                .expected = status.expected,
                .front = front_.size(),
                .best = best_};
  const std::lock_guard lock(mutex_);
  if (!events_.empty() && std::holds_alternative<Searching>(events_.back()))
    events_.back() = std::move(now);
  else
    events_.emplace_back(std::move(now));
}

void Port::search_ends() {
  if (listens_) add(SearchEnded{});
}

}  // namespace knapsaq::python
