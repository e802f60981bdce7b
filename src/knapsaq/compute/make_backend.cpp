#include <algorithm>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/cpu_backend.h"

namespace knapsaq {
namespace {

struct Kind {
  std::string_view name;                   ///< of a device, before the colon
  std::vector<std::string> (*variants)();  ///< that this machine has, the best first; empty: no such device
  std::unique_ptr<Backend> (*make)(const BackendOptions& options, std::string_view variant);
};

// One line for each backend.
constexpr Kind kKinds[] = {
    {"cpu", cpu_variants, make_cpu_variant},
};

}  // namespace

std::vector<std::string> devices() {
  std::vector<std::string> all;
  for (const Kind& kind : kKinds) {
    for (const std::string& variant : kind.variants())
      all.push_back(fmt::format("{}:{}", kind.name, variant));
  }
  return all;
}

std::unique_ptr<Backend> make_backend(const BackendOptions& options) {
  const std::string_view device = options.device;
  const std::string_view name = device.substr(0, device.find(':'));
  for (const Kind& kind : kKinds) {
    if (kind.name != name) continue;
    const std::vector<std::string> variants = kind.variants();
    if (name == device && !variants.empty()) return kind.make(options, variants.front());
    const auto variant = std::find(variants.begin(), variants.end(), device.substr(name.size() + 1));
    if (variant != variants.end()) return kind.make(options, *variant);
  }
  throw UsageError(fmt::format("device {}: not on this machine, which has {}", in_quotes(device),
                               fmt::join(devices(), ", ")));
}

}  // namespace knapsaq
