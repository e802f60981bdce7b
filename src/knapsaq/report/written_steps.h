#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace knapsaq {

/// What each step after the search gained in one written model, on the run's held-out tokens.
struct WrittenSteps {
  struct Step {
    std::string name;       ///< "bank", "corrected", "tuned"
    double divergence = 0;  ///< the run's, nats per token
    double standard_error = 0;
    double perplexity = 0;
    double agreement = 0;
  };
  std::string model;        ///< name of its folder or file
  std::string effort;       ///< "normal"
  std::uint64_t bytes = 0;  ///< of its files
  double bits = 0;          ///< average per quantized weight, metadata included
  std::vector<Step> steps;  ///< the written model last
};

/// Writes them to a run's folder, RUN/written/NAME-HASH.json, and replaces those of an earlier model at the
/// same place (`path`). Throws IoError.
void keep_written_steps(const WrittenSteps& steps, const std::filesystem::path& run,
                        const std::filesystem::path& path);

/// Throws InputError that only says what is wrong.
WrittenSteps parse_written_steps(std::string_view text);

/// All of a run, the smallest model first. Throws InputError, naming the file.
std::vector<WrittenSteps> read_written_steps(const std::filesystem::path& run);

}  // namespace knapsaq
