#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace knapsaq {

/// One answer to choose: what the model is asked is how likely the continuation is after the context.
struct Answer {
  std::string context;
  std::string continuation;     ///< with the blank that parts it from the context
  std::int64_t characters = 0;  ///< code points of the answer without that blank: what acc_norm divides by
};

/// A question of a task.
struct TaskItem {
  std::vector<Answer> answers;       ///< at least 2
  std::optional<std::int64_t> gold;  ///< the right one; none only until a file of labels has been read
  std::size_t line = 0;              ///< of its file, from 1
};

}  // namespace knapsaq
