// Budgets are exact: what is named as the smallest size is reached, a byte less is refused, nothing is above
// its budget, and no byte that is left would have bought anything better.

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/bank/match_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/checkpoint/file_sizes.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/search/best_point.h"
#include "knapsaq/search/file_knapsack.h"
#include "knapsaq/search/make_space.h"
#include "knapsaq/search/mxq.h"
#include "knapsaq/search/pins.h"
#include "made_space.h"
#include "scratch.h"

namespace knapsaq {
namespace {

/// A few modules with forms of any sizes, most near a power of ten, some of equal sizes; costs that fall with
/// the size or not, many of them equal; modules tied at random.
struct MadeFiles {
  std::vector<FilePart> parts;
  std::vector<FileItem> items;
  std::uint64_t shard = kShardBytes;
};

MadeFiles made_files(Random& random) {
  MadeFiles made;
  const std::size_t modules = 1 + random.below(5);
  const std::int64_t scale = std::array{1, 10, 100, 1000}[random.below(4)];
  const auto tensor = [&](const std::string& name) {
    return TensorSpec{name, DType::U8, {1 + static_cast<std::int64_t>(random.below(12)) * scale}};
  };
  for (std::size_t m = 0; m < modules; ++m) {
    if (random.below(2) == 0) made.parts.push_back({{{tensor("fixed" + std::to_string(m))}}, {}});
    FilePart& part = made.parts.emplace_back();
    part.module = m;
    const std::string name(1 + random.below(9), static_cast<char>('a' + m));
    FileItem item{{m}, {}, {}};
    for (std::uint64_t form = 0, forms = 1 + random.below(4); form < forms; ++form) {
      std::vector<TensorSpec>& tensors = part.forms.emplace_back();
      for (std::uint64_t n = random.below(4) == 0 ? 3 : 1; n > 0; --n)
        tensors.push_back(tensor(name + std::to_string(n)));
      item.forms.push_back(form);
      item.costs.push_back(random.below(2) == 0 ? static_cast<double>(random.below(4)) : random.uniform());
    }
    // A module with as many forms as one before may be tied to it.
    FileItem* other = made.items.empty() ? nullptr : &made.items[random.below(made.items.size())];
    if (other != nullptr && other->forms.size() == item.forms.size() && random.below(3) == 0) {
      other->modules.push_back(m);
    } else {
      made.items.push_back(std::move(item));
    }
  }
  if (random.below(3) == 0) made.shard = static_cast<std::uint64_t>(scale) * (1 + random.below(60));
  return made;
}

struct Possible {
  std::uint64_t bytes = 0;
  double cost = 0;
};

/// Every solution, its bytes as the writer counts them.
std::vector<Possible> enumerate(const MadeFiles& made) {
  std::vector<Possible> all;
  std::vector<std::size_t> levels(made.items.size(), 0);
  for (bool more = true; more;) {
    std::vector<TensorSpec> tensors;
    double cost = 0;
    std::vector<std::size_t> form(64);
    for (std::size_t i = 0; i < levels.size(); ++i) {
      cost += made.items[i].costs[levels[i]];
      for (const std::size_t module : made.items[i].modules) form[module] = made.items[i].forms[levels[i]];
    }
    for (const FilePart& part : made.parts)
      for (const TensorSpec& one : part.forms[part.module ? form[*part.module] : 0]) tensors.push_back(one);
    all.push_back({checkpoint_bytes(tensors, made.shard), cost});
    more = false;
    for (std::size_t i = 0; i < levels.size() && !more; ++i) {
      more = ++levels[i] < made.items[i].forms.size();
      if (!more) levels[i] = 0;
    }
  }
  return all;
}

TEST(Budgets, OfFilesAreExactByEnumeration) {
  Random random(17);
  std::size_t in_the_window = 0;
  for (int round = 0; round < 1500; ++round) {
    const MadeFiles made = made_files(random);
    const CheckpointSizes sizes(made.parts, made.shard);
    const FileKnapsack knapsack(sizes, made.items);
    const std::vector<Possible> all = enumerate(made);
    const std::uint64_t least = std::ranges::min_element(all, {}, &Possible::bytes)->bytes;
    EXPECT_EQ(knapsack.smallest().bytes, least) << "round " << round;
    std::set<std::uint64_t> budgets = {least, std::uint64_t{1} << 50};
    for (int i = 0; i < 12; ++i) {
      const std::uint64_t bytes = all[random.below(all.size())].bytes;
      budgets.insert({bytes, bytes - 1, bytes + random.below(16)});
    }
    for (const std::uint64_t budget : budgets) {
      if (budget < least) continue;
      double best = std::numeric_limits<double>::infinity();
      for (const Possible& one : all)
        if (one.bytes <= budget) best = std::min(best, one.cost);
      const FrontPoint point = knapsack.best_within(budget);
      ASSERT_LE(point.bytes, budget) << "round " << round;
      ASSERT_NEAR(point.cost, best, 1e-12) << "round " << round << " budget " << budget;
      ASSERT_NEAR(point.bound, point.cost, 1e-12);
      ASSERT_EQ(knapsack.size(point.levels), point.bytes);
      // How often sums alone do not decide.
      const FileSizes::Sum sum = sizes.sum_within(budget);
      in_the_window += point.bytes + static_cast<std::uint64_t>(sum.most - sum.least) > budget;
    }
    try {
      knapsack.best_within(least - 1);
      FAIL() << "must not be feasible";
    } catch (const InfeasibleError& error) {
      EXPECT_EQ(error.smallest(), static_cast<double>(least));
      EXPECT_THAT(error.what(), testing::HasSubstr(std::to_string(least) + " bytes"));
    }
  }
  EXPECT_GT(in_the_window, 1000U);
}

/// A model of the assets with random menus, ties, pins and errors.
class ModelBudgets : public ::testing::TestWithParam<const char*> {
 protected:
  ModelBudgets()
      : checkpoint_(Checkpoint::open(std::filesystem::path(KNAPSAQ_SOURCE_DIR) / "assets" / GetParam())),
        config_(parse_model_config(checkpoint_.config())) {}

  ErrorTable random_table(std::string_view menu, Random& random) const {
    ErrorTable table = size_table(linears(config_), parse_menu(menu));
    for (ErrorRow& row : table.rows) {
      const double size = std::exp(random.normal());
      for (ErrorCell& cell : row.cells)
        cell.fnorm =
            size *
            std::pow(0.5, 8.0 * static_cast<double>(cell.bytes) / static_cast<double>(row.parameters)) *
            (1 + 0.3 * random.uniform());
    }
    return table;
  }

  SearchSpace random_space(Random& random) const {
    static constexpr const char* kMenus[] = {"mxq",
                                             "mxq-f16",
                                             "gguf",
                                             "q2_k,hqq:b8g32/m8g128",
                                             "nf4,b2row,b3g32,q4_k",
                                             "b2g128,b3g128,b4g128",
                                             "q4_0,b4g32/m8g128,b4g32"};
    static constexpr const char* kTies[] = {"none", "qkv", "vllm", "layer"};
    static constexpr const char* kPins[] = {"*.0.*>=3", "*.1.self_attn.*>=2.5", "*v_proj>=2.1"};
    std::vector<Pin> pins;
    if (random.below(3) == 0) pins.push_back(parse_pin(kPins[random.below(3)]));
    const ErrorTable table = random_table(kMenus[random.below(std::size(kMenus))], random);
    return make_space(table, kTies[random.below(4)], pins, Cost::fnorm,
                      quantized_file_sizes(checkpoint_, config_, table));
  }

  std::uint64_t written(const SearchSpace& space, const Point& point) const {
    return layout_quantized(checkpoint_, config_, allocation_of(linears(config_), space.allocation(point)))
        .bytes;
  }

  const Checkpoint checkpoint_;
  const ModelConfig config_;
};

TEST_P(ModelBudgets, FiveHundredRandomOnesAreKeptAndUsedUp) {
  Random random(29);
  for (int round = 0; round < 25; ++round) {
    const SearchSpace space = random_space(random);
    const LevelCosts costs = errors_of(space);
    const Point smallest = smallest_point(space, Budget::Of::files);
    const std::uint64_t least = written(space, smallest);
    const std::uint64_t most = written(space, space.largest());
    for (int i = 0; i < 20; ++i) {
      const std::uint64_t bytes = least + (i == 0 ? 0 : random.below(most - least + 1));
      const FrontPoint point = best_point(space, costs, {bytes, Budget::Of::files});
      ASSERT_EQ(written(space, point.levels), point.bytes);
      ASSERT_LE(point.bytes, bytes);
      ASSERT_EQ(point.bound, point.cost) << "not proven";
      // The exact sum over the linears within any split of the budget into linears and the rest: whatever of
      // it fits is no better.
      const std::uint64_t rest = point.bytes - space.linear_bytes(point.levels);
      for (const std::uint64_t other : {rest - 16, rest - 1, rest}) {
        if (bytes - other < space.linear_bytes(space.smallest())) continue;
        const FrontPoint rival = best_point(space, costs, {bytes - other, Budget::Of::linears});
        if (space.bytes(rival.levels) <= bytes) {
          ASSERT_GE(rival.cost, point.cost * (1 - 1e-12));
        }
      }
    }
    EXPECT_NO_THROW(require_feasible(space, {least, Budget::Of::files}));
    EXPECT_THROW(require_feasible(space, {least - 1, Budget::Of::files}), InfeasibleError);
    const std::uint64_t linears = space.linear_bytes(space.smallest());
    EXPECT_EQ(space.linear_bytes(best_point(space, costs, {linears, Budget::Of::linears}).levels), linears);
    EXPECT_THROW(require_feasible(space, {linears - 1, Budget::Of::linears}), InfeasibleError);
  }
}

TEST_P(ModelBudgets, HoldForFilesOnDisk) {
  Random random(31);
  const Scratch scratch;
  for (int round = 0; round < 6; ++round) {
    const ErrorTable table = random_table("rtn:b2g128/m8g128,rtn:b3g64,rtn:b4row,nf4", random);
    const std::shared_ptr<const FileSizes> made = quantized_file_sizes(checkpoint_, config_, table);
    const FileSizes& sizes = *made;
    const std::uint64_t least = static_cast<std::uint64_t>([&] {
      try {
        allocate_mxq_written(table, 1, sizes);
      } catch (const InfeasibleError& error) {
        return error.smallest();
      }
      return 0.0;
    }());
    const std::uint64_t budget = least + (round == 0 ? 0 : random.below(least));
    const Allocation allocation = allocate_mxq_written(table, budget, sizes);
    const std::filesystem::path out = scratch / std::to_string(round);
    const QuantizedModel model = write_quantized(
        checkpoint_, config_, allocation_of(linears(config_), allocation.schemes), out, false);
    std::uint64_t bytes = 0;
    for (const auto& entry : std::filesystem::directory_iterator(out))
      if (entry.path().filename().string().starts_with("model")) bytes += entry.file_size();
    EXPECT_EQ(bytes, model.bytes);
    EXPECT_LE(bytes, budget);
    if (round == 0) {
      EXPECT_EQ(bytes, least);
    }
  }
}

TEST_P(ModelBudgets, HiGHSAgrees) {
  Random random(37);
  SolveOptions highs;
  highs.solver = Solver::highs;
  for (int round = 0; round < 4; ++round) {
    const ErrorTable table = random_table(round % 2 == 0 ? "b2g128,b3g64,q4_k" : "mxq", random);
    const std::shared_ptr<const FileSizes> made = quantized_file_sizes(checkpoint_, config_, table);
    const FileSizes& sizes = *made;
    const double bits = 2.6 + random.uniform();
    const std::uint64_t linears = budget_bytes(table, bits);
    const Allocation ours = allocate_mxq(table, linears);
    EXPECT_EQ(ours.gap, 0);
    EXPECT_LE(ours.bits, bits);
    EXPECT_NEAR(allocate_mxq(table, linears, "none", highs).objective, ours.objective, 1e-9 * ours.objective);
    const std::uint64_t files = linears + 2'200'000;
    const Allocation written = allocate_mxq_written(table, files, sizes);
    const Allocation other = allocate_mxq_written(table, files, sizes, "none", highs);
    EXPECT_LE(
        layout_quantized(checkpoint_, config_, allocation_of(knapsaq::linears(config_), other.schemes)).bytes,
        files);
    EXPECT_EQ(written.gap, 0);
    EXPECT_GE(other.objective, written.objective * (1 - 1e-9));
    EXPECT_LE(other.bound, written.objective * (1 + 1e-9));
  }
}

INSTANTIATE_TEST_SUITE_P(Assets, ModelBudgets, ::testing::Values("wiki-llama-6m", "wiki-opt-3m"));

}  // namespace
}  // namespace knapsaq
