#include "knapsaq/eval/candidate_scorer.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/model/architecture.h"

namespace knapsaq {
namespace {

constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

// More waiting candidates gain little: the reference's product is already shared by so many.
constexpr std::uint64_t kMostWaiting = 16;

// Rows that are compared between two checks for Ctrl-C.
constexpr std::int64_t kComparedRows = 8192;

/// Of the memory that this process may still use; if unknown, assume little: one GiB.
std::uint64_t quarter_of_memory(const Backend& backend) {
  return backend.available_memory().value_or(std::uint64_t{1} << 30) / 4;
}

}  // namespace

/// The state of one call of score().
struct CandidateScorer::Run {
  std::span<const Choices> candidates;
  std::int64_t first = 0;  ///< window
  std::int64_t last = 0;
  const Done* done = nullptr;
  std::size_t most_waiting = 1;

  /// Candidates whose head inputs wait to be compared.
  struct Waiting {
    const std::vector<std::size_t>* candidates;  ///< all alike
    Array head_inputs;
    std::shared_ptr<const Weight> head;
  };
  std::vector<Waiting> waiting;

  std::int64_t windows() const { return last - first; }
};

CandidateScorer::CandidateScorer(const ReferencedWindows& reference, Decoder& decoder,
                                 std::vector<Matrix> chosen, ChoiceSource source,
                                 const ScorerOptions& options)
    : reference_(reference),
      decoder_(decoder),
      chosen_(std::move(chosen)),
      source_(std::move(source)),
      options_(options),
      map_(decoder.config(), chosen_),
      cache_(options.weight_cache == 0 ? quarter_of_memory(decoder.backend()) : options.weight_cache),
      placed_(chosen_.size(), kNone) {
  if (reference.head == nullptr || reference.head_inputs.cols() != decoder.head()->in())
    throw std::invalid_argument("the reference is of another model");
}

CandidateScorer::~CandidateScorer() = default;

void CandidateScorer::score(std::span<const Choices> candidates, std::int64_t first, std::int64_t last,
                            const Done& done) {
  if (first < 0 || first >= last || last > reference_.windows)
    throw std::invalid_argument("score: no such windows");
  Run run{candidates, first, last, &done, 1, {}};
  const std::int64_t rows = run.windows() * reference_.length;
  const auto one = static_cast<std::uint64_t>(rows * reference_.head_inputs.cols()) *
                   decoder_.backend().size_of(Element::working);
  run.most_waiting = static_cast<std::size_t>(
      std::clamp<std::uint64_t>(options_.waiting / std::max<std::uint64_t>(one, 1), 1, kMostWaiting));
  // Arrays of other sizes will not be requested again soon.
  if (std::exchange(spare_windows_, run.windows()) != run.windows()) spare_.clear();
  const CandidateTree tree = candidate_tree(map_, candidates);
  if (tree.candidates.empty()) return;
  walk(run, tree, 0, nullptr, false);
  compare(run);
}

std::vector<RowComparison> CandidateScorer::reference(std::int64_t first, std::int64_t last) {
  if (first < 0 || first >= last || last > reference_.windows)
    throw std::invalid_argument("reference: no such windows");
  std::vector<RowComparison> result;
  const Done done = [&](std::size_t, std::span<const RowComparison> tokens) {
    result.assign(tokens.begin(), tokens.end());
  };
  const std::vector<std::size_t> only = {0};
  Run run{{}, first, last, &done, 1, {}};
  const std::int64_t rows = run.windows() * reference_.length;
  // A copy: after the comparison it is returned and overwritten.
  Array own = spare(rows, reference_.head_inputs.cols(), Element::working);
  Backend& backend = decoder_.backend();
  backend.copy(backend.view(reference_.head_inputs, first * reference_.length, rows), rows, own);
  run.waiting.push_back({&only, std::move(own), reference_.head});
  compare(run);
  return result;
}

double CandidateScorer::cost(std::span<const Choices> candidates, std::int64_t first,
                             std::int64_t last) const {
  return cost_of(candidate_tree(map_, candidates), map_, reference_.length) *
         static_cast<double>(last - first) / static_cast<double>(reference_.windows);
}

void CandidateScorer::run_stage(std::size_t stage, const Choices& choices,
                                std::span<const std::int32_t> tokens, std::int64_t windows,
                                PartialPass& pass) {
  for (std::size_t index = map_.begin(stage); index < map_.begin(stage + 1); ++index)
    place(index, choices[index]);
  const std::int64_t rows = windows * reference_.length;
  switch (map_.stage(stage)) {
    case Stage::embed:
      pass.hidden.state = spare(rows, decoder_.config().hidden, Element::full);
      return decoder_.embed(tokens, windows, reference_.length, pass.hidden);
    case Stage::head:
      return;  // the caller knows where its input goes
    case Stage::attend:
      if (pass.attended.empty()) pass.attended = spare(rows, attended_width(), Element::working);
      break;
    case Stage::activate:
      if (pass.mlp.empty()) pass.mlp = spare(rows, decoder_.config().ffn, Element::working);
      break;
    default:
      break;
  }
  decoder_.run(map_.block(stage), map_.stage(stage), pass);
}

/// Everything from `stage` on. `before` are the passes before it, null for those before stage 0; with `keep`
/// they are needed again.
void CandidateScorer::walk(Run& run, const CandidateTree& tree, std::size_t stage, Passes* before,
                           bool keep) {
  check_cancelled();
  const Choices& choices = run.candidates[tree.candidates.front()];
  const bool leaf = tree.branches.empty();
  Backend& backend = decoder_.backend();
  const std::int64_t length = reference_.length;
  const std::int64_t batch = decoder_.windows_per_batch(length);
  const std::int64_t rows = run.windows() * length;

  Array head_inputs;
  if (leaf) head_inputs = spare(rows, reference_.head_inputs.cols(), Element::working);

  // Batch by batch of rows through all stages up to the split, so that a batch stays in the caches.
  Passes after;
  const bool moves = tree.split > stage;
  for (std::int64_t window = run.first; moves && window < run.last; window += batch) {
    const std::int64_t count = std::min(batch, run.last - window);
    const auto tokens =
        std::span(reference_.tokens)
            .subspan(static_cast<std::size_t>(window * length), static_cast<std::size_t>(count * length));
    PartialPass pass;
    bool shared = false;
    if (before != nullptr) {
      PartialPass& kept = (*before)[static_cast<std::size_t>((window - run.first) / batch)];
      if (keep) {
        // Stages add to the residual stream in place; the other inputs of the first one are only read.
        pass.hidden = kept.hidden;
        pass.hidden.state = spare(count * length, kept.hidden.state.cols(), Element::full);
        backend.copy(kept.hidden.state, count * length, pass.hidden.state);
        pass.attended = kept.attended;
        pass.mlp = kept.mlp;
        pass.mixture = kept.mixture;
        // Read by a later stage than the first, and written by the one after that.
        if (!kept.mlp_input.empty()) {
          pass.mlp_input = spare(count * length, kept.mlp_input.cols(), Element::working);
          backend.copy(kept.mlp_input, count * length, pass.mlp_input);
        }
        shared = true;
      } else {
        pass = std::move(kept);
      }
    }
    for (std::size_t at = stage; at < tree.split; ++at) {
      run_stage(at, choices, tokens, count, pass);
      if (std::exchange(shared, false)) {
        if (map_.stage(at) == Stage::attention_output) pass.attended = {};
        if (map_.stage(at) == Stage::mlp_output) {
          pass.mlp = {};
          pass.mixture = {};
        }
      }
    }
    if (leaf) {
      Array part = backend.view(head_inputs, (window - run.first) * length, count * length);
      decoder_.head_input(pass.hidden, part);
      give_back(pass.hidden.state);
    }
    if (leaf) give_back(pass.mlp_input);
    if (leaf || map_.stage(tree.split) != Stage::attention_output) give_back(pass.attended);
    if (leaf || map_.stage(tree.split) != Stage::mlp_output) {
      give_back(pass.mlp);
      pass.mixture = {};
    }
    if (!leaf) after.push_back(std::move(pass));
  }

  if (leaf) {
    run.waiting.push_back({&tree.candidates, std::move(head_inputs), decoder_.head()});
    if (run.waiting.size() == run.most_waiting) compare(run);
    return;
  }
  for (const CandidateTree& branch : tree.branches)
    walk(run, branch, tree.split, moves ? &after : before, &branch != &tree.branches.back());
}

Array CandidateScorer::spare(std::int64_t rows, std::int64_t cols, Element element) {
  const auto found = std::ranges::find_if(spare_, [&](const Array& array) {
    return array.rows() == rows && array.cols() == cols && array.element() == element;
  });
  if (found == spare_.end()) return decoder_.backend().allocate(rows, cols, element);
  Array array = std::move(*found);
  spare_.erase(found);
  return array;
}

void CandidateScorer::give_back(Array& array) {
  if (!array.empty()) spare_.push_back(std::exchange(array, {}));
}

std::int64_t CandidateScorer::attended_width() const {
  return decoder_.config().heads * decoder_.config().head_dim;
}

void CandidateScorer::place(std::size_t index, std::size_t choice) {
  if (placed_[index] == choice) return;
  const std::size_t number = chosen_[index].number;
  PreparedMatrix prepared = cache_.find(index, choice);
  if (prepared.bytes() == 0) {
    prepared = decoder_.prepare(number, source_(index, choice));
    cache_.add(index, choice, prepared);
  }
  decoder_.place(number, std::move(prepared));
  placed_[index] = choice;
}

/// Compares all waiting candidates, in pieces of rows between checks for Ctrl-C; then reports them.
void CandidateScorer::compare(Run& run) {
  if (run.waiting.empty()) return;
  Backend& backend = decoder_.backend();
  const std::int64_t length = reference_.length;
  const std::int64_t rows = run.windows() * length;
  std::vector<std::vector<RowComparison>> results(run.waiting.size());
  for (auto& result : results) result.resize(static_cast<std::size_t>(rows));
  std::vector<std::int32_t> targets(static_cast<std::size_t>(rows));
  for (std::int64_t r = 0; r < rows; ++r)
    targets[static_cast<std::size_t>(r)] =
        (r + 1) % length == 0 ? -1 : reference_.tokens[static_cast<std::size_t>(run.first * length + r + 1)];
  for (std::int64_t begin = 0; begin < rows; begin += kComparedRows) {
    check_cancelled();
    const std::int64_t count = std::min(kComparedRows, rows - begin);
    const auto part = [&](auto& all) {
      return std::span(all).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count));
    };
    std::vector<Array> inputs;
    for (const Run::Waiting& one : run.waiting) inputs.push_back(backend.view(one.head_inputs, begin, count));
    std::vector<Compared> compared;
    for (std::size_t i = 0; i < inputs.size(); ++i)
      compared.push_back({&inputs[i], part(results[i]), run.waiting[i].head.get()});
    backend.compare(backend.view(reference_.head_inputs, run.first * length + begin, count),
                    reference_.output_head(), part(targets), options_.jsd, compared);
  }
  const std::vector<Run::Waiting> finished = std::exchange(run.waiting, {});
  for (std::size_t i = 0; i < finished.size(); ++i) {
    Array used = finished[i].head_inputs;
    give_back(used);
    // Only scored tokens: the last one of every window has no target.
    std::vector<RowComparison>& tokens = results[i];
    for (std::int64_t window = 1; window < run.windows(); ++window)
      std::copy_n(tokens.begin() + window * length, length - 1, tokens.begin() + window * (length - 1));
    tokens.resize(static_cast<std::size_t>(run.windows() * (length - 1)));
    for (const std::size_t candidate : *finished[i].candidates) (*run.done)(candidate, tokens);
  }
}

}  // namespace knapsaq
