#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <utility>

#include "knapsaq/compute/backend.h"

namespace knapsaq {

/// Prepared weights of (linear, choice), at most so many bytes of them; what was not used for longest goes
/// first. A weight that somebody still holds lives on.
class WeightCache {
 public:
  explicit WeightCache(std::uint64_t limit) : limit_(limit) {}

  /// Null if it is not there.
  std::shared_ptr<const Weight> find(std::size_t linear, std::size_t choice);
  /// Keeps it if it fits at all.
  void add(std::size_t linear, std::size_t choice, std::shared_ptr<const Weight> weight);

 private:
  using Key = std::pair<std::size_t, std::size_t>;
  struct Entry {
    Key key;
    std::shared_ptr<const Weight> weight;
  };
  std::uint64_t limit_;
  std::uint64_t bytes_ = 0;
  std::list<Entry> entries_;  ///< used last first
  std::map<Key, std::list<Entry>::iterator> places_;
};

}  // namespace knapsaq
