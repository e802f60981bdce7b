# How every target of the project is compiled, and the two functions that declare rooms and tests.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
find_program(KNAPSAQ_CCACHE ccache)
if(KNAPSAQ_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # What its manual asks for where there are precompiled headers; nothing here uses __TIME__.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${KNAPSAQ_CCACHE})
endif()

add_library(knapsaq_flags INTERFACE)
# -ffp-contract=off: a fused multiply-add is written where it is meant, so that the same seed gives
# the same numbers whatever the optimiser finds.
target_compile_options(knapsaq_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
                       -Wno-sign-conversion -Wnon-virtual-dtor -Woverloaded-virtual -ffp-contract=off)
# For ccache: without it g++ does not say in its preprocessed output which precompiled header it used.
target_compile_options(knapsaq_flags INTERFACE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
if(KNAPSAQ_WERROR)
  target_compile_options(knapsaq_flags INTERFACE -Werror)
endif()
if(KNAPSAQ_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()
if(KNAPSAQ_TSAN)
  # The standard library's fences are the only ones; ours are atomics, which ThreadSanitizer follows.
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer -Wno-tsan)
  add_link_options(-fsanitize=thread)
endif()
if(KNAPSAQ_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# Precompiled are the headers of the standard library that most sources include, half a second of a compiler's time for
# each of them. Sources include what they use all the same: builds for sanitizers, fuzzers and clang-tidy go without.
set(knapsaq_common_headers <algorithm> <array> <chrono> <cmath> <cstdint> <filesystem> <functional> <map> <memory>
    <optional> <random> <ranges> <span> <string> <string_view> <vector>)

# knapsaq_precompile(TARGET PROVIDER header...)
# The first target of a PROVIDER's name makes the precompiled headers, the others use them: they have to be compiled with
# the same options.
function(knapsaq_precompile TARGET PROVIDER)
  if(KNAPSAQ_SANITIZE OR KNAPSAQ_TSAN OR KNAPSAQ_FUZZ)
    return()
  endif()
  get_property(made GLOBAL PROPERTY KNAPSAQ_PRECOMPILED_${PROVIDER})
  if(made)
    target_precompile_headers(${TARGET} REUSE_FROM ${made})
  else()
    target_precompile_headers(${TARGET} PRIVATE ${knapsaq_common_headers} ${ARGN})
    set_property(GLOBAL PROPERTY KNAPSAQ_PRECOMPILED_${PROVIDER} ${TARGET})
  endif()
endfunction()

# knapsaq_source_options(file... OPTIONS option...)
# Compiles these sources with options of their own, which precompiled headers do not have.
function(knapsaq_source_options)
  cmake_parse_arguments(SOURCE "" "" "OPTIONS" ${ARGN})
  set_source_files_properties(${SOURCE_UNPARSED_ARGUMENTS} PROPERTIES
    COMPILE_OPTIONS "${SOURCE_OPTIONS}" SKIP_PRECOMPILE_HEADERS ON)
endfunction()

# knapsaq_room(NAME SOURCES file... [ROOMS room...] [LIBRARIES target...])
# One folder under src/knapsaq, one static library knapsaq_NAME; its headers that are promised to users of the library
# are in include/knapsaq/NAME and include nothing but such and the standard library. ROOMS are the rooms below that its
# headers or sources use; LIBRARIES are outside libraries that only its sources see: nlohmann_json, of which nothing is
# left to link, does not even go to those who use an installed Knapsaq.
function(knapsaq_room NAME)
  cmake_parse_arguments(ROOM "" "" "SOURCES;ROOMS;LIBRARIES" ${ARGN})
  add_library(knapsaq_${NAME} STATIC ${ROOM_SOURCES})
  add_library(knapsaq::${NAME} ALIAS knapsaq_${NAME})
  target_include_directories(knapsaq_${NAME} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_features(knapsaq_${NAME} PUBLIC cxx_std_20)
  set_target_properties(knapsaq_${NAME} PROPERTIES EXPORT_NAME ${NAME})
  list(TRANSFORM ROOM_ROOMS PREPEND knapsaq_)
  list(TRANSFORM ROOM_LIBRARIES REPLACE "^nlohmann_json::nlohmann_json$" "$<BUILD_INTERFACE:nlohmann_json::nlohmann_json>")
  target_link_libraries(knapsaq_${NAME} PUBLIC ${ROOM_ROOMS}
                        PRIVATE $<BUILD_INTERFACE:knapsaq_flags> ${ROOM_LIBRARIES})
  if(NOT NAME STREQUAL compute)  # OpenMP's flag is not for the others, and its sources include little
    knapsaq_precompile(knapsaq_${NAME} room <fmt/core.h>)
  endif()
  set_property(GLOBAL APPEND PROPERTY KNAPSAQ_ROOMS knapsaq_${NAME})
endfunction()

# knapsaq_test(NAME [ARITHMETIC] ROOMS room... [LIBRARIES target...])
# One GoogleTest program test_NAME of all sources *_test.cpp, and what they share, in this folder and below it; every test
# case becomes a ctest test. A new test is a new file. In release builds tests are compiled with -O1, which takes a third
# less time: what they call is in the rooms. ARITHMETIC: what is tested computes with kernels, so all of it is tested once
# more with those of weaker processors.
function(knapsaq_test NAME)
  cmake_parse_arguments(TEST "ARITHMETIC" "" "ROOMS;LIBRARIES" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "/(make_[a-z_]*|shim)\\.cpp$")  # programs and libraries of their own
  add_executable(test_${NAME} ${sources})
  list(TRANSFORM TEST_ROOMS PREPEND knapsaq_)
  target_link_libraries(test_${NAME} PRIVATE knapsaq_flags ${TEST_ROOMS} ${TEST_LIBRARIES}
                        fmt::fmt nlohmann_json::nlohmann_json GTest::gmock GTest::gtest GTest::gtest_main)
  target_include_directories(test_${NAME} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  # With -O1 g++ 12 takes the buffer inside of a short string for the whole of a long one.
  target_compile_options(test_${NAME} PRIVATE
    $<$<CONFIG:Release>:-O1> $<$<CXX_COMPILER_ID:GNU>:-Wno-array-bounds> $<$<CXX_COMPILER_ID:GNU>:-Wno-stringop-overflow>)
  target_compile_definitions(test_${NAME} PRIVATE
    KNAPSAQ_SOURCE_DIR="${PROJECT_SOURCE_DIR}" KNAPSAQ_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data")
  knapsaq_precompile(test_${NAME} test <gmock/gmock.h> <gtest/gtest.h> <nlohmann/json.hpp>)
  gtest_discover_tests(test_${NAME} DISCOVERY_TIMEOUT 120 PROPERTIES LABELS ${NAME})
  if(TEST_ARITHMETIC AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
    knapsaq_test_with(${NAME} avx2 Haswell)
    knapsaq_test_with(${NAME} portable Nehalem)
  endif()
endfunction()

# knapsaq_test_with(NAME ISA CORE)
# The cases of test_NAME once more in one process, with our kernels and oneDNN lowered to the instruction set ISA and
# OpenBLAS to what it has for the processor CORE, so that no machine's tests depend on instructions that others lack.
# Left out are those that kill processes or look at files and names: no kernel decides how they end, and they take most
# of the time.
function(knapsaq_test_with NAME ISA CORE)
  add_test(NAME ${NAME}_with_${ISA} COMMAND test_${NAME} --gtest_brief=1 --gtest_filter=-*Kill*:CutArchive.*:Outputs.*:Inputs*:Verbs.*:Completion.*)
  set_tests_properties(${NAME}_with_${ISA} PROPERTIES
    ENVIRONMENT "KNAPSAQ_ISA=${ISA};OPENBLAS_CORETYPE=${CORE}" LABELS instructions
    COST 1000  # the longest: first
    TIMEOUT 3600)
endfunction()

# knapsaq_embed(TARGET FUNCTION HEADER FILES file...)
# Puts files into the library TARGET: the function `std::string_view FUNCTION()` of knapsaq, which HEADER declares, gives
# their bytes, one file behind the other.
function(knapsaq_embed TARGET FUNCTION HEADER)
  cmake_parse_arguments(EMBED "" "" "FILES" ${ARGN})
  list(TRANSFORM EMBED_FILES PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
  list(JOIN EMBED_FILES "," files)
  set(output ${CMAKE_CURRENT_BINARY_DIR}/${FUNCTION}.cpp)
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -D OUTPUT=${output} -D HEADER=${HEADER} -D FUNCTION=${FUNCTION} -D FILES=${files}
            -P ${PROJECT_SOURCE_DIR}/cmake/EmbedFiles.cmake
    DEPENDS ${EMBED_FILES} ${PROJECT_SOURCE_DIR}/cmake/EmbedFiles.cmake VERBATIM)
  target_sources(${TARGET} PRIVATE ${output})
endfunction()
