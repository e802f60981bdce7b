#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/base/files.h"
#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/compute/tensor.h"

namespace knapsaq {

/// A tensor that no file holds as it is: it is made of others, at the earliest when somebody asks for it.
struct DerivedTensor {
  TensorSpec spec;
  /// Tensors of the same table. They are not among its names after this, because the derived one stands for
  /// them; several derived tensors may share a source.
  std::vector<std::string> sources;
  /// The bytes of [first, first + count) of the outermost dimension, which is inside the tensor. Several
  /// threads may call it at once.
  std::function<std::vector<std::byte>(std::int64_t first, std::int64_t count)> make;
};

/// The tensors of a model by name: those of files, and those derived from them. Safe for several threads
/// once it is complete.
class TensorTable {
 public:
  /// A tensor of a file, or a part of one; `file` has to live as long as the table. False if the name is
  /// taken.
  bool add(std::string name, const TensorView& view, const MappedFile& file);
  /// False if the name is taken by a tensor that is not one of the sources. Throws std::logic_error for an
  /// unknown source.
  bool derive(DerivedTensor tensor);

  /// Takes a tensor without a use out of the names.
  void hide(std::string_view name);

  std::vector<std::string> names() const;  ///< sorted, without sources
  bool contains(std::string_view name) const;
  /// Type and shape; makes nothing. This and what follows also know sources. Throws std::out_of_range for an
  /// unknown name, which callers look up first.
  TensorSpec spec(std::string_view name) const;
  bool is_derived(std::string_view name) const;
  /// Valid until release(name).
  TensorView tensor(std::string_view name) const;

  /// A part of a tensor: a view into a file, or into `made`.
  struct Slices {
    TensorView view;
    std::vector<std::byte> made;
  };
  /// [first, first + count) of the outermost dimension; a derived tensor is made only there. Throws
  /// std::out_of_range.
  Slices slices(std::string_view name, std::int64_t first, std::int64_t count) const;

  /// Releases pages of files, and what was made for tensor().
  void release(std::string_view name) const;
  /// Of all tensors of names(). One with several names in a file counts once.
  std::uint64_t bytes() const;

  /// Calls `visit` with the name and view of every tensor of a file, sources included, sorted by name,
  /// and releases it afterwards.
  void visit_stored(const std::function<void(const std::string&, const TensorView&)>& visit) const;

 private:
  struct Entry {
    TensorView view;                   ///< without bytes if it is derived
    const MappedFile* file = nullptr;  ///< null if it is derived
    std::vector<std::string> sources;  ///< of a derived one, by their keys
    decltype(DerivedTensor::make) make;
    bool is_source = false;
  };
  const Entry& find(std::string_view name) const;

  std::map<std::string, Entry, std::less<>> entries_;
  mutable std::mutex mutex_;  ///< of made_
  mutable std::map<std::string, std::vector<std::byte>, std::less<>> made_;
};

}  // namespace knapsaq
