# Run by CMake as a script: writes a C++ source that holds files, one behind the other, as a std::string_view.
#   cmake -D OUTPUT=x.cpp -D HEADER=knapsaq/room/x.h -D FUNCTION=name -D FILES=a,b -P EmbedFiles.cmake
# Bytes and not string literals: compilers limit the length of those.
string(REPLACE "," ";" files "${FILES}")
set(bytes "")
foreach(file IN LISTS files)
  file(READ ${file} hex HEX)
  string(APPEND bytes "${hex}")
endforeach()
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
# 20 bytes a line: editors and diagnostics choke on one line of megabytes.
string(REPEAT "....." 20 line)
string(REGEX REPLACE "(${line})" "\\1\n" bytes "${bytes}")
file(WRITE ${OUTPUT} "// Made by cmake/EmbedFiles.cmake.
#include \"${HEADER}\"

namespace knapsaq {
namespace {
constexpr unsigned char kBytes[] = {
${bytes}};
}  // namespace

std::string_view ${FUNCTION}() { return {reinterpret_cast<const char*>(kBytes), sizeof kBytes}; }

}  // namespace knapsaq
")
