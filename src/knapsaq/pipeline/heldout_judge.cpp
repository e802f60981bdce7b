#include "knapsaq/pipeline/heldout_judge.h"

#include <memory>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/eval/compare_windows.h"
#include "knapsaq/search/summarize.h"

namespace knapsaq {

HeldOutJudge::HeldOutJudge(Session& session, const Run& run)
    : session_(session), run_(run), loaded_(session.take_decoder(run.settings().precision)) {
  const TokenSet& tokens = run.settings().heldout;
  reference_ =
      reference_windows(*loaded_.decoder, tokens.tokens, tokens.windows(), tokens.length, session.listener());
  loaded_.decoder.reset();
}

Measurement HeldOutJudge::measure(std::span<const MatrixScheme> allocation, const MatrixSource& source) {
  static const Folding kUnfolded;
  const Folding& folding = source.folding() == nullptr ? kUnfolded : *source.folding();
  loaded_.decoder.reset();  // not two models at once
  loaded_.decoder = std::make_unique<Decoder>(
      Decoder::load(run_.checkpoint(), run_.config(), *loaded_.backend, folding, session_.listener()));
  for (const MatrixScheme& one : allocation) {
    check_cancelled();
    loaded_.decoder->replace(one.matrix.name, source.matrix(one.matrix, one.scheme).stored);
  }
  return measure_loaded();
}

Measurement HeldOutJudge::measure(const Checkpoint& model) {
  loaded_.decoder.reset();
  loaded_.decoder =
      std::make_unique<Decoder>(Decoder::load(model, run_.config(), *loaded_.backend, session_.listener()));
  return measure_loaded();
}

Measurement HeldOutJudge::measure_loaded() {
  const Divergence divergence = run_.settings().divergence;
  const std::vector<RowComparison> tokens = compare_rows(*loaded_.decoder, reference_, reference_.windows,
                                                         divergence == Divergence::jsd, session_.listener());
  loaded_.decoder.reset();
  return summarize(tokens, reference_.windows, divergence);
}

}  // namespace knapsaq
