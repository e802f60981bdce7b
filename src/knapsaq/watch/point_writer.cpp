#include "knapsaq/watch/point_writer.h"

#include <string>
#include <utility>

#include "knapsaq/base/error.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/base/progress.h"
#include "knapsaq/pipeline/write_selection.h"
#include "knapsaq/search/run.h"

namespace knapsaq {
namespace {

void require_point(const SearchSpace& space, const Point& point) {
  bool fits = point.size() == space.variables.size();
  for (std::size_t v = 0; fits && v < point.size(); ++v) fits = point[v] < space.variables[v].levels.size();
  if (!fits) throw UsageError("the allocation is none of this run: load the page anew");
}

}  // namespace

PickPoint point_writer(std::filesystem::path run, std::filesystem::path model) {
  return [folder = std::move(run), place = std::move(model)](const Point& point, const std::string& output) {
    OutputPlan plan;
    plan.reads("the run", folder);
    plan.reads("the model", place);
    const std::filesystem::path result = plan_result(plan, read_run_settings(folder).engine, output, false);
    const Run opened = Run::open(folder, Access::read, place);
    plan.reads("the model", opened.model_folder());
    plan.reads("the bank", opened.bank().folder());
    require_point(opened.space(), point);
    return write_point(opened, point, {}, result, false, Progress::none()).bytes;
  };
}

}  // namespace knapsaq
