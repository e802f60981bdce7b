#pragma once

#include <string_view>

namespace knapsaq {

/// What the page of a running run has beyond a report's (report/page_files.h), embedded at build time.
std::string_view live_html();  ///< page/live.html: stands above the report's sections
std::string_view live_css();   ///< page/live.css
std::string_view live_js();    ///< page/live.js: asks the server once a second, and draws

}  // namespace knapsaq
