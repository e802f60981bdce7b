// A quantizer of one's own, used like those that come with Knapsaq:
//   add_quantizer MODEL OUTPUT
//
// Round to nearest, with the range of every group narrowed a little: large weights are clipped, all others
// are rounded on a finer grid.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "knapsaq/pipeline/quantize.h"
#include "knapsaq/quant/quantizer.h"

namespace {

/// The share of a group's largest weight that is kept.
constexpr float kKept = 0.9f;

class ClippedQuantizer final : public knapsaq::Quantizer {
 public:
  std::string_view name() const override { return "clipped"; }

  void check(const knapsaq::Scheme& scheme) const override {
    if (scheme.meta_bits != 16) throw knapsaq::UsageError("clipped has scales and biases in fp16 alone");
    inner().check(inner_scheme(scheme));
  }

  knapsaq::StoredMatrix quantize(const knapsaq::MatrixView& weights, const knapsaq::Scheme& scheme,
                                 const knapsaq::InputStatistics* inputs) const override {
    check(scheme);
    const std::int64_t group = scheme.group == 0 ? weights.cols : scheme.group;
    std::vector<float> clipped(weights.values.begin(), weights.values.end());
    for (std::int64_t row = 0; row < weights.rows; ++row)
      for (std::int64_t begin = 0; begin < weights.cols; begin += group) {
        const auto values =
            std::span(clipped).subspan(static_cast<std::size_t>(row * weights.cols + begin),
                                       static_cast<std::size_t>(std::min(group, weights.cols - begin)));
        float largest = 0;
        for (const float value : values) largest = std::max(largest, std::fabs(value));
        for (float& value : values) value = std::clamp(value, -kKept * largest, kKept * largest);
      }
    return inner().quantize({weights.rows, weights.cols, clipped}, inner_scheme(scheme), inputs);
  }

 private:
  static const knapsaq::Quantizer& inner() { return knapsaq::quantizer("rtn"); }
  static knapsaq::Scheme inner_scheme(knapsaq::Scheme scheme) {
    scheme.method = "rtn";
    return scheme;
  }
};

int add_quantizer(const std::string& model, const std::string& output) {
  knapsaq::register_quantizer(std::make_unique<ClippedQuantizer>());
  knapsaq::Environment environment;
  knapsaq::Session session(environment, model, knapsaq::Session::Weights::decoded);
  double error = 0;
  for (const std::string scheme : {"rtn:b3g64", "clipped:b3g64"}) {
    knapsaq::QuantizeOptions options;
    options.output = output;
    options.scheme = scheme;
    options.force = true;
    error = knapsaq::quantize(session, options).error;
    std::printf("%-14s sum of || W - Q(W) ||_F %.4f\n", scheme.c_str(), error);
  }
  return error > 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: add_quantizer MODEL OUTPUT\n");
    return 2;
  }
  try {
    return add_quantizer(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "add_quantizer: %s\n", error.what());
    return 1;
  }
}
