#include "arguments.h"

#include <iostream>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "number_check.h"

namespace knapsaq::command {
namespace {

template <class Value>
Option add(CLI::App* verb, std::string_view names, Value& value, std::string_view help) {
  return Option(verb->add_option(std::string(names), value, std::string(help)));
}

}  // namespace

Option Option::required() const {
  option_->required();
  return *this;
}

Option Option::show_default() const {
  option_->capture_default_str();
  return *this;
}

Option Option::positive() const {
  option_->check(positive_number_check());
  return *this;
}

Option Option::range(std::int64_t least, std::int64_t most) const {
  option_->check(whole_number_check(least, most));
  return *this;
}

Option Option::fraction() const {
  option_->check(fraction_check());
  return *this;
}

Option Option::not_empty() const {
  option_->check(
      [](const std::string& name) { return std::string(name.empty() ? "the name is empty" : ""); });
  return *this;
}

Option Option::one_of(std::initializer_list<std::string_view> values) const {
  option_->check(CLI::IsMember(std::vector<std::string>(values.begin(), values.end())));
  return *this;
}

Option Option::separated_by(char separator) const {
  option_->delimiter(separator);
  return *this;
}

Option Option::excludes(Option other) const {
  option_->excludes(other.option_);
  return *this;
}

Option Option::help(const std::string& text) const {
  option_->description(text);
  return *this;
}

bool Option::given() const { return option_->count() > 0; }

Option Verb::option(std::string_view names, std::string& value, std::string_view help) const {
  return add(verb_, names, value, help);
}
Option Verb::option(std::string_view names, std::vector<std::string>& value, std::string_view help) const {
  return add(verb_, names, value, help);
}
Option Verb::option(std::string_view names, int& value, std::string_view help) const {
  return add(verb_, names, value, help);
}
Option Verb::option(std::string_view names, std::int64_t& value, std::string_view help) const {
  return add(verb_, names, value, help);
}
Option Verb::option(std::string_view names, std::uint64_t& value, std::string_view help) const {
  return add(verb_, names, value, help);
}
Option Verb::option(std::string_view names, double& value, std::string_view help) const {
  return add(verb_, names, value, help);
}
Option Verb::option(std::string_view names, std::optional<std::uint64_t>& value,
                    std::string_view help) const {
  return add(verb_, names, value, help);
}

Option Verb::flag(std::string_view name, bool& value, std::string_view help) const {
  return Option(verb_->add_flag(std::string(name), value, std::string(help)));
}

std::vector<Option> Verb::options() const {
  std::vector<Option> all;
  for (CLI::Option* option : verb_->get_options()) all.emplace_back(option);
  return all;
}

void Verb::example(const std::string& text) const { verb_->footer("Example:\n  " + text); }

void Verb::runs(std::function<void()> work) const { verb_->callback(std::move(work)); }

CommandLine::CommandLine(std::string_view description, std::string_view version, std::string_view footer)
    : app_(std::make_unique<CLI::App>(std::string(description), "knapsaq")) {
  app_->set_version_flag("--version", std::string(version));
  app_->require_subcommand(1);
  app_->footer(std::string(footer));
}

CommandLine::~CommandLine() = default;

Verb CommandLine::add(std::string_view name, std::string_view what_it_does) {
  return Verb(app_->add_subcommand(std::string(name), std::string(what_it_does)));
}

void CommandLine::run(int argc, const char* const* argv) {
  try {
    app_->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0)
      throw UsageError(fmt::format("{} (see knapsaq {}--help)", error.what(), [&] {
        const auto chosen = app_->get_subcommands();
        return chosen.empty() ? std::string() : chosen.front()->get_name() + " ";
      }()));
    app_->exit(error);  // --help and --version print
    std::cout.flush();
  }
}

}  // namespace knapsaq::command
