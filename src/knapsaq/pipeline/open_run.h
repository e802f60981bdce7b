#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "knapsaq/base/output_plan.h"
#include "knapsaq/pipeline/run_options.h"
#include "knapsaq/search/run.h"

namespace knapsaq {

/// Tells the plan what a run in the folder `name` reads, and where it is: canonical. What is in the folder is
/// a run, or the beginning of one.
std::filesystem::path plan_run(OutputPlan& plan, const Session& session, const RunOptions& options,
                               const std::string& name);

/// Sees the search space before any work is done (local errors are not known then), with the model and the
/// engine ("": Knapsaq itself), and throws for what cannot be done in it.
using SpaceCheck =
    std::function<void(const SearchSpace& space, const ModelConfig& config, const std::string& engine)>;

/// The run of the folder, if there is one and `options.any_run`; else one that is made as the options say,
/// with its bank, or gone on with if it is the same. With `keep_ends` embedding and head are as stored: what
/// average bits per weight are about, as in the papers. Throws UsageError for a folder with another run.
/// Inside of work_on_run().
Run open_run(Session& session, const RunOptions& options, const std::filesystem::path& folder, bool keep_ends,
             const SpaceCheck& check);

}  // namespace knapsaq
