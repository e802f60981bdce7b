#pragma once

#include <cstddef>
#include <string_view>

#include "knapsaq/report/report_data.h"

namespace knapsaq {

/// What the page shows of a study, from the text of its study.json (study_json(), report/study_report.h).
/// `variables`: of the run's search space; outcomes of a study of another one are left out. Throws
/// InputError, naming the place, for what is no such file.
ReportStudy parse_study(std::string_view text, std::size_t variables);

}  // namespace knapsaq
