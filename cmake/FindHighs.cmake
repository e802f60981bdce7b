# HiGHS, as highs::highs. The CMake and pkg-config files that Debian 13 packages name folders of the machine they were
# built on, so the header and the library are looked for themselves, wherever HiGHS comes from.
find_path(HIGHS_INCLUDE_DIR Highs.h PATH_SUFFIXES highs)
find_library(HIGHS_LIBRARY highs)
if(HIGHS_INCLUDE_DIR)
  file(STRINGS ${HIGHS_INCLUDE_DIR}/HConfig.h Highs_VERSION REGEX "^#define HIGHS_VERSION_(MAJOR|MINOR|PATCH) [0-9]+$")
  list(TRANSFORM Highs_VERSION REPLACE "^.* " "")
  list(JOIN Highs_VERSION . Highs_VERSION)
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Highs REQUIRED_VARS HIGHS_LIBRARY HIGHS_INCLUDE_DIR VERSION_VAR Highs_VERSION)
if(Highs_FOUND AND NOT TARGET highs::highs)
  find_package(Threads REQUIRED)
  # highs_export.h lies one folder higher than the others.
  cmake_path(GET HIGHS_INCLUDE_DIR PARENT_PATH highs_parent)
  add_library(highs::highs UNKNOWN IMPORTED)
  set_target_properties(highs::highs PROPERTIES
    IMPORTED_LOCATION ${HIGHS_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES "${HIGHS_INCLUDE_DIR};${highs_parent}"
    INTERFACE_LINK_LIBRARIES Threads::Threads)
endif()
mark_as_advanced(HIGHS_INCLUDE_DIR HIGHS_LIBRARY)
