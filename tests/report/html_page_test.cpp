#include "knapsaq/report/html_page.h"

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/files.h"
#include "report/made_report.h"
#include "scratch.h"

namespace knapsaq {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

std::size_t count(std::string_view text, std::string_view what) {
  std::size_t result = 0;
  for (std::size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1)) ++result;
  return result;
}

/// The data as the page's script would read them.
json data_of(const std::string& page) {
  const std::string open = R"(<script type="application/json" id="data">)";
  const std::size_t begin = page.find(open) + open.size();
  return json::parse(page.substr(begin, page.find("</script>", begin) - begin));
}

/// Levels of a point, unpacked as page/data.js does it.
Point unpacked(const json& points, std::size_t variables, std::size_t place) {
  static constexpr std::string_view kDigits =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
  const auto text = points.at("allocations").get<std::string>();
  const auto width = points.at("width").get<std::size_t>();
  Point point;
  for (std::size_t v = 0; v < variables; ++v) {
    std::size_t level = 0;
    for (std::size_t k = 0; k < width; ++k)
      level = level * 64 + kDigits.find(text.at((place * variables + v) * width + k));
    point.push_back(static_cast<std::uint8_t>(level));
  }
  return point;
}

TEST(HtmlPage, NothingOfTheDataBecomesMarkup) {
  const std::size_t scripts = count(html_page(ReportData{}), "</script");
  ReportData data = begun_report(3);
  const std::string name = "a</script><script>alert('1')</script><!-- & \"{{DATA}}\" \xE2\x80\xA8";
  data.model.name = name;
  data.linears[0].name = name;
  data.searches[0].strategy = name;
  data.pick_command = name;
  const std::string page = html_page(data);
  EXPECT_EQ(count(page, "</script"), scripts);
  EXPECT_EQ(count(page, "<!--"), count(html_page(ReportData{}), "<!--"));
  EXPECT_THAT(page, HasSubstr("<title>a&lt;/script&gt;"));
  const json read = data_of(page);
  EXPECT_EQ(read.at("model").at("name"), name);
  EXPECT_EQ(read.at("linears").at(0).at("name"), name);
  EXPECT_EQ(read.at("searches").at(0).at("strategy"), name);
}

TEST(HtmlPage, NamesThatAreNotUtf8AreShownAsFarAsTheyAre) {
  ReportData data = begun_report(0);
  data.model.name = "folder-\xFF-name";
  const json read = data_of(html_page(data));
  EXPECT_EQ(read.at("model").at("name"), "folder-\xEF\xBF\xBD-name");
}

TEST(HtmlPage, NeedsNoNetwork) {
  const std::string page = html_page(made_report());
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
  for (const char* reference : {"src=\"", "href=\"http", "href=\"//", "@import", "url("})
    EXPECT_THAT(page.substr(0, page.find("id=\"data\"")), Not(HasSubstr(reference)));
  for (const char* part : {"{{TITLE}}", "{{STYLE}}", "{{DATA}}", "{{CHARTS}}", "{{SCRIPT}}"})
    EXPECT_THAT(page, Not(HasSubstr(part)));
}

TEST(HtmlPage, IsAboutFilesToo) {
  const std::string page = html_page(files_report());
  EXPECT_THAT(page, HasSubstr("comparison of files"));
  EXPECT_EQ(count(page, "</script"), count(html_page(ReportData{}), "</script"));
  const json files = data_of(page).at("files");
  ASSERT_EQ(files.size(), 5u);
  EXPECT_EQ(files[0].at("name"), "two <script>");
  EXPECT_TRUE(files[0].at("rival").is_null());
  EXPECT_EQ(files[2].at("rival"), 1);
  EXPECT_TRUE(files[3].at("mean").is_null());
  EXPECT_EQ(files[4].at("kl999"), 0.0012);
}

TEST(HtmlPage, ReplacesAnOlderOne) {
  const Scratch scratch;
  write_file(scratch / "report.html", "older");
  write_html(begun_report(2), scratch / "report.html");
  EXPECT_EQ(read_file(scratch / "report.html"), html_page(begun_report(2)));
}

TEST(HtmlPage, OfALargeRunStaysSmall) {
  // Three searches of AMQ's 10,250 measurements on a model of 224 linears.
  const std::string page = html_page(made_report({.blocks = 32, .amq_evaluations = 10250, .seeds = 3}));
  EXPECT_LT(page.size(), 15'000'000u);
}

TEST(ReportData, PointsAreReadBack) {
  const ReportData data = made_report({.blocks = 2, .amq_evaluations = 50, .seeds = 1});
  const json points = to_json(data).at("points");
  ASSERT_TRUE(points.at("dropped").empty());
  for (std::size_t i = 0; i < data.points.size(); ++i) {
    EXPECT_EQ(unpacked(points, data.variables.size(), i), data.points[i].point);
    EXPECT_EQ(points.at("bytes").at(i), data.points[i].bytes);
    EXPECT_NEAR(points.at("kl").at(i).get<double>(), data.points[i].measurement.kl,
                1e-5 * data.points[i].measurement.kl);
  }
}

TEST(ReportData, ManyLevelsTakeTwoDigits) {
  ReportData data;
  data.variables.resize(2);
  for (ReportVariable& variable : data.variables) variable.levels.resize(200);
  data.points.resize(1);
  data.points[0].point = {199, 63};
  const json points = to_json(data).at("points");
  EXPECT_EQ(points.at("width"), 2);
  EXPECT_EQ(unpacked(points, 2, 0), (Point{199, 63}));
}

TEST(ReportData, PointsFarFromTheFrontsLoseTheirAllocationFirst) {
  const ReportData data = made_report({.blocks = 2, .amq_evaluations = 200, .seeds = 1});
  std::vector<std::size_t> on_fronts = data.front;
  for (const ReportSearch& search : data.searches)
    on_fronts.insert(on_fronts.end(), search.front.begin(), search.front.end());
  std::ranges::sort(on_fronts);
  on_fronts.erase(std::ranges::unique(on_fronts).begin(), on_fronts.end());
  ASSERT_LT(on_fronts.size() + 5, data.points.size());

  const json points = to_json(data, data.variables.size() * (on_fronts.size() + 5)).at("points");
  const auto dropped = points.at("dropped").get<std::vector<std::size_t>>();
  EXPECT_EQ(dropped.size(), data.points.size() - on_fronts.size() - 5);
  EXPECT_EQ(points.at("allocations").get<std::string>().size(),
            data.variables.size() * (on_fronts.size() + 5));
  for (const std::size_t point : on_fronts) EXPECT_THAT(dropped, Not(testing::Contains(point)));
}

TEST(ReportData, WhatThereIsNotIsNull) {
  const json empty = to_json(ReportData{});
  EXPECT_TRUE(empty.at("study").is_null());
  EXPECT_TRUE(empty.at("points").at("kl").is_null());
  EXPECT_TRUE(empty.at("model").at("loss").is_null());

  ReportData data = begun_report(2);
  data.points[0].measurement.jsd = std::numeric_limits<double>::quiet_NaN();
  data.points[1].measurement.jsd = std::numeric_limits<double>::infinity();
  data.points[1].measurement.kl = std::numeric_limits<double>::infinity();
  const json points = to_json(data).at("points");
  EXPECT_TRUE(points.at("jsd").is_null());  // the run does not measure it
  EXPECT_TRUE(points.at("kl").at(1).is_null());
  EXPECT_FALSE(points.at("kl").at(0).is_null());
  EXPECT_TRUE(to_json(data).at("searches").at(0).at("predicted").is_null());
}

}  // namespace
}  // namespace knapsaq
