#include <string>

#include <nanobind/stl/string.h>

#include "bindings.h"
#include "knapsaq/base/helper.h"
#include "knapsaq/base/instruction_set.h"
#include "knapsaq/watch/launch_server.h"

NB_MODULE(_native, module) {
  using namespace knapsaq;
  python::bind_errors();
  static_cast<void>(most_allowed());  // a wrong KNAPSAQ_ISA is told before any work
  module.attr("version") = KNAPSAQ_VERSION;
  module.def(
      "set_helper", [](const std::string& program) { set_helper(program); }, nanobind::arg("program"),
      "The knapsaq command: what needs a child process has it started there, never forked from this "
      "process.");
  module.def(
      "watch",
      [](const std::string& folder) {
        const nanobind::gil_scoped_release others_may_run;
        return launch_server(helper_program(), folder);
      },
      nanobind::arg("run"),
      "The address of the page that follows a run; its server is started if there is none.");
  python::bind_job(module);
  python::bind_options(module);
  python::bind_results(module);
  python::bind_verbs(module);
  python::bind_text_model(module);
  python::bind_arrays(module);
}
