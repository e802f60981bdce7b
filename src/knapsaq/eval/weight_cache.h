#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <utility>

#include "knapsaq/model/decoder.h"

namespace knapsaq {

/// Prepared matrices by (matrix, choice), up to a number of bytes; the least recently used one is dropped
/// first. A matrix that is still referenced stays alive.
class WeightCache {
 public:
  explicit WeightCache(std::uint64_t limit) : limit_(limit) {}

  /// Empty if it is not cached.
  PreparedMatrix find(std::size_t matrix, std::size_t choice);
  /// Keeps it if it fits at all.
  void add(std::size_t matrix, std::size_t choice, PreparedMatrix prepared);

 private:
  using Key = std::pair<std::size_t, std::size_t>;
  struct Entry {
    Key key;
    PreparedMatrix prepared;
  };
  std::uint64_t limit_;
  std::uint64_t bytes_ = 0;
  std::list<Entry> entries_;  ///< most recently used first
  std::map<Key, std::list<Entry>::iterator> places_;
};

}  // namespace knapsaq
