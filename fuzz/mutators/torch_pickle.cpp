// A pickle as a list of instructions; a zip archive of torch stays bytes.

#include <array>
#include <cstring>
#include <vector>

#include "mutators/mutate.h"

namespace {

using fuzz::Random;

/// Bytes of an instruction's argument: so many, or a text behind a length of one or four bytes, or two lines.
constexpr int kShortText = -1;
constexpr int kLongText = -4;
constexpr int kTwoLines = -2;
struct Instruction {
  unsigned char code;
  int argument;
};
constexpr std::array<Instruction, 27> kInstructions{
    {{'(', 0},  {'.', 0},         {'J', 4},  {'K', 1},  {'M', 2},         {'N', 0},          {'Q', 0},
     {'R', 0},  {'X', kLongText}, {')', 0},  {'b', 0},  {'c', kTwoLines}, {'h', 1},          {'j', 4},
     {'q', 1},  {'r', 4},         {'s', 0},  {'t', 0},  {'u', 0},         {'}', 0},          {0x80, 1},
     {0x85, 0}, {0x86, 0},        {0x87, 0}, {0x88, 0}, {0x89, 0},        {0x8a, kShortText}}};

const Instruction* find(unsigned char code) {
  for (const Instruction& one : kInstructions)
    if (one.code == code) return &one;
  return nullptr;
}

std::vector<std::string> instructions_of(std::string_view pickle) {
  std::vector<std::string> result;
  while (!pickle.empty()) {
    const Instruction* known = find(static_cast<unsigned char>(pickle[0]));
    std::size_t size = 1;
    if (known != nullptr && known->argument >= 0) size += static_cast<std::size_t>(known->argument);
    if (known != nullptr && known->argument == kShortText && pickle.size() > 1)
      size += 1 + static_cast<unsigned char>(pickle[1]);
    if (known != nullptr && known->argument == kLongText && pickle.size() > 4) {
      std::uint32_t length = 0;
      std::memcpy(&length, pickle.data() + 1, sizeof length);
      size += 4 + std::size_t{length};
    }
    if (known != nullptr && known->argument == kTwoLines) {
      const std::size_t first = pickle.find('\n');
      const std::size_t second = first == pickle.npos ? first : pickle.find('\n', first + 1);
      size = second == pickle.npos ? pickle.size() : second + 1;
    }
    size = std::min(size, pickle.size());
    result.emplace_back(pickle.substr(0, size));
    pickle.remove_prefix(size);
  }
  return result;
}

std::string number_bytes(std::uint64_t number, int bytes) {
  std::string result;
  for (int i = 0; i < bytes; ++i) result.push_back(static_cast<char>(number >> (8 * (i % 8))));
  return result;
}

std::string any_instruction(Random& random) {
  constexpr std::array<std::string_view, 8> kGlobals = {"collections\nOrderedDict\n",
                                                        "torch._utils\n_rebuild_tensor_v2\n",
                                                        "torch._utils\n_rebuild_parameter\n",
                                                        "torch\nFloatStorage\n",
                                                        "torch\nBFloat16Storage\n",
                                                        "torch\nLongStorage\n",
                                                        "torch\nBoolStorage\n",
                                                        "os\nsystem\n"};
  constexpr std::array<std::string_view, 5> kTexts = {"storage", "0", "cpu", "weight", ""};
  const Instruction& one = fuzz::any_of(random, kInstructions);
  std::string result(1, static_cast<char>(one.code));
  if (one.argument > 0)
    return result + number_bytes(static_cast<std::uint64_t>(fuzz::any_number(random)), one.argument);
  if (one.argument == kShortText) {
    const auto size = static_cast<int>(fuzz::below(random, 10));
    return result + number_bytes(static_cast<std::uint64_t>(size), 1) +
           number_bytes(static_cast<std::uint64_t>(fuzz::any_number(random)), size);
  }
  if (one.argument == kLongText) {
    const std::string_view text = fuzz::any_of(random, kTexts);
    return result + number_bytes(text.size(), 4) + std::string(text);
  }
  if (one.argument == kTwoLines) result += fuzz::any_of(random, kGlobals);
  return result;
}

}  // namespace

std::string mutated(std::string_view input, std::size_t most, Random& random) {
  if (input.starts_with("PK")) return fuzz::mutate_bytes(input, most);
  std::vector<std::string> all = instructions_of(input);
  do {
    const std::size_t at = fuzz::below(random, all.size());
    const std::size_t other = fuzz::below(random, all.size());
    const auto place = all.begin() + static_cast<std::ptrdiff_t>(at);
    switch (fuzz::below(random, 6)) {
      case 0:
        if (!all.empty()) all.erase(place);
        break;
      case 1:
        all.insert(place, any_instruction(random));
        break;
      case 2:
        if (!all.empty()) *place = any_instruction(random);
        break;
      case 3:
        if (!all.empty()) std::swap(all[at], all[other]);
        break;
      case 4:
        if (!all.empty()) all.insert(place, std::string(all[other]));
        break;
      default:
        // The argument alone.
        if (!all.empty() && all[at].size() > 1)
          all[at] = all[at][0] + fuzz::mutate_bytes(all[at].substr(1), 40);
    }
  } while (fuzz::once_in(random, 2));
  std::string result;
  for (const std::string& one : all) result += one;
  return result;
}
