// Zero-shot tasks: layouts, templates, tokens, scores. Whole results against lm-evaluation-harness:
// tests/data/eval/tasks/references.json, made by tools/compare_lm_eval.py from the made-up items beside it.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/eval/tasks/python_text.h"
#include "knapsaq/eval/tasks/read_items.h"
#include "knapsaq/eval/tasks/task_set.h"
#include "knapsaq/model/decoder.h"
#include "message_of.h"
#include "scratch.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

const fs::path kMade = fs::path(KNAPSAQ_TEST_DATA) / "eval" / "tasks";
const fs::path kAssets = fs::path(KNAPSAQ_SOURCE_DIR) / "assets";

TaskItem parse(const Task& task, const std::string& line) {
  return parse_items(task, line, "", "made").at(0);
}

std::string message_of(const Task& task, const std::string& text, const std::string& labels = "") {
  return knapsaq::message_of([&] { static_cast<void>(parse_items(task, text, labels, "made.jsonl")); });
}

void expect_same(const TaskItem& a, const TaskItem& b) {
  ASSERT_EQ(a.answers.size(), b.answers.size());
  EXPECT_EQ(a.gold, b.gold);
  for (std::size_t i = 0; i < a.answers.size(); ++i) {
    EXPECT_EQ(a.answers[i].context, b.answers[i].context);
    EXPECT_EQ(a.answers[i].continuation, b.answers[i].continuation);
    EXPECT_EQ(a.answers[i].characters, b.answers[i].characters);
  }
}

TEST(TaskLayouts, OfArcAreOne) {
  const TaskItem item = parse(
      kArcEasy, R"({"question":"Why?","choices":{"text":["so","né"],"label":["1","2"]},"answerKey":"2"})");
  EXPECT_EQ(item.answers[0].context, "Question: Why?\nAnswer:");
  EXPECT_EQ(item.answers[1].continuation, " né");
  EXPECT_EQ(item.answers[1].characters, 2);  // code points, not bytes, and without the blank
  EXPECT_EQ(item.gold, 1);
  expect_same(item, parse(kArcChallenge, R"({"query":"Question: Why?","choices":["so","né"],"gold":1})"));
  expect_same(item, parse(kArcEasy, R"({"question":{"stem":"Why?","choices":[{"text":"so","label":"A"},)"
                                    R"({"text":"né","label":"B"}]},"answerKey":"B"})"));
}

TEST(TaskLayouts, OfPiqaAreOne) {
  const TaskItem item = parse(kPiqa, R"({"goal":"sit","sol1":"down","sol2":"up","label":0})");
  EXPECT_EQ(item.answers[0].context, "Question: sit\nAnswer:");
  EXPECT_EQ(item.answers[1].continuation, " up");
  EXPECT_EQ(item.gold, 0);
  expect_same(item, parse(kPiqa, R"({"query":"Question: sit\n","choices":["down","up"],"gold":0})"));
  const std::string two = "{\"goal\":\"sit\",\"sol1\":\"down\",\"sol2\":\"up\"}\n\n";
  const std::vector<TaskItem> items = parse_items(kPiqa, two + two, "1\n0\n", "made");
  EXPECT_EQ(items.at(0).gold, 1);
  EXPECT_EQ(items.at(1).gold, 0);
  EXPECT_EQ(items.at(1).line, 3u);
  EXPECT_THAT(message_of(kPiqa, two + two, "1\n"), HasSubstr("made.jsonl:3: the file of labels ends"));
  EXPECT_THAT(message_of(kPiqa, two + two, "1\n2\n"),
              HasSubstr("made.jsonl:3: line 2 of the file of labels"));
  EXPECT_THAT(message_of(kPiqa, two, "1\n0\n"), HasSubstr("more lines"));
}

TEST(TaskLayouts, OfBoolQAreOne) {
  const TaskItem item = parse(kBoolQ, R"({"passage":"P. Q.","question":"is it","answer":true})");
  EXPECT_EQ(item.answers[0].context, "P. Q.\nQuestion: is it?\nAnswer:");
  EXPECT_EQ(item.answers[0].continuation, " no");
  EXPECT_EQ(item.answers[1].continuation, " yes");
  EXPECT_EQ(item.gold, 1);
  expect_same(item, parse(kBoolQ, R"({"passage":"P. Q.","question":"is it","label":1})"));
  expect_same(item, parse(kBoolQ, R"({"query":"Passage: P. Q.\nQuestion: is it?","choices":["no","yes"],)"
                                  R"("gold":1})"));
  EXPECT_THAT(message_of(kBoolQ, R"({"query":"Passage: P","choices":["yes","no"],"gold":1})"),
              HasSubstr("no and yes"));
}

TEST(TaskLayouts, OfWinoGrandeAreOne) {
  const TaskItem item =
      parse(kWinoGrande, R"({"sentence":"A saw B, so _  left. ","option1":"A","option2":"B","answer":"2"})");
  EXPECT_EQ(item.answers[0].context, "A saw B, so A");
  EXPECT_EQ(item.answers[1].context, "A saw B, so B");
  EXPECT_EQ(item.answers[1].continuation, " left.");
  EXPECT_EQ(item.gold, 1);
  expect_same(item, parse(kWinoGrande, R"({"context_options":["A saw B, so A","A saw B, so B"],)"
                                       R"("continuation":"left.","gold":1})"));
}

TEST(TaskLayouts, OfHellaSwagAreOne) {
  const TaskItem item =
      parse(kHellaSwag,
            R"({"activity_label":"Ski","ctx_a":"Up. [header] A  hill [title] Go","ctx_b":"éTE Now [x\n] b",)"
            R"("endings":["[step] Down"," up "],"label":"0"})");
  EXPECT_EQ(item.answers[0].context, "Ski: Up. A hill. Go Éte now [x\n] b");
  EXPECT_EQ(item.answers[0].continuation, "  Down");
  EXPECT_EQ(item.answers[0].characters, 5);
  EXPECT_EQ(item.answers[1].continuation, " up");
  expect_same(item, parse(kHellaSwag, R"({"query":"Ski: Up. A hill. Go Éte now [x\n] b",)"
                                      R"("choices":[" Down","up"],"gold":0})"));
}

TEST(TaskFiles, SayWhatIsWrongAndWhere) {
  const std::string good = R"({"goal":"a","sol1":"b","sol2":"c","label":1})"
                           "\n";
  EXPECT_EQ(message_of(kPiqa, good), "");
  const std::pair<std::string, std::string> cases[] = {
      {R"({"goal":"a")", "made.jsonl:2: "},
      {"[1]", "not an object"},
      {R"({"goal":"a","sol1":"b","label":1})", "there is no string 'sol2'"},
      {R"({"goal":1,"sol1":"b","sol2":"c","label":1})", "there is no string 'goal'"},
      {R"({"goal":"a","sol1":"b","sol2":"c"})", "made.jsonl:2: there is no gold label"},
      {R"({"goal":"a","sol1":"b","sol2":"c","label":null})", "there is no gold label"},
      {R"({"goal":"a","sol1":"b","sol2":"c","label":""})", "there is no gold label"},
      {R"({"goal":"a","sol1":"b","sol2":"c","label":2})", "'label' names none of the 2 answers"},
      {R"({"goal":"a","sol1":"b","sol2":"c","label":-1})", "'label' names none"},
      {R"({"goal":"a","sol1":"b","sol2":"c","label":0.5})", "'label' names none"},
      {R"({"goal":"a","sol1":"b","sol2":"c","label":"B"})", "'label' names none"},
      {R"({"goal":"a","sol1":"b","sol2":"c","label":1e99})", "'label' names none"},
      {R"({"query":"a","choices":["b"],"gold":0})", "fewer than 2"},
      {R"({"query":"a","choices":["b",3],"gold":0})", "list of strings 'choices'"}};
  for (const auto& [line, words] : cases)
    EXPECT_THAT(message_of(kPiqa, good + line), HasSubstr(words)) << line;
  EXPECT_THAT(
      message_of(kArcEasy, R"({"question":"q","choices":{"text":["a"],"label":["A","B"]},"answerKey":"B"})"),
      HasSubstr("more labels"));
  EXPECT_THAT(
      message_of(kArcEasy,
                 R"({"question":"q","choices":{"text":["a","b"],"label":["A","B"]},"answerKey":"C"})"),
      HasSubstr("none of the 2 labels"));
  EXPECT_THAT(message_of(kArcEasy, R"({"question":{"stem":"q","choices":["a"]},"answerKey":"C"})"),
              HasSubstr("no object"));
  EXPECT_THAT(message_of(kWinoGrande, R"({"sentence":"no blank","option1":"a","option2":"b","answer":"1"})"),
              HasSubstr("no '_'"));
  EXPECT_THAT(message_of(kWinoGrande, R"({"sentence":"a _","option1":"a","option2":"b","answer":"0"})"),
              HasSubstr("'answer' names none"));
  EXPECT_THAT(message_of(kPiqa, " \n\n"), HasSubstr("holds no items"));
  // What lies behind the items that are asked for is not looked at.
  EXPECT_EQ(parse_items(kPiqa, good + "damaged", "", "made", 1).size(), 1u);
}

TEST(TaskFiles, AreFoundByName) {
  const Scratch scratch;
  EXPECT_THROW(static_cast<void>(read_items(kPiqa, scratch.path())), IoError);
  write_file(scratch / "piqa.jsonl", R"({"goal":"a","sol1":"b","sol2":"c"})"
                                     "\n");
  EXPECT_THROW(static_cast<void>(read_items(kPiqa, scratch.path())), InputError);
  write_file(scratch / "piqa-labels.lst", "1\n");
  EXPECT_EQ(read_items(kPiqa, scratch.path()).at(0).gold, 1);
}

TEST(TaskNames, AreTheHarnesss) {
  const std::vector<std::string> names = {"boolq", "all", "boolq"};
  const auto tasks = parse_tasks(names);
  ASSERT_EQ(tasks.size(), all_tasks().size());
  EXPECT_EQ(tasks[0], &kBoolQ);
  EXPECT_EQ(tasks[1], &kArcEasy);
  const std::vector<std::string> unknown = {"arc_easy", "mmlu"};
  EXPECT_THROW(static_cast<void>(parse_tasks(unknown)), UsageError);
}

TEST(PythonText, FollowsPython) {
  EXPECT_EQ(python_strip(" \t\n\x1c a b\u00a0\u3000\u2009"), "a b");
  EXPECT_EQ(python_rstrip(" \u200b "), " \u200b");  // a zero-width space is none
  EXPECT_EQ(python_strip("\u2028"), "");
  EXPECT_EQ(python_capitalize("hELLO World"), "Hello world");
  EXPECT_EQ(python_capitalize("ÉCOLE Ñ"), "École ñ");
  EXPECT_EQ(python_capitalize(""), "");
  EXPECT_EQ(replaced("a    b   c", "  ", " "), "a  b  c");
}

TEST(JudgeItems, CountsAsTheHarnessDoes) {
  TaskItem item;
  item.answers = {{"c", " a", 1}, {"c", " long", 4}, {"c", " b", 1}};
  item.gold = 1;
  std::vector<TaskItem> items(4, item);
  items[3].gold = 0;
  // Most likely: 0, 1, 0 (of equal ones the first), 0. Per character: 1, 1, 1, 0.
  const std::vector<std::vector<double>> scores = {
      {-1, -2, -1.5}, {-3, -2.5, -4}, {-1, -2, -1}, {-1, -8, -9}};
  const TaskResult result = judge(kPiqa, items, scores);
  EXPECT_DOUBLE_EQ(result.acc.value, 0.5);
  EXPECT_DOUBLE_EQ(result.acc.standard_error, std::sqrt(1.0 / 3) / 2);  // sample deviation over the root of 4
  ASSERT_TRUE(result.acc_norm);
  EXPECT_DOUBLE_EQ(result.acc_norm->value, 1.0);
  EXPECT_DOUBLE_EQ(result.acc_norm->standard_error, 0);
  const TaskResult other = judge(kBoolQ, items, scores);
  EXPECT_FALSE(other.acc_norm);
  const std::vector<TaskResult> both = {result, other};
  EXPECT_DOUBLE_EQ(average(both).value, 0.75);
  EXPECT_DOUBLE_EQ(average(both).standard_error, other.acc.standard_error / 2);
  // An answer of no characters is never the best by characters.
  items[0].answers[0].characters = 0;
  EXPECT_EQ(judge(kPiqa, std::span(items).first(1), std::span(scores).first(1)).items[0].chosen_normalised,
            1u);
}

/// A made model: the loss of a target is a function of everything that its row sees.
struct MadeLosses {
  std::int64_t tokens = 0;
  std::int64_t batches = 0;
  void operator()(std::span<const std::int32_t> ids, std::span<const Segment> segments,
                  std::span<const std::int32_t> targets, std::span<float> out) {
    ++batches;
    tokens += std::ssize(ids);
    std::size_t row = 0;
    std::vector<std::vector<std::int32_t>> seen;
    for (const Segment& segment : segments) {
      std::vector<std::int32_t> before;
      if (segment.parent >= 0) before = seen[static_cast<std::size_t>(segment.parent)];
      for (std::int64_t i = 0; i < segment.length; ++i, ++row) {
        before.push_back(ids[row]);
        out[row] = targets[row] < 0 ? 0 : loss(before, targets[row]);
      }
      seen.push_back(before);
    }
  }
  static float loss(std::span<const std::int32_t> seen, std::int32_t target) {
    std::uint64_t hash = static_cast<std::uint64_t>(target);
    for (const std::int32_t id : seen) hash = hash * 1000003 + static_cast<std::uint64_t>(id);
    return static_cast<float>(hash % 1024) / 64;
  }
};

TEST(ScoreItems, SharesWhatAnswersHaveInCommon) {
  // Same contexts; contexts that part early; nothing in common; an answer that is the start of another one.
  const std::vector<EncodedItem> four = {
      {{{{1, 2, 3, 4, 5}, 3}, {{1, 2, 3, 6}, 3}, {{1, 2, 3, 4}, 3}}},
      {{{{1, 2, 3, 9, 9}, 4}, {{1, 2, 7, 8, 9, 9}, 5}}},
      {{{{1, 2}, 1}, {{3, 4, 5}, 1}}},
      {{{{5, 5, 5, 5}, 3}, {{5, 5, 5, 5, 5, 5}, 2}}},
  };
  std::vector<EncodedItem> items;
  for (int copy = 0; copy < 6; ++copy) items.insert(items.end(), four.begin(), four.end());
  std::vector<std::vector<double>> expected;
  for (const EncodedItem& item : items) {
    expected.emplace_back();
    for (const EncodedAnswer& answer : item.answers) {
      double sum = 0;
      for (std::size_t i = static_cast<std::size_t>(answer.first); i < answer.tokens.size(); ++i)
        sum -= MadeLosses::loss(std::span(answer.tokens).first(i), answer.tokens[i]);
      expected.back().push_back(sum);
    }
  }
  std::int64_t batches = 0;
  for (const std::int64_t rows : {1, 10, 37, 2048}) {
    MadeLosses made;
    EXPECT_EQ(score_items(items, std::ref(made), rows), expected) << rows;
    // 2 + 2 + 1 + 1, 2 + 2 + 3, 1 + 2, and 1 + 2 + 4 rows.
    EXPECT_EQ(made.tokens, 6 * (6 + 7 + 3 + 7));
    EXPECT_TRUE(batches == 0 || made.batches < batches);
    batches = made.batches;
  }
  EXPECT_EQ(batches, 1);
}

TEST(EncodeAnswer, MovesBlanksAndCutsOnTheLeft) {
  const Tokenizer tokenizer = Tokenizer::load(kAssets / "wiki-llama-6m");
  const auto words = [&](const EncodedAnswer& answer, bool continuation) {
    const std::span all(answer.tokens);
    return tokenizer.decode(continuation ? all.subspan(static_cast<std::size_t>(answer.first))
                                         : all.first(static_cast<std::size_t>(answer.first)),
                            true);
  };
  const Answer answer{"The city \n ", "of London", 0};
  const EncodedAnswer whole = encode_answer(tokenizer, answer, 512);
  EXPECT_EQ(words(whole, false), "The city");
  EXPECT_EQ(words(whole, true), " \n of London");
  // Of n tokens with room for 4 the last 5 stay: the last one is only predicted.
  const EncodedAnswer cut = encode_answer(tokenizer, {answer.context, " of", 0}, 4);
  EXPECT_LE(cut.tokens.size(), 5u);
  EXPECT_GE(cut.first, 1);
  EXPECT_THROW(encode_answer(tokenizer, {"A", " of a very long continuation", 0}, 2), InputError);
  EXPECT_THROW(encode_answer(tokenizer, {"A", "", 0}, 512), InputError);
  const EncodedAnswer alone = encode_answer(tokenizer, {"", "of", 0}, 512);
  EXPECT_EQ(alone.first, 1);
  EXPECT_EQ(alone.tokens.at(0), tokenizer.bos() ? *tokenizer.bos() : *tokenizer.eos());
  EXPECT_EQ(words(alone, true), "of");
}

/// A model of the assets with the made-up items of all tasks.
struct Asset {
  explicit Asset(const std::string& name, Precision precision)
      : checkpoint(Checkpoint::open(kAssets / name)),
        tokenizer(Tokenizer::load(kAssets / name)),
        backend(make_backend({.precision = precision})),
        decoder(Decoder::load(checkpoint, parse_model_config(checkpoint.config()), *backend)),
        set(TaskSet::read(all_tasks(), kMade, tokenizer, decoder.config().max_positions, 0)) {}
  std::vector<TaskResult> judge() {
    return set.judge([&](auto tokens, auto segments, auto targets,
                         auto out) { decoder.segment_losses(tokens, segments, targets, out); },
                     decoder.windows_per_batch(1));
  }
  Checkpoint checkpoint;
  Tokenizer tokenizer;
  std::unique_ptr<Backend> backend;
  Decoder decoder;
  TaskSet set;
};

TEST(HarnessReferences, AreMetToTheItem) {
  const json references = parse_json(read_file(kMade / "references.json")).at("models");
  ASSERT_GE(references.size(), 2u);
  for (const auto& [name, tasks] : references.items()) {
    Asset asset(name, Precision::fp32);
    const std::vector<TaskResult> results = asset.judge();
    ASSERT_EQ(results.size(), tasks.size());
    for (const TaskResult& result : results) {
      SCOPED_TRACE(name + " " + result.task);
      const json& metrics = tasks.at(result.task).at("metrics");
      EXPECT_DOUBLE_EQ(result.acc.value, metrics.at("acc").get<double>());
      EXPECT_NEAR(result.acc.standard_error, metrics.at("acc_stderr").get<double>(), 1e-12);
      ASSERT_EQ(result.acc_norm.has_value(), metrics.contains("acc_norm"));
      if (result.acc_norm) {
        EXPECT_DOUBLE_EQ(result.acc_norm->value, metrics.at("acc_norm").get<double>());
        EXPECT_NEAR(result.acc_norm->standard_error, metrics.at("acc_norm_stderr").get<double>(), 1e-12);
      }
      const json& items = tasks.at(result.task).at("items");
      ASSERT_EQ(items.size(), result.items.size());
      for (std::size_t i = 0; i < items.size(); ++i) {
        const auto expected = items[i].at("log_likelihoods").get<std::vector<double>>();
        ASSERT_EQ(expected.size(), result.items[i].log_likelihoods.size());
        // Sums of some ten losses of up to 15, each of them a difference of fp32 logits.
        for (std::size_t a = 0; a < expected.size(); ++a)
          EXPECT_NEAR(result.items[i].log_likelihoods[a], expected[a], 2e-4) << "item " << i;
        EXPECT_EQ(result.items[i].chosen == result.items[i].gold, items[i].at("acc").get<double>() == 1);
      }
    }
  }
}

TEST(HarnessReferences, AreTheSameWhateverTheThreads) {
  Asset asset("wiki-llama-6m", Precision::bf16);
  const std::vector<TaskResult> expected = asset.judge();
  for (const int threads : {1, 3}) {
    work_with_threads(threads);
    const std::vector<TaskResult> found = asset.judge();
    for (std::size_t t = 0; t < expected.size(); ++t) {
      ASSERT_EQ(found[t].items.size(), expected[t].items.size());
      for (std::size_t i = 0; i < expected[t].items.size(); ++i)
        EXPECT_EQ(found[t].items[i].log_likelihoods, expected[t].items[i].log_likelihoods);
    }
  }
  work_with_threads(0);
}

}  // namespace
}  // namespace knapsaq
