#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>
#include <unistd.h>

#include "command.h"
#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/execution.h"
#include "knapsaq/base/helper.h"
#include "knapsaq/base/instruction_set.h"
#include "knapsaq/text/chat_template.h"

namespace {

using namespace knapsaq;

extern "C" void on_interrupt(int) {
  // The second Ctrl-C does not wait for the end of the current unit of work.
  if (command::cancellation().requested()) ::_exit(command::interrupted);
  command::cancellation().request();
}

void listen_for_interrupts() {
  static_cast<void>(command::cancellation());  // made here and not in a handler
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  // A terminal that goes away ends the work as Ctrl-C does, unless nohup said that it shall not.
  struct sigaction before {};
  if (::sigaction(SIGHUP, nullptr, &before) == 0 && before.sa_handler != SIG_IGN)
    ::sigaction(SIGHUP, &action, nullptr);
  // A reader of our output that is gone, and a limit on the size of files, are errors of the call that meets
  // them: whatever is half-written then is cleared away.
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
}

/// A file that is opened gets the lowest free number. Where a standard file is closed that would be its
/// number, and what is printed would go into a model.
void occupy_standard_files() {
  for (int number = 0; number <= 2; ++number)
    if (::fcntl(number, F_GETFD) < 0) static_cast<void>(::open("/dev/null", O_RDONLY));
}

int complain(const char* what, command::ExitCode code) {
  fmt::print(stderr, "knapsaq: {}\n", what);
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  occupy_standard_files();
  if (argc == 3 && argv[1] == kHelperOption && argv[2] == ChatTemplate::kTask)
    return serve_helper(ChatTemplate::serve);
  listen_for_interrupts();
  command::CommandLine app(
      "Knapsaq: the best quantized language model that fits a memory budget.", KNAPSAQ_VERSION,
      "Example:\n  knapsaq fit MODEL --budget 4.2MiB -o OUT\n\n"
      "Exit codes: 0 done, 1 the work failed, 2 wrong use, 130 interrupted, 141 nobody reads the output.");
  command::add_fit(app);
  command::add_search(app);
  command::add_front(app);
  command::add_pick(app);
  command::add_report(app);
  command::add_watch(app);
  command::add_study(app);
  command::add_strategies(app);
  command::add_info(app);
  command::add_generate(app);
  command::add_chat(app);
  command::add_eval(app);
  command::add_bench(app);
  command::add_tables(app);
  command::add_allocate(app);
  command::add_quantize(app);
  command::add_bank(app);
  command::add_tune(app);
  command::add_export(app);
  command::add_compare(app);
  command::add_calibrate(app);
  command::add_completion(app);

  try {
    const ExecutionScope scope({.cancellation = &command::cancellation()});
    static_cast<void>(most_allowed());  // a wrong KNAPSAQ_ISA is told before any work
    const bool asked = app.run(argc, argv);
    command::flush_output();
    return asked ? command::done : command::wrong_use;
  } catch (const command::OutputClosed&) {
    return command::unread;
  } catch (const UsageError& error) {
    return complain(error.what(), command::wrong_use);
  } catch (const Cancelled& error) {
    return complain(error.what(), command::interrupted);
  } catch (const std::system_error& error) {
    if (std::ferror(stdout) == 0) return complain(error.what(), command::failed);
    // fmt's print() says only that it could not.
    if (error.code() == std::errc::broken_pipe) return command::unread;
    return complain(("cannot write to standard output: " + error.code().message()).c_str(), command::failed);
  } catch (const std::bad_alloc&) {
    return complain("out of memory", command::failed);
  } catch (const std::exception& error) {
    return complain(error.what(), command::failed);
  }
}
