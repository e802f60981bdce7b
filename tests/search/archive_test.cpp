#include "knapsaq/search/archive.h"

#include <cmath>
#include <csignal>
#include <fstream>
#include <map>
#include <numeric>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/random.h"
#include "knapsaq/search/sqlite.h"
#include "message_of.h"
#include "scratch.h"
#include "search/archive_dump.h"
#include "search/made_space.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

Measurement made_measurement(Random& random, std::int64_t windows, std::int64_t targets = 7) {
  Measurement result;
  result.windows = windows;
  result.tokens = windows * targets;
  result.kl = random.normal();
  if (random.below(2) == 0) result.jsd = random.uniform() * 1e-300;
  result.loss = random.below(9) == 0 ? INFINITY : random.normal() * 1e17;
  result.agreement = static_cast<double>(random.below(2));
  for (std::int64_t i = 0; i < result.tokens; ++i)
    result.per_token.push_back(static_cast<float>(std::exp(6 * random.normal())));
  return result;
}

void expect_same(const Measurement& a, const Measurement& b, bool with_tokens = true) {
  const auto same = [](double x, double y) { return x == y || (std::isnan(x) && std::isnan(y)); };
  EXPECT_EQ(a.windows, b.windows);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_TRUE(same(a.kl, b.kl)) << a.kl << " " << b.kl;
  EXPECT_TRUE(same(a.jsd, b.jsd)) << a.jsd << " " << b.jsd;
  EXPECT_TRUE(same(a.loss, b.loss)) << a.loss << " " << b.loss;
  EXPECT_TRUE(same(a.agreement, b.agreement)) << a.agreement << " " << b.agreement;
  if (with_tokens) {
    EXPECT_EQ(a.per_token, b.per_token);
  }
}

/// An archive with something in every table.
void make_archive(const fs::path& path, int measurements = 5) {
  Random random(1);
  Archive archive = Archive::create(path);
  archive.set_about("model", "made");
  const SearchRecord record = archive.search("random", "batch=50", 3);
  std::vector<Step> steps;
  for (int i = 0; i < measurements; ++i) {
    const Point point = {static_cast<std::uint8_t>(i % 200), static_cast<std::uint8_t>(i / 200)};
    archive.add(kSearchSet, point, made_measurement(random, 2, 400), 0.5);
    Step step;
    step.ordinal = i;
    step.point = point;
    step.measurement.windows = 2;
    steps.push_back(step);
  }
  archive.add_batch(record.id, 0, steps, {{"round", {{"best", 1.5}}}});
}

TEST(Archive, GivesBackWhatItWasGiven) {
  Scratch scratch;
  const fs::path path = scratch / "odd name?#%41.sqlite";
  Random random(5);
  const Measurement first = made_measurement(random, 3);
  const Measurement other = made_measurement(random, 3);
  SearchRecord record;
  {
    Archive archive = Archive::create(path);
    EXPECT_EQ(archive.path(), path);
    archive.set_about("bytes", std::string("a\0b\xFF", 4));
    archive.set_about("bytes", std::string("c\0d\xFE", 4));
    archive.set_about("empty", "");
    archive.add(kSearchSet, {1, 0, 255}, first, 0.25);
    archive.add(kHeldOutSet, {1, 0, 255}, other, 0.5);
    archive.add(kSearchSet, {1, 0, 255}, other, 0.5);  // a measurement stays what it is
    record = archive.search("amq", "a=1 b=2", ~std::uint64_t{0});
    EXPECT_EQ(archive.search("amq", "a=1 b=3", ~std::uint64_t{0}).id, record.id + 1);
    EXPECT_EQ(archive.search("amq", "a=1 b=2", ~std::uint64_t{0}).id, record.id);
    EXPECT_FALSE(record.finished);
    archive.finish(record.id);
  }
  ASSERT_TRUE(fs::exists(path));
  EXPECT_FALSE(fs::exists(path.string() + ".lock"));
  EXPECT_FALSE(fs::exists(path.string() + "-wal"));
  const Archive archive = Archive::open(path);
  EXPECT_EQ(archive.about("bytes"), std::string("c\0d\xFE", 4));
  EXPECT_EQ(archive.about("empty"), "");
  EXPECT_EQ(archive.about("nothing"), std::nullopt);
  expect_same(archive.find(kSearchSet, {1, 0, 255}, 3).value(), kept(first));
  expect_same(archive.find_at_most(kSearchSet, {1, 0, 255}, 9).value(), kept(first));
  expect_same(archive.find(kHeldOutSet, {1, 0, 255}, 3).value(), kept(other));
  EXPECT_FALSE(archive.find(kSearchSet, {1, 0, 255}, 2));
  EXPECT_FALSE(archive.find_at_most(kSearchSet, {1, 0, 255}, 2));
  EXPECT_FALSE(archive.find(kSearchSet, {1, 0}, 3));
  const std::vector<SearchRecord> searches = archive.searches();
  ASSERT_EQ(searches.size(), 2U);
  EXPECT_EQ(searches[0].strategy, "amq");
  EXPECT_EQ(searches[0].options, "a=1 b=2");
  EXPECT_EQ(searches[0].seed, ~std::uint64_t{0});
  EXPECT_TRUE(searches[0].finished);
  EXPECT_FALSE(searches[1].finished);
}

TEST(Archive, BehavesAsTablesInMemory) {
  Scratch scratch;
  const fs::path path = scratch / "archive";
  Random random(11);
  using Key = std::tuple<std::string, std::vector<int>, std::int64_t>;
  std::map<Key, Measurement> measured;
  std::vector<std::tuple<std::string, Point, Measurement, double>> in_order;
  struct Search {
    SearchRecord record;
    std::vector<Step> steps;
    std::vector<StoredNote> notes;
    std::int64_t batches = 0;
  };
  std::vector<Search> searches;
  std::map<std::string, std::string> about;

  const auto some_point = [&] {
    Point point(2 + random.below(2));
    for (std::uint8_t& level : point) level = static_cast<std::uint8_t>(random.below(4));
    return point;
  };
  const auto key = [](std::string_view set, const Point& point, std::int64_t windows) {
    return Key(set, std::vector<int>(point.begin(), point.end()), windows);
  };
  const auto check_all = [&](const Archive& archive) {
    for (const std::string_view set : {kSearchSet, kHeldOutSet}) {
      std::int64_t most = 0;
      for (const auto& [name, point, m, seconds] : in_order)
        if (name == set) most = std::max(most, m.windows);
      for (const std::int64_t windows : {0, 2}) {
        const std::vector<Archive::Entry> entries = archive.entries(set, windows);
        std::size_t i = 0;
        for (const auto& [name, point, m, seconds] : in_order) {
          if (name != set || m.windows != (windows == 0 ? most : windows)) continue;
          ASSERT_LT(i, entries.size());
          EXPECT_EQ(entries[i].point, point);
          EXPECT_EQ(entries[i].seconds, seconds);
          expect_same(entries[i].measurement, m, false);
          EXPECT_TRUE(entries[i].measurement.per_token.empty());
          ++i;
        }
        EXPECT_EQ(i, entries.size());
      }
    }
    const std::vector<SearchRecord> records = archive.searches();
    ASSERT_EQ(records.size(), searches.size());
    for (std::size_t s = 0; s < searches.size(); ++s) {
      EXPECT_EQ(records[s].id, searches[s].record.id);
      EXPECT_EQ(records[s].options, searches[s].record.options);
      EXPECT_EQ(records[s].seed, searches[s].record.seed);
      EXPECT_EQ(records[s].finished, searches[s].record.finished);
      const std::vector<Step> steps = archive.steps(records[s].id);
      ASSERT_EQ(steps.size(), searches[s].steps.size());
      for (std::size_t i = 0; i < steps.size(); ++i) {
        const Step& expected = searches[s].steps[i];
        EXPECT_EQ(steps[i].search, records[s].id);
        EXPECT_EQ(steps[i].ordinal, expected.ordinal);
        EXPECT_EQ(steps[i].batch, expected.batch);
        EXPECT_EQ(steps[i].phase, expected.phase);
        EXPECT_EQ(steps[i].point, expected.point);
        EXPECT_EQ(steps[i].predicted, expected.predicted);
        EXPECT_EQ(steps[i].cost, expected.cost);
        expect_same(steps[i].measurement, expected.measurement, false);
      }
      const std::vector<StoredNote> notes = archive.notes(records[s].id);
      ASSERT_EQ(notes.size(), searches[s].notes.size());
      for (std::size_t i = 0; i < notes.size(); ++i) {
        EXPECT_EQ(notes[i].batch, searches[s].notes[i].batch);
        EXPECT_EQ(notes[i].note.kind, searches[s].notes[i].note.kind);
        EXPECT_EQ(notes[i].note.values, searches[s].notes[i].note.values);
      }
    }
    for (const auto& [name, value] : about) EXPECT_EQ(archive.about(name), value);
  };

  std::optional<Archive> archive(Archive::create(path));
  for (int operation = 0; operation < 1500; ++operation) {
    const std::string_view set = random.below(4) == 0 ? kHeldOutSet : kSearchSet;
    switch (random.below(12)) {
      case 0: {
        const std::uint64_t seed = random.below(3) << 62;
        const std::string options = "n=" + std::to_string(random.below(2));
        const SearchRecord record = archive->search("s", options, seed);
        const auto known = std::find_if(searches.begin(), searches.end(), [&](const Search& search) {
          return search.record.seed == seed && search.record.options == options;
        });
        if (known == searches.end())
          searches.push_back({record, {}, {}, 0});
        else
          EXPECT_EQ(record.finished, known->record.finished);
        break;
      }
      case 1: {
        const std::string name = std::to_string(random.below(3));
        about[name] = std::string(random.below(9000), static_cast<char>(random.below(256)));
        archive->set_about(name, about[name]);
        break;
      }
      case 2:
      case 3: {
        if (searches.empty() || in_order.empty()) break;
        Search& search = searches[random.below(searches.size())];
        std::vector<Step> steps;
        std::vector<Note> notes;
        for (std::uint64_t i = random.below(4); i > 0; --i) {
          const auto& [name, point, m, seconds] = in_order[random.below(in_order.size())];
          if (name != kSearchSet) continue;
          Step& step = steps.emplace_back();
          step.ordinal = std::ssize(search.steps) + std::ssize(steps) - 1;
          step.batch = search.batches;
          step.phase = "phase " + std::to_string(random.below(3));
          step.point = point;
          if (random.below(2) == 0) step.predicted = random.normal();
          step.cost = random.uniform();
          step.measurement = m;
        }
        for (std::uint64_t i = random.below(3); i > 0; --i) {
          Note& note = notes.emplace_back();
          note.kind = "table " + std::to_string(random.below(2));
          for (std::uint64_t k = 1 + random.below(3); k > 0; --k)
            note.values.emplace_back("column", random.normal());
        }
        archive->add_batch(search.record.id, search.batches, steps, notes);
        if (random.below(2) == 0) archive->add_batch(search.record.id, search.batches, steps, notes);
        search.steps.insert(search.steps.end(), steps.begin(), steps.end());
        for (const Note& note : notes) search.notes.push_back({search.record.id, search.batches, note});
        ++search.batches;
        break;
      }
      case 4:
        if (searches.empty() || random.below(5) != 0) break;
        searches[random.below(searches.size())].record.finished = true;
        for (const Search& search : searches)
          if (search.record.finished) archive->finish(search.record.id);
        break;
      case 5:
        if (random.below(10) != 0) break;
        archive.reset();
        archive.emplace(Archive::create(path));
        break;
      case 6:
      case 7: {
        const Point point = some_point();
        const std::int64_t windows = 1 + static_cast<std::int64_t>(random.below(4));
        const auto exact = measured.find(key(set, point, windows));
        const std::optional<Measurement> found = archive->find(set, point, windows);
        ASSERT_EQ(found.has_value(), exact != measured.end());
        if (found) expect_same(*found, exact->second);
        std::int64_t best = windows;
        while (best > 0 && !measured.contains(key(set, point, best))) --best;
        const std::optional<Measurement> lower = archive->find_at_most(set, point, windows);
        ASSERT_EQ(lower.has_value(), best > 0);
        if (lower) expect_same(*lower, measured.at(key(set, point, best)));
        break;
      }
      default: {
        const Point point = some_point();
        const std::int64_t windows = 1 + static_cast<std::int64_t>(random.below(4));
        const Measurement m = made_measurement(random, windows);
        const double seconds = random.uniform();
        archive->add(set, point, m, seconds);
        if (measured.emplace(key(set, point, windows), kept(m)).second)
          in_order.emplace_back(set, point, kept(m), seconds);
      }
    }
    if (operation % 250 == 249) check_all(*archive);
  }
  check_all(Archive::open(path));
  archive.reset();
  check_all(Archive::open(path));
}

TEST(Archive, RoundsFarBelowWhatPairedDifferencesCanTell) {
  Random random(2);
  constexpr int kTokens = 8192;
  for (const double spread : {0.02, 0.1, 0.5}) {
    double error = 0;
    double squares = 0;
    Measurement a;
    Measurement b;
    for (int i = 0; i < kTokens; ++i) {
      // Heavy tails and mostly the same for both, as divergences of similar candidates are.
      const double shared = 0.1 * std::exp(2 * random.normal());
      a.per_token.push_back(static_cast<float>(shared * std::exp(spread * random.normal())));
      b.per_token.push_back(static_cast<float>(shared * std::exp(spread * random.normal())));
    }
    const Measurement kept_a = kept(a);
    const Measurement kept_b = kept(b);
    for (std::size_t i = 0; i < a.per_token.size(); ++i) {
      const double exact = static_cast<double>(a.per_token[i]) - b.per_token[i];
      squares += exact * exact;
      error += static_cast<double>(kept_a.per_token[i]) - kept_b.per_token[i] - exact;
    }
    // Sums in place of means: sqrt(squares) is the standard error of the sum, for independent tokens. The
    // rounding of a token is about 2^-12 of it.
    EXPECT_LT(std::abs(error), 4 * std::ldexp(1, -12) / spread * std::sqrt(squares)) << spread;
    EXPECT_EQ(kept(kept_a).per_token, kept_a.per_token);
    // What 16 bits cannot hold is the largest that they can: differences stay numbers.
    Measurement large = a;
    large.per_token = {1e6f, 65519.0f, std::numeric_limits<float>::quiet_NaN()};
    const std::vector<float> per_token = kept(large).per_token;
    EXPECT_EQ(per_token[0], 65504.0f);
    EXPECT_EQ(per_token[1], 65504.0f);
    EXPECT_TRUE(std::isnan(per_token[2]));
  }
}

TEST(Archive, HasOneWriterAndManyReaders) {
  Scratch scratch;
  const fs::path path = scratch / "archive";
  Random random(1);
  EXPECT_THAT(message_of<IoError>([&] { Archive::open(path); }), HasSubstr("there is no such archive"));
  Archive writer = Archive::create(path);
  EXPECT_THAT(message_of<IoError>([&] { Archive::create(path); }),
              testing::AllOf(HasSubstr(path.string()), HasSubstr("another search writes into it")));
  const Archive reader = Archive::open(path);
  const Archive second = Archive::open(path);
  for (int i = 0; i < 20; ++i) {
    const Point point = {static_cast<std::uint8_t>(i)};
    const Measurement m = made_measurement(random, 2, 500);
    writer.add(kSearchSet, point, m, 0);
    expect_same(reader.find(kSearchSet, point, 2).value(), kept(m));
    EXPECT_EQ(std::ssize(second.entries(kSearchSet)), i + 1);
  }
  // A new writer while readers stay.
  { const Archive gone = std::move(writer); }
  Archive next = Archive::create(path);
  next.add(kSearchSet, {99}, made_measurement(random, 2), 0);
  EXPECT_EQ(reader.entries(kSearchSet).size(), 21U);
}

TEST(Archive, IsReadWhileAnotherProcessWritesAndDies) {
  Scratch scratch;
  const fs::path path = scratch / "archive";
  // The writer archives points whose numbers go up without a gap until it is killed; a byte tells of every
  // twentieth.
  int told[2];
  ASSERT_EQ(::pipe(told), 0);
  const pid_t writer = ::fork();
  if (writer == 0) {
    try {
      Random random(1);
      Archive archive = Archive::create(path);
      for (int i = 0;; ++i) {
        archive.add(kSearchSet, {static_cast<std::uint8_t>(i % 256), static_cast<std::uint8_t>(i / 256)},
                    made_measurement(random, 1, 2000), 0);
        if (i % 20 == 0 && ::write(told[1], "+", 1) != 1) ::_exit(1);
      }
    } catch (const std::exception&) {
      ::_exit(1);
    }
  }
  ::close(told[1]);
  std::size_t seen = 0;
  char byte = 0;
  for (std::size_t wanted = 1; seen < 600; wanted += 20) {
    ASSERT_EQ(::read(told[0], &byte, 1), 1);
    const std::vector<Archive::Entry> entries = Archive::open(path).entries(kSearchSet);
    ASSERT_GE(entries.size(), std::max(seen, wanted));
    for (std::size_t i = 0; i < entries.size(); ++i)
      ASSERT_EQ(entries[i].point[0] + 256U * entries[i].point[1], i);
    seen = entries.size();
  }
  ::close(told[0]);
  EXPECT_EQ(::kill(writer, SIGKILL), 0);
  ::waitpid(writer, nullptr, 0);
  // What the dead writer left is read as it is, and taken up by the next writer.
  EXPECT_TRUE(fs::exists(path.string() + ".lock"));
  const std::vector<Archive::Entry> left = Archive::open(path).entries(kSearchSet);
  EXPECT_GE(left.size(), seen);
  EXPECT_EQ(Archive::create(path).entries(kSearchSet).size(), left.size());
}

/// Runs `check` as a user who may write nothing here; skips the test where that cannot be had.
template <class Check>
bool holds_for_a_stranger(const Check& check) {
  const pid_t id = ::fork();
  if (id == 0) {
    constexpr uid_t kNobody = 65534;
    if (::geteuid() == 0 && (::setgid(kNobody) != 0 || ::setuid(kNobody) != 0)) ::_exit(1);
    try {
      ::_exit(check() ? 0 : 1);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      ::_exit(1);
    }
  }
  int status = 0;
  ::waitpid(id, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(Archive, IsReadWhereNothingCanBeWritten) {
  Scratch scratch;
  const fs::path folder = scratch / "run";
  const fs::path path = folder / "archive";
  fs::create_directory(folder);
  ::chmod(scratch.path().c_str(), 0755);
  make_archive(path);
  const auto reads_all = [&] {
    const Archive archive = Archive::open(path);
    return archive.entries(kSearchSet).size() == 5 && archive.steps(1).size() == 5;
  };
  ::chmod(folder.c_str(), 0555);
  ::chmod(path.c_str(), 0444);
  EXPECT_TRUE(holds_for_a_stranger(reads_all));
  EXPECT_FALSE(fs::exists(path.string() + "-wal"));
  // Another's search that is running: its -shm file can only be read.
  ::chmod(folder.c_str(), 0755);
  ::chmod(path.c_str(), 0644);
  {
    Archive writer = Archive::create(path);
    writer.set_about("more", "in the log");
    ::chmod(folder.c_str(), 0555);
    EXPECT_TRUE(holds_for_a_stranger(reads_all));
    EXPECT_TRUE(holds_for_a_stranger([&] { return Archive::open(path).about("more").has_value(); }));
    ::chmod(folder.c_str(), 0755);
  }
  // A killed writer's log without its -shm file, as a copy may have it.
  const pid_t writer = ::fork();
  if (writer == 0) {
    Archive archive = Archive::create(path);
    archive.set_about("last", "in the log");
    std::raise(SIGKILL);
  }
  ::waitpid(writer, nullptr, 0);
  fs::remove(path.string() + "-shm");
  ::chmod(folder.c_str(), 0555);
  EXPECT_TRUE(holds_for_a_stranger([&] {
    return message_of<IoError>([&] { Archive::open(path); }).find("archive-wal") != std::string::npos;
  }));
  ::chmod(folder.c_str(), 0755);
  EXPECT_EQ(Archive::open(path).about("last"), "in the log");
}

TEST(Archive, RefusesFilesThatAreNone) {
  Scratch scratch;
  const fs::path path = scratch / "archive";
  write_file(path, std::string(5000, 'x'));
  for (const bool write : {false, true}) {
    const auto use = [&] { write ? Archive::create(path) : Archive::open(path); };
    EXPECT_THAT(message_of<InputError>(use), HasSubstr("is not a SQLite file"));
  }
  EXPECT_EQ(read_file(path), std::string(5000, 'x'));
  const fs::path foreign = scratch / "foreign";
  {
    Database database(foreign, Database::Mode::write);
    database.run("CREATE TABLE t (x); INSERT INTO t VALUES (1);");
  }
  const std::string before = read_file(foreign);
  EXPECT_THAT(message_of<InputError>([&] { Archive::create(foreign); }),
              HasSubstr("is not an archive of a search"));
  EXPECT_THAT(message_of<InputError>([&] { Archive::open(foreign); }),
              HasSubstr("is not an archive of a search"));
  EXPECT_EQ(read_file(foreign), before);

  const fs::path empty = scratch / "empty";
  write_file(empty, "");
  EXPECT_THAT(message_of<IoError>([&] { Archive::open(empty); }), HasSubstr("is empty yet"));
  EXPECT_TRUE(Archive::create(empty).searches().empty());
  EXPECT_THAT(message_of<IoError>([&] { Archive::create(scratch / "no" / "folder"); }),
              HasSubstr("cannot be written: No such file or directory"));
  EXPECT_THAT(message_of<IoError>([&] { Archive::create(scratch.path()); }), HasSubstr("cannot be opened"));
}

TEST(Archive, RefusesOtherVersionsAndOtherTables) {
  Scratch scratch;
  const auto changed = [&](const char* sql) {
    const fs::path path = scratch / "archive";
    fs::remove(path);
    make_archive(path);
    {
      Database database(path, Database::Mode::write);
      database.run(sql);
    }
    const std::string reading = message_of<InputError>([&] { Archive::open(path); });
    EXPECT_EQ(message_of<InputError>([&] { Archive::create(path); }), reading);
    return reading;
  };
  EXPECT_THAT(changed("PRAGMA user_version = 2"), HasSubstr("is an archive of version 2"));
  EXPECT_THAT(changed("PRAGMA application_id = 7"), HasSubstr("is not an archive"));
  EXPECT_THAT(changed("DROP TABLE note"), HasSubstr("its tables are not those of an archive"));
  EXPECT_THAT(changed("CREATE VIEW v AS SELECT 1"), HasSubstr("its tables are not those of an archive"));
  EXPECT_THAT(changed("CREATE TRIGGER t AFTER INSERT ON measurement BEGIN DELETE FROM search; END"),
              HasSubstr("its tables are not those of an archive"));
}

TEST(Archive, ChecksWhatItReads) {
  Scratch scratch;
  const auto read_changed = [&](const char* sql) {
    const fs::path path = scratch / "archive";
    fs::remove(path);
    make_archive(path);
    {
      Database database(path, Database::Mode::write);
      database.run(sql);
    }
    Archive archive = Archive::open(path);
    SearchSpace space = made_space(2, "hqq:b2g128,hqq:b3g128,hqq:b4g128,hqq:b8g128,hqq:b8g64");
    archive.expect(space);
    return message_of<InputError>([&] {
      archive.entries(kSearchSet);
      archive.steps(1);
      archive.find(kSearchSet, {1, 0}, 2);
    });
  };
  EXPECT_THAT(read_changed("UPDATE measurement SET point = x'000102' WHERE id = 2"),
              HasSubstr("none of this search space"));
  EXPECT_THAT(read_changed("UPDATE measurement SET point = x'0005' WHERE id = 2"),
              HasSubstr("none of this search space"));
  EXPECT_THAT(read_changed("UPDATE measurement SET per_token = x'00' WHERE id = 2"),
              HasSubstr("wrong number of tokens"));
  EXPECT_THAT(read_changed("UPDATE measurement SET tokens = 9223372036854775807 WHERE id = 2"),
              HasSubstr("wrong number of tokens"));
  EXPECT_THAT(read_changed("UPDATE measurement SET tokens = -3 WHERE id = 2"), HasSubstr("no tokens"));
  EXPECT_THAT(read_changed("UPDATE measurement SET windows = 0"), HasSubstr("no tokens"));
}

TEST(Archive, DamagedFilesAreErrorsAndNothingElse) {
  Scratch scratch;
  const fs::path whole = scratch / "whole";
  make_archive(whole, 300);
  const std::string content = read_file(whole);
  const std::vector<std::string> expected = dump(whole);
  ASSERT_EQ(expected.back(), "integrity|ok");
  Random random(4);
  const fs::path path = scratch / "archive";
  const SearchSpace space = made_space(2);
  int errors = 0;
  for (int i = 0; i < 300; ++i) {
    std::string changed = content;
    if (i % 3 == 0) {
      changed.resize(random.below(changed.size()));
    } else {
      for (std::uint64_t n = 1 + random.below(8); n > 0; --n) {
        // Half of them where the tables are described.
        const std::size_t where = random.below(random.below(2) == 0 ? 4096 : changed.size());
        changed[where] = static_cast<char>(random.below(256));
      }
    }
    std::ofstream(path, std::ios::binary) << changed;
    try {
      Archive archive = i % 2 == 0 ? Archive::open(path) : Archive::create(path);
      archive.entries(kSearchSet);
      archive.steps(1);
      archive.notes(1);
      for (std::uint8_t k = 0; k < 100; ++k) archive.find(kSearchSet, {k, 0}, 2);
      if (i % 2 == 1) {
        Random values(1);
        archive.add(kSearchSet, {201, 7}, made_measurement(values, 2), 0);
        archive.search("new", "", 1);
      }
    } catch (const Error& error) {
      EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos) << error.what();
      EXPECT_THAT(error.what(), HasSubstr(path.string()));
      ++errors;
    }
    fs::remove(path.string() + "-wal");
    fs::remove(path.string() + "-shm");
  }
  EXPECT_GT(errors, 100);
}

// A file whose inner pages all lead to one page has more rows, for who reads it, than bytes.
TEST(Archive, RefusesPagesThatAreReadManyTimes) {
  Scratch scratch;
  const fs::path path = scratch / "archive";
  make_archive(path, 300);
  std::string content = read_file(path);
  constexpr std::size_t kPage = 4096;
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(content[at]); };
  std::size_t changed = 0;
  for (std::size_t page = kPage; page < content.size(); page += kPage) {
    if (byte(page) != 5) continue;  // the inner page of a table: the last child, then where its cells are
    const std::string child = content.substr(page + 8, 4);
    const std::size_t cells = byte(page + 3) * std::size_t{256} + byte(page + 4);
    for (std::size_t i = 0; i < cells; ++i, ++changed) {
      const std::size_t cell = byte(page + 12 + 2 * i) * std::size_t{256} + byte(page + 13 + 2 * i);
      content.replace(page + cell, 4, child);
    }
  }
  ASSERT_GT(changed, 1U);
  std::ofstream(path, std::ios::binary) << content;
  EXPECT_THAT(message_of<InputError>([&] { Archive::open(path); }), HasSubstr("is damaged"));
  EXPECT_THAT(message_of<InputError>([&] { Archive::create(path); }), HasSubstr("is damaged"));
}

TEST(Archive, SaysThatTheDiskIsFullAndLosesNothing) {
  Scratch scratch;
  const fs::path path = scratch / "archive";
  // The child's files may not grow beyond a limit; how many measurements fit below it is seen from outside.
  for (const rlim_t limit : {rlim_t{1000}, rlim_t{40000}, rlim_t{300000}}) {
    fs::remove(path);
    int told[2];
    ASSERT_EQ(::pipe(told), 0);
    const pid_t id = ::fork();
    if (id == 0) {
      std::signal(SIGXFSZ, SIG_IGN);
      const rlimit limits = {limit, limit};
      ::setrlimit(RLIMIT_FSIZE, &limits);
      std::uint32_t added = 0;
      std::string message = "nothing was thrown";
      try {
        Random random(1);
        Archive archive = Archive::create(path);
        try {
          for (; added < 1000; ++added)
            archive.add(kSearchSet, {static_cast<std::uint8_t>(added % 256)},
                        made_measurement(random, 1 + added / 256, 2000), 0);
        } catch (const IoError&) {
          // Still good for reading.
          if (archive.entries(kSearchSet, 1).size() != std::min(added, 256U)) added = 999999;
          throw;
        }
      } catch (const IoError& error) {
        message = error.what();
      } catch (...) {
        message = "something else was thrown";
      }
      const bool written = ::write(told[1], &added, sizeof added) == sizeof added &&
                           ::write(told[1], message.data(), message.size()) == std::ssize(message);
      ::_exit(written ? 0 : 1);
    }
    ::close(told[1]);
    std::uint32_t added = 0;
    char buffer[4096];
    ASSERT_EQ(::read(told[0], &added, sizeof added), static_cast<ssize_t>(sizeof added));
    const ssize_t length = ::read(told[0], buffer, sizeof buffer);
    ::close(told[0]);
    ::waitpid(id, nullptr, 0);
    const std::string message(buffer, static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
    EXPECT_THAT(message, testing::AllOf(HasSubstr(path.string()), HasSubstr("cannot be written"),
                                        HasSubstr("make room"), HasSubstr("what it holds is safe"),
                                        testing::Not(HasSubstr("\n"))));
    // With room again it goes on with everything that add() had returned from.
    const Archive archive = Archive::create(path);
    std::size_t there = 0;
    for (std::int64_t windows = 1; windows < 5; ++windows)
      there += archive.entries(kSearchSet, windows).size();
    EXPECT_EQ(there, added) << limit;
    if (limit > 100000) {
      EXPECT_GT(added, 10U);
    }
  }
}

TEST(Archive, SaysThatAnotherProgramHoldsIt) {
  Scratch scratch;
  const fs::path path = scratch / "archive";
  make_archive(path);
  Archive archive = Archive::create(path);
  Database other(path, Database::Mode::write);
  Transaction transaction(other);
  EXPECT_THAT(message_of<IoError>([&] { archive.set_about("a", "b"); }),
              HasSubstr("another program holds a lock on it"));
  EXPECT_EQ(archive.entries(kSearchSet).size(), 5U);
}

TEST(Archive, NoticesASearchThatGoesAnotherWay) {
  Scratch scratch;
  const fs::path path = scratch / "archive";
  make_archive(path);
  Archive archive = Archive::create(path);
  Step step;
  step.ordinal = 3;
  step.point = {2, 0};
  step.measurement.windows = 2;
  const std::vector<std::string> before = dump(path);
  EXPECT_THAT(message_of<InputError>([&] {
                archive.add_batch(1, 0, {step}, {{"a", {{"b", 1}}}});
              }),
              HasSubstr("asked for something else as its question 3"));
  EXPECT_EQ(dump(path), before);
}

}  // namespace
}  // namespace knapsaq
