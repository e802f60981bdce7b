#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "knapsaq/base/error.h"
#include "knapsaq/eval/tasks/read_items.h"

// The first byte chooses the task. What stands behind a zero byte is the file of labels.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto tasks = knapsaq::all_tasks();
  const knapsaq::Task& task = *tasks[data[0] % tasks.size()];
  const std::string_view all(reinterpret_cast<const char*>(data + 1), size - 1);
  const std::size_t zero = std::min(all.find('\0'), all.size());
  try {
    const auto items =
        knapsaq::parse_items(task, all.substr(0, zero), all.substr(std::min(zero + 1, all.size())), "fuzz");
    for (const knapsaq::TaskItem& item : items) {
      if (item.answers.size() < 2 || !item.gold || *item.gold < 0 ||
          *item.gold >= static_cast<std::int64_t>(item.answers.size()))
        std::abort();
      for (const knapsaq::Answer& answer : item.answers)
        if (!answer.continuation.starts_with(' ') || answer.characters < 0) std::abort();
    }
  } catch (const knapsaq::InputError&) {
  }
  return 0;
}
