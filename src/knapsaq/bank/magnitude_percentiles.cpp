#include "knapsaq/bank/magnitude_percentiles.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace knapsaq {

MagnitudePercentiles::MagnitudePercentiles(std::int64_t total, std::span<const double> percentages) {
  for (const double percentage : percentages) {
    const double position = percentage / 100 * static_cast<double>(total - 1);
    const auto below = static_cast<std::int64_t>(std::floor(position));
    ranks_.push_back({below});
    ranks_.push_back({std::min(below + 1, total - 1)});
    between_.push_back(position - static_cast<double>(below));
  }
  wanted_.fill(true);
  collect_prefixes();
}

void MagnitudePercentiles::collect_prefixes() {
  prefixes_.clear();
  for (const Rank& rank : ranks_) prefixes_.push_back(rank.prefix);
  std::ranges::sort(prefixes_);
  prefixes_.erase(std::unique(prefixes_.begin(), prefixes_.end()), prefixes_.end());
  totals_.assign(prefixes_.size() << width(), 0);
}

void MagnitudePercentiles::count(std::span<const float> weights, Counts& counts) const {
  const int shift_now = shift();
  const int width_now = width();
  const std::uint32_t mask = (1u << width_now) - 1;
  for (const float weight : weights) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(weight) & 0x7FFFFFFFu;
    if (!wanted_[bits >> 20]) continue;
    const std::uint32_t prefix = bits >> (shift_now + width_now);
    for (std::size_t i = 0; i < prefixes_.size(); ++i) {
      if (prefixes_[i] != prefix) continue;
      ++counts[(i << width_now) + (bits >> shift_now & mask)];
      break;
    }
  }
}

void MagnitudePercentiles::add(const Counts& counts) {
  for (std::size_t i = 0; i < counts.size(); ++i) totals_[i] += counts[i];
}

void MagnitudePercentiles::end_pass() {
  for (Rank& rank : ranks_) {
    const auto slot = static_cast<std::size_t>(std::ranges::find(prefixes_, rank.prefix) - prefixes_.begin());
    std::size_t digit = 0;
    const std::int64_t* totals = totals_.data() + (slot << width());
    while (rank.index >= totals[digit]) rank.index -= totals[digit++];
    rank.prefix = rank.prefix << width() | static_cast<std::uint32_t>(digit);
  }
  if (pass_ == 0) {
    wanted_.fill(false);
    for (const Rank& rank : ranks_) wanted_[rank.prefix] = true;
  }
  ++pass_;
  if (pass_ < kPasses) collect_prefixes();
}

std::vector<double> MagnitudePercentiles::values() const {
  std::vector<double> result;
  for (std::size_t i = 0; i < between_.size(); ++i) {
    const double low = std::bit_cast<float>(ranks_[2 * i].prefix);
    const double high = std::bit_cast<float>(ranks_[2 * i + 1].prefix);
    result.push_back(low + (high - low) * between_[i]);
  }
  return result;
}

}  // namespace knapsaq
