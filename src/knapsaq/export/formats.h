#pragma once

#include "knapsaq/export/writer.h"

// The formats, for registry.cpp; everybody else asks writer(name).

namespace knapsaq {

const Writer& mlx_writer();

}  // namespace knapsaq
