#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "knapsaq/base/process_mark.h"

namespace knapsaq {

/// Where a run is watched: kServerName in the run's folder, readable for its owner alone. It stays when the
/// server ends: the next one takes the same address, so that tabs that are open go on.
struct ServerRecord {
  ProcessMark process;
  int port = 0;
  std::string token;  ///< 32 hexadecimal digits

  std::string address() const;
};

/// 128 random bits from the system, as a token. Throws IoError.
std::string random_token();

/// The run's record, if there is one that this system's user made since it was started: what comes with a
/// folder from elsewhere is not looked at.
std::optional<ServerRecord> read_server_record(const std::filesystem::path& run);

/// Throws IoError.
void write_server_record(const std::filesystem::path& run, const ServerRecord& record);

/// Says in this process's record that it serves no more; others' are left alone. Never throws.
void close_server_record(const std::filesystem::path& run);

/// Address of the server that serves this run now, if there is one.
std::optional<std::string> served_at(const std::filesystem::path& run);

}  // namespace knapsaq
