#include "knapsaq/compute/cpu/experts.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq::cpu {
namespace {

using Score = RouterRule::Score;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

std::span<const float> row_of(const Array& array, std::int64_t row) {
  return {full(array) + row * array.cols(), static_cast<std::size_t>(array.cols())};
}

/// The scores of all experts in one row.
void score(const RouterRule& rule, std::span<const float> logits, std::span<double> scores) {
  if (rule.score == Score::sigmoid) {
    std::ranges::transform(logits, scores.begin(), [](float x) { return sigmoid(static_cast<double>(x)); });
    return;
  }
  double largest = -std::numeric_limits<double>::infinity();
  for (const float x : logits) largest = std::max(largest, static_cast<double>(x));
  double sum = 0;
  for (std::size_t e = 0; e < scores.size(); ++e) {
    scores[e] = std::exp(static_cast<double>(logits[e]) - largest);
    sum += scores[e];
  }
  for (double& one : scores) one /= sum;
}

/// Puts the `chosen` experts of a row first in `order`, in ascending order: those whose keys are highest, of
/// equal ones the first. As in torch.topk, NaN is above all numbers.
void choose(std::span<const double> keys, std::int64_t chosen, std::span<std::int32_t> order) {
  std::iota(order.begin(), order.end(), 0);
  const auto above = [&](std::int32_t a, std::int32_t b) {
    const double of_a = keys[static_cast<std::size_t>(a)];
    const double of_b = keys[static_cast<std::size_t>(b)];
    if (std::isnan(of_a) != std::isnan(of_b)) return std::isnan(of_a);
    if (of_a > of_b) return true;
    return !(of_a < of_b) && a < b;
  };
  const auto end = order.begin() + chosen;
  std::partial_sort(order.begin(), end, order.end(), above);
  std::sort(order.begin(), end);
}

void check(const Array& logits, std::int64_t rows, const RouterRule& rule) {
  require(logits.element() == Element::full && rows >= 0 && rows <= logits.rows(), "route: not logits");
  require(rule.chosen > 0 && rule.chosen <= logits.cols(), "route: more experts chosen than there are");
  require(
      rule.bias == nullptr || (rule.bias->element() == Element::full && rule.bias->cols() == logits.cols()),
      "route: biases of another number of experts");
}

/// Where the rows of a batch are in a list of rows: for row r at places[begin[r]] to places[begin[r + 1]],
/// ascending.
struct Places {
  Places(std::span<const std::int32_t> rows, std::int64_t batch)
      : begin(static_cast<std::size_t>(batch) + 1), places(rows.size()) {
    for (const std::int32_t row : rows) {
      require(row >= 0 && row < batch, "experts' rows: no such row");
      ++begin[static_cast<std::size_t>(row) + 1];
    }
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    std::vector<std::int64_t> next(begin.begin(), begin.end() - 1);
    for (std::size_t i = 0; i < rows.size(); ++i)
      places[static_cast<std::size_t>(next[static_cast<std::size_t>(rows[i])]++)] =
          static_cast<std::int64_t>(i);
  }
  std::span<const std::int64_t> of(std::int64_t row) const {
    const auto r = static_cast<std::size_t>(row);
    return std::span(places).subspan(static_cast<std::size_t>(begin[r]),
                                     static_cast<std::size_t>(begin[r + 1] - begin[r]));
  }
  std::vector<std::int64_t> begin;
  std::vector<std::int64_t> places;
};

void check(const Array& array, const ExpertRows& rows, const char* what) {
  require(array.element() == Element::full && rows.size() <= array.rows() &&
              rows.rows.size() == rows.weights.size(),
          what);
}

}  // namespace

template <class T>
void Experts<T>::route(const Array& logits, std::int64_t rows, const RouterRule& rule,
                       ExpertRows& out) const {
  check(logits, rows, rule);
  const std::int64_t experts = logits.cols();
  const std::int64_t chosen = rule.chosen;
  std::vector<std::int32_t> choices(static_cast<std::size_t>(rows * chosen));
  std::vector<float> weights(choices.size());
  for_tiles(RowTiles(rows), [&](const RowTile& tile) {
    std::vector<double> scores(static_cast<std::size_t>(experts));
    std::vector<double> keys(scores.size());
    std::vector<std::int32_t> order(scores.size());
    for (std::int64_t r = tile.first; r < tile.first + tile.count; ++r) {
      const std::span<const float> row = row_of(logits, r);
      score(rule, row, scores);
      // Without a bias the order of the scores is that of the logits, which rounding has not made equal.
      for (std::size_t e = 0; e < keys.size(); ++e)
        keys[e] = rule.bias == nullptr ? static_cast<double>(row[e])
                                       : scores[e] + static_cast<double>(full(*rule.bias)[e]);
      choose(keys, chosen, order);
      double sum = static_cast<double>(rule.epsilon);
      for (std::int64_t i = 0; i < chosen; ++i)
        sum += scores[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])];
      for (std::int64_t i = 0; i < chosen; ++i) {
        const std::int32_t expert = order[static_cast<std::size_t>(i)];
        const double weight = scores[static_cast<std::size_t>(expert)] / (rule.renormalise ? sum : 1.0);
        const auto at = static_cast<std::size_t>(r * chosen + i);
        choices[at] = expert;
        weights[at] = static_cast<float>(weight * static_cast<double>(rule.scale));
      }
    }
  });

  out.batch = rows;
  out.begin.assign(static_cast<std::size_t>(experts) + 1, 0);
  for (const std::int32_t expert : choices) ++out.begin[static_cast<std::size_t>(expert) + 1];
  std::partial_sum(out.begin.begin(), out.begin.end(), out.begin.begin());
  std::vector<std::int64_t> next(out.begin.begin(), out.begin.end() - 1);
  out.rows.resize(choices.size());
  out.weights.resize(choices.size());
  for (std::size_t i = 0; i < choices.size(); ++i) {
    const auto at = static_cast<std::size_t>(next[static_cast<std::size_t>(choices[i])]++);
    out.rows[at] = static_cast<std::int32_t>(static_cast<std::int64_t>(i) / chosen);
    out.weights[at] = weights[i];
  }
}

template <class T>
void Experts<T>::gather(const Array& from, std::span<const std::int32_t> rows, Array& to) const {
  require(from.element() == to.element() && from.cols() == to.cols() && std::ssize(rows) <= to.rows(),
          "gather: shapes differ");
  for (const std::int32_t row : rows) require(row >= 0 && row < from.rows(), "gather: no such row");
  const std::size_t size =
      static_cast<std::size_t>(from.cols()) * (from.element() == Element::full ? sizeof(float) : sizeof(T));
  for_tiles(RowTiles(std::ssize(rows)), [&](const RowTile& tile) {
    for (std::int64_t i = tile.first; i < tile.first + tile.count; ++i)
      std::memcpy(static_cast<std::byte*>(to.data()) + static_cast<std::size_t>(i) * size,
                  static_cast<const std::byte*>(from.data()) +
                      static_cast<std::size_t>(rows[static_cast<std::size_t>(i)]) * size,
                  size);
  });
}

template <class T>
void Experts<T>::add_experts(const Array& from, const ExpertRows& rows, Array& sum) const {
  check(from, rows, "add_experts: not a row for each");
  require(sum.element() == Element::full && sum.cols() == from.cols() && rows.batch <= sum.rows(),
          "add_experts: sum of another shape");
  const Places places(rows.rows, rows.batch);
  const std::int64_t n = sum.cols();
  for_tiles(RowTiles(rows.batch), [&](const RowTile& tile) {
    for (std::int64_t r = tile.first; r < tile.first + tile.count; ++r) {
      float* to = full(sum) + r * n;
      for (const std::int64_t place : places.of(r)) {
        const float* x = full(from) + place * n;
        const float weight = rows.weights[static_cast<std::size_t>(place)];
        for (std::int64_t c = 0; c < n; ++c) to[c] += weight * x[c];
      }
    }
  });
}

template <class T>
void Experts<T>::add_experts_backward(const Array& gradient, const Array& from, const ExpertRows& rows,
                                      Array& of_from, std::span<float> of_weights) const {
  const std::int64_t n = from.cols();
  check(from, rows, "add_experts_backward: not a row for each");
  require(gradient.element() == Element::full && gradient.cols() == n && rows.batch <= gradient.rows(),
          "add_experts_backward: gradient of another shape");
  require(of_from.element() == Element::working && of_from.cols() == n && rows.size() <= of_from.rows() &&
              std::ssize(of_weights) == rows.size(),
          "add_experts_backward: outputs of other shapes");
  for (const std::int32_t row : rows.rows)
    require(row >= 0 && row < rows.batch, "add_experts_backward: no such row");
  for_tiles(RowTiles(rows.size()), [&](const RowTile& tile) {
    std::vector<float> weighted(static_cast<std::size_t>(n));
    for (std::int64_t i = tile.first; i < tile.first + tile.count; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const float* of_row = full(gradient) + rows.rows[at] * n;
      of_weights[at] = kernels_.gradients->dot(of_row, full(from) + i * n, n);
      for (std::int64_t c = 0; c < n; ++c)
        weighted[static_cast<std::size_t>(c)] = rows.weights[at] * of_row[c];
      kernels_.convert(weighted.data(), n, working<T>(of_from) + i * n);
    }
  });
}

template <class T>
void Experts<T>::gather_backward(const Array& from, std::span<const std::int32_t> rows, Array& sum) const {
  const std::int64_t n = sum.cols();
  require(from.element() == Element::full && sum.element() == Element::full && from.cols() == n &&
              std::ssize(rows) <= from.rows(),
          "gather_backward: shapes differ");
  const Places places(rows, sum.rows());
  for_tiles(RowTiles(sum.rows()), [&](const RowTile& tile) {
    for (std::int64_t r = tile.first; r < tile.first + tile.count; ++r)
      for (const std::int64_t place : places.of(r))
        kernels_.add(full(from) + place * n, n, full(sum) + r * n);
  });
}

/// Weights are w = scale s, or scale s / (S + epsilon) with S the sum of the chosen scores s.
template <class T>
void Experts<T>::route_backward(const Array& logits, std::int64_t rows, const RouterRule& rule,
                                const ExpertRows& routed, std::span<const float> of_weights,
                                Array& of_logits) const {
  check(logits, rows, rule);
  const std::int64_t experts = logits.cols();
  require(of_logits.element() == Element::full && of_logits.cols() == experts && rows <= of_logits.rows(),
          "route_backward: output of another shape");
  require(routed.batch == rows && routed.experts() == experts && std::ssize(of_weights) == routed.size(),
          "route_backward: rows that are not of these logits");
  const Places places(routed.rows, rows);
  std::vector<std::int32_t> expert_at(routed.rows.size());
  for (std::int64_t e = 0; e < experts; ++e)
    std::fill(expert_at.begin() + routed.begin[static_cast<std::size_t>(e)],
              expert_at.begin() + routed.begin[static_cast<std::size_t>(e) + 1],
              static_cast<std::int32_t>(e));
  for_tiles(RowTiles(rows), [&](const RowTile& tile) {
    std::vector<double> scores(static_cast<std::size_t>(experts));
    std::vector<double> of_scores(scores.size());
    for (std::int64_t r = tile.first; r < tile.first + tile.count; ++r) {
      score(rule, row_of(logits, r), scores);
      std::ranges::fill(of_scores, 0.0);
      double sum = static_cast<double>(rule.epsilon);
      double weighted = 0;  // of gradients by the scores
      for (const std::int64_t place : places.of(r)) {
        const auto e = static_cast<std::size_t>(expert_at[static_cast<std::size_t>(place)]);
        of_scores[e] = static_cast<double>(of_weights[static_cast<std::size_t>(place)]) *
                       static_cast<double>(rule.scale);
        sum += scores[e];
        weighted += of_scores[e] * scores[e];
      }
      if (rule.renormalise)
        for (const std::int64_t place : places.of(r)) {
          double& one = of_scores[static_cast<std::size_t>(expert_at[static_cast<std::size_t>(place)])];
          one = (one - weighted / sum) / sum;
        }
      double mean = 0;  // of the gradients by the scores, under the softmax
      if (rule.score == Score::softmax)
        for (std::size_t e = 0; e < scores.size(); ++e) mean += scores[e] * of_scores[e];
      float* out = full(of_logits) + r * experts;
      for (std::size_t e = 0; e < scores.size(); ++e) {
        const double slope =
            rule.score == Score::softmax ? of_scores[e] - mean : of_scores[e] * (1 - scores[e]);
        out[e] = static_cast<float>(scores[e] * slope);
      }
    }
  });
}

template class Experts<float>;
template class Experts<Bf16>;

}  // namespace knapsaq::cpu
