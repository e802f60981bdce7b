#include "knapsaq/eval/weight_cache.h"

namespace knapsaq {

std::shared_ptr<const Weight> WeightCache::find(std::size_t linear, std::size_t choice) {
  const auto place = places_.find({linear, choice});
  if (place == places_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, place->second);
  return place->second->weight;
}

void WeightCache::add(std::size_t linear, std::size_t choice, std::shared_ptr<const Weight> weight) {
  const std::uint64_t size = weight->bytes();
  if (size > limit_ || places_.contains({linear, choice})) return;
  while (bytes_ + size > limit_) {
    bytes_ -= entries_.back().weight->bytes();
    places_.erase(entries_.back().key);
    entries_.pop_back();
  }
  entries_.push_front({{linear, choice}, std::move(weight)});
  places_[{linear, choice}] = entries_.begin();
  bytes_ += size;
}

}  // namespace knapsaq
