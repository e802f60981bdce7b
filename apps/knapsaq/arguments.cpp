#include "arguments.h"

#include <deque>
#include <iostream>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "number_check.h"

namespace knapsaq::command {

struct OptionEntry {
  CLI::Option* option = nullptr;
  Takes takes = Takes::nothing;
  std::vector<std::string> values = {};
  char separator = 0;
};

struct VerbEntry {
  CLI::App* verb = nullptr;
  std::deque<OptionEntry> options;  ///< handles point to them
};

namespace {

template <class Value>
Option add(VerbEntry& verb, std::string_view names, Value& value, std::string_view help, Takes takes) {
  CLI::Option* option = verb.verb->add_option(std::string(names), value, std::string(help));
  return Option(&verb.options.emplace_back(OptionEntry{.option = option, .takes = takes}));
}

OptionDescription description_of(const OptionEntry& entry) {
  const CLI::Option& option = *entry.option;
  OptionDescription description{.names = {},
                                .help = option.get_description(),
                                .takes = entry.takes,
                                .values = entry.values,
                                .separator = entry.separator,
                                .required = option.get_required(),
                                .repeats = option.get_items_expected_max() > 1};
  for (const std::string& name : option.get_snames()) description.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) description.names.push_back("--" + name);
  if (option.get_positional()) description.names = {option.get_name()};
  return description;
}

/// An error that names the help where the options are.
UsageError with_hint(const std::string& what, const CLI::App& app) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  const std::string verb = chosen.empty() ? std::string() : chosen.front()->get_name() + " ";
  return UsageError(fmt::format("{} (see knapsaq {}--help)", what, verb));
}

}  // namespace

Option Option::required() const {
  entry_->option->required();
  return *this;
}

Option Option::show_default() const {
  entry_->option->capture_default_str();
  return *this;
}

Option Option::positive() const {
  entry_->option->check(positive_number_check());
  return *this;
}

Option Option::range(std::int64_t least, std::int64_t most) const {
  entry_->option->check(whole_number_check(least, most));
  return *this;
}

Option Option::fraction() const {
  entry_->option->check(fraction_check());
  return *this;
}

Option Option::not_empty() const {
  entry_->option->check(
      [](const std::string& name) { return std::string(name.empty() ? "the name is empty" : ""); });
  return *this;
}

Option Option::one_of(std::initializer_list<std::string_view> values) const {
  entry_->takes = Takes::words;
  entry_->values.assign(values.begin(), values.end());
  entry_->option->check(CLI::IsMember(entry_->values));
  return *this;
}

Option Option::separated_by(char separator) const {
  entry_->separator = separator;
  entry_->option->delimiter(separator);
  return *this;
}

Option Option::excludes(Option other) const {
  entry_->option->excludes(other.entry_->option);
  return *this;
}

Option Option::help(const std::string& text) const {
  entry_->option->description(text);
  return *this;
}

bool Option::given() const { return entry_->option->count() > 0; }
std::string Option::name() const { return entry_->option->get_name(); }

Option Verb::option(std::string_view names, std::string& value, std::string_view help) const {
  return add(*entry_, names, value, help, Takes::name);
}
Option Verb::option(std::string_view names, std::vector<std::string>& value, std::string_view help) const {
  return add(*entry_, names, value, help, Takes::name);
}
Option Verb::option(std::string_view names, int& value, std::string_view help) const {
  return add(*entry_, names, value, help, Takes::number);
}
Option Verb::option(std::string_view names, std::int64_t& value, std::string_view help) const {
  return add(*entry_, names, value, help, Takes::number);
}
Option Verb::option(std::string_view names, std::uint64_t& value, std::string_view help) const {
  return add(*entry_, names, value, help, Takes::number);
}
Option Verb::option(std::string_view names, double& value, std::string_view help) const {
  return add(*entry_, names, value, help, Takes::number);
}
Option Verb::option(std::string_view names, std::optional<std::uint64_t>& value,
                    std::string_view help) const {
  return add(*entry_, names, value, help, Takes::number);
}

Option Verb::flag(std::string_view name, bool& value, std::string_view help) const {
  CLI::Option* option = entry_->verb->add_flag(std::string(name), value, std::string(help));
  return Option(&entry_->options.emplace_back(OptionEntry{.option = option}));
}

std::vector<Option> Verb::options() const {
  std::vector<Option> all;
  for (OptionEntry& entry : entry_->options) all.emplace_back(&entry);
  return all;
}

void Verb::example(const std::string& text) const { entry_->verb->footer("Example:\n  " + text); }

void Verb::runs(std::function<void()> work) const { entry_->verb->callback(std::move(work)); }

CommandLine::CommandLine(std::string_view description, std::string_view version, std::string_view footer)
    : app_(std::make_unique<CLI::App>(std::string(description), "knapsaq")) {
  app_->set_version_flag("--version", std::string(version));
  app_->require_subcommand(1);
  app_->footer(std::string(footer));
}

CommandLine::~CommandLine() = default;

Verb CommandLine::add(std::string_view name, std::string_view what_it_does) {
  VerbEntry& entry = *verbs_.emplace_back(std::make_unique<VerbEntry>());
  entry.verb = app_->add_subcommand(std::string(name), std::string(what_it_does));
  entry.options.push_back({.option = entry.verb->get_help_ptr()});
  return Verb(&entry);
}

bool CommandLine::run(int argc, const char* const* argv) {
  if (argc < 2) {
    std::cout << app_->help() << std::flush;
    return false;
  }
  try {
    app_->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) throw with_hint(error.what(), *app_);
    app_->exit(error);  // --help and --version print
    std::cout.flush();
  } catch (const UsageError& error) {
    throw with_hint(error.what(), *app_);
  }
  return true;
}

std::vector<VerbDescription> CommandLine::verbs() const {
  std::vector<VerbDescription> all;
  for (const std::unique_ptr<VerbEntry>& entry : verbs_) {
    VerbDescription& verb = all.emplace_back(VerbDescription{
        .name = entry->verb->get_name(), .help = entry->verb->get_description(), .options = {}});
    for (const OptionEntry& option : entry->options) verb.options.push_back(description_of(option));
  }
  return all;
}

std::vector<OptionDescription> CommandLine::options() const {
  std::vector<OptionDescription> all;
  for (CLI::Option* option : app_->get_options()) all.push_back(description_of({.option = option}));
  return all;
}

}  // namespace knapsaq::command
