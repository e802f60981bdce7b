#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace knapsaq {

/// One answer: the model is asked for the likelihood of the continuation after the context.
struct Answer {
  std::string context;
  std::string continuation;     ///< with the blank that separates it from the context
  std::int64_t characters = 0;  ///< code points of the answer without that blank: the divisor of acc_norm
};

/// A question of a task.
struct TaskItem {
  std::vector<Answer> answers;       ///< at least 2
  std::optional<std::int64_t> gold;  ///< the correct one; nullopt only until a file of labels has been read
  std::size_t line = 0;              ///< of its file, from 1
};

}  // namespace knapsaq
