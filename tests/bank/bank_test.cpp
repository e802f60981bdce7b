#include "knapsaq/bank/bank.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/bank/build_bank.h"
#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/random.h"
#include "knapsaq/checkpoint/fingerprint.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/local_errors.h"
#include "knapsaq/quant/quantizer.h"
#include "message_of.h"
#include "scratch.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// Statistics of made-up inputs: every width has its own, one for all linears.
class MadeInputs final : public InputSource {
 public:
  explicit MadeInputs(std::uint64_t seed) : seed_(seed) {}
  InputStatistics inputs(std::string_view /*linear*/, std::int64_t width) const override {
    Random random(seed_ + static_cast<std::uint64_t>(width));
    InputStatistics statistics;
    statistics.name = "input of width " + std::to_string(width);
    statistics.width = width;
    statistics.tokens = 2 * static_cast<std::uint64_t>(width);
    const auto n = static_cast<std::size_t>(width);
    std::vector<float> common(n);
    for (float& value : common) value = static_cast<float>(random.normal());
    statistics.second_moment.resize(n * n);
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j)
        statistics.second_moment[i * n + j] = common[i] * common[j] + (i == j ? 1.0f : 0.0f);
    for (std::size_t i = 0; i < n; ++i) statistics.mean_square.push_back(statistics.second_moment[i * n + i]);
    statistics.mean_abs = statistics.mean_square;
    statistics.max_abs = statistics.mean_square;
    return statistics;
  }
  /// Shares that differ from row to row.
  RowShares row_shares(std::int64_t rows) const override {
    std::vector<std::int64_t> counts(static_cast<std::size_t>(rows));
    Random random(seed_);
    for (std::int64_t& count : counts) count = static_cast<std::int64_t>(random.below(100));
    return shares_of(counts);
  }
  bool has_second_moments() const override { return true; }
  std::string identity() const override { return "made inputs " + std::to_string(seed_); }

 private:
  std::uint64_t seed_;
};

/// Statistics of made-up gradients beside these inputs, as they are known after calibration: of an embedding
/// and a head, mean squares only.
class MadeGradients final : public InputSource {
 public:
  InputStatistics inputs(std::string_view linear, std::int64_t width) const override {
    return inputs_.inputs(linear, width);
  }
  std::optional<OutputStatistics> outputs(std::string_view matrix, std::int64_t width) const override {
    InputStatistics made = MadeInputs(7).inputs(matrix, width);
    if (!matrix.starts_with("model.decoder.layers")) made.second_moment.clear();
    return OutputStatistics{std::string(matrix), width, made.tokens, std::move(made.mean_square),
                            std::move(made.second_moment)};
  }
  bool has_outputs() const override { return true; }
  bool has_second_moments() const override { return true; }
  std::string identity() const override { return "made gradients"; }

 private:
  MadeInputs inputs_{1};
};

std::string bytes_in(const fs::path& path) { return read_file(path); }

/// All files of a bank, by name.
std::map<std::string, std::string> content_of(const fs::path& bank) {
  std::map<std::string, std::string> content;
  for (const auto& entry : fs::recursive_directory_iterator(bank))
    if (entry.is_regular_file()) content[fs::relative(entry.path(), bank).string()] = bytes_in(entry.path());
  return content;
}

void expect_equal(const StoredMatrix& a, const StoredMatrix& b) {
  const auto left = bytes_of(a);
  const auto right = bytes_of(b);
  ASSERT_EQ(left.size(), right.size());
  for (std::size_t i = 0; i < left.size(); ++i) EXPECT_TRUE(std::ranges::equal(left[i], right[i]));
}

class BankOf : public ::testing::Test {
 protected:
  BankReport build(const std::string& name, const InputSource* inputs = nullptr) {
    return build_bank(checkpoint_, {model_, menu_, matrices_, inputs}, BankFolder(scratch_ / name));
  }
  fs::path file(const std::string& bank, const std::string& linear) const {
    return scratch_ / bank / "linears" / (linear + ".safetensors");
  }
  template <class Exception, class Function>
  static void expect_error(Function&& function, const std::string& part) {
    try {
      function();
      FAIL() << "accepted";
    } catch (const Exception& error) {
      EXPECT_THAT(error.what(), HasSubstr(part));
      EXPECT_THAT(error.what(), testing::Not(HasSubstr("\n")));
    }
  }

  const Checkpoint checkpoint_ = Checkpoint::open(fs::path(KNAPSAQ_SOURCE_DIR) / "assets" / "wiki-opt-3m");
  const ModelConfig config_ = parse_model_config(checkpoint_.config());
  const std::string model_ = fingerprint(checkpoint_);
  const std::vector<Matrix> matrices_ = matrices(config_);  // the embedding first, which is the head too
  Menu menu_ = parse_menu("rtn:b4g64,hqq:b2g32/m8g128,hqq:b3g128,rtn:b8row,nf4");
  const Scratch scratch_;
};

TEST_F(BankOf, HoldsWhatTheQuantizersMakeCodeForCode) {
  const MadeInputs made(1);
  const BankReport report = build("bank", &made);
  EXPECT_EQ(report.linears, matrices_.size());
  EXPECT_EQ(report.kept, 0U);
  const Bank bank = Bank::open(scratch_ / "bank");
  EXPECT_NO_THROW(bank.check_model(model_, config_));
  const ErrorTable table = bank.table();
  EXPECT_EQ(table.menu, menu_.schemes);
  ASSERT_EQ(table.rows.size(), matrices_.size());
  for (std::size_t i = 0; i < matrices_.size(); i += 5) {
    const Matrix& linear = matrices_[i];
    SCOPED_TRACE(linear.name);
    const std::vector<float> values = checkpoint_.floats(linear.name + ".weight");
    const MatrixView weights{linear.out, linear.in, values};
    const InputStatistics inputs = made.inputs(linear.name, linear.in);
    const RowShares shares = linear.is_looked_up() ? made.row_shares(linear.out) : RowShares();
    EXPECT_EQ(table.rows[i].name, linear.name);
    EXPECT_EQ(table.rows[i].module, linear.module);
    EXPECT_EQ(table.rows[i].layer, linear.block);
    EXPECT_EQ(table.rows[i].parameters, linear.parameters());
    ASSERT_EQ(table.rows[i].cells.size(), menu_.schemes.size());
    for (std::size_t s = 0; s < menu_.schemes.size(); ++s) {
      const Scheme& scheme = menu_.schemes[s];
      const StoredMatrix direct = quantize(weights, scheme, &inputs);
      expect_equal(bank.matrix(linear.name, scheme), direct);
      const LocalErrors errors = local_errors(weights, direct, &inputs, {}, shares);
      const ErrorCell& cell = table.rows[i].cells[s];
      EXPECT_EQ(cell.scheme, scheme);
      EXPECT_EQ(cell.bytes, storage_bytes(scheme, linear.out, linear.in));
      EXPECT_EQ(cell.fnorm, errors.fnorm);
      EXPECT_EQ(cell.relative, errors.relative);
      EXPECT_EQ(cell.hessian, errors.hessian);
      EXPECT_GT(cell.hessian, 0);
      EXPECT_EQ(cell.lookup, errors.lookup);
      EXPECT_EQ(cell.lookup > 0, linear.is_looked_up());
    }
  }
}

TEST_F(BankOf, GptqsCodesKnowWhichOutputsMatterWhereGradientsAreKnown) {
  menu_ = parse_menu("gptq:b3g64,hqq:b3g64");
  const MadeGradients made;
  build("fisher", &made);
  const MadeInputs without(1);
  build("bank", &without);
  const Bank fisher = Bank::open(scratch_ / "fisher");
  const Bank bank = Bank::open(scratch_ / "bank");
  const Quantizer& gptq = quantizer("gptq");
  for (std::size_t i = 0; i < matrices_.size(); i += 4) {
    const Matrix& linear = matrices_[i];
    SCOPED_TRACE(linear.name);
    expect_equal(fisher.matrix(linear.name, menu_.schemes[1]), bank.matrix(linear.name, menu_.schemes[1]));
    const StoredMatrix stored = fisher.matrix(linear.name, menu_.schemes[0]);
    if (!linear.in_block()) {
      expect_equal(stored, bank.matrix(linear.name, menu_.schemes[0]));
      continue;
    }
    const std::vector<float> values = checkpoint_.floats(linear.name + ".weight");
    const InputStatistics inputs = made.inputs(linear.name, linear.in);
    const auto outputs = made.outputs(linear.name, linear.out);
    expect_equal(stored, gptq.quantize_for_outputs({linear.out, linear.in, values}, menu_.schemes[0], &inputs,
                                                   nullptr, gptq.prepare_outputs(&*outputs).get()));
    EXPECT_NE(std::get<PackedMatrix>(stored).codes,
              std::get<PackedMatrix>(bank.matrix(linear.name, menu_.schemes[0])).codes);
  }
}

TEST_F(BankOf, HasTheTableThatIsMeasuredWithoutIt) {
  build("bank");
  const ErrorTable table = Bank::open(scratch_ / "bank").table();
  const ErrorTable measured = build_error_table(checkpoint_, matrices_, menu_);
  ASSERT_EQ(table.rows.size(), measured.rows.size());
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    EXPECT_EQ(table.rows[i].statistics.kurtosis, measured.rows[i].statistics.kurtosis);
    for (std::size_t c = 0; c < menu_.schemes.size(); ++c) {
      const ErrorCell& a = table.rows[i].cells[c];
      const ErrorCell& b = measured.rows[i].cells[c];
      EXPECT_EQ(a.bytes, b.bytes);
      EXPECT_NEAR(a.fnorm, b.fnorm, 1e-6 * b.fnorm);
      EXPECT_NEAR(a.relative, b.relative, 1e-6 * b.relative);
      EXPECT_TRUE(std::isnan(a.hessian));
    }
  }
}

TEST_F(BankOf, DoesNotDependOnThreads) {
  const MadeInputs made(1);
  for (const int threads : {1, 2, 5}) {
    work_with_threads(threads);
    build("bank" + std::to_string(threads), &made);
  }
  work_with_threads(0);
  EXPECT_EQ(content_of(scratch_ / "bank1"), content_of(scratch_ / "bank2"));
  EXPECT_EQ(content_of(scratch_ / "bank1"), content_of(scratch_ / "bank5"));
}

TEST_F(BankOf, IsFinishedAndRepairedByTheNextRun) {
  build("bank");
  const auto whole = content_of(scratch_ / "bank");
  const fs::path missing = file("bank", matrices_[3].name);
  const fs::path cut = file("bank", matrices_[7].name);
  const fs::path changed = file("bank", matrices_[11].name);
  const fs::path empty = file("bank", matrices_[12].name);
  fs::remove(missing);
  fs::resize_file(cut, fs::file_size(cut) - 1);
  fs::resize_file(empty, 0);
  {
    std::fstream stream(changed, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(static_cast<std::streamoff>(fs::file_size(changed) / 2));
    stream.put('\x5a').put('\x5b').put('\x5c');
  }
  // What a killed process leaves.
  std::ofstream(missing.string() + ".partial-17") << "half";
  std::ofstream(scratch_ / "bank/bank.json.partial-1") << "half";

  expect_error<InputError>([&] { Bank::open(scratch_ / "bank"); }, "1 of its 73 linears are missing");
  const BankReport report = build("bank");
  EXPECT_EQ(report.damaged, 3U);
  EXPECT_EQ(report.kept, matrices_.size() - 4);
  EXPECT_EQ(content_of(scratch_ / "bank"), whole);
}

TEST_F(BankOf, ReadsTheSameOrRefusesWhateverByteIsChanged) {
  build("bank");
  const std::string name = matrices_[0].name;
  const fs::path path = file("bank", name);
  const std::string good = bytes_in(path);
  std::vector<StoredMatrix> expected;
  const ErrorTable table = Bank::open(scratch_ / "bank").table();
  for (const Scheme& scheme : menu_.schemes)
    expected.push_back(Bank::open(scratch_ / "bank").matrix(name, scheme));
  Random random(5);
  std::uint64_t header = 0;
  std::memcpy(&header, good.data(), 8);
  int refused = 0;
  for (int i = 0; i < 300; ++i) {
    // Half of the changes in the header, whose bytes are few.
    const std::uint64_t at = random.below(i % 2 == 0 ? header + 8 : good.size());
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << random.below(8)));
    // Not in place: a file that was mapped would change under the reader.
    fs::remove(path);
    std::ofstream(path, std::ios::binary) << bad;
    try {
      const Bank bank = Bank::open(scratch_ / "bank");
      for (std::size_t s = 0; s < menu_.schemes.size(); ++s) {
        expect_equal(bank.matrix(name, menu_.schemes[s]), expected[s]);
        EXPECT_EQ(bank.table().rows[0].cells[s].fnorm, table.rows[0].cells[s].fnorm);
      }
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), HasSubstr(path.string()));
      ++refused;
    }
  }
  // The few that are not refused changed what nobody reads, as the header's remark about its format.
  EXPECT_GT(refused, 280);
}

TEST_F(BankOf, OneLinearsFileIsNotAnothers) {
  build("bank");
  // Same shape, same schemes.
  fs::copy_file(file("bank", matrices_[1].name), file("bank", matrices_[2].name),
                fs::copy_options::overwrite_existing);
  expect_error<InputError>([&] { Bank::open(scratch_ / "bank"); }, "belongs to another bank");
  EXPECT_EQ(build("bank").damaged, 1U);
}

TEST_F(BankOf, AnotherModelMenuOrCalibrationIsRefused) {
  const MadeInputs made(1);
  build("bank", &made);
  const auto before = content_of(scratch_ / "bank");
  expect_error<InputError>([&] { Bank::open(scratch_ / "bank").check_model("0123"); }, "another model");
  expect_error<UsageError>([&] { build("bank"); }, "made inputs 1 there, none here");
  const MadeInputs other(2);
  expect_error<UsageError>([&] { build("bank", &other); }, "made inputs 2");
  menu_.schemes.pop_back();
  expect_error<UsageError>([&] { build("bank", &made); }, "another menu");
  expect_error<UsageError>(
      [&] {
        build_bank(checkpoint_, {"0123", parse_menu("b4g64"), matrices_}, BankFolder(scratch_ / "bank"));
      },
      "another model");
  EXPECT_EQ(content_of(scratch_ / "bank"), before);
}

TEST_F(BankOf, AnIndexThatDoesNotFitTheModelIsRefused) {
  build("bank");
  ModelConfig other = config_;
  --other.layers;
  expect_error<InputError>([&] { Bank::open(scratch_ / "bank").check_model(model_, other); },
                           "does not list matrices of this model");
  other = config_;
  other.hidden *= 2;
  expect_error<InputError>([&] { Bank::open(scratch_ / "bank").check_model(model_, other); },
                           "does not list matrices of this model");
}

TEST_F(BankOf, ErrorsThatAreNoneAreRefused) {
  build("bank");
  const BankIndex index = Bank::open(scratch_ / "bank").index();
  const BankedLinear& banked = index.linears[0];
  const std::vector<float> values = checkpoint_.floats(banked.linear.name + ".weight");
  const MatrixView weights{banked.linear.out, banked.linear.in, values};
  const double nan = std::nan("");
  const auto write = [&](const LocalErrors& errors) {
    const fs::path path = file("bank", banked.linear.name);
    fs::remove(path);
    LinearFileWriter writer(path, layout_of(index, banked));
    for (const Scheme& scheme : banked.distinct()) writer.add(quantize(weights, scheme), errors);
    writer.commit({});
  };
  for (const LocalErrors& bad : {LocalErrors{-1, 0, nan}, LocalErrors{nan, 0, nan}, LocalErrors{1, nan, nan},
                                 LocalErrors{1, 0, -1}, LocalErrors{1, 0, HUGE_VAL}}) {
    write(bad);
    expect_error<InputError>([&] { Bank::open(scratch_ / "bank"); }, "negative or not finite");
  }
  write({1, 0, nan});
  EXPECT_NO_THROW(Bank::open(scratch_ / "bank"));
}

TEST_F(BankOf, OneProcessBuildsAtATime) {
  const BankFolder first(scratch_ / "bank");
  expect_error<IoError>([&] { BankFolder(scratch_ / "bank"); }, "another process");
}

TEST_F(BankOf, OtherFoldersAreLeftAlone) {
  fs::create_directory(scratch_ / "papers");
  write_file(scratch_ / "papers" / "precious", "data");
  expect_error<UsageError>([&] { build("papers"); }, "is not a bank");
  expect_error<IoError>([&] { BankFolder(scratch_ / "papers" / "precious"); }, "cannot create the folder");
  expect_error<InputError>([&] { Bank::open(scratch_ / "papers"); }, "not a bank");
  EXPECT_EQ(content_of(scratch_ / "papers").size(), 1U);
}

TEST_F(BankOf, RemovesNothingThatIsNotABanks) {
  fs::create_directory(scratch_ / "papers");
  fs::create_directory(scratch_ / "papers/draft.partial-2");
  for (const char* name : {"notes.partial-1", "precious", "bank.json.partial-1", "draft.partial-2/text"})
    write_file(scratch_ / "papers" / name, "data");
  const auto before = content_of(scratch_ / "papers");
  expect_error<UsageError>([&] { build("papers"); }, "is not a bank");
  EXPECT_EQ(content_of(scratch_ / "papers"), before);

  // What a killed process leaves before there is an index is no reason to refuse.
  fs::create_directory(scratch_ / "bank");
  write_file(scratch_ / "bank/bank.json.partial-1", "half");
  write_file(scratch_ / "bank/folding.safetensors.partial-12", "half");
  build("bank");
  auto whole = content_of(scratch_ / "bank");
  EXPECT_EQ(whole.size(), 1 + matrices_.size());
  // Nor are a user's own files in a bank its to remove.
  for (const std::string name : {"notes.partial-1", "linears/notes.safetensors.partial-1",
                                 "bank.json.partial-x", "bank.json.partial-"}) {
    write_file(scratch_ / "bank" / name, "data");
    whole[name] = "data";
  }
  EXPECT_EQ(build("bank").kept, matrices_.size());
  EXPECT_EQ(content_of(scratch_ / "bank"), whole);
}

TEST_F(BankOf, GoesOnAfterAKillBetweenIndexAndLinears) {
  build("bank");
  const auto whole = content_of(scratch_ / "bank");
  fs::remove_all(scratch_ / "bank/linears");
  EXPECT_EQ(build("bank").kept, 0U);
  EXPECT_EQ(content_of(scratch_ / "bank"), whole);
}

TEST_F(BankOf, AsksForWhatItHas) {
  build("bank");
  const Bank bank = Bank::open(scratch_ / "bank");
  expect_error<UsageError>([&] { bank.matrix("model.nothing", menu_.schemes[0]); },
                           "no linear 'model.nothing'");
  expect_error<UsageError>([&] { bank.matrix(matrices_[0].name, parse_scheme("hqq:b4g32")); },
                           "rtn:b4g64, hqq:b2g32/m8g128, hqq:b3g128, rtn:b8row, nf4");
}

TEST_F(BankOf, RefusesWhatCannotBeQuantized) {
  menu_ = {};
  expect_error<UsageError>([&] { build("bank"); }, "no schemes");
  menu_ = parse_menu("hqq:b4g64s");
  expect_error<UsageError>([&] { build("bank"); }, "hqq:b4g64s");
  EXPECT_FALSE(fs::exists(scratch_ / "bank"));
}

TEST(BankIndex, RoundTrip) {
  BankIndex index;
  index.model = "0123";
  index.menu = parse_menu("hqq:b4g64,rtn:b8row,q4_k");
  index.inputs = "calibration \"x\"";
  index.folding = "awq";
  index.linears.push_back({{"model.layers.0.fc1", 0, "fc1", 96, 64, true}, index.menu.schemes});
  index.linears.push_back(
      {{"model.layers.0.fc2", 0, "fc2", 64, 96, true}, parse_menu("hqq:b4g64,rtn:b8row,q5_0").schemes});
  const BankIndex again = parse_bank_index(to_json(index));
  EXPECT_EQ(to_json(again), to_json(index));
  EXPECT_EQ(again.menu.name, index.menu.name);
  EXPECT_EQ(again.linears[1].schemes, index.linears[1].schemes);
  EXPECT_EQ(again.key(again.linears[1]), index.key(index.linears[1]));
  EXPECT_NE(index.key(index.linears[0]), index.key(index.linears[1]));
  BankIndex other = index;
  other.inputs = "another";
  EXPECT_NE(other.key(other.linears[0]), index.key(index.linears[0]));
}

TEST(BankIndex, RefusesWhatIsNotOne) {
  const std::string good =
      R"({"format":"knapsaq-bank","version":1,"model":"0","menu":{"name":"m","schemes":["b4g64"]},)"
      R"("inputs":"","folding":"","linears":[{"name":"a.b","block":0,"module":"b","shape":[2,64]}]})";
  ASSERT_NO_THROW(parse_bank_index(good));
  const auto broken = [&](const std::string& from, const std::string& to) {
    std::string bad = good;
    bad.replace(bad.find(from), from.size(), to);
    EXPECT_THROW(parse_bank_index(bad), InputError) << bad;
  };
  EXPECT_THROW(parse_bank_index(""), InputError);
  EXPECT_THROW(parse_bank_index("[]"), InputError);
  broken("knapsaq-bank", "other");
  broken("\"version\":1", "\"version\":2");
  broken("\"version\":1", "\"version\":\"1\"");
  broken("b4g64", "b7g64");
  broken("[\"b4g64\"]", "[]");
  broken("a.b", "../a");
  broken("a.b", "/a");
  broken("a.b", ".a");
  broken("[2,64]", "[2]");
  broken("[2,64]", "[2,-64]");
  broken("[2,64]", "[2,6400000000000000000]");
  broken("[2,64]}", "[2,64],\"schemes\":[\"b4g64\",\"b3g64\"]}");
  broken("[2,64]}", R"([2,64]},{"name":"a.b","block":0,"module":"b","shape":[2,64]})");
}

TEST(BankIndex, GgmlTypesOfEarlierVersionsAreRefused) {
  const auto index = [](int version, const std::string& scheme, const std::string& inputs) {
    return fmt::format(
        R"({{"format":"knapsaq-bank","version":{},"model":"0","menu":{{"name":"m","schemes":["{}"]}},)"
        R"("inputs":"{}","folding":"","linears":[{{"name":"a","block":0,"module":"a","shape":[2,256]}}]}})",
        version, scheme, inputs);
  };
  for (const auto& [version, scheme, inputs] : std::vector<std::tuple<int, std::string, std::string>>{
           {1, "b4g64", "calibration"}, {2, "q4_k", ""}, {2, "q4_k", "calibration"}}) {
    const BankIndex read = parse_bank_index(index(version, scheme, inputs));
    EXPECT_THAT(to_json(read), HasSubstr(fmt::format("\"version\": {}", version)));
    EXPECT_THAT(
        message_of<InputError>([&] { parse_bank_index(index(3 - version, scheme, inputs)); }),
        HasSubstr(fmt::format("version '{}', and this Knapsaq reads version {}", 3 - version, version)));
  }
}

}  // namespace
}  // namespace knapsaq
