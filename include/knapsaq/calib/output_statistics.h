#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace knapsaq {

/// Statistics of g over tokens: the gradient, by the output of one matrix (a row of `width` values per
/// token), of the cross entropy summed over tokens (nats), with targets that are drawn from the model's own
/// distribution. G = E[g g^T] is the output side of the Fisher information in its Kronecker-factored
/// approximation (K-FAC, Martens and Grosse 2015, arXiv:1503.05671): a change dW of the matrix costs about
/// 1/2 tr(G dW H dW^T) nats of divergence per token, where H is the second moment of the input.
struct OutputStatistics {
  std::string name;                ///< the matrix
  std::int64_t width = 0;          ///< the matrix's `out`; of an embedding that is looked up, its `in`
  std::uint64_t tokens = 0;        ///< number of tokens
  std::vector<float> mean_square;  ///< [width] mean of g_k^2: the diagonal of `second_moment`; always present
  /// [width, width] G = mean of g g^T, symmetric, both halves filled; empty if only mean squares are known
  /// (the head, very wide outputs).
  std::vector<float> second_moment;
};

}  // namespace knapsaq
