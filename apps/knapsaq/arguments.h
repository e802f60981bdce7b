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
}  // namespace CLI

namespace knapsaq::command {

struct OptionEntry;
struct VerbEntry;

/// What stands behind an option.
enum class Takes {
  nothing,  ///< it is a flag
  number,
  name,   ///< of a file or folder
  words,  ///< of its own; `values` has those that are known
};

/// One option as the command line knows it: what completion and tests work from.
struct OptionDescription {
  std::vector<std::string> names;  ///< with their dashes; a positional argument has one, without
  std::string help;
  Takes takes = Takes::nothing;
  std::vector<std::string> values;  ///< to offer; empty where there is no fixed set
  char separator = 0;               ///< between the values of a list in one argument; 0: no list
  bool required = false;
  bool repeats = false;  ///< may be given more than once

  bool positional() const { return !names.front().starts_with('-'); }
};

struct VerbDescription {
  std::string name;
  std::string help;
  std::vector<OptionDescription> options;
};

/// One option of a verb: a handle, copied freely, that lives as long as the command line. What does not hold
/// is a UsageError of one line while parsing.
class Option {
 public:
  explicit Option(OptionEntry* entry) : entry_(entry) {}

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
  /// One of these words, and nothing else.
  Option one_of(std::initializer_list<std::string_view> values) const;
  /// A list may also be given as one argument, with `separator` between its values.
  Option separated_by(char separator) const;
  Option excludes(Option other) const;
  Option help(const std::string& text) const;
  /// Whether the user gave it. False before parsing.
  bool given() const;
  /// As in messages: "--menu".
  std::string name() const;

  friend bool operator==(Option, Option) = default;

 private:
  OptionEntry* entry_;
};

/// One verb of the command line: a handle, copied freely.
class Verb {
 public:
  explicit Verb(VerbEntry* entry) : entry_(entry) {}

  /// `names` as "--menu", "-o,--output", or without dashes for a positional argument. `value` has to live
  /// until the verb runs; what it holds is the default. Completion offers files and folders for a string,
  /// unless one_of() or known_values.h say what it is.
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
  VerbEntry* entry_;
};

/// All verbs.
class CommandLine {
 public:
  CommandLine(std::string_view description, std::string_view version, std::string_view footer);
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  Verb add(std::string_view name, std::string_view what_it_does);
  /// Runs the verb that the arguments name; --help and --version print. False if there are no arguments: then
  /// the help was printed, and nothing else done. Throws UsageError for arguments that it does not
  /// understand, and whatever the verb throws; a UsageError ends with the --help to look at.
  [[nodiscard]] bool run(int argc, const char* const* argv);

  /// The verbs in the order of the help.
  std::vector<VerbDescription> verbs() const;
  /// The options before a verb.
  std::vector<OptionDescription> options() const;

 private:
  std::unique_ptr<CLI::App> app_;
  std::vector<std::unique_ptr<VerbEntry>> verbs_;
};

}  // namespace knapsaq::command
