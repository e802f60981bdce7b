// Scores a text with a model, and lets the model go on with its beginning:
//   score_text MODEL TEXT

#include <cstdio>
#include <exception>
#include <string>

#include "knapsaq/pipeline/evaluate.h"
#include "knapsaq/pipeline/text_model.h"

namespace {

int score_text(const std::string& model, const std::string& text) {
  knapsaq::Environment environment;
  knapsaq::Session session(environment, model);
  knapsaq::EvaluateOptions options;
  options.text = text;
  options.windows.window = 128;
  options.windows.limit = 8;
  const knapsaq::EvaluateResult result = knapsaq::evaluate(session, options);
  std::printf("perplexity %.2f on %lld tokens\n", result.text->perplexity,
              static_cast<long long>(result.text->tokens));

  knapsaq::TextModel continued(environment, model);
  const knapsaq::GeneratedText generated =
      continued.generate("The river", {.max_tokens = 16, .temperature = 0.8, .seed = 1},
                         [](const std::string& piece) { std::fputs(piece.c_str(), stdout); });
  std::printf("\n%zu tokens, ended by %s\n", generated.tokens.size(), generated.reason.c_str());
  return result.text->perplexity > 1 && generated.tokens.size() == 16 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: score_text MODEL TEXT\n");
    return 2;
  }
  try {
    return score_text(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "score_text: %s\n", error.what());
    return 1;
  }
}
