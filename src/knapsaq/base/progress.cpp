#include "knapsaq/base/progress.h"

namespace knapsaq {
namespace {

class Silence final : public Progress {
 public:
  void begin(std::string_view, std::uint64_t, std::string_view) override {}
  void advance(std::uint64_t) override {}
  void end() override {}
};

}  // namespace

Progress& Progress::none() {
  static Silence silence;
  return silence;
}

}  // namespace knapsaq
