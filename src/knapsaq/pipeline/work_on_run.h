#pragma once

#include <exception>

#include "knapsaq/base/error.h"
#include "knapsaq/pipeline/environment.h"
#include "knapsaq/pipeline/status_listener.h"

namespace knapsaq {

/// Calls `work`, which opens a run (open_run()) and works on it. The run's folder then says how the work
/// goes, and in the end what it came to.
template <class Work>
auto work_on_run(Environment& environment, const Work& work) {
  StatusListener& status = environment.status();
  struct End {
    StatusListener& status;
    ~End() { status.run_ends(); }
  } const end{status};
  try {
    return work();
  } catch (const Cancelled&) {
    throw;
  } catch (const std::exception& error) {
    status.run_failed(error.what());
    throw;
  }
}

}  // namespace knapsaq
