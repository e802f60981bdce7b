// Runs a fuzz target once over every file of a folder: fuzz_corpora TARGET FOLDER. All targets are in one
// program, each under a name of its own instead of LLVMFuzzerTestOneInput (CMakeLists.txt).

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <vector>

#define X(name) extern "C" int fuzz_##name(const std::uint8_t* data, std::size_t size);
#include "fuzz_names.inc"
#undef X

namespace {

struct Target {
  std::string_view name;
  int (*run)(const std::uint8_t* data, std::size_t size);
};
#define X(name) {#name, fuzz_##name},
constexpr Target kTargets[] = {
#include "fuzz_names.inc"
};
#undef X

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "usage: fuzz_corpora TARGET FOLDER\n"), 2;
  for (const Target& target : kTargets) {
    if (target.name != argv[1]) continue;
    std::size_t inputs = 0;
    for (const auto& entry : std::filesystem::directory_iterator(argv[2])) {
      std::ifstream file(entry.path(), std::ios::binary);
      const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
      target.run(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
      ++inputs;
    }
    std::printf("%zu inputs\n", inputs);
    return inputs > 0 ? 0 : 1;
  }
  return std::fprintf(stderr, "no target %s\n", argv[1]), 2;
}
