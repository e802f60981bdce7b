#include "knapsaq/eval/weight_cache.h"

namespace knapsaq {

PreparedMatrix WeightCache::find(std::size_t matrix, std::size_t choice) {
  const auto place = places_.find({matrix, choice});
  if (place == places_.end()) return {};
  entries_.splice(entries_.begin(), entries_, place->second);
  return place->second->prepared;
}

void WeightCache::add(std::size_t matrix, std::size_t choice, PreparedMatrix prepared) {
  const std::uint64_t size = prepared.bytes();
  if (size > limit_ || places_.contains({matrix, choice})) return;
  while (bytes_ + size > limit_) {
    bytes_ -= entries_.back().prepared.bytes();
    places_.erase(entries_.back().key);
    entries_.pop_back();
  }
  entries_.push_front({{matrix, choice}, std::move(prepared)});
  places_[{matrix, choice}] = entries_.begin();
  bytes_ += size;
}

}  // namespace knapsaq
