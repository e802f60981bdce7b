#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace knapsaq {

/// A program that works for this process where this process must not fork: an interpreter whose threads hold
/// locks. It is the knapsaq command, started anew (posix_spawn) for every request.
///
/// Set it once, before any work.
void set_helper(const std::filesystem::path& program);
bool has_helper();
/// What set_helper() was given; empty without.
const std::filesystem::path& helper_program();

/// What the helper answers: it is started with kHelperOption and `task`, reads `request` from standard input,
/// and writes to standard output. Throws what serve_helper() passed on, InputError and IoError, and IoError
/// if the helper cannot be started or ends without an answer.
std::string ask_helper(std::string_view task, std::string_view request);

inline constexpr std::string_view kHelperOption = "--work-for-parent";
/// The other side: standard input to standard output; an exit code. `work` may throw.
int serve_helper(const std::function<std::string(std::string_view request)>& work);

}  // namespace knapsaq
