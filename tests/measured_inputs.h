#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/calib/calibrator.h"
#include "knapsaq/model/architecture.h"

namespace knapsaq {

/// A calibration in memory.
class MeasuredInputs final : public InputSource {
 public:
  MeasuredInputs(const Checkpoint& checkpoint, const ModelConfig& config, const Samples& samples,
                 Backend& backend) {
    Calibrator calibrator(checkpoint, config, samples, backend);
    for (std::int64_t block = 0; block < config.layers; ++block)
      for (const ObservedInput& input : calibrator.measure(block))
        statistics_[input.first.name] = statistics_of(input);
    const std::vector<Matrix> all = linears(config);
    const std::vector<std::size_t> owners = input_owners(all);
    for (std::size_t i = 0; i < all.size(); ++i) owners_[all[i].name] = all[owners[i]].name;
  }
  InputStatistics inputs(std::string_view linear, std::int64_t /*width*/) const override {
    return statistics_.at(owners_.at(std::string(linear)));
  }
  bool has_second_moments() const override { return second_moments; }
  std::string identity() const override { return "measured"; }

  bool second_moments = true;

 private:
  std::map<std::string, InputStatistics> statistics_;
  std::map<std::string, std::string> owners_;
};

}  // namespace knapsaq
