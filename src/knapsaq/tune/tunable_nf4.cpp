#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "knapsaq/tune/tunable_forms.h"

namespace knapsaq {
namespace {

constexpr int kBits = 4;

/// The code of the nearest of nf4_absmax_values().
std::uint8_t nearest_absmax(float value) {
  const std::span<const float> all = nf4_absmax_values();
  const auto above = std::ranges::lower_bound(all, value);
  if (above == all.begin()) return 0;
  if (above == all.end()) return static_cast<std::uint8_t>(all.size() - 1);
  const auto at = above - all.begin();
  return static_cast<std::uint8_t>(*above - value < value - *(above - 1) ? at : at - 1);
}

/// w = v * absmax, absmax = t * nested + offset; see Nf4Matrix. Sums: of gradient * v for every block.
/// Parameters: t of all blocks, then all nested absmax.
class TunableNf4 final : public TunableMatrix {
 public:
  explicit TunableNf4(Nf4Matrix matrix) : TunableMatrix(std::move(matrix)) {
    const Nf4Matrix& m = nf4();
    count_ = static_cast<std::size_t>(m.blocks());
    std::vector<float> mean(m.nested_absmax.size());
    std::vector<float> members(m.nested_absmax.size());
    for (std::size_t b = 0; b < count_; ++b) {
      const float absmax = std::fabs(m.absmax(static_cast<std::int64_t>(b)));
      const float nested = m.nested_absmax[b / kNested];
      add(nf4_absmax_values()[m.absmax_codes[b]], nested == 0 ? 0 : tuning_unit(absmax / nested, kBits));
      mean[b / kNested] += absmax;
      members[b / kNested] += 1;
    }
    for (std::size_t j = 0; j < mean.size(); ++j)
      add(m.nested_absmax[j], tuning_unit(mean[j] / members[j], kBits));
  }

  std::size_t sums() const override { return count_; }
  /// A block may go on in the next row.
  std::int64_t rows_together() const override {
    return Nf4Matrix::kBlock / std::gcd(nf4().cols, Nf4Matrix::kBlock);
  }

  void add_sums(std::int64_t row, std::span<const float> gradient, std::span<float> sums) const override {
    const Nf4Matrix& m = nf4();
    for (std::int64_t k = 0; k < m.cols; ++k) {
      const std::int64_t i = row * m.cols + k;
      const std::uint8_t pair = m.codes[static_cast<std::size_t>(i / 2)];
      const unsigned code = i % 2 == 0 ? pair >> 4 : pair & 0xFu;
      sums[static_cast<std::size_t>(i / Nf4Matrix::kBlock)] +=
          gradient[static_cast<std::size_t>(k)] * nf4_values()[code];
    }
  }

  void gradient(std::span<const float> sums, std::span<float> out) const override {
    const Nf4Matrix& m = nf4();
    std::ranges::fill(out.subspan(count_), 0.0f);
    for (std::size_t b = 0; b < count_; ++b) {
      out[b] = sums[b] * m.nested_absmax[b / kNested];
      out[count_ + b / kNested] += sums[b] * nf4_absmax_values()[m.absmax_codes[b]];
    }
    for (std::size_t i = 0; i < out.size(); ++i) out[i] *= unit_[i];
  }

  void set(std::span<const float> parameters) override {
    Nf4Matrix& m = std::get<Nf4Matrix>(matrix_);
    for (std::size_t b = 0; b < count_; ++b) m.absmax_codes[b] = nearest_absmax(value(b, parameters));
    for (std::size_t j = 0; j < m.nested_absmax.size(); ++j)
      m.nested_absmax[j] = value(count_ + j, parameters);
  }

 private:
  static constexpr auto kNested = static_cast<std::size_t>(Nf4Matrix::kNested);
  const Nf4Matrix& nf4() const { return std::get<Nf4Matrix>(matrix_); }

  std::size_t count_ = 0;  ///< blocks
};

}  // namespace

std::unique_ptr<TunableMatrix> tunable_nf4(Nf4Matrix matrix) {
  return std::make_unique<TunableNf4>(std::move(matrix));
}

}  // namespace knapsaq
