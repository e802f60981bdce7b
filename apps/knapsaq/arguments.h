#pragma once

// What a verb says about its arguments. The parser behind it (CLI11) is seen by arguments.cpp alone: its
// headers cost every source that includes them four seconds of a compiler's time.

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace knapsaq::command {

/// One option of a verb: a handle, copied freely, that lives as long as the command line. What does not hold
/// is a UsageError of one line while parsing.
class Option {
 public:
  explicit Option(CLI::Option* option) : option_(option) {}

  Option required() const;
  /// The help shows the value that the variable has now.
  Option show_default() const;
  /// A number above 0.
  Option positive() const;
  /// A whole number from `least` to `most`.
  Option range(std::int64_t least, std::int64_t most = std::numeric_limits<std::int64_t>::max()) const;
  /// A number from 0 to 1, both included.
  Option fraction() const;
  /// For names of files and folders that may be left out: an empty one (an unset variable of a script) is
  /// refused.
  Option not_empty() const;
  Option one_of(std::initializer_list<std::string_view> values) const;
  /// A list may also be given as one argument, with `separator` between its values.
  Option separated_by(char separator) const;
  Option excludes(Option other) const;
  Option help(const std::string& text) const;
  /// Whether the user gave it. False before parsing.
  bool given() const;

  friend bool operator==(Option, Option) = default;

 private:
  CLI::Option* option_;
};

/// One verb of the command line: a handle, copied freely.
class Verb {
 public:
  explicit Verb(CLI::App* verb) : verb_(verb) {}

  /// `names` as "--menu", "-o,--output", or without dashes for a positional argument. `value` has to live
  /// until the verb runs; what it holds is the default.
  Option option(std::string_view names, std::string& value, std::string_view help) const;
  Option option(std::string_view names, std::vector<std::string>& value, std::string_view help) const;
  Option option(std::string_view names, int& value, std::string_view help) const;
  Option option(std::string_view names, std::int64_t& value, std::string_view help) const;
  Option option(std::string_view names, std::uint64_t& value, std::string_view help) const;
  Option option(std::string_view names, double& value, std::string_view help) const;
  Option option(std::string_view names, std::optional<std::uint64_t>& value, std::string_view help) const;
  Option flag(std::string_view name, bool& value, std::string_view help) const;
  /// All options so far, with --help.
  std::vector<Option> options() const;

  /// What stands below the options in the help.
  void example(const std::string& text) const;
  /// What the verb does once its arguments are read.
  void runs(std::function<void()> work) const;

 private:
  CLI::App* verb_;
};

/// All verbs.
class CommandLine {
 public:
  CommandLine(std::string_view description, std::string_view version, std::string_view footer);
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  Verb add(std::string_view name, std::string_view what_it_does);
  /// Runs the verb that the arguments name; --help and --version print. Throws UsageError for arguments that
  /// it does not understand, and whatever the verb throws.
  void run(int argc, const char* const* argv);

 private:
  std::unique_ptr<CLI::App> app_;
};

}  // namespace knapsaq::command
