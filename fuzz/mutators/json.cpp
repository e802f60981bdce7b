// JSON, JSON lines, or either behind some bytes that choose what it is.

#include "mutators/mutate.h"

std::string mutated(std::string_view input, std::size_t most, fuzz::Random& random) {
  return fuzz::mutate_json(input, most, random);
}
