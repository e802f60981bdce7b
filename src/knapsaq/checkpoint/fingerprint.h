#pragma once

#include <string>

#include "knapsaq/base/progress.h"
#include "knapsaq/checkpoint/checkpoint.h"

namespace knapsaq {

/// 32 hexadecimal digits that change with everything that a model computes with: config.json (except fields
/// that only say who wrote it) and the name, type, shape and bytes of every tensor; of a
/// model that another tool has quantized, those of the tensors in its files. The distribution of
/// tensors over files does not matter. Data derived from a model (a calibration, a bank) carries its
/// fingerprint and is refused with any other model.
///
/// Reads every byte once, in parallel, and releases the pages. Throws Cancelled.
std::string fingerprint(const Checkpoint& checkpoint, Progress& progress = Progress::none());

}  // namespace knapsaq
