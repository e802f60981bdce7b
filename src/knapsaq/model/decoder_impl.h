#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "knapsaq/model/decoder.h"
#include "knapsaq/model/decoder_backward.h"
#include "knapsaq/model/decoder_pass.h"
#include "knapsaq/model/decoder_weights.h"

namespace knapsaq {

/// Shared by decoder.cpp and the files of its parts: decoder_backward.cpp, decoder_next.cpp,
/// decoder_segments.cpp.
struct Decoder::Impl {
  Impl(const ModelConfig& config, Backend& backend, std::string where)
      : weights(config, backend, std::move(where)), pass(weights), backward(weights, pass) {}

  /// Memory that next() keeps from one call to the next.
  struct NextState {
    Hidden hidden;                     ///< of a chunk
    std::vector<std::int32_t> tokens;  ///< of a chunk of several sequences
    Array input;                       ///< of the head, [>= sequences, head->in()]
    Array logits;                      ///< [>= sequences, V]
  };

  DecoderWeights weights;
  DecoderPass pass;
  DecoderBackward backward;
  NextState next;
  std::vector<Hidden> states;  ///< before every block and after the last, kept by backward()

  /// Embeds windows of `length` tokens that continue `past`, into the memory of `hidden` if it has the right
  /// size.
  void embed(std::span<const std::int32_t> tokens, const RowLayout& layout, Hidden& hidden);
};

}  // namespace knapsaq
