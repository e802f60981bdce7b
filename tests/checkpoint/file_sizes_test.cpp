#include "knapsaq/checkpoint/file_sizes.h"

#include <numeric>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "knapsaq/base/random.h"

namespace knapsaq {
namespace {

std::vector<TensorSpec> random_tensors(const std::string& module, Random& random) {
  std::vector<TensorSpec> tensors;
  static constexpr DType kTypes[] = {DType::U8, DType::F16, DType::U32};
  for (std::uint64_t n = 1 + random.below(4); n > 0; --n)
    tensors.push_back(
        {module + std::string(1 + random.below(3), static_cast<char>('a' + n)),
         kTypes[random.below(3)],
         {static_cast<std::int64_t>(random.below(40)), static_cast<std::int64_t>(1 + random.below(12))}});
  return tensors;
}

/// Fixed tensors and modules of several forms, in random order.
std::vector<FilePart> random_parts(std::size_t modules, Random& random) {
  std::vector<FilePart> parts;
  const auto fixed = [&] {
    if (random.below(2) == 0)
      parts.push_back({{random_tensors(std::to_string(parts.size()) + "f", random)}, {}});
  };
  std::vector<std::size_t> order(modules);
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (std::size_t i = modules; i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  for (const std::size_t module : order) {
    fixed();
    FilePart part;
    part.module = module;
    const std::string name = std::to_string(parts.size()) + (random.below(4) == 0 ? "\"m\\" : "m");
    for (std::uint64_t n = 1 + random.below(4); n > 0; --n)
      part.forms.push_back(random_tensors(name, random));
    parts.push_back(std::move(part));
  }
  fixed();
  return parts;
}

std::vector<TensorSpec> chosen(const std::vector<FilePart>& parts, const std::vector<std::size_t>& forms) {
  std::vector<TensorSpec> all;
  for (const FilePart& part : parts)
    for (const TensorSpec& tensor : part.forms[part.module ? forms[*part.module] : 0]) all.push_back(tensor);
  return all;
}

/// The next choice of forms, as a number is counted up; false behind the last.
bool next(const FileSizes& sizes, std::vector<std::size_t>& forms) {
  for (std::size_t m = 0; m < forms.size(); ++m) {
    if (++forms[m] < sizes.forms(m)) return true;
    forms[m] = 0;
  }
  return false;
}

TEST(FileSizes, AreThoseOfTheWriterToTheByte) {
  Random random(3);
  for (int round = 0; round < 2000; ++round) {
    const std::size_t modules = random.below(12);
    const std::vector<FilePart> parts = random_parts(modules, random);
    const std::uint64_t shard = random.below(3) == 0 ? kShardBytes : 1 + random.below(4000);
    const CheckpointSizes sizes(parts, shard);
    ASSERT_EQ(sizes.modules(), modules);
    for (int i = 0; i < 3; ++i) {
      std::vector<std::size_t> forms;
      for (std::size_t m = 0; m < modules; ++m) forms.push_back(random.below(sizes.forms(m)));
      ASSERT_EQ(sizes.total(forms), checkpoint_bytes(chosen(parts, forms), shard)) << "round " << round;
    }
  }
}

TEST(FileSizes, SumsBoundTheTruthOnBothSides) {
  Random random(4);
  std::size_t in_shards = 0;
  for (int round = 0; round < 400; ++round) {
    const std::vector<FilePart> parts = random_parts(1 + random.below(4), random);
    const CheckpointSizes sizes(parts, random.below(2) == 0 ? kShardBytes : 1 + random.below(4000));
    std::vector<std::size_t> forms(sizes.modules(), 0);
    std::vector<std::pair<std::vector<std::size_t>, std::uint64_t>> all;
    do {
      all.emplace_back(forms, sizes.total(forms));
    } while (next(sizes, forms));
    std::vector<std::uint64_t> budgets = {0, std::uint64_t{1} << 60};
    for (int i = 0; i < 6; ++i)
      budgets.push_back(std::max<std::uint64_t>(10, all[random.below(all.size())].second) + random.below(20) -
                        10);
    for (const std::uint64_t budget : budgets) {
      const FileSizes::Sum sum = sizes.sum_within(budget);
      EXPECT_LE(sum.least, sum.most);
      for (const auto& [one, total] : all) {
        std::int64_t bytes = 0;
        for (std::size_t m = 0; m < one.size(); ++m) bytes += static_cast<std::int64_t>(sum.bytes[m][one[m]]);
        if (total <= budget) {
          ASSERT_LE(bytes + sum.least, static_cast<std::int64_t>(budget)) << "round " << round;
        }
        if (bytes + sum.most <= static_cast<std::int64_t>(budget)) {
          ASSERT_LE(total, budget) << "round " << round;
        }
        in_shards += total > checkpoint_bytes(chosen(parts, one));
      }
    }
  }
  EXPECT_GT(in_shards, 1000U);
}

TEST(FileSizes, AlikeFormsMakeEqualTotals) {
  const FilePart part{
      {{{"m.a", DType::U8, {4, 10}}}, {{"m.b", DType::U8, {40, 1}}}, {{"m.a", DType::U8, {40}}}},
      std::size_t{0}};
  const CheckpointSizes sizes(std::vector<FilePart>{part});
  EXPECT_TRUE(sizes.alike(0, 0, 1));   // other shape and name, the same lengths
  EXPECT_FALSE(sizes.alike(0, 0, 2));  // a shorter shape
}

TEST(FileSizes, TheWindowOfOneFileIsNarrow) {
  // The embedding takes the small offsets; of the powers of ten only 10^6 lies among the linears.
  std::vector<FilePart> parts = {{{{{"embedding", DType::F16, {1000, 300}}}}, {}}};
  for (std::size_t m = 0; m < 50; ++m) {
    const std::string name = fmt::format("model.layers.{}.proj", m);
    parts.push_back({{{{name, DType::U8, {100, 100}}}, {{name, DType::U8, {100, 200}}}}, m});
  }
  const FileSizes::Sum sum = CheckpointSizes(parts).sum_within(1'300'000);
  // Offsets pass 10^6 between the 21st and the 41st of the linears: two digits for each.
  EXPECT_LE(sum.most - sum.least, 7 + 2 * 21);
}

}  // namespace
}  // namespace knapsaq
