#pragma once

#include <filesystem>
#include <string>

namespace knapsaq {

/// The address of the page of a run, whose folder must be there. If no server serves it yet, one is started:
/// the command `program` (the knapsaq command) with `watch RUN --exit-after 300`, a process of its own that
/// outlives this one. Throws IoError, with what the command says, if it cannot serve.
std::string launch_server(const std::filesystem::path& program, const std::filesystem::path& run);

}  // namespace knapsaq
