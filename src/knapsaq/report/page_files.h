#pragma once

#include <string_view>

namespace knapsaq {

/// The files that the report's page is made of, embedded at build time (knapsaq_embed() in
/// cmake/KnapsaqBuild.cmake).
std::string_view page_html();  ///< page/page.html: the frame, with {{NAME}} where the others go
std::string_view page_css();   ///< page/page.css
/// What draws a report; it declares functions, calls nothing, and needs page_charts().
std::string_view page_js();
std::string_view page_early_js();   ///< page/early.js, for the page's head
std::string_view page_static_js();  ///< page/static.js: draws the data that are in the page
std::string_view page_charts();     ///< third_party/echarts
/// NOTICE and LICENSE of it, which have to be where it is: every page is a copy of the library.
std::string_view page_licences();

}  // namespace knapsaq
