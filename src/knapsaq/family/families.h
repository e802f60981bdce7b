#pragma once

#include "knapsaq/family/family.h"

namespace knapsaq {

// One line and one file for each.
extern const Family kOpt;
extern const Family kLlama;
extern const Family kMistral;
extern const Family kQwen2;
extern const Family kQwen3;
extern const Family kGemma2;
extern const Family kGemma3;
extern const Family kMixtral;
extern const Family kQwen2Moe;
extern const Family kQwen3Moe;
extern const Family kOlmoe;
extern const Family kGptOss;
extern const Family kSmolLm3;
extern const Family kOlmo2;
extern const Family kOlmo3;
extern const Family kGranite;
extern const Family kPhi3;
extern const Family kMinistral;
extern const Family kMinistral3;
extern const Family kGptNeoX;
extern const Family kQwen35;
extern const Family kQwen35Moe;
extern const Family kLfm2;

}  // namespace knapsaq
