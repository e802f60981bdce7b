#include "knapsaq/pipeline/self_samples.h"

#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {

Samples self_samples(Session& session, Precision precision, const SampleOptions& options, SelfTextUse use) {
  if (session.loaded_decoder(precision) == nullptr) {
    const auto backend = make_backend({.precision = precision});
    check_self_text_memory(session.config(), *backend, options.window, backend->available_memory());
  }
  const DocumentTokens documents =
      document_tokens(session.tokenizer(), session.checkpoint().config(), session.config());
  return self_text(session.decoder(precision), documents, options, use, session.listener());
}

}  // namespace knapsaq
