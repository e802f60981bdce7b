#include "knapsaq/checkpoint/torch_file.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/base/looks_like.h"
#include "knapsaq/checkpoint/torch_pickle.h"
#include "knapsaq/checkpoint/zip_directory.h"

namespace knapsaq {
namespace {

using Bytes = std::span<const std::byte>;

bool begins_with(Bytes bytes, std::string_view text) {
  return bytes.size() >= text.size() && std::memcmp(bytes.data(), text.data(), text.size()) == 0;
}

std::string_view as_text(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

[[noreturn]] void fail(const StoredTensor& tensor, std::string_view reason) {
  throw InputError(fmt::format("tensor {} {}", in_quotes(tensor.name), reason));
}

/// The number of elements, after a check that all of them lie inside the storage.
std::int64_t checked_elements(const StoredTensor& tensor) {
  std::int64_t elements = 1;
  std::int64_t last = tensor.offset;
  bool fits = true;
  if (std::ranges::find(tensor.shape, 0) != tensor.shape.end()) return 0;
  for (std::size_t i = 0; i < tensor.shape.size() && fits; ++i) {
    std::int64_t reach = 0;
    fits = !__builtin_mul_overflow(elements, tensor.shape[i], &elements) &&
           !__builtin_mul_overflow(tensor.shape[i] - 1, tensor.strides[i], &reach) &&
           !__builtin_add_overflow(last, reach, &last);
  }
  if (!fits || last >= tensor.storage_elements)
    fail(tensor, fmt::format("reaches beyond its storage of {} elements", tensor.storage_elements));
  return elements;
}

bool is_contiguous(const StoredTensor& tensor) {
  std::int64_t stride = 1;
  for (std::size_t i = tensor.shape.size(); i-- > 0;) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != stride) return false;
    stride *= tensor.shape[i];
  }
  return true;
}

/// For a tensor that checked_elements() has passed.
std::vector<std::byte> copy_row_major(const StoredTensor& tensor, Bytes storage, std::int64_t elements) {
  const std::size_t size = size_of(tensor.type);
  std::vector<std::byte> out(static_cast<std::size_t>(elements) * size);
  std::vector<std::int64_t> index(tensor.shape.size(), 0);
  std::int64_t from = tensor.offset;
  for (std::int64_t to = 0; to < elements; ++to) {
    std::memcpy(&out[static_cast<std::size_t>(to) * size], &storage[static_cast<std::size_t>(from) * size],
                size);
    for (std::size_t i = index.size(); i-- > 0;) {
      // The stride of a dimension of one element is never used and may be any number.
      if (tensor.shape[i] == 1) continue;
      from += tensor.strides[i];
      if (++index[i] < tensor.shape[i]) break;
      from -= tensor.strides[i] * tensor.shape[i];
      index[i] = 0;
    }
  }
  return out;
}

}  // namespace

TorchTensors parse_torch_file(Bytes bytes) {
  // torch.save before version 1.6 wrote a sequence of pickles, the first of which is this number.
  if (begins_with(bytes, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"))
    throw InputError(
        "is in the format that PyTorch wrote before version 1.6; convert it with "
        "torch.save(torch.load(file), "
        "file), or save the model as safetensors");
  if (!begins_with(bytes, "PK"))
    throw InputError("is not a file of torch.save: it does not begin as a zip archive");
  const auto entries = read_zip_directory(bytes);

  // All entries lie in one folder, which has the name of the file when it was saved.
  constexpr std::string_view kPickle = "/data.pkl";
  const auto pickle = std::ranges::find_if(entries, [&](const auto& entry) {
    return entry.first.ends_with(kPickle) && entry.first.find('/') == entry.first.size() - kPickle.size();
  });
  if (pickle == entries.end()) throw InputError("is not a file of torch.save: it has no data.pkl");
  const std::string folder = pickle->first.substr(0, pickle->first.size() - kPickle.size() + 1);
  if (const auto order = entries.find(folder + "byteorder");
      order != entries.end() && as_text(order->second) != "little")
    throw InputError("was saved on a big-endian machine, which is not supported");

  TorchTensors out;
  std::size_t copied = 0;
  for (StoredTensor& tensor : read_torch_pickle(pickle->second)) {
    const auto found = entries.find(folder + "data/" + tensor.storage);
    if (found == entries.end())
      fail(tensor, fmt::format("has its data in {}, which is missing", in_quotes(tensor.storage)));
    const Bytes storage = found->second;
    const std::size_t size = size_of(tensor.type);
    if (storage.size() % size != 0 ||
        storage.size() / size != static_cast<std::uint64_t>(tensor.storage_elements))
      fail(tensor, fmt::format("has a storage of {} bytes where {} elements of type {} are declared",
                               storage.size(), tensor.storage_elements, name_of(tensor.type)));
    const std::int64_t elements = checked_elements(tensor);
    Bytes data;
    if (elements > 0 && is_contiguous(tensor)) {
      data = storage.subspan(static_cast<std::size_t>(tensor.offset) * size,
                             static_cast<std::size_t>(elements) * size);
    } else if (elements > 0) {
      // A stride of zero repeats elements, so a small file can describe a huge tensor, and many tensors can
      // share a storage. Copies are bounded by the size of the file.
      if (elements > tensor.storage_elements)
        fail(tensor, "repeats its elements (an expanded tensor); make it contiguous before saving");
      copied += static_cast<std::size_t>(elements) * size;
      if (copied > bytes.size())
        fail(tensor,
             "is one of too many that share a storage without being contiguous; make them contiguous "
             "before saving");
      data = out.copies.emplace_back(copy_row_major(tensor, storage, elements));
    }
    out.tensors.emplace(std::move(tensor.name), TensorView{tensor.type, std::move(tensor.shape), data});
  }
  return out;
}

TorchFile::TorchFile(const std::filesystem::path& path) : file_(path) {
  try {
    content_ = parse_torch_file(file_.bytes());
  } catch (const InputError& error) {
    // A file of PyTorch before version 1.6 is a pickle; the parser reports more about it.
    const bool is_pickle = begins_with(file_.bytes(), "\x80");
    throw InputError(
        fmt::format("{}: {}", path.string(),
                    is_pickle ? error.what() : reason_or_look(file_.bytes(), error.what(), FileKind::zip)));
  }
}

}  // namespace knapsaq
