#pragma once

#include <filesystem>

#include "knapsaq/watch/watch_site.h"

namespace knapsaq {

/// What the page's button does: writes the model of a point of the run by the rules of pick(), but never over
/// anything. `model`: where the model is now; empty: where the run says. The run is opened anew each time.
PickPoint point_writer(std::filesystem::path run, std::filesystem::path model);

}  // namespace knapsaq
