#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/export/formats.h"
#include "knapsaq/export/writer.h"

namespace knapsaq {
namespace {

constexpr std::array kWriters = {
    &compressed_tensors_writer, &gptq_writer, &auto_round_writer, &gguf_writer, &mlx_writer,
};

}  // namespace

std::vector<std::string> export_formats() {
  std::vector<std::string> names;
  names.reserve(kWriters.size());
  for (const auto& instance : kWriters) names.emplace_back(instance().name());
  return names;
}

const Writer& writer(std::string_view format) {
  for (const auto& instance : kWriters)
    if (instance().name() == format) return instance();
  throw UsageError(fmt::format("there is no format {}; the formats are {}", in_quotes(format),
                               fmt::join(export_formats(), ", ")));
}

}  // namespace knapsaq
