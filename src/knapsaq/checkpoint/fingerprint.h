#pragma once

#include <string>

#include "knapsaq/base/progress.h"
#include "knapsaq/checkpoint/checkpoint.h"

namespace knapsaq {

/// 32 hexadecimal digits that change with anything a model computes with: config.json (apart from fields that
/// only say who wrote it) and the name, type, shape and bytes of every tensor. How the tensors are spread
/// over files does not matter. What is derived from a model (a calibration, a bank) carries its fingerprint
/// and is refused by any other model.
///
/// Reads every byte once, in parallel, and lets go of the pages behind it. Throws Cancelled.
std::string fingerprint(const Checkpoint& checkpoint, Progress& progress = Progress::none());

}  // namespace knapsaq
