// Files that are not what they should be are told by what they look like.

#include "knapsaq/base/looks_like.h"

#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace knapsaq {
namespace {

using ::testing::HasSubstr;
using namespace std::string_literals;

TEST(LooksLike, WhatDownloadsLeaveBehind) {
  EXPECT_THAT(looks_like(""), HasSubstr("is empty"));
  EXPECT_THAT(looks_like("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"),
              HasSubstr("is a Git LFS pointer of 63 bytes"));
  EXPECT_THAT(looks_like("\n <!DOCTYPE html><html>"), HasSubstr("is an HTML page"));
  EXPECT_THAT(looks_like("<HTML lang=en>"), HasSubstr("is an HTML page"));
  EXPECT_THAT(looks_like("<?xml version=\"1.0\"?><Error>"), HasSubstr("is an XML document"));
  EXPECT_THAT(looks_like("Entry not found"), HasSubstr("server's message"));
  EXPECT_THAT(looks_like("{\"error\":\"Repository not found\"}"), HasSubstr("server's message"));
  EXPECT_THAT(looks_like(std::string(5000, '\0')), HasSubstr("has 5000 bytes, all of them zero"));
  EXPECT_THAT(looks_like(" \r\n\t"), HasSubstr("nothing but white space"));
}

TEST(LooksLike, ArchivesAndOtherKinds) {
  const std::pair<std::string, const char*> kinds[] = {{"\x1F\x8B\x08", "gzip"},
                                                       {"\xFD"
                                                        "7zXZ\0"s,
                                                        "xz"},
                                                       {"BZh91AY&SY", "bzip2"},
                                                       {"\x28\xB5\x2F\xFD..", "zstd"},
                                                       {"PK\x03\x04..", "zip"},
                                                       {"7z\xBC\xAF\x27\x1C", "7z"},
                                                       {"%PDF-1.7", "PDF"},
                                                       {"PAR1....", "Parquet"},
                                                       {"ARROW1\0\0"s, "Arrow"},
                                                       {"GGUF\3\0\0\0"s, "GGUF"},
                                                       {"\x93NUMPY", "numpy"},
                                                       {"\x89HDF\r\n\x1A\n", "HDF5"},
                                                       {"SQLite format 3\0"s, "SQLite"},
                                                       {"\x80\x04.", "pickle"}};
  for (const auto& [bytes, name] : kinds) EXPECT_THAT(looks_like(bytes), HasSubstr(name));
  std::string tar(512, '\0');
  tar.replace(0, 4, "name");
  tar.replace(257, 5, "ustar");
  EXPECT_THAT(looks_like(tar), HasSubstr("tar archive"));
  EXPECT_EQ(looks_like("\x10\0\0\0\0\0\0\0{\"a\":{}}        "s), "is a safetensors file");
}

TEST(LooksLike, OrdinaryFilesAreNothingSpecial) {
  for (const char* text : {"Hello world", "{\"model_type\": \"llama\"}", "GGML is a library",
                           "#version: 0.2\na b\n", "404 tokens were found"})
    EXPECT_EQ(looks_like(text), "") << text;
}

TEST(LooksLike, AReaderKnowsItsOwnKindBetter) {
  const std::string gguf = "GGUF and more";
  const auto bytes = std::as_bytes(std::span(gguf));
  EXPECT_EQ(reason_or_look(bytes, "is truncated", FileKind::gguf), "is truncated");
  EXPECT_EQ(reason_or_look(bytes, "is truncated", FileKind::safetensors), "is a GGUF file");
  EXPECT_EQ(reason_or_look("{", "is cut"), "is cut");
}

}  // namespace
}  // namespace knapsaq
