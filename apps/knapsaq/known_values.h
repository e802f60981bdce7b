#pragma once

#include <vector>

#include "arguments.h"

namespace knapsaq::command {

/// Says of the options that take words of their own, and no name of a file, which words there are: what such
/// an option is called means the same in every verb. Left alone are those whose values the verb names itself
/// (Option::one_of).
void add_known_values(std::vector<VerbDescription>& verbs);

}  // namespace knapsaq::command
