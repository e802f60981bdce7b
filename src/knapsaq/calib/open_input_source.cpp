#include "knapsaq/calib/open_input_source.h"

#include "knapsaq/calib/calibration.h"
#include "knapsaq/calib/imatrix.h"

namespace knapsaq {

std::unique_ptr<InputSource> open_input_source(const std::filesystem::path& path, const ModelConfig& config,
                                               std::string_view fingerprint) {
  if (std::filesystem::is_regular_file(path)) return std::make_unique<Imatrix>(Imatrix::open(path, config));
  auto calibration = std::make_unique<Calibration>(Calibration::open(path));
  require_same_model(*calibration, fingerprint);
  return calibration;
}

}  // namespace knapsaq
