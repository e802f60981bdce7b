#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace knapsaq {

/// XXH3-128 of data in pieces: identifies content and detects corruption at memory bandwidth. It is not a
/// cryptographic hash: it does not protect against deliberate collisions.
class Hasher {
 public:
  Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  ~Hasher();

  void update(std::span<const std::byte> bytes);
  void update(std::string_view text) { update(std::as_bytes(std::span(text.data(), text.size()))); }
  /// Of all data so far: 32 hexadecimal digits, in XXH's canonical order (as printed by `xxh128sum`).
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Hasher of one piece.
std::string hash_hex(std::span<const std::byte> bytes);
std::string hash_hex(std::string_view text);

}  // namespace knapsaq
