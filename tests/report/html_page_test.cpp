#include "knapsaq/report/html_page.h"

#include <gtest/gtest.h>
namespace knapsaq {
namespace {
TEST(HtmlPage, Stub) { EXPECT_FALSE(html_page(ReportData{}).empty()); }
}  // namespace
}  // namespace knapsaq
