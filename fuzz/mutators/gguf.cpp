// A GGUF file as its entries, its tensors and their data, put together again with the counts that fit,
// mostly.

#include <array>
#include <cstring>
#include <vector>

#include "mutators/mutate.h"

namespace {

using fuzz::Random;

/// Takes numbers and texts from the front; once something does not fit, all is over.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  std::string_view take(std::size_t size) {
    if (size > bytes_.size()) {
      failed_ = true;
      size = 0;
    }
    const std::string_view result = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return result;
  }
  template <class T>
  T number() {
    T value{};
    const std::string_view bytes = take(sizeof value);
    if (bytes.size() == sizeof value) std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
  std::string_view text() { return take(number<std::uint64_t>()); }
  std::string_view rest() const { return bytes_; }
  bool failed() const { return failed_; }

 private:
  std::string_view bytes_;
  bool failed_ = false;
};

template <class T>
std::string bytes_of(T value) {
  std::string result(sizeof value, '\0');
  std::memcpy(result.data(), &value, sizeof value);
  return result;
}

std::string text_bytes(std::string_view text) {
  return bytes_of(std::uint64_t{text.size()}) + std::string(text);
}

constexpr std::uint32_t kText = 8;
constexpr std::uint32_t kList = 9;
constexpr std::array<std::size_t, 13> kSizes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

struct Entry {
  std::string key;
  std::uint32_t type = 0;
  std::string value;                ///< without the type; of lists unused
  std::uint32_t element = 0;        ///< of lists
  std::vector<std::string> values;  ///< of lists
};

struct Tensor {
  std::string name;
  std::vector<std::uint64_t> shape;
  std::uint32_t type = 0;
  std::uint64_t offset = 0;
};

struct File {
  std::vector<Entry> entries;
  std::vector<Tensor> tensors;
  std::string data;
};

std::string read_value(Reader& reader, std::uint32_t type) {
  if (type == kText) return text_bytes(reader.text());
  return std::string(reader.take(type < kSizes.size() ? kSizes[type] : 0));
}

bool read(std::string_view bytes, File& file) {
  Reader reader(bytes);
  if (reader.take(4) != "GGUF") return false;
  reader.take(4);
  const auto tensors = reader.number<std::uint64_t>();
  const auto entries = reader.number<std::uint64_t>();
  for (std::uint64_t i = 0; i < entries && !reader.failed(); ++i) {
    Entry entry;
    entry.key = reader.text();
    entry.type = reader.number<std::uint32_t>();
    if (entry.type == kList) {
      entry.element = reader.number<std::uint32_t>();
      const auto count = reader.number<std::uint64_t>();
      if (entry.element == kList || entry.element >= kSizes.size()) return false;
      for (std::uint64_t k = 0; k < count && !reader.failed() && !reader.rest().empty(); ++k)
        entry.values.push_back(read_value(reader, entry.element));
    } else {
      entry.value = read_value(reader, entry.type);
    }
    file.entries.push_back(std::move(entry));
  }
  for (std::uint64_t i = 0; i < tensors && !reader.failed(); ++i) {
    Tensor tensor;
    tensor.name = reader.text();
    const auto dimensions = reader.number<std::uint32_t>();
    for (std::uint32_t d = 0; d < dimensions && !reader.failed(); ++d)
      tensor.shape.push_back(reader.number<std::uint64_t>());
    tensor.type = reader.number<std::uint32_t>();
    tensor.offset = reader.number<std::uint64_t>();
    file.tensors.push_back(std::move(tensor));
  }
  if (reader.failed()) return false;
  const std::size_t read = bytes.size() - reader.rest().size();
  reader.take(std::min(reader.rest().size(), (32 - read % 32) % 32));
  file.data = reader.rest();
  return true;
}

std::string write(const File& file, Random& random) {
  const auto count = [&](std::size_t real) {
    return bytes_of(fuzz::once_in(random, 60) ? static_cast<std::uint64_t>(fuzz::any_number(random))
                                              : std::uint64_t{real});
  };
  std::string result =
      "GGUF" + bytes_of(std::uint32_t{3}) + count(file.tensors.size()) + count(file.entries.size());
  for (const Entry& entry : file.entries) {
    result += text_bytes(entry.key) + bytes_of(entry.type);
    if (entry.type == kList) {
      result += bytes_of(entry.element) + count(entry.values.size());
      for (const std::string& value : entry.values) result += value;
    } else {
      result += entry.value;
    }
  }
  for (const Tensor& tensor : file.tensors) {
    result += text_bytes(tensor.name) + bytes_of(static_cast<std::uint32_t>(tensor.shape.size()));
    for (const std::uint64_t size : tensor.shape) result += bytes_of(size);
    result += bytes_of(tensor.type) + bytes_of(tensor.offset);
  }
  result.resize((result.size() + 31) / 32 * 32);
  return result + file.data;
}

std::string any_value(Random& random, std::uint32_t type) {
  if (type == kText) {
    constexpr std::array<std::string_view, 14> kTexts = {
        "llama", "qwen2", "qwen3",        "gpt2", "llama-bpe", "default", "linear",
        "",      "a b",   "\xE2\x96\x81", "<s>",  "<0x41>",    "yarn",    "\xC4\xA0\xC4\xA0"};
    return text_bytes(fuzz::any_of(random, kTexts));
  }
  const std::size_t size = type < kSizes.size() ? kSizes[type] : 4;
  if (type == 6) return bytes_of(static_cast<float>(fuzz::any_number(random)) / 4);
  return bytes_of(fuzz::any_number(random)).substr(0, size);
}

void change_entry(File& file, Random& random) {
  if (file.entries.empty()) return;
  Entry& entry = fuzz::any_of(random, file.entries);
  switch (fuzz::below(random, 6)) {
    case 0:
      entry = fuzz::any_of(random, file.entries);
      return;
    case 1:
      file.entries.push_back(Entry(entry));
      return;
    case 2:
      std::swap(entry, file.entries.back());
      file.entries.pop_back();
      return;
    case 3: {
      constexpr std::array<std::string_view, 16> kKeys = {"general.alignment",
                                                          "llama.rope.scaling.type",
                                                          "llama.rope.scaling.factor",
                                                          "llama.rope.dimension_count",
                                                          "llama.attention.sliding_window",
                                                          "llama.attention.key_length",
                                                          "llama.expert_count",
                                                          "tokenizer.ggml.pre",
                                                          "tokenizer.ggml.merges",
                                                          "tokenizer.ggml.token_type",
                                                          "tokenizer.ggml.add_bos_token",
                                                          "tokenizer.ggml.add_space_prefix",
                                                          "tokenizer.ggml.unknown_token_id",
                                                          "knapsaq.tokenizer.merges",
                                                          "knapsaq.tokenizer.first_blank_only",
                                                          "knapsaq.tokenizer.token_flags"};
      entry.key = fuzz::any_of(random, kKeys);
      return;
    }
    case 4:
      entry.type = static_cast<std::uint32_t>(fuzz::below(random, 13));
      if (entry.type == kList) {
        entry.element = static_cast<std::uint32_t>(fuzz::below(random, 13));
        entry.values.assign(fuzz::below(random, 6), any_value(random, entry.element));
      } else {
        entry.value = any_value(random, entry.type);
      }
      return;
    default:
      if (entry.type != kList) {
        entry.value = any_value(random, entry.type);
      } else if (entry.values.empty() || fuzz::once_in(random, 4)) {
        entry.values.push_back(any_value(random, entry.element));
      } else {
        std::string& value = fuzz::any_of(random, entry.values);
        if (fuzz::once_in(random, 3))
          entry.values.pop_back();
        else
          value = fuzz::once_in(random, 2) ? std::string(fuzz::any_of(random, entry.values))
                                           : any_value(random, entry.element);
      }
  }
}

void change_tensor(File& file, Random& random) {
  if (file.tensors.empty()) return;
  Tensor& tensor = fuzz::any_of(random, file.tensors);
  switch (fuzz::below(random, 6)) {
    case 0:
      tensor.type = static_cast<std::uint32_t>(fuzz::below(random, 42));
      return;
    case 1:
      tensor.offset = static_cast<std::uint64_t>(fuzz::any_number(random)) / 32 * 32;
      return;
    case 2:
      if (!tensor.shape.empty())
        fuzz::any_of(random, tensor.shape) = static_cast<std::uint64_t>(fuzz::any_number(random));
      return;
    case 3:
      if (!fuzz::once_in(random, 3))
        tensor.shape.push_back(1 + fuzz::below(random, 3));
      else if (!tensor.shape.empty())
        tensor.shape.pop_back();
      return;
    case 4:
      tensor.name = fuzz::any_of(random, file.tensors).name;
      return;
    default:
      std::swap(tensor, file.tensors.back());
      file.tensors.pop_back();
  }
}

}  // namespace

std::string mutated(std::string_view input, std::size_t most, Random& random) {
  File file;
  if (!read(input, file)) return fuzz::mutate_bytes(input, most);
  do {
    switch (fuzz::below(random, 8)) {
      case 0:
        file.data = fuzz::mutate_bytes(file.data, std::min(most, file.data.size() + 32));
        break;
      case 1:
      case 2:
        change_tensor(file, random);
        break;
      default:
        change_entry(file, random);
    }
  } while (fuzz::once_in(random, 2));
  return write(file, random);
}
