#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// A linear of a bank and the schemes in which it is stored there.
struct BankedLinear {
  Matrix linear;
  std::vector<Scheme>
      schemes;  ///< one for each scheme of the menu, in its order; may repeat (see ErrorTable)

  /// `schemes` without repetitions: the content of the linear's file.
  std::vector<Scheme> distinct() const;
};

/// bank.json: what a bank is and what it was built from. It contains everything that determines a bank's
/// content, so two banks with the same index are equal to the byte.
struct BankIndex {
  std::string model;  ///< fingerprint()
  Menu menu;
  std::string inputs;   ///< InputSource::identity(); empty: built without statistics of inputs
  std::string folding;  ///< Folding::identity(); empty: none
  bool fisher = false;  ///< its files have Fisher costs (LocalErrors::fisher): `inputs` knew the gradients
  std::vector<BankedLinear> linears;

  /// Distinguishes the file of one linear of this bank from all others.
  std::string key(const BankedLinear& linear) const;
};

inline constexpr std::string_view kBankIndexName = "bank.json";
inline constexpr std::string_view kBankCalibrationName = "calibration";
inline constexpr std::string_view kBankFoldingName = "folding.safetensors";
/// The path of the linear's file, relative to the bank: "linears/<name>.safetensors".
std::filesystem::path file_of(const BankedLinear& linear);

std::string to_json(const BankIndex& index);
/// Throws InputError (without the file's name, which the caller knows) for anything that to_json() does not
/// write.
BankIndex parse_bank_index(std::string_view text);

}  // namespace knapsaq
