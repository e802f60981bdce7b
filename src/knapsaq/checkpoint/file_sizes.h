#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/checkpoint/shards.h"

namespace knapsaq {

/// A part of a checkpoint to write: a tensor, or a module in one of several forms.
struct FilePart {
  std::vector<std::vector<TensorSpec>>
      forms;                          ///< [form]: its tensors, in the order of the file; at least one
  std::optional<std::size_t> module;  ///< its index among the chosen forms; nullopt: forms.front()
};

/// The bytes of a model's files as a function of the forms of its modules, in the format that is written.
/// They are a sum over the modules, or nearly one.
class FileSizes {
 public:
  virtual ~FileSizes() = default;

  virtual std::size_t modules() const = 0;
  virtual std::size_t forms(std::size_t module) const = 0;

  /// The bytes of all files, with one form for every module.
  virtual std::uint64_t total(std::span<const std::size_t> forms) const = 0;

  /// Sizes that add up, and how far their sum can be from the true size.
  struct Sum {
    std::vector<std::vector<std::uint64_t>> bytes;  ///< [module][form]
    std::int64_t least = 0;  ///< sum + least <= budget for every choice of at most the budget
    std::int64_t most = 0;   ///< every choice with sum + most <= budget takes at most the budget
  };
  /// The nearest such sum for a budget of bytes, which is at least 0.
  virtual Sum sum_within(std::uint64_t budget) const = 0;

  /// Whether two forms of a module have the same effect on every total.
  virtual bool alike(std::size_t module, std::size_t a, std::size_t b) const = 0;
};

/// Files whose size is a sum: a constant, and a number of bytes for each module.
class SummedSizes final : public FileSizes {
 public:
  SummedSizes(std::uint64_t constant, std::vector<std::vector<std::uint64_t>> bytes)
      : constant_(constant), bytes_(std::move(bytes)) {}
  std::size_t modules() const override { return bytes_.size(); }
  std::size_t forms(std::size_t module) const override { return bytes_[module].size(); }
  std::uint64_t total(std::span<const std::size_t> forms) const override;
  Sum sum_within(std::uint64_t budget) const override;
  bool alike(std::size_t module, std::size_t a, std::size_t b) const override {
    return bytes_[module][a] == bytes_[module][b];
  }

 private:
  std::uint64_t constant_;
  std::vector<std::vector<std::uint64_t>> bytes_;  ///< [module][form]
};

/// The files of a checkpoint in safetensors. Three parts depend on all modules together: the number of digits
/// of offsets, the padding of headers, and where shards begin.
class CheckpointSizes final : public FileSizes {
 public:
  /// `parts` in the order of the files; module indices start at 0, each appears once.
  explicit CheckpointSizes(std::span<const FilePart> parts, std::uint64_t shard_bytes = kShardBytes);

  std::size_t modules() const override { return part_of_.size(); }
  std::size_t forms(std::size_t module) const override { return parts_[part_of_[module]].size(); }
  /// checkpoint_bytes() of all tensors.
  std::uint64_t total(std::span<const std::size_t> forms) const override;
  /// `most` - `least` is a few dozen bytes for one file, and a few hundred for each shard.
  Sum sum_within(std::uint64_t budget) const override;
  /// Tensors of equal sizes and equally long descriptions.
  bool alike(std::size_t module, std::size_t a, std::size_t b) const override;

 private:
  struct Tensor {
    std::uint64_t bytes = 0;
    std::uint32_t header = 0;  ///< header_entry_bytes()
    std::uint32_t index = 0;   ///< index_entry_bytes()
    bool operator==(const Tensor&) const = default;
  };
  using Form = std::vector<Tensor>;

  Sum sum_in_one_file(std::uint64_t limit) const;
  Sum sum_in_shards(std::uint64_t limit, bool with_index) const;
  bool one_file_fits_sum_in_shards(std::uint64_t budget) const;
  std::uint64_t least_data() const;
  std::uint64_t largest_tensor() const;
  std::uint64_t most_tensors_below(std::uint64_t bytes) const;
  std::uint64_t least_in_shards() const;

  std::uint64_t shard_bytes_;
  std::vector<std::vector<Form>> parts_;               ///< [part][form]
  std::vector<std::optional<std::size_t>> module_of_;  ///< [part]
  std::vector<std::size_t> part_of_;                   ///< [module]
};

}  // namespace knapsaq
