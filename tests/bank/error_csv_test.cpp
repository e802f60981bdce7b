#include <clocale>
#include <cmath>
#include <fstream>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/random.h"
#include "scratch.h"

namespace knapsaq {
namespace {

using testing::HasSubstr;

const std::string kHeader = "layer,module,nbit1,gsize1,nbit2,gsize2,fnorm,memmb,params\n";

ErrorTable parse(const std::string& text) { return parse_csv(text, "t.csv"); }

void expect_error(const std::string& text, const std::string& part) {
  try {
    parse(text);
    FAIL() << "accepted:\n" << text;
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr(part));
    EXPECT_THAT(error.what(), HasSubstr("t.csv"));
    EXPECT_THAT(error.what(), testing::Not(HasSubstr("\n")));
  }
}

void expect_equal(const ErrorTable& a, const ErrorTable& b) {
  EXPECT_EQ(a.menu, b.menu);
  ASSERT_EQ(a.rows.size(), b.rows.size());
  for (std::size_t i = 0; i < a.rows.size(); ++i) {
    const ErrorRow& x = a.rows[i];
    const ErrorRow& y = b.rows[i];
    EXPECT_EQ(x.layer, y.layer);
    EXPECT_EQ(x.module, y.module);
    EXPECT_EQ(x.name, y.name);
    EXPECT_EQ(x.parameters, y.parameters);
    EXPECT_EQ(x.has_statistics, y.has_statistics);
    EXPECT_EQ(x.statistics.kurtosis, y.statistics.kurtosis);
    EXPECT_THAT(x.statistics.percentiles, testing::ElementsAreArray(y.statistics.percentiles));
    ASSERT_EQ(x.cells.size(), y.cells.size());
    for (std::size_t c = 0; c < x.cells.size(); ++c) {
      EXPECT_EQ(x.cells[c].scheme, y.cells[c].scheme);
      EXPECT_EQ(x.cells[c].fnorm, y.cells[c].fnorm);
      EXPECT_EQ(x.cells[c].bytes, y.cells[c].bytes);
      EXPECT_THAT(x.cells[c].relative, testing::NanSensitiveDoubleEq(y.cells[c].relative));
      EXPECT_THAT(x.cells[c].hessian, testing::NanSensitiveDoubleEq(y.cells[c].hessian));
      EXPECT_EQ(x.cells[c].lookup, y.cells[c].lookup);
      EXPECT_THAT(x.cells[c].fisher, testing::NanSensitiveDoubleEq(y.cells[c].fisher));
    }
  }
}

ErrorTable random_table() {
  Random random(1);
  ErrorTable table;
  table.menu = parse_menu("hqq:b2g32/m8g128,hqq:b4g64,rtn:b8g32s,rtn:b3row,gptq:b4g128z,q4_k,nf4").schemes;
  for (int layer = 0; layer < 5; ++layer) {
    for (const char* module : {"self_attn.q_proj", "mlp.down_proj"}) {
      ErrorRow& row = table.rows.emplace_back();
      row.layer = layer;
      row.module = module;
      row.name = "model.layers." + std::to_string(layer) + "." + module;
      row.parameters = static_cast<std::int64_t>(1 + random.below(1'000'000'000'000));
      row.has_statistics = layer != 3;
      if (row.has_statistics) {
        row.statistics.kurtosis = random.normal();
        for (double& percentile : row.statistics.percentiles) percentile = random.uniform();
      }
      for (const Scheme& scheme : table.menu) {
        row.cells.push_back({scheme, std::exp(20 * random.normal()), random.below(std::uint64_t{1} << 50)});
        if (layer != 2) row.cells.back().relative = random.uniform();
        if (layer != 4) row.cells.back().hessian = std::exp(20 * random.normal());
        if (layer > 2) row.cells.back().fisher = std::exp(20 * random.normal());
      }
      // Rows that q4_k cannot hold are stored in what takes its place, which may be another of the menu.
      if (layer == 1) row.cells[5].scheme = parse_scheme("q5_0");
      if (layer == 3) row.cells[5].scheme = parse_scheme("rtn:b3row");
    }
  }
  table.rows[0].cells[0].fnorm = 0;
  table.rows[0].cells[1].fnorm = std::numeric_limits<double>::denorm_min();
  table.rows[0].cells[2].fnorm = std::numeric_limits<double>::max();
  table.rows[0].cells[3].bytes = (std::uint64_t{1} << 53) - 1;
  return table;
}

TEST(ErrorCsv, RoundTripIsExact) {
  const Scratch scratch;
  const ErrorTable table = random_table();
  write_csv(table, scratch / "table.csv");
  expect_equal(read_csv(scratch / "table.csv"), table);
}

/// Embedding and head around the others.
ErrorTable table_with_ends() {
  ErrorTable table = random_table();
  for (const bool front : {true, false}) {
    ErrorRow row = table.rows[front ? 0 : 3];
    row.layer = -1;
    row.module = front ? "embed_tokens" : "lm_head";
    row.name = front ? "model.embed_tokens" : "lm_head";
    for (ErrorCell& cell : row.cells) cell.lookup = front ? 0.1 * cell.relative : 0;
    table.rows.insert(front ? table.rows.begin() : table.rows.end(), row);
  }
  return table;
}

TEST(ErrorCsv, EmbeddingAndHeadComeBack) {
  const Scratch scratch;
  const ErrorTable table = table_with_ends();
  ASSERT_GT(table.rows.front().cells[1].lookup, 0);
  write_csv(table, scratch / "table.csv");
  const std::string text = read_file(scratch / "table.csv");
  EXPECT_THAT(text.substr(0, text.find('\n')), HasSubstr(",hessian,lookup,fisher,kurtosis,"));
  expect_equal(parse(text), table);
  // As version 0.1 wrote it: without the columns of lookup and Fisher costs.
  ErrorTable old = table;
  old.rows.erase(old.rows.begin());
  for (ErrorRow& row : old.rows)
    for (ErrorCell& cell : row.cells) cell.fisher = ErrorCell::kUnknown;
  write_csv(old, scratch / "table.csv");
  std::string without;
  const std::string whole = read_file(scratch / "table.csv");
  for (std::size_t begin = 0; begin < whole.size();) {
    const std::size_t end = whole.find('\n', begin);
    std::size_t at = begin;
    for (int comma = 0; comma < 15; ++comma) at = whole.find(',', at) + 1;
    const std::size_t next = whole.find(',', whole.find(',', at) + 1);
    without += whole.substr(begin, at - begin) + whole.substr(next + 1, end - next);
    begin = end + 1;
  }
  EXPECT_THAT(without.substr(0, without.find('\n')), HasSubstr(",hessian,kurtosis,"));
  expect_equal(parse(without), old);
}

TEST(ErrorCsv, LookupIsANumberThatIsNotNegative) {
  const std::string header = "layer,module,nbit1,gsize1,nbit2,gsize2,fnorm,memmb,params,lookup\n";
  EXPECT_EQ(parse(header + "-1,embed_tokens,4,64,16,0,1,1,64,0.25\n").rows[0].cells[0].lookup, 0.25);
  EXPECT_EQ(parse(header + "-1,embed_tokens,4,64,16,0,1,1,64,\n").rows[0].cells[0].lookup, 0);
  for (const char* bad : {"-1", "nan", "x", "inf"})
    expect_error(header + "-1,embed_tokens,4,64,16,0,1,1,64," + bad + "\n", "lookup");
}

TEST(ErrorCsv, RoundTripWithoutOurColumnsKeepsTheBytes) {
  // memmb alone has to give the bytes again: it is written with all its digits.
  const Scratch scratch;
  ErrorTable table = random_table();
  for (ErrorRow& row : table.rows) {
    row.has_statistics = false;
    row.statistics = {};
    row.name = std::to_string(row.layer) + "." + row.module;
    row.cells.resize(2);
    for (ErrorCell& cell : row.cells) cell.relative = cell.hessian = cell.fisher = ErrorCell::kUnknown;
  }
  table.menu.resize(2);
  write_csv(table, scratch / "table.csv");
  std::string text = read_file(scratch / "table.csv");
  std::string short_text;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    std::size_t cut = begin;
    for (int comma = 0; comma < 9; ++comma) cut = text.find(',', cut) + 1;
    short_text += text.substr(begin, cut - 1 - begin) + "\n";
    begin = end + 1;
  }
  EXPECT_TRUE(short_text.starts_with(kHeader));
  expect_equal(parse(short_text), table);
}

TEST(ErrorCsv, DoesNotDependOnTheLocale) {
  // Where none with a decimal comma is installed, this tests nothing more than the round trip.
  const std::string before = std::setlocale(LC_ALL, nullptr);
  for (const char* name : {"de_DE.UTF-8", "fr_FR.UTF-8"}) {
    if (std::setlocale(LC_ALL, name) != nullptr) break;
  }
  const Scratch scratch;
  const ErrorTable table = random_table();
  write_csv(table, scratch / "table.csv");
  expect_equal(read_csv(scratch / "table.csv"), table);
  std::setlocale(LC_ALL, before.c_str());
}

TEST(ErrorCsv, ReadsTheAuthorsColumns) {
  const ErrorTable table = parse(kHeader +
                                 "0,self_attn.q_proj,2,32,8,128,23.5625,5.015625,16777216\n"
                                 "0,self_attn.q_proj,2,64,8,128,28.234375,4.5078125,16777216\n"
                                 "1,mlp.up_proj,2,32,8,128,1e2,13.4794921875,45088768\n"
                                 "1,mlp.up_proj,2,64,8,128,111.5,12,45088768\n");
  ASSERT_EQ(table.menu.size(), 2U);
  EXPECT_EQ(to_string(table.menu[1]), "hqq:b2g64/m8g128");
  ASSERT_EQ(table.rows.size(), 2U);
  EXPECT_EQ(table.rows[1].name, "1.mlp.up_proj");
  EXPECT_EQ(table.rows[1].parameters, 45088768);
  EXPECT_FALSE(table.rows[1].has_statistics);
  EXPECT_EQ(table.rows[1].cells[0].fnorm, 100);
  EXPECT_EQ(table.rows[0].cells[0].bytes, 5259264U);
}

TEST(ErrorCsv, AnyOrderOfColumnsAndRowsAndUnknownColumns) {
  const ErrorTable table = parse(
      "\xEF\xBB\xBFparams,comment,memmb,fnorm,gsize2,nbit2,gsize1,nbit1,module,layer\r\n"
      "64,\"a, \"\"b\"\"\",1, 0.5 ,0,16,64,4,x,7\r\n"
      "\r\n"
      "32,,2,3,128,8,32,2,y,7\r\n"
      "32,z,2,4,0,16,64,4,\"y\",7\r\n"
      "64,q,1,2,128,8,32,2,x,7");
  ASSERT_EQ(table.menu.size(), 2U);
  EXPECT_EQ(to_string(table.menu[0]), "hqq:b4g64");
  EXPECT_EQ(to_string(table.menu[1]), "hqq:b2g32/m8g128");
  ASSERT_EQ(table.rows.size(), 2U);
  EXPECT_EQ(table.rows[0].module, "x");
  EXPECT_EQ(table.rows[0].cells[0].fnorm, 0.5);
  EXPECT_EQ(table.rows[0].cells[1].fnorm, 2);
  EXPECT_EQ(table.rows[1].cells[0].fnorm, 4);
  EXPECT_EQ(table.rows[1].cells[1].fnorm, 3);
}

TEST(ErrorCsv, BytesInThePlaceOfMebibytes) {
  const ErrorTable table =
      parse("layer,module,nbit1,gsize1,nbit2,gsize2,fnorm,params,bytes\n0,x,4,0,16,0,1,10,12345\n");
  EXPECT_EQ(table.rows[0].cells[0].bytes, 12345U);
}

TEST(ErrorCsv, TheSchemeAsTextCounts) {
  const std::string header =
      "layer,module,nbit1,gsize1,nbit2,gsize2,fnorm,memmb,params,scheme,choice,relative\n";
  const ErrorTable table = parse(header + "0,x,4,64,16,0,1,1,10,q5_0,q4_k,0.5\n0,x,4,64,16,0,2,1,10,,,\n");
  EXPECT_EQ(to_string(table.menu[0]), "q4_k");
  EXPECT_EQ(to_string(table.menu[1]), "hqq:b4g64");
  EXPECT_EQ(to_string(table.rows[0].cells[0].scheme), "q5_0");
  EXPECT_EQ(table.rows[0].cells[0].relative, 0.5);
  EXPECT_TRUE(std::isnan(table.rows[0].cells[1].relative));
  expect_error(header + "0,x,4,64,16,0,1,1,10,q9,,\n", "line 2 has 'q9' in column scheme");
  expect_error(header + "0,x,4,64,16,0,1,1,10,,b7g64,\n", "line 2 has 'b7g64' in column choice");
  expect_error(header + "0,x,4,64,16,0,1,1,10,,,-1\n", "line 2 has '-1' in column relative");
}

TEST(ErrorCsv, QuotesWhatNeedsIt) {
  const Scratch scratch;
  ErrorTable table = random_table();
  for (ErrorRow& row : table.rows) row.name += " a,b\"c";
  write_csv(table, scratch / "table.csv");
  expect_equal(read_csv(scratch / "table.csv"), table);
}

TEST(ErrorCsv, RefusesBadNumbersWithTheirLine) {
  const std::string good = "0,x,4,64,16,0,1,1,10\n";
  for (const char* row : {"0,y,4,64,16,0,nan,1,10",    "0,y,4,64,16,0,inf,1,10",
                          "0,y,4,64,16,0,-1,1,10",     "0,y,4,64,16,0,1e999,1,10",
                          "0,y,4,64,16,0,1,-1,10",     "0,y,4,64,16,0,1,1e300,10",
                          "0,y,4,64,16,0,1,nan,10",    "0,y,4,64,16,0,1,1,0",
                          "0,y,4,64,16,0,1,1,-5",      "0,y,4,64,16,0,1,1,99999999999999999999",
                          "0,y,4,64,16,0,1,1,1.5",     "0,y,4,64,16,0,1,,10",
                          "0,y,4,64,16,0,,1,10",       "0,y,7,64,16,0,1,1,10",
                          "0,y,4,48,16,0,1,1,10",      "0,y,4,64,8,0,1,1,10",
                          "0,y,4,64,16,128,1,1,10",    "zero,y,4,64,16,0,1,1,10",
                          "0,,4,64,16,0,1,1,10",       "0,y,4,64,16,0,1,1",
                          "0,y,4,64,16,0,1,1,10,11",   "0,\"y,4,64,16,0,1,1,10",
                          "0,\"y\"z,4,64,16,0,1,1,10", "0,y,4,64,16,0,1 2,1,10",
                          "0,y,4,64,16,0,0x1,1,10"}) {
    SCOPED_TRACE(row);
    expect_error(kHeader + good + row + "\n", "line 3 ");
  }
}

TEST(ErrorCsv, RefusesMissingAndDoubledCells) {
  const std::string rows = "0,x,4,64,16,0,1,1,10\n0,x,3,64,16,0,1,1,10\n0,y,4,64,16,0,1,1,10\n";
  expect_error(kHeader + rows, "0.y has no row for hqq:b3g64");
  expect_error(kHeader + rows + "0,y,4,64,16,0,1,1,10\n", "0.y has more than one row for hqq:b4g64");
  expect_error(kHeader + rows + "0,y,3,64,16,0,1,1,10\n0,y,3,64,16,0,1,1,10\n",
               "0.y has more than one row for hqq:b3g64");
  expect_error(kHeader + rows + "0,y,3,64,16,0,1,1,11\n", "line 5 ");
}

TEST(ErrorCsv, RefusesWhatIsNotATable) {
  expect_error("", "columns");
  expect_error("\n\n", "columns");
  expect_error(kHeader, "no rows");
  expect_error("layer,module\n", "no column nbit1");
  expect_error("layer,module,nbit1,gsize1,nbit2,gsize2,fnorm,params\n", "no column memmb");
  expect_error("layer,layer,module,nbit1,gsize1,nbit2,gsize2,fnorm,memmb,params\n", "layer twice");
  expect_error(kHeader + std::string(100000, '1'), "line 2 is too long");
  expect_error(std::string("\0\1\2\xFF", 4), "line 1 ");
}

TEST(ErrorCsv, MissingFileIsAnIoError) {
  const Scratch scratch;
  EXPECT_THROW(read_csv(scratch / "nothing.csv"), IoError);
}

TEST(ErrorCsv, ReadsTheTableOfTheAuthors) {
  const std::filesystem::path folder = shared_folder();
  if (folder.empty()) GTEST_SKIP() << "needs shared/tables beside the project";
  const ErrorTable table = read_csv(folder / "tables" / "fnorm-llama-2-7b.csv");
  EXPECT_EQ(table.rows.size(), 224U);
  EXPECT_EQ(table.menu, parse_menu("mxq").schemes);
  std::int64_t parameters = 0;
  for (const ErrorRow& row : table.rows) {
    parameters += row.parameters;
    const std::int64_t in = row.module == "mlp.down_proj" ? 11008 : 4096;
    for (const ErrorCell& cell : row.cells) {
      // Their sizes are ours, but for the last group of second-level parameters, which we write whole.
      const double difference = static_cast<double>(storage_bytes(cell.scheme, row.parameters / in, in)) -
                                static_cast<double>(cell.bytes);
      EXPECT_GE(difference, 0);
      EXPECT_LT(difference, 4);
    }
  }
  EXPECT_EQ(parameters, 6476005376);
}

}  // namespace
}  // namespace knapsaq
