#include "knapsaq/tune/tune_state.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <span>

#include "knapsaq/base/error.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/checkpoint/safetensors.h"

namespace knapsaq {
namespace {

constexpr std::size_t kDigits = 32;
constexpr std::size_t kNumbers = 6;

/// Of one number for each parameter, in the order of the file.
constexpr std::array kVectors = {"parameters", "first_moment", "second_moment", "best"};

std::array<double, kNumbers> numbers_of(const TuneState& state) {
  return {
      static_cast<double>(state.adam.steps),  static_cast<double>(state.best_step),          state.best_kl,
      static_cast<double>(state.looked_step), static_cast<double>(state.looks_without_gain), state.train_kl};
}

/// Whether these can be of a tuning of so many steps. A checksum is no protection against who made the file.
bool make_sense(const std::array<double, kNumbers>& numbers, std::int64_t most_steps) {
  const auto& [steps, best, best_kl, looked, without_gain, train_kl] = numbers;
  const auto is_count = [](double value, double most) { return value >= 0 && value <= most; };
  return is_count(steps, static_cast<double>(most_steps)) && is_count(best, steps) &&
         is_count(looked, steps) && is_count(without_gain, steps) && std::isfinite(best_kl) &&
         std::isfinite(train_kl);
}

std::vector<TensorSpec> tensors_of(std::size_t parameters) {
  std::vector<TensorSpec> tensors;
  for (const char* name : kVectors)
    tensors.push_back({name, DType::F32, {static_cast<std::int64_t>(parameters)}});
  tensors.push_back({"numbers", DType::F64, {static_cast<std::int64_t>(kNumbers)}});
  tensors.push_back({"checksum", DType::U8, {static_cast<std::int64_t>(kDigits)}});
  return tensors;
}

}  // namespace

void save_tune_state(const TuneState& state, std::string_view key, const std::filesystem::path& file) {
  const std::array<double, kNumbers> numbers = numbers_of(state);
  SafetensorsWriter writer(file, tensors_of(state.parameters.size()));
  Hasher hasher;
  hasher.update(key);
  const auto write = [&](std::span<const std::byte> bytes) {
    hasher.update(bytes);
    writer.write(bytes);
  };
  for (const std::vector<float>* values :
       {&state.parameters, &state.adam.first, &state.adam.second, &state.best})
    write(std::as_bytes(std::span(*values)));
  write(std::as_bytes(std::span(numbers)));
  const std::string digits = hasher.hex();
  writer.write(std::as_bytes(std::span(digits)));
  writer.commit();
}

bool load_tune_state(TuneState& state, std::string_view key, std::int64_t most_steps,
                     const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return false;
  try {
    const SafetensorsFile stored(file);
    Hasher hasher;
    hasher.update(key);
    std::vector<std::span<const std::byte>> parts;
    for (const TensorSpec& spec : tensors_of(state.parameters.size())) {
      const auto found = stored.tensors().find(spec.name);
      if (found == stored.tensors().end() || found->second.type != spec.type ||
          found->second.shape != spec.shape)
        return false;
      parts.push_back(found->second.bytes);
    }
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) hasher.update(parts[i]);
    const std::string digits = hasher.hex();
    if (!std::ranges::equal(parts.back(), std::as_bytes(std::span(digits)))) return false;
    std::array<double, kNumbers> numbers;
    std::memcpy(numbers.data(), parts[std::size(kVectors)].data(), sizeof numbers);
    if (!make_sense(numbers, most_steps)) return false;
    std::size_t next = 0;
    for (std::vector<float>* values :
         {&state.parameters, &state.adam.first, &state.adam.second, &state.best}) {
      std::memcpy(values->data(), parts[next].data(), parts[next].size());
      ++next;
    }
    state.adam.steps = static_cast<std::int64_t>(numbers[0]);
    state.best_step = static_cast<std::int64_t>(numbers[1]);
    state.best_kl = numbers[2];
    state.looked_step = static_cast<std::int64_t>(numbers[3]);
    state.looks_without_gain = static_cast<std::int64_t>(numbers[4]);
    state.train_kl = numbers[5];
    return true;
  } catch (const InputError&) {
    return false;  // a file that is damaged or not one of ours is replaced
  }
}

}  // namespace knapsaq
