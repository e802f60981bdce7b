#include "knapsaq/checkpoint/fingerprint.h"

#include <filesystem>
#include <set>

#include <gtest/gtest.h>

#include "knapsaq/base/files.h"
#include "knapsaq/checkpoint/shards.h"
#include "scratch.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

struct Model {
  std::string config = R"({"hidden_size": 4})";
  std::string name = "model.norm.weight";
  DType type = DType::F32;
  std::vector<std::int64_t> shape = {6'000'000};  // several pieces
  std::size_t damaged = 0;                        ///< byte that is another one, if not 0
  std::uint64_t shard_bytes = kShardBytes;
};

std::string fingerprint_of(const Model& model) {
  const Scratch scratch;
  write_file(scratch / "config.json", model.config);
  const std::vector<TensorSpec> specs = {{model.name, model.type, model.shape},
                                         {"model.other.weight", DType::F32, {3}}};
  CheckpointWriter writer(scratch.path(), specs, model.shard_bytes);
  std::vector<std::byte> bytes(specs[0].bytes() + specs[1].bytes());
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7 / 5);
  if (model.damaged != 0) bytes[model.damaged] ^= std::byte{1};
  writer.write(bytes);
  writer.commit();
  return fingerprint(Checkpoint::open(scratch.path()));
}

TEST(Fingerprint, ChangesWithEverythingThatMatters) {
  const Model model;
  Model config = model;
  config.config = R"({"hidden_size": 5})";
  Model name = model;
  name.name = "model.gnorm.weight";
  Model type = model;
  type.type = DType::I32;
  Model shape = model;
  shape.shape = {3'000'000, 2};
  Model early = model;
  early.damaged = 1;
  Model late = model;
  late.damaged = 24'000'011;
  std::set<std::string> all;
  for (const Model& one : {model, config, name, type, shape, early, late}) all.insert(fingerprint_of(one));
  EXPECT_EQ(all.size(), 7u);
  EXPECT_EQ(all.begin()->size(), 32u);
}

TEST(Fingerprint, IgnoresWhatDoesNot) {
  const Model model;
  Model written_by = model;
  written_by.config = R"({"transformers_version": "5.0", "_name_or_path": "x",   "hidden_size": 4})";
  EXPECT_EQ(fingerprint_of(written_by), fingerprint_of(model));
  Model sharded = model;
  sharded.shard_bytes = 1000;
  EXPECT_EQ(fingerprint_of(sharded), fingerprint_of(model));
}

TEST(Fingerprint, DoesNotDependOnThreads) {
  work_with_threads(1);
  const std::string one = fingerprint_of({});
  work_with_threads(3);
  EXPECT_EQ(fingerprint_of({}), one);
  work_with_threads(0);
}

}  // namespace
}  // namespace knapsaq
