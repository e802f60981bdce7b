#include "knapsaq/base/hash.h"

#include <gtest/gtest.h>

namespace knapsaq {
namespace {

TEST(Hash, IsXxh3) {
  // What `xxh128sum` prints for an empty file.
  EXPECT_EQ(hash_hex(std::string_view()), "99aa06d3014798d86001c324468d497f");
}

TEST(Hash, PiecesMakeTheWhole) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += static_cast<char>('a' + i % 26);
  Hasher hasher;
  hasher.update(std::string_view(text).substr(0, 333));
  hasher.update(std::string_view(text).substr(333));
  EXPECT_EQ(hasher.hex(), hash_hex(text));
  hasher.update("more");
  EXPECT_EQ(hasher.hex(), hash_hex(text + "more"));
  EXPECT_NE(hash_hex(text), hash_hex(text + "more"));
}

}  // namespace
}  // namespace knapsaq
