#include "job.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <unistd.h>

#include "bindings.h"
#include "knapsaq/base/error.h"

namespace nb = nanobind;

namespace knapsaq::python {

bool is_this_process(pid_t process) { return ::getpid() == process; }

Job::Job(std::shared_ptr<Port> port, bool listens, Work work) : port_(std::move(port)), process_(::getpid()) {
  port_->begin_work(listens);
  thread_ = std::make_unique<std::thread>([this, work = std::move(work)] {
    try {
      result_ = work();
    } catch (...) {
      error_ = std::current_exception();
    }
    port_->end_work();
  });
}

Job::~Job() {
  if (!is_this_process(process_)) {
    static_cast<void>(thread_.release());
    return;
  }
  if (!thread_->joinable()) return;
  cancel();
  const nb::gil_scoped_release others_may_run;
  thread_->join();
}

bool Job::wait(double seconds) {
  if (!is_this_process(process_))
    throw UsageError("this work was begun before a fork; begin it anew in this process");
  const nb::gil_scoped_release others_may_run;
  return port_->wait(seconds);
}

nb::object Job::result() {
  if (thread_->joinable()) {
    const nb::gil_scoped_release others_may_run;
    thread_->join();
  }
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  return result_();
}

namespace {

nb::object text(const std::string& utf8) {
  return nb::steal(PyUnicode_DecodeUTF8(utf8.data(), static_cast<Py_ssize_t>(utf8.size()), "replace"));
}

/// An event as a tuple whose first item names it.
struct AsTuple {
  nb::object operator()(const StageBegan& one) const {
    return nb::make_tuple("begin", text(one.what), one.total, text(one.unit));
  }
  nb::object operator()(const StageAdvanced& one) const { return nb::make_tuple("advance", one.done); }
  nb::object operator()(const StageEnded&) const { return nb::make_tuple("end"); }
  nb::object operator()(const Noted& one) const { return nb::make_tuple("note", text(one.line)); }
  nb::object operator()(const TextGrew& one) const { return nb::make_tuple("text", text(one.piece)); }
  nb::object operator()(const Searching& one) const {
    nb::dict facts;
    facts["strategy"] = text(one.strategy);
    facts["phase"] = text(one.phase);
    facts["divergence"] = text(one.divergence);
    facts["evaluations"] = one.evaluations;
    facts["measured"] = one.measured;
    facts["expected"] = one.expected;
    facts["front"] = one.front;
    facts["best"] = one.best;
    return nb::make_tuple("search", facts);
  }
  nb::object operator()(const SearchEnded&) const { return nb::make_tuple("search_end"); }
};

nb::list events_of(Job& job) {
  nb::list list;
  for (const Event& event : job.port().take()) list.append(std::visit(AsTuple(), event));
  return list;
}

}  // namespace

void bind_job(nb::module_& module) {
  nb::class_<Host>(module, "Host", "How a call works.")
      .def(
          "__init__",
          [](Host* host, int threads, bool listens, bool watches) {
            if (threads < 0 || threads > 1024)
              throw UsageError("threads has to be a number from 0 (one per core) to 1024");
            new (host) Host{threads, listens, watches};
          },
          nb::arg("threads") = 0, nb::arg("listens") = false, nb::arg("watches") = false);
  nb::class_<Job>(module, "Job", "Work on a thread of its own.")
      .def("wait", &Job::wait, nb::arg("seconds"),
           "Waits at most so long, or until text has come; whether the work has ended.")
      .def("cancel", &Job::cancel, "Asks the work to stop at its next check.")
      .def("events", &events_of, "What has happened since the last call: tuples that begin with a name.")
      .def("result", &Job::result, "What the work gave; raises what it threw. Once, after wait() was true.");
}

}  // namespace knapsaq::python
