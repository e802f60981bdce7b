// Writes the best model that fits a number of bytes:
//   fit_model MODEL BYTES OUTPUT

#include <cstdio>
#include <exception>
#include <string>
#include <string_view>

#include "knapsaq/pipeline/fit.h"

namespace {

/// Prints a line for every stage. Everything that is not overridden is silent.
class Lines final : public knapsaq::Listener {
 public:
  void begin(std::string_view what, std::uint64_t total, std::string_view unit) override {
    std::printf("%s: %llu %s\n", std::string(what).c_str(), static_cast<unsigned long long>(total),
                std::string(unit).c_str());
  }
  void note(std::string_view line) override { std::printf("note: %s\n", std::string(line).c_str()); }
};

int fit_model(const std::string& model, const std::string& bytes, const std::string& output) {
  Lines lines;
  knapsaq::Environment environment({.listener = &lines});
  knapsaq::Session session(environment, model, knapsaq::Session::Weights::decoded);

  knapsaq::FitOptions options;
  options.output = output;
  options.budget.bytes = std::stoull(bytes);
  // A search of seconds for a small model. What is left out has good defaults.
  options.of.menu = "b2g64,b3g64,b4g64";
  options.of.calibration.samples = {.samples = 4, .window = 64};
  options.of.tokens = 512;
  options.of.heldout = 512;
  options.search.evaluations = 12;
  options.effort = "quick";  // "normal" makes better codes for the same bytes, and tunes them

  // After Ctrl-C, a kill or a power failure the same call goes on where it was.
  const knapsaq::FitResult result = knapsaq::fit(session, options);
  std::printf("%s: %llu bytes, KL %.4f, perplexity %.2f (full model %.2f)\n", result.model.path.c_str(),
              static_cast<unsigned long long>(result.model.bytes), result.model.chosen.kl,
              result.model.chosen.perplexity, result.model.reference_perplexity);
  for (const knapsaq::SchemeCount& count : result.model.counts)
    std::printf("  %zu matrices in %s\n", count.matrices, count.scheme.c_str());
  return result.model.bytes <= options.budget.bytes ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: fit_model MODEL BYTES OUTPUT\n");
    return 2;
  }
  try {
    return fit_model(argv[1], argv[2], argv[3]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fit_model: %s\n", error.what());
    return 1;
  }
}
