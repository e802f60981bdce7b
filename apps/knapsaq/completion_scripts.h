#pragma once

// Completion for shells, made from the table of verbs and options that the program itself works with.

#include <string>
#include <vector>

#include "arguments.h"

namespace knapsaq::command {

/// A script that bash loads from share/bash-completion/completions/knapsaq, or `eval`s. Offers verbs,
/// options, the values of those that have a fixed set (in lists with a separator too), and names of files
/// elsewhere.
std::string bash_completion(const std::vector<VerbDescription>& verbs,
                            const std::vector<OptionDescription>& before);

/// The same for zsh, with what each verb and option does: the file _knapsaq in a folder of `fpath`.
std::string zsh_completion(const std::vector<VerbDescription>& verbs,
                           const std::vector<OptionDescription>& before);

}  // namespace knapsaq::command
