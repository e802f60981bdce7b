#include "knapsaq/pipeline/front.h"

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/pipeline/named_allocation.h"
#include "knapsaq/pipeline/run_front.h"

namespace knapsaq {
namespace {

/// Ids of the searches that the options name.
std::vector<std::int64_t> named_searches(const FrontOptions& options, const std::vector<SearchRecord>& all) {
  std::vector<std::int64_t> ids;
  for (const SearchRecord& record : all)
    if ((options.strategy.empty() || record.strategy == options.strategy) &&
        (!options.seed || record.seed == *options.seed))
      ids.push_back(record.id);
  if (ids.empty())
    throw UsageError(fmt::format("{}: has no such search; `knapsaq front {}` lists those there are",
                                 options.run, options.run));
  return ids;
}

FrontSummary summary_of(const RunFront& found) {
  FrontSummary summary{found.evaluations(), found.full_passes(), found.hypervolume(), {}};
  if (const auto reference = found.reference()) summary.reference = {reference->size, reference->divergence};
  return summary;
}

}  // namespace

FrontResult front(Environment& environment, const FrontOptions& options) {
  const ExecutionScope scope(environment.execution());
  const Run run = Run::open(options.run, Access::read, options.model);
  const Divergence divergence = run.settings().divergence;
  const std::vector<SearchRecord> records = run.archive().searches();
  const RunFront found(run, named_searches(options, records));
  FrontResult result;
  result.divergence = name_of(divergence);
  result.all = summary_of(found);
  for (const RunFront::FoundPoint& one : found.points())
    result.points.push_back({one.bytes, one.bits, one.measurement.value(divergence),
                             one.measurement.perplexity(), one.measurement.agreement, one.strategy,
                             named_allocation(run.space(), one.point),
                             scheme_counts(run.space(), one.point)});
  for (const SearchRecord& record : records)
    result.searches.push_back({record.strategy, record.seed, record.options, record.finished,
                               summary_of(RunFront(run, {record.id}))});
  return result;
}

}  // namespace knapsaq
