#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "knapsaq/compute/tensor.h"

namespace knapsaq {

/// A tensor as a state dict's pickle describes it: a strided window on a storage that is stored elsewhere.
struct StoredTensor {
  std::string name;
  DType type = DType::F32;
  std::string storage;  ///< key of the storage: the name of its file in the archive
  std::int64_t storage_elements = 0;
  std::int64_t offset = 0;            ///< elements, into the storage
  std::vector<std::int64_t> shape;    ///< no negative sizes
  std::vector<std::int64_t> strides;  ///< elements; as many as sizes, none negative
};

/// The tensors of a state dict pickled by torch.save (pickle protocol 2): a dictionary, plain or ordered,
/// from names to tensors or parameters.
///
/// Nothing is ever executed. A pickle is a program; the few instructions that such a dictionary consists of
/// are interpreted, the few callables that it names (collections.OrderedDict, torch._utils._rebuild_tensor_v2
/// and _rebuild_parameter, the storage classes) are recognised, and anything else is refused with InputError,
/// naming the instruction or the callable. Memory grows with the pickle's length only.
std::vector<StoredTensor> read_torch_pickle(std::span<const std::byte> pickle);

}  // namespace knapsaq
