// A config.json, and behind a zero byte a safetensors file.

#include <algorithm>

#include "mutators/mutate.h"

std::string mutated(std::string_view input, std::size_t most, fuzz::Random& random) {
  const std::size_t end = std::min(input.find('\0'), input.size());
  const std::string_view config = input.substr(0, end);
  const std::string_view weights = input.substr(std::min(end + 1, input.size()));
  std::string result =
      fuzz::once_in(random, 2) ? fuzz::mutate_json(config, most, random) : std::string(config);
  // No zero byte of JSON's own: the rest would move.
  std::erase(result, '\0');
  result += '\0';
  return result +
         (fuzz::once_in(random, 2) ? fuzz::mutate_safetensors(weights, most, random) : std::string(weights));
}
