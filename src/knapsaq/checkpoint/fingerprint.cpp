#include "knapsaq/checkpoint/fingerprint.h"

#include <algorithm>
#include <vector>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/threads.h"

namespace knapsaq {
namespace {

// Size of the pieces that threads hash separately. It is part of the definition of the fingerprint: another
// size gives another fingerprint. 4 MiB keep a core busy for a fraction of a millisecond, and there are
// enough pieces for all threads.
constexpr std::size_t kPiece = std::size_t{4} << 20;

/// config.json without the fields that a tool rewrites when it copies a model.
std::string relevant_config(const Checkpoint& checkpoint) {
  nlohmann::json config = checkpoint.config();
  for (const char* key : {"_name_or_path", "transformers_version", "use_cache"}) config.erase(key);
  return config.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

std::string fingerprint(const Checkpoint& checkpoint, Progress& progress) {
  Hasher all;
  all.update("knapsaq fingerprint 1\n");
  all.update(relevant_config(checkpoint));
  const std::uint64_t all_bytes =
      checkpoint.foreign() == nullptr ? checkpoint.tensor_bytes() : checkpoint.file_bytes();
  ProgressScope scope(progress, "fingerprint", all_bytes, "bytes");
  checkpoint.visit_stored([&](const std::string& name, const TensorView& tensor) {
    check_cancelled();
    // Names come from files and may contain anything; the preceding length separates fields.
    all.update(fmt::format("\n{} {} {} [{}]", name.size(), name, name_of(tensor.type),
                           fmt::join(tensor.shape, ",")));
    std::vector<std::string> hashes((tensor.bytes.size() + kPiece - 1) / kPiece);
    parallel_for(hashes.size(), [&](std::size_t index) {
      const std::size_t first = index * kPiece;
      hashes[index] = hash_hex(tensor.bytes.subspan(first, std::min(kPiece, tensor.bytes.size() - first)));
    });
    for (const std::string& hash : hashes) all.update(hash);
    scope.advance(tensor.bytes.size());
  });
  return all.hex();
}

}  // namespace knapsaq
