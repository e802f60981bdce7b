// Texts out of pieces that tokenizers treat in their own ways.

#include <array>

#include "mutators/mutate.h"

std::string mutated(std::string_view input, std::size_t most, fuzz::Random& random) {
  constexpr std::array<std::string_view, 34> kPieces = {" ",
                                                        "  ",
                                                        "\n",
                                                        "\r\n",
                                                        "\t",
                                                        "\xC2\xA0",
                                                        "\xE3\x80\x80",
                                                        "'s",
                                                        "'LL",
                                                        "12345",
                                                        "1,000.5",
                                                        "the ",
                                                        "The",
                                                        "ing",
                                                        "<s>",
                                                        "</s>",
                                                        "<unk>",
                                                        "[M]",
                                                        "<0x41>",
                                                        "<|endoftext|>",
                                                        "<|im_start|>",
                                                        "\xE2\x96\x81",
                                                        "\xC4\xA0",
                                                        "e\xCC\x81",
                                                        "\xC3\xA9",
                                                        "\xE4\xB8\xAD",
                                                        "\xF0\x9F\x91\x8D",
                                                        "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB",
                                                        "\xFF",
                                                        "\xE2\x96",
                                                        "\xED\xA0\x80",
                                                        "\xEF\xBB\xBF",
                                                        "\xE1\x84\x80\xE1\x85\xA1",
                                                        "$+=^"};
  std::string text(input);
  do {
    const std::size_t at = fuzz::below(random, text.size() + 1);
    switch (fuzz::below(random, 5)) {
      case 0:
      case 1:
        text.insert(at, fuzz::any_of(random, kPieces));
        break;
      case 2:
        text.erase(at, fuzz::below(random, 12));
        break;
      case 3:
        text.insert(at, text.substr(fuzz::below(random, text.size() + 1), fuzz::below(random, 20)));
        break;
      default:
        text = fuzz::mutate_bytes(text, most);
    }
  } while (text.size() < most && fuzz::once_in(random, 2));
  return text;
}
