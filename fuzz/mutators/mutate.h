#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>

// What the structured mutators share. They are linked into libFuzzer programs only: a replay needs none.

namespace fuzz {

using Random = std::minstd_rand;

/// 0..count-1; 0 for 0.
inline std::size_t below(Random& random, std::size_t count) {
  return count == 0 ? 0 : (std::size_t{random()} << 15 ^ std::size_t{random()}) % count;
}
/// True once in `times`.
inline bool once_in(Random& random, std::size_t times) { return below(random, times) == 0; }

template <class List>
auto& any_of(Random& random, List& list) {
  return list[below(random, std::size(list))];
}

/// libFuzzer's own mutation: bytes without a structure. At most `most` bytes.
std::string mutate_bytes(std::string_view text, std::size_t most);

/// A number at which code that counts, multiplies or allocates goes wrong, or a small one.
std::int64_t any_number(Random& random);

/// A change of the JSON value in `text`: from its first bracket to its end, or on one of its lines. Parts are
/// removed, doubled, exchanged, and filled with parts of earlier inputs. Bytes if nothing there is JSON.
std::string mutate_json(std::string_view text, std::size_t most, Random& random);

/// A change of a safetensors file: eight bytes of length, a header of JSON, data. The length follows the
/// header, mostly.
std::string mutate_safetensors(std::string_view input, std::size_t most, Random& random);

/// Copies as much of `result` as fits to where libFuzzer wants it, and gives its size.
std::size_t put(std::string_view result, std::uint8_t* data, std::size_t most);

}  // namespace fuzz

/// What each mutator defines: a change of an input.
std::string mutated(std::string_view input, std::size_t most, fuzz::Random& random);
