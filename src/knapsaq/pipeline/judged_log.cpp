#include "knapsaq/pipeline/judged_log.h"

#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/hash.h"

namespace knapsaq {
namespace {

constexpr std::string_view kEnding = ".tokens";

/// The beginning of a file, in the machine's byte order; the tokens' values, the windows' losses and a hash
/// of all that follow.
struct Head {
  char magic[8] = {'K', 'N', 'A', 'P', 'T', 'O', 'K', '1'};
  std::int64_t windows = 0;
  std::int64_t tokens = 0;
  double kl = 0;
  double loss = 0;
  double agreement = 0;
};
constexpr std::size_t kHashBytes = 32;

void append(std::string& text, const void* data, std::size_t bytes) {
  text.append(static_cast<const char*>(data), bytes);
}

}  // namespace

JudgedLog::JudgedLog(std::filesystem::path folder, std::string comparison)
    : folder_(std::move(folder)), comparison_(std::move(comparison)) {}

std::filesystem::path JudgedLog::path_of(std::string_view fingerprint) const {
  return folder_ / fmt::format("{}-{}{}", comparison_, fingerprint, kEnding);
}

bool JudgedLog::is_own(std::string_view name) { return name.find(kEnding) != std::string_view::npos; }

std::optional<Measurement> JudgedLog::find(std::string_view fingerprint) const {
  const std::filesystem::path path = path_of(fingerprint);
  if (!std::filesystem::exists(path)) return std::nullopt;
  const std::string text = read_file(path, std::uint64_t{8} << 30);
  Head head;
  if (text.size() < sizeof head + kHashBytes) return std::nullopt;
  const std::string_view content(text.data(), text.size() - kHashBytes);
  if (hash_hex(content) != std::string_view(text).substr(content.size())) return std::nullopt;
  const Head expected;
  std::memcpy(&head, content.data(), sizeof head);
  const std::uint64_t values = (content.size() - sizeof head) / sizeof(float);
  if (std::memcmp(head.magic, expected.magic, sizeof head.magic) != 0 || head.windows < 1 ||
      head.tokens < 1 || head.tokens % head.windows != 0 ||
      static_cast<std::uint64_t>(head.tokens) + static_cast<std::uint64_t>(head.windows) != values)
    return std::nullopt;
  Measurement result;
  result.windows = head.windows;
  result.tokens = head.tokens;
  result.kl = head.kl;
  result.loss = head.loss;
  result.agreement = head.agreement;
  result.per_token.resize(static_cast<std::size_t>(head.tokens));
  result.window_loss.resize(static_cast<std::size_t>(head.windows));
  const char* place = content.data() + sizeof head;
  std::memcpy(result.per_token.data(), place, result.per_token.size() * sizeof(float));
  place += result.per_token.size() * sizeof(float);
  std::memcpy(result.window_loss.data(), place, result.window_loss.size() * sizeof(float));
  return result;
}

void JudgedLog::add(std::string_view fingerprint, const Measurement& measurement) const {
  Head head;
  head.windows = measurement.windows;
  head.tokens = measurement.tokens;
  head.kl = measurement.kl;
  head.loss = measurement.loss;
  head.agreement = measurement.agreement;
  std::string text;
  append(text, &head, sizeof head);
  append(text, measurement.per_token.data(), measurement.per_token.size() * sizeof(float));
  append(text, measurement.window_loss.data(), measurement.window_loss.size() * sizeof(float));
  text += hash_hex(text);
  write_file(path_of(fingerprint), text);
}

}  // namespace knapsaq
