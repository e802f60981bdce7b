// A GGUF file of any bytes as a checkpoint and a tokenizer: everything is refused with InputError or can be
// read.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <unistd.h>

#include "knapsaq/base/error.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/family/family.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::filesystem::path file =
      std::filesystem::temp_directory_path() / ("knapsaq-fuzz-" + std::to_string(::getpid()) + ".gguf");
  std::ofstream(file, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  try {
    const knapsaq::Checkpoint checkpoint = knapsaq::Checkpoint::open(file);
    for (const std::string& name : checkpoint.names()) {
      if (checkpoint.tensor(name).bytes.size() != checkpoint.spec(name).bytes()) std::abort();
      checkpoint.release(name);
    }
    knapsaq::check_shapes(checkpoint, knapsaq::parse_model_config(checkpoint.config()));
  } catch (const knapsaq::InputError&) {
  }
  try {
    const knapsaq::Tokenizer tokenizer = knapsaq::Tokenizer::load(file);
    const auto ids = tokenizer.encode("a <s>b\xC3\xA9  c");
    if (tokenizer.decode(ids).size() > (std::size_t{1} << 30)) std::abort();
  } catch (const knapsaq::InputError&) {
  }
  std::filesystem::remove(file);
  return 0;
}
