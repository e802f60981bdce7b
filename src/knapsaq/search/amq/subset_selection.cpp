#include "knapsaq/search/amq/subset_selection.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <set>
#include <utility>

namespace knapsaq {
namespace {

// As in nsga2.cpp.
constexpr std::size_t kTries = 100;

using Subset = std::vector<bool>;  ///< of the candidates

struct Member {
  Subset subset;
  double deviation = 0;
};

/// Sizes of the front and of all candidates in ascending order, once and for all.
class Axis {
 public:
  Axis(std::span<const double> candidates, std::span<const double> front) {
    for (const double size : front) places_.push_back({size, kFront});
    for (std::size_t i = 0; i < candidates.size(); ++i) places_.push_back({candidates[i], i});
    std::stable_sort(places_.begin(), places_.end(),
                     [](const Place& a, const Place& b) { return a.size < b.size; });
  }

  double deviation(const Subset& subset) const {
    double first = 0;
    double last = 0;
    double squares = 0;
    std::size_t values = 0;
    for (const Place& place : places_) {
      if (place.candidate != kFront && !subset[place.candidate]) continue;
      if (values == 0) {
        first = place.size;
      } else {
        squares += (place.size - last) * (place.size - last);
      }
      last = place.size;
      ++values;
    }
    if (values < 2) return 0;
    const auto gaps = static_cast<double>(values - 1);
    const double mean = (last - first) / gaps;
    return std::sqrt(std::max(squares / gaps - mean * mean, 0.0));
  }

 private:
  static constexpr std::size_t kFront = SIZE_MAX;
  struct Place {
    double size;
    std::size_t candidate;
  };
  std::vector<Place> places_;
};

/// Sets `count` of these, drawn without replacement. `from` loses its order.
void set_some(Subset& subset, std::vector<std::size_t>& from, std::size_t count, Random& random) {
  for (std::size_t i = 0; i < count; ++i) {
    std::swap(from[i], from[i + random.below(from.size() - i)]);
    subset[from[i]] = true;
  }
}

Subset child_of(const Subset& a, const Subset& b, std::size_t count, Random& random) {
  Subset child(a.size());
  std::vector<std::size_t> either;
  std::size_t both = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] && b[i]) {
      child[i] = true;
      ++both;
    } else if (a[i] || b[i]) {
      either.push_back(i);
    }
  }
  set_some(child, either, count - both, random);
  std::vector<std::size_t> in;
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < child.size(); ++i) (child[i] ? in : out).push_back(i);
  child[out[random.below(out.size())]] = true;
  child[in[random.below(in.size())]] = false;
  return child;
}

}  // namespace

double gap_deviation(std::vector<double> values) {
  return Axis(values, {}).deviation(Subset(values.size(), true));
}

std::vector<std::size_t> select_subset(std::span<const double> candidates, std::span<const double> front,
                                       std::size_t count, const SubsetOptions& options, Random& random) {
  std::vector<std::size_t> all(candidates.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  if (candidates.size() <= count) return all;
  if (count == 0) return {};

  const Axis axis(candidates, front);
  std::vector<Member> population;
  std::set<Subset> known;
  const auto add = [&](Subset subset) {
    if (!known.insert(subset).second) return;
    const double deviation = axis.deviation(subset);
    population.push_back({std::move(subset), deviation});
  };
  const auto survive = [&] {
    std::stable_sort(population.begin(), population.end(),
                     [](const Member& a, const Member& b) { return a.deviation < b.deviation; });
    if (population.size() > options.population) population.resize(options.population);
  };
  for (std::size_t i = 0; i < std::max<std::size_t>(options.population, 1); ++i) {
    Subset subset(candidates.size());
    std::vector<std::size_t> from = all;
    set_some(subset, from, count, random);
    add(std::move(subset));
  }
  survive();
  for (std::size_t generation = 1; generation < options.generations; ++generation) {
    const std::size_t parents = population.size();  // sorted: of two, the first is the better one
    const auto winner = [&] { return std::min(random.below(parents), random.below(parents)); };
    const std::size_t wanted = parents + options.population;
    for (std::size_t tries = 0; population.size() < wanted && tries < kTries * options.population; ++tries) {
      const std::size_t first = winner();
      const std::size_t second = winner();
      add(child_of(population[first].subset, population[second].subset, count, random));
    }
    survive();
  }
  std::vector<std::size_t> chosen;
  for (const std::size_t i : all)
    if (population.front().subset[i]) chosen.push_back(i);
  return chosen;
}

}  // namespace knapsaq
