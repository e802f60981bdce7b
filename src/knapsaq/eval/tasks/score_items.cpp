#include "knapsaq/eval/tasks/score_items.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "knapsaq/base/cancellation.h"

namespace knapsaq {
namespace {

/// Common first tokens of all answers, without those that are needed in the answers' own rows: the row that
/// predicts the first token of a continuation has a different target for every answer.
std::int64_t shared_tokens(const EncodedItem& item) {
  std::int64_t shared = std::numeric_limits<std::int64_t>::max();
  const std::vector<std::int32_t>& one = item.answers.front().tokens;
  for (const EncodedAnswer& other : item.answers) {
    const auto [a, b] = std::ranges::mismatch(one, other.tokens);
    shared = std::min({shared, static_cast<std::int64_t>(a - one.begin()), other.first - 1});
  }
  return item.answers.size() < 2 ? 0 : shared;
}

/// A batch while it grows.
struct Batch {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> targets;
  std::vector<Segment> segments;
  struct Place {
    std::size_t item;
    std::size_t answer;
    std::size_t first;  ///< row of the first target
    std::size_t count;
  };
  std::vector<Place> places;

  void add(const EncodedItem& item, std::size_t index, std::int64_t shared) {
    std::int32_t parent = -1;
    if (shared > 0) {
      parent = static_cast<std::int32_t>(segments.size());
      const auto start = item.answers.front().tokens.begin();
      tokens.insert(tokens.end(), start, start + shared);
      targets.resize(tokens.size(), -1);
      segments.push_back({shared, -1});
    }
    for (std::size_t a = 0; a < item.answers.size(); ++a) {
      const auto& [of_answer, first] = item.answers[a];
      // The last token is only a target.
      tokens.insert(tokens.end(), of_answer.begin() + shared, of_answer.end() - 1);
      targets.resize(targets.size() + static_cast<std::size_t>(first - 1 - shared), -1);
      places.push_back({index, a, targets.size(), of_answer.size() - static_cast<std::size_t>(first)});
      targets.insert(targets.end(), of_answer.begin() + first, of_answer.end());
      segments.push_back({std::ssize(of_answer) - 1 - shared, parent});
    }
  }
};

std::int64_t rows_of(const EncodedItem& item, std::int64_t shared) {
  std::int64_t rows = shared;
  for (const EncodedAnswer& answer : item.answers) rows += std::ssize(answer.tokens) - 1 - shared;
  return rows;
}

}  // namespace

std::vector<std::vector<double>> score_items(std::span<const EncodedItem> items,
                                             const SegmentLossFunction& losses, std::int64_t batch_rows,
                                             Progress& progress) {
  std::vector<std::vector<double>> scores(items.size());
  ProgressScope scope(progress, "scoring", items.size(), "items");
  std::vector<float> out;
  for (std::size_t first = 0; first < items.size();) {
    check_cancelled();
    Batch batch;
    std::size_t last = first;
    while (last < items.size()) {
      const std::int64_t shared = shared_tokens(items[last]);
      if (last > first && std::ssize(batch.tokens) + rows_of(items[last], shared) > batch_rows) break;
      scores[last].resize(items[last].answers.size());
      batch.add(items[last], last, shared);
      ++last;
    }
    out.resize(batch.tokens.size());
    losses(batch.tokens, batch.segments, batch.targets, out);
    for (const auto& [item, answer, row, count] : batch.places) {
      double sum = 0;
      for (std::size_t i = row; i < row + count; ++i) sum -= out[i];
      scores[item][answer] = sum;
    }
    scope.advance(last - first);
    first = last;
  }
  return scores;
}

}  // namespace knapsaq
