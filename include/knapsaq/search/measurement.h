#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

namespace knapsaq {

/// The measure of the distance between a candidate's next-token distributions q and the full-precision
/// model's p; natural logarithms, mean over tokens.
enum class Divergence : std::uint8_t {
  kl,  ///< KL(p || q)
  jsd  ///< (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2: AMQ's
};
/// Throws UsageError for anything but "kl" and "jsd".
Divergence parse_divergence(std::string_view name);
std::string_view name_of(Divergence divergence);

/// Windows [first, last) of a token set. Fidelities are nested: a higher one begins with the windows of a
/// lower one.
struct WindowRange {
  std::int64_t first = 0;
  std::int64_t last = 0;
  std::int64_t count() const { return last - first; }
  bool operator==(const WindowRange&) const = default;
};

/// The results of one allocation on the first `windows` windows of a token set.
struct Measurement {
  std::int64_t windows = 0;
  std::int64_t tokens = 0;  ///< scored ones: windows * (length - 1)
  double kl = 0;
  double jsd = std::numeric_limits<double>::quiet_NaN();  ///< NaN unless the run measures it
  double loss = 0;       ///< mean negative log-likelihood of the text's own next tokens, in nats
  double agreement = 0;  ///< share of tokens whose most likely next token equals the reference's
  /// The run's divergence of every scored token, in order; paired comparisons use it.
  std::vector<float> per_token;
  /// Mean loss of every window, from which the standard error of `loss` follows.
  std::vector<float> window_loss;

  /// Whether the model's numbers are meaningful: divergence, loss and perplexity are finite. Otherwise
  /// summarize() sets kl, jsd and loss to NaN. Such a model loses every comparison and is never written.
  bool finite() const;
  double value(Divergence divergence) const { return divergence == Divergence::kl ? kl : jsd; }
  double perplexity() const;
};

/// The measurement of all windows of both, with `then` following `first`: means weighted by tokens.
Measurement join(const Measurement& first, const Measurement& then);

/// Mean of a - b over the common tokens, and its standard error from the spread between windows of `targets`
/// scored tokens (adjacent tokens are not independent). Infinite for one window.
struct PairedDifference {
  double mean = 0;
  double standard_error = 0;
};
/// Uses the common windows. Throws std::invalid_argument unless both have their tokens.
PairedDifference paired_difference(const Measurement& a, const Measurement& b, std::int64_t targets);

/// Standard error of `loss`, from window_loss; 0 for a single window.
double loss_standard_error(const Measurement& measurement);

/// Standard error of the mean of per_token, from the spread between its `windows` windows; 0 for a single
/// window and for a measurement without per_token.
double standard_error(const Measurement& measurement);

}  // namespace knapsaq
