#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <thread>
#include <utility>

#include <nanobind/nanobind.h>
#include <sys/types.h>

#include "knapsaq/pipeline/environment.h"
#include "port.h"

namespace knapsaq::python {

/// How a call works: the arguments that all verbs have.
struct Host {
  int threads = 0;       ///< 0: one per core that this process may use
  bool listens = false;  ///< somebody wants the events
  bool watches = false;  ///< a page follows the run
};

/// Work on a thread of its own, while Python waits, shows progress and answers signals.
///
/// The thread that calls Python stays Python's: it can be interrupted, it may fork later (nothing of OpenMP's
/// was ever started on it), and no working thread ever waits for the interpreter.
class Job {
 public:
  /// Makes the result, with the interpreter's lock held.
  using Result = std::function<nanobind::object()>;
  using Work = std::function<Result()>;

  Job(std::shared_ptr<Port> port, bool listens, Work work);
  /// Stops the work and waits for its end.
  ~Job();
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  Port& port() { return *port_; }
  /// Waits for at most so long; true once the work has ended.
  bool wait(double seconds);
  void cancel() { port_->cancellation().request(); }
  /// What the work gave, once; throws what it threw. After wait() was true.
  nanobind::object result();

 private:
  std::shared_ptr<Port> port_;
  pid_t process_;
  std::exception_ptr error_;
  Result result_;
  // A pointer, which a child of a fork lets go of: the thread is not there.
  std::unique_ptr<std::thread> thread_;
};

/// Whether this process is the one that `process` was the id of: threads do not survive a fork.
bool is_this_process(pid_t process);

/// What makes a Python object of a value that the working thread has made.
template <class Value>
Job::Result python_result(Value value) {
  auto kept = std::make_shared<Value>(std::move(value));
  return [kept] { return nanobind::cast(std::move(*kept), nanobind::rv_policy::move); };
}

/// Starts work(Environment&), which gives a value that nanobind knows.
template <class Function>
std::unique_ptr<Job> start(const Host& host, Function work) {
  auto port = std::make_shared<Port>(host.listens, host.watches);
  return std::make_unique<Job>(port, host.listens, [port, threads = host.threads, work = std::move(work)] {
    Environment environment({threads, port.get(), &port->cancellation()});
    return python_result(work(environment));
  });
}

}  // namespace knapsaq::python
