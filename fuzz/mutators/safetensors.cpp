// A safetensors file: eight bytes of length, a header of JSON, data. The length follows the header, mostly.

#include <cstring>

#include "mutators/mutate.h"

std::string mutated(std::string_view input, std::size_t most, fuzz::Random& random) {
  std::uint64_t length = 0;
  if (input.size() < sizeof length) return fuzz::mutate_bytes(input, most);
  std::memcpy(&length, input.data(), sizeof length);
  if (length > input.size() - sizeof length) return fuzz::mutate_bytes(input, most);
  std::string header(input.substr(sizeof length, length));
  std::string data(input.substr(sizeof length + length));
  if (fuzz::once_in(random, 4))
    data = fuzz::once_in(random, 2) ? fuzz::mutate_bytes(data, data.size() + 16)
                                    : std::string(fuzz::below(random, 300), 'x');
  else
    header = fuzz::mutate_json(header, header.size() + 200, random);
  length = header.size() + (fuzz::once_in(random, 16) ? fuzz::below(random, 3) - 1 : 0);
  std::string result(sizeof length, '\0');
  std::memcpy(result.data(), &length, sizeof length);
  return result + header + data;
}
