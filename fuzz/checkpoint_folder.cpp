// The folder of a model: its config.json, and behind a zero byte its model.safetensors. Every tensor can be
// read, every quantized linear decodes to finite numbers, or there is one line of error.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "knapsaq/base/error.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/stored_matrix.h"
#include "scratch_folder.h"

namespace {

using namespace knapsaq;

void write(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// What `read` throws has to be one line.
template <class Read>
void attempt(const Read& read) {
  try {
    read();
  } catch (const InputError& error) {
    if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
  }
}

void read_stored(const Checkpoint& checkpoint, std::string_view module) {
  const auto packing = checkpoint.packing(module);
  if (!packing) return;
  const StoredMatrix stored = checkpoint.stored(module);
  // Larger ones only cost time.
  if (rows_of(stored) > 64 || cols_of(stored) > 4096) return;
  std::vector<float> row(static_cast<std::size_t>(cols_of(stored)));
  for (std::int64_t r = 0; r < rows_of(stored); ++r) {
    dequantize_row(stored, r, row);
    if (!std::ranges::all_of(row, [](float w) { return std::isfinite(w); })) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const ScratchFolder folder;
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const std::size_t end = std::min(all.find('\0'), all.size());
  write(folder / "config.json", all.substr(0, end));
  write(folder / "model.safetensors", all.substr(std::min(end + 1, all.size())));
  attempt([] {
    const Checkpoint checkpoint = Checkpoint::open(folder.path());
    for (const std::string& name : checkpoint.names()) {
      attempt([&] {
        if (checkpoint.tensor(name).bytes.size() != checkpoint.spec(name).bytes()) std::abort();
      });
      attempt([&] { static_cast<void>(checkpoint.floats(name)); });
      constexpr std::string_view kEnding = ".weight";
      if (name.ends_with(kEnding))
        attempt(
            [&] { read_stored(checkpoint, std::string_view(name).substr(0, name.size() - kEnding.size())); });
      checkpoint.release(name);
    }
  });
  return 0;
}
