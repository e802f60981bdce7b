// config.json of any family: refused with one line, or read into sizes that are possible and names that are
// told apart.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace knapsaq;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const ModelConfig config = parse_model_config(parse_json(text));
    if (config.heads % config.kv_heads != 0 || config.head_dim < 1) std::abort();
    // More layers only cost time.
    if (config.layers > 8) return 0;
    std::set<std::string> names;
    for (const Matrix& linear : linears(config)) {
      if (linear.parameters() <= 0 || !names.insert(linear.name + ".weight").second) std::abort();
    }
    for (const ExpectedTensor& tensor : dense_tensors(config)) {
      if (!names.insert(tensor.name).second) std::abort();
      for (const std::int64_t length : tensor.shape)
        if (length <= 0) std::abort();
    }
    if (input_owners(linears(config)).size() != linears(config).size()) std::abort();
  } catch (const InputError& error) {
    if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
  }
  return 0;
}
