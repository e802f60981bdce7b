#include "mutators/mutate.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most,
                                               unsigned seed) {
  fuzz::Random random(seed);
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  // What has no structure is tried as well.
  if (size == 0 || fuzz::once_in(random, 8)) return LLVMFuzzerMutate(data, size, most);
  return fuzz::put(mutated(input, most, random), data, most);
}

namespace fuzz {
namespace {

using nlohmann::json;

/// Values that earlier inputs had, so that a change need not invent the fields' names.
class Pool {
 public:
  void add(const json& value, Random& random) {
    if (entries_.size() < kMost)
      entries_.push_back(value);
    else
      any_of(random, entries_) = value;
  }
  void add(const std::string& key, Random& random) {
    if (keys_.size() < kMost)
      keys_.push_back(key);
    else
      any_of(random, keys_) = key;
  }
  json value(Random& random) const { return entries_.empty() ? json() : any_of(random, entries_); }
  std::string key(Random& random) const { return keys_.empty() ? std::string() : any_of(random, keys_); }

 private:
  static constexpr std::size_t kMost = 400;
  std::vector<json> entries_;
  std::vector<std::string> keys_;
};

/// Serialising recurses, so what is nested deeper is left to libFuzzer's own mutations.
bool is_shallow(std::string_view text) {
  int depth = 0;
  for (const char c : text) {
    if (c == '[' || c == '{') ++depth;
    if (c == ']' || c == '}') --depth;
    if (depth > 100) return false;
  }
  return true;
}

/// Every value in the tree of `root`.
void collect(json& root, std::vector<json*>& all) {
  all.push_back(&root);
  if (all.size() > 2000) return;
  if (root.is_structured())
    for (json& child : root) collect(child, all);
}

json any_value(const Pool& pool, Random& random) {
  switch (below(random, 10)) {
    case 0:
      return nullptr;
    case 1:
      return once_in(random, 2);
    case 2:
    case 3:
      return any_number(random);
    case 4: {
      constexpr std::array kReals = {0.0,  -0.0,   0.5,     1e-6,    1e-45,  1e38,
                                     3e38, 5e-324, 1.7e308, 10000.0, -1e300, 16777217.0};
      return any_of(random, kReals);
    }
    case 5:
      return json::array();
    case 6:
      return json::object();
    case 7: {
      constexpr std::array kTexts = {"",         "a",         " ",    "\n", "\xE2\x96\x81",
                                     "\xC4\xA0", "</script>", "../x", "<s>"};
      return any_of(random, kTexts);
    }
    default:
      return pool.value(random);
  }
}

void change_text(json& value, const Pool& pool, Random& random) {
  auto text = value.get<std::string>();
  switch (below(random, 4)) {
    case 0:
      text = mutate_bytes(text, text.size() + 8);
      break;
    case 1:
      text = pool.key(random);
      break;
    case 2:
      text = text.substr(0, below(random, text.size() + 1));
      break;
    default:
      text += text;
  }
  value = text;
}

void change_one(json& root, const Pool& pool, Random& random) {
  std::vector<json*> all;
  collect(root, all);
  json& value = *any_of(random, all);
  if (once_in(random, 6)) {
    value = any_value(pool, random);
    return;
  }
  if (value.is_object()) {
    std::vector<std::string> keys;
    for (const auto& [key, child] : value.items()) keys.push_back(key);
    const std::string key = keys.empty() ? pool.key(random) : any_of(random, keys);
    switch (below(random, 4)) {
      case 0:
        value.erase(key);
        break;
      case 1:
        value[pool.key(random)] = any_value(pool, random);
        break;
      case 2:
        value[pool.key(random)] = json(value[key]);
        break;
      default:
        value[key] = any_value(pool, random);
    }
  } else if (value.is_array()) {
    const std::size_t at = below(random, value.size());
    switch (below(random, 4)) {
      case 0:
        if (!value.empty()) value.erase(at);
        break;
      case 1:
        value.push_back(any_value(pool, random));
        break;
      case 2:
        if (!value.empty()) value.push_back(json(value[at]));
        break;
      default:
        if (!value.empty()) std::swap(value[at], value[below(random, value.size())]);
    }
  } else if (value.is_string()) {
    change_text(value, pool, random);
  } else if (value.is_number_integer() && !once_in(random, 3)) {
    const auto number = value.get<std::int64_t>();
    value = number == std::numeric_limits<std::int64_t>::max() || once_in(random, 2) ? any_number(random)
                                                                                     : number + 1;
  } else {
    value = any_value(pool, random);
  }
}

/// `text` changed as JSON; empty if it is none.
std::string changed_json(std::string_view text, Random& random) {
  static Pool pool;
  if (!is_shallow(text)) return {};
  json root = json::parse(text, nullptr, false);
  if (root.is_discarded()) return {};
  std::vector<json*> all;
  collect(root, all);
  for (int i = 0; i < 4; ++i) {
    const json& one = *any_of(random, all);
    if (one.is_object())
      for (const auto& [key, child] : one.items()) pool.add(key, random);
    if (all.size() > 1 && one != root &&
        one.dump(-1, ' ', false, json::error_handler_t::replace).size() < 1000)
      pool.add(one, random);
  }
  do change_one(root, pool, random);
  while (once_in(random, 2));
  return root.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

std::string mutate_bytes(std::string_view text, std::size_t most) {
  std::vector<std::uint8_t> bytes(std::max(most, text.size()) + 1);
  std::ranges::copy(text, bytes.begin());
  const std::size_t size =
      LLVMFuzzerMutate(bytes.data(), std::min(text.size(), most), std::max<std::size_t>(most, 1));
  return {reinterpret_cast<const char*>(bytes.data()), size};
}

std::int64_t any_number(Random& random) {
  switch (below(random, 4)) {
    case 0:
      return static_cast<std::int64_t>(below(random, 10)) - 1;
    case 1:
      return static_cast<std::int64_t>(below(random, 300));
    case 2: {
      const std::int64_t power = std::int64_t{1} << below(random, 63);
      return power + static_cast<std::int64_t>(below(random, 3)) - 1;
    }
    default:
      return once_in(random, 2) ? std::numeric_limits<std::int64_t>::max()
                                : std::numeric_limits<std::int64_t>::min();
  }
}

std::string mutate_json(std::string_view text, std::size_t most, Random& random) {
  const std::size_t open = std::min(text.find_first_of("{["), text.size());
  const std::string_view front = text.substr(0, open);
  std::string result = changed_json(text.substr(open), random);
  if (!result.empty()) return std::string(front) + result;
  // One line of JSON lines; sometimes one more, or one less.
  std::vector<std::string_view> lines;
  for (std::string_view rest = text.substr(open); !rest.empty();) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    lines.push_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  if (lines.empty()) return mutate_bytes(text, most);
  const std::size_t at = below(random, lines.size());
  const std::string changed = changed_json(lines[at], random);
  if (changed.empty()) return mutate_bytes(text, most);
  result = front;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i == at && once_in(random, 16)) continue;
    result += i == at ? changed : std::string(lines[i]);
    result += '\n';
    if (i == at && once_in(random, 16)) result += std::string(lines[i]) + '\n';
  }
  return result;
}

std::string mutate_safetensors(std::string_view input, std::size_t most, Random& random) {
  std::uint64_t length = 0;
  if (input.size() < sizeof length) return mutate_bytes(input, most);
  std::memcpy(&length, input.data(), sizeof length);
  if (length > input.size() - sizeof length) return mutate_bytes(input, most);
  std::string header(input.substr(sizeof length, length));
  std::string data(input.substr(sizeof length + length));
  if (once_in(random, 4))
    data = once_in(random, 2) ? mutate_bytes(data, data.size() + 16) : std::string(below(random, 300), 'x');
  else
    header = mutate_json(header, header.size() + 200, random);
  length = header.size() + (once_in(random, 16) ? below(random, 3) - 1 : 0);
  std::string result(sizeof length, '\0');
  std::memcpy(result.data(), &length, sizeof length);
  return result + header + data;
}

std::size_t put(std::string_view result, std::uint8_t* data, std::size_t most) {
  const std::size_t size = std::min(result.size(), most);
  if (size > 0) std::memcpy(data, result.data(), size);
  return size;
}

}  // namespace fuzz
