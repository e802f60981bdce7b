#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "knapsaq/base/progress.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/model/decoder.h"

namespace knapsaq {

/// A fixed text for evaluating models, with the full-precision model's predictions. Only the inputs of its
/// head are kept, and the head: the exact logits are one product away, and would take a hundred times the
/// memory.
struct ReferencedWindows {
  std::vector<std::int32_t> tokens;  ///< [windows * length], window after window
  std::int64_t windows = 0;
  std::int64_t length = 0;
  Array head_inputs;  ///< [windows * length, embedding], `working`, in the memory of the decoder's backend
  std::shared_ptr<const Weight> head;  ///< of the full-precision model
  float softcap = 0;                   ///< of the logits, the full-precision model's and every candidate's
  /// Position inside every window of the first token that is scored (Window::first_target).
  std::int64_t first_target = 1;

  std::int64_t targets() const { return length - first_target; }  ///< scored tokens of one window
  OutputHead output_head() const { return {head.get(), softcap}; }
};

/// Runs the windows through the full-precision model. Throws like Decoder::losses(), and UsageError for
/// windows of fewer than two tokens; Cancelled between batches.
ReferencedWindows reference_windows(Decoder& decoder, std::vector<std::int32_t> tokens, std::int64_t windows,
                                    std::int64_t length, Progress& progress = Progress::none());

}  // namespace knapsaq
