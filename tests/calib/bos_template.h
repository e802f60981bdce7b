#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

namespace knapsaq {

/// A template that puts a token in front of every text.
inline nlohmann::json bos_template(const std::string& token, std::int32_t id) {
  nlohmann::json json = nlohmann::json::parse(
      R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "B"}}, {"Sequence": {"id": "A"}}]})");
  json["single"][0]["SpecialToken"]["id"] = token;
  json["special_tokens"][token]["ids"] = nlohmann::json::array({id});
  return json;
}

}  // namespace knapsaq
