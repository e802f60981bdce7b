#pragma once

#include "knapsaq/calib/samples.h"
#include "knapsaq/calib/self_text.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/pipeline/session.h"

namespace knapsaq {

/// self_text() by the session's decoder, which is loaded for it. Throws UsageError, before that, if memory is
/// not enough for all of the model. `options` are resolved.
Samples self_samples(Session& session, Precision precision, const SampleOptions& options, SelfTextUse use);

}  // namespace knapsaq
