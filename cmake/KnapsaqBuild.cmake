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
  set(CMAKE_CXX_COMPILER_LAUNCHER ${KNAPSAQ_CCACHE})
endif()

add_library(knapsaq_flags INTERFACE)
# -ffp-contract=off: a fused multiply-add is written where it is meant, so that the same seed gives
# the same numbers whatever the optimiser finds.
target_compile_options(knapsaq_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
                       -Wno-sign-conversion -Wnon-virtual-dtor -Woverloaded-virtual -ffp-contract=off)
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

# knapsaq_room(NAME SOURCES file... [ROOMS room...] [LIBRARIES target...])
# One folder under src/knapsaq, one static library knapsaq_NAME. ROOMS are the rooms below that its
# headers or sources use; LIBRARIES are outside libraries that only its sources see.
function(knapsaq_room NAME)
  cmake_parse_arguments(ROOM "" "" "SOURCES;ROOMS;LIBRARIES" ${ARGN})
  add_library(knapsaq_${NAME} STATIC ${ROOM_SOURCES})
  add_library(knapsaq::${NAME} ALIAS knapsaq_${NAME})
  target_include_directories(knapsaq_${NAME} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_features(knapsaq_${NAME} PUBLIC cxx_std_20)
  set_target_properties(knapsaq_${NAME} PROPERTIES EXPORT_NAME ${NAME})
  list(TRANSFORM ROOM_ROOMS PREPEND knapsaq_)
  target_link_libraries(knapsaq_${NAME} PUBLIC ${ROOM_ROOMS}
                        PRIVATE $<BUILD_INTERFACE:knapsaq_flags> ${ROOM_LIBRARIES})
  set_property(GLOBAL APPEND PROPERTY KNAPSAQ_ROOMS knapsaq_${NAME})
endfunction()

# knapsaq_test(NAME SOURCES file... ROOMS room... [LIBRARIES target...])
# One GoogleTest program test_NAME; every test case becomes a ctest test.
function(knapsaq_test NAME)
  cmake_parse_arguments(TEST "" "" "SOURCES;ROOMS;LIBRARIES" ${ARGN})
  add_executable(test_${NAME} ${TEST_SOURCES})
  list(TRANSFORM TEST_ROOMS PREPEND knapsaq_)
  target_link_libraries(test_${NAME} PRIVATE knapsaq_flags ${TEST_ROOMS} ${TEST_LIBRARIES}
                        GTest::gmock GTest::gtest GTest::gtest_main)
  target_include_directories(test_${NAME} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(test_${NAME} PRIVATE
    KNAPSAQ_SOURCE_DIR="${PROJECT_SOURCE_DIR}" KNAPSAQ_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data")
  gtest_discover_tests(test_${NAME} DISCOVERY_TIMEOUT 120)
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
