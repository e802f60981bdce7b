// Writes reports of made runs for the browser's test:
//   make_report_page KIND FILE.html    KIND: finished, large, begun, empty, files
#include <cstdio>
#include <string_view>

#include "knapsaq/base/error.h"
#include "knapsaq/report/html_page.h"
#include "report/made_report.h"

int main(int argc, char** argv) {
  using namespace knapsaq;
  if (argc != 3) return 2;
  const std::string_view kind = argv[1];
  ReportData data;
  if (kind == "finished") data = made_report();
  if (kind == "large") data = made_report({.blocks = 32, .amq_evaluations = 10250, .seeds = 3});
  if (kind == "begun") data = begun_report(5);
  if (kind == "empty") data = begun_report(0);
  if (kind == "files") data = files_report();
  // A name that is more than a name.
  if (kind == "finished") data.model.name += " </script><script>document.title='broken'</script>";
  try {
    write_html(data, argv[2]);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
