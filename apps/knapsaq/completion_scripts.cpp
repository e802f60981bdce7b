#include "completion_scripts.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace knapsaq::command {
namespace {

const OptionDescription* positional_of(const VerbDescription& verb) {
  const auto found = std::ranges::find_if(verb.options, &OptionDescription::positional);
  return found == verb.options.end() ? nullptr : &*found;
}

std::string names_of(const std::vector<OptionDescription>& options) {
  std::string names;
  for (const OptionDescription& option : options)
    if (!option.positional())
      names += fmt::format("{}{}", names.empty() ? "" : " ", fmt::join(option.names, " "));
  return names;
}

/// In a text of single quotes.
std::string single_quoted(std::string_view text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? "'\\''" : std::string(1, c);
  return result + "'";
}

/// Assignments of the variables `takes`, `values` and `separator` of the bash function.
std::string bash_value(const OptionDescription& option) {
  switch (option.takes) {
    case Takes::nothing:
      return "";
    case Takes::number:
      return "takes=number";
    case Takes::name:
      return "takes=name";
    case Takes::words:
      break;
  }
  std::string text = "takes=words";
  if (!option.values.empty()) text += fmt::format(" values='{}'", fmt::join(option.values, " "));
  if (option.separator != 0)
    text += fmt::format(" separator={}", single_quoted(std::string(1, option.separator)));
  return text;
}

constexpr const char* kBashBegin = R"(# bash completion for knapsaq, made by `knapsaq completion bash`
_knapsaq() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
  local verb='' options='' argument='' takes='' values='' separator='' kept='' i
  for ((i = 1; i < COMP_CWORD; ++i)); do
    case ${COMP_WORDS[i]} in
      -*) ;;
      *) verb=${COMP_WORDS[i]}; break ;;
    esac
  done
  # Bash takes --option=value apart.
  if [[ $word == = ]]; then
    word=''
  elif [[ $before == = ]]; then
    before=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  COMPREPLY=()
  case $verb in
)";

constexpr const char* kBashEnd = R"(    *) return ;;
  esac
  if [[ -z $takes ]]; then
    if [[ $word == -* || -z $argument ]]; then
      takes=words values=$options
    else
      eval "$argument"
    fi
  fi
  case $takes in
    name)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
      ;;
    words)
      if [[ -n $separator && $word == *"$separator"* ]]; then
        kept=${word%"$separator"*}$separator
        word=${word##*"$separator"}
      fi
      mapfile -t COMPREPLY < <(compgen -P "$kept" -W "$values" -- "$word")
      ;;
  esac
}
complete -F _knapsaq knapsaq
)";

/// With a backslash before what _arguments and _describe would take for their own.
std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (std::string_view("[]:\\").find(c) != std::string_view::npos) result += '\\';
    result += c;
  }
  return result;
}

/// What completes a value: `:message:action` of _arguments.
std::string zsh_value(const OptionDescription& option) {
  std::string message = option.names.back();
  message.erase(0, message.find_first_not_of('-'));
  const auto action = [&]() -> std::string {
    if (option.takes == Takes::name) return "_files";
    if (option.values.empty()) return " ";
    if (option.separator != 0)
      return fmt::format("_sequence -s {} compadd - {}", option.separator, fmt::join(option.values, " "));
    return fmt::format("({})", fmt::join(option.values, " "));
  };
  return option.takes == Takes::nothing ? "" : fmt::format(":{}:{}", message, action());
}

/// The specifications of _arguments for one option, one for each of its names.
std::string zsh_specifications(const OptionDescription& option) {
  std::string text;
  const auto add = [&](const std::string& specification) {
    text += fmt::format(" \\\n        {}", single_quoted(specification));
  };
  if (option.positional()) {
    add(fmt::format("{}{}", option.repeats ? "*" : "", zsh_value(option)));
    return text;
  }
  for (const std::string& name : option.names) {
    const std::string end = option.takes == Takes::nothing ? "" : name.starts_with("--") ? "=" : "+";
    // --help goes with nothing else; other options exclude their second name, and themselves unless they
    // repeat.
    const std::string alone = name == "-h" || name == "--help" || name == "--version"
                                  ? "(- *)"
                                  : fmt::format("({})", fmt::join(option.names, " "));
    add(fmt::format("{}{}{}[{}]{}", option.repeats ? "*" : alone, name, end, escaped(option.help),
                    zsh_value(option)));
  }
  return text;
}

}  // namespace

std::string bash_completion(const std::vector<VerbDescription>& verbs,
                            const std::vector<OptionDescription>& before) {
  std::string text = kBashBegin;
  std::string names;
  for (const VerbDescription& verb : verbs) names += verb.name + " ";
  text += fmt::format("    '') options='{}{}' ;;\n", names, names_of(before));
  for (const VerbDescription& verb : verbs) {
    text += fmt::format("    {})\n      options='{}'\n", verb.name, names_of(verb.options));
    const OptionDescription* positional = positional_of(verb);
    if (positional != nullptr)
      text += fmt::format("      argument={}\n", single_quoted(bash_value(*positional)));
    text += "      case $before in\n";
    for (const OptionDescription& option : verb.options)
      if (!option.positional() && option.takes != Takes::nothing)
        text += fmt::format("        {}) {} ;;\n", fmt::join(option.names, " | "), bash_value(option));
    text += "      esac\n      ;;\n";
  }
  return text + kBashEnd;
}

std::string zsh_completion(const std::vector<VerbDescription>& verbs,
                           const std::vector<OptionDescription>& before) {
  std::string text =
      "#compdef knapsaq\n# zsh completion for knapsaq, made by `knapsaq completion zsh`\n_knapsaq() {\n"
      "  local curcontext=$curcontext state line\n  typeset -A opt_args\n  local -a verbs=(\n";
  for (const VerbDescription& verb : verbs)
    text += fmt::format("    {}\n", single_quoted(verb.name + ":" + escaped(verb.help)));
  text += "  )\n  _arguments -C";
  for (const OptionDescription& option : before) text += zsh_specifications(option);
  text += " \\\n        '1: :->verb' '*:: :->rest' && return\n";
  text += "  case $state in\n    verb) _describe verb verbs ;;\n    rest)\n      case $words[1] in\n";
  for (const VerbDescription& verb : verbs) {
    text += fmt::format("      {}) _arguments", verb.name);
    for (const OptionDescription& option : verb.options) text += zsh_specifications(option);
    text += " ;;\n";
  }
  // zsh loads the file as the function's body; sourced, it has to say whom the function is for.
  return text +
         "      esac\n      ;;\n  esac\n}\n"
         "if [[ $funcstack[1] == _knapsaq ]]; then _knapsaq \"$@\"; else compdef _knapsaq knapsaq; fi\n";
}

}  // namespace knapsaq::command
