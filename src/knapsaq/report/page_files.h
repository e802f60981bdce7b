#pragma once

#include <string_view>

namespace knapsaq {

/// The files that the report's page is made of, embedded at build time (knapsaq_embed() in
/// cmake/KnapsaqBuild.cmake).
std::string_view page_html();    ///< page/page.html: the frame, with {{NAME}} where the others go
std::string_view page_css();     ///< page/page.css
std::string_view page_js();      ///< page/*.js
std::string_view page_charts();  ///< third_party/echarts
/// NOTICE and LICENSE of it, which have to be where it is: every page is a copy of the library.
std::string_view page_licences();

}  // namespace knapsaq
