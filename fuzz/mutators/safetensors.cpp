#include "mutators/mutate.h"

std::string mutated(std::string_view input, std::size_t most, fuzz::Random& random) {
  return fuzz::mutate_safetensors(input, most, random);
}
