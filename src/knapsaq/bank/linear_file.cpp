#include "knapsaq/bank/linear_file.h"

#include <cmath>
#include <cstring>
#include <stdexcept>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/quant/scheme_layout.h"

namespace knapsaq {
namespace {

constexpr std::size_t kStatistics = 1 + std::extent_v<decltype(WeightStatistics::percentiles)>;
constexpr std::size_t kDigits = 32;

std::span<const std::byte> bytes_of_numbers(std::span<const double> numbers) {
  return std::as_bytes(numbers);
}

std::string hash_of(std::string_view key, std::span<const std::span<const std::byte>> parts) {
  Hasher hasher;
  hasher.update(key);
  for (const std::span<const std::byte> part : parts) hasher.update(part);
  return hasher.hex();
}

/// Numbers of one scheme.
std::size_t errors_of(const LinearFileLayout& layout) {
  return std::size_t{3} + (layout.looked_up ? 1 : 0) + (layout.fisher ? 1 : 0);
}

bool is_error(double value) { return std::isfinite(value) && value >= 0; }

}  // namespace

std::vector<TensorSpec> LinearFileLayout::tensors() const {
  std::vector<TensorSpec> all;
  for (const Scheme& scheme : schemes)
    for (TensorSpec& tensor : tensors_of(to_string(scheme), stored_shape(scheme, out, in)))
      all.push_back(std::move(tensor));
  const auto count = static_cast<std::int64_t>(schemes.size());
  all.push_back({"errors", DType::F64, {count, static_cast<std::int64_t>(errors_of(*this))}});
  all.push_back({"statistics", DType::F64, {std::int64_t{kStatistics}}});
  all.push_back({"checksums", DType::U8, {count + 2, std::int64_t{kDigits}}});
  return all;
}

LinearFileLayout layout_of(const BankIndex& index, const BankedLinear& banked) {
  return {
      index.key(banked), banked.linear.out, banked.linear.in, banked.distinct(), banked.linear.is_looked_up(),
      index.fisher};
}

LinearFileWriter::LinearFileWriter(const std::filesystem::path& path, LinearFileLayout layout)
    : layout_(std::move(layout)), writer_(path, layout_.tensors()) {}

void LinearFileWriter::add(const StoredMatrix& stored, const LocalErrors& errors) {
  const std::vector<std::span<const std::byte>> parts = bytes_of(stored);
  for (const std::span<const std::byte> part : parts) writer_.write(part);
  checksums_ += hash_of(layout_.key, parts);
  numbers_.insert(numbers_.end(), {errors.fnorm, errors.relative, errors.hessian});
  if (layout_.looked_up) numbers_.push_back(errors.lookup);
  if (layout_.fisher) numbers_.push_back(errors.fisher);
}

void LinearFileWriter::commit(const WeightStatistics& statistics) {
  numbers_.push_back(statistics.kurtosis);
  numbers_.insert(numbers_.end(), std::begin(statistics.percentiles), std::end(statistics.percentiles));
  const std::span<const std::byte> parts[] = {bytes_of_numbers(numbers_)};
  checksums_ += hash_of(layout_.key, parts);
  checksums_ += layout_.key;
  writer_.write(parts[0]);
  writer_.write(std::as_bytes(std::span(checksums_)));
  writer_.commit();
}

LinearFile::LinearFile(const std::filesystem::path& path, LinearFileLayout layout)
    : layout_(std::move(layout)), file_(path) {
  const auto wrong = [&](const std::string& what) { return InputError(path.string() + ": " + what); };
  const std::vector<TensorSpec> expected = layout_.tensors();
  if (file_.tensors().size() != expected.size())
    throw wrong("does not hold the tensors that bank.json names");
  for (const TensorSpec& spec : expected) {
    const auto found = file_.tensors().find(spec.name);
    if (found == file_.tensors().end() || found->second.type != spec.type ||
        found->second.shape != spec.shape)
      throw wrong(fmt::format("has no tensor {} as bank.json asks for", spec.name));
  }
  const std::size_t count = layout_.schemes.size();
  const std::span<const std::byte> digits = file_.tensors().find("checksums")->second.bytes;
  for (std::size_t i = 0; i < count + 2; ++i)
    checksums_.emplace_back(reinterpret_cast<const char*>(digits.data()) + i * kDigits, kDigits);
  if (checksums_.back() != layout_.key) throw wrong("belongs to another bank, or is damaged");

  const std::span<const std::byte> parts[] = {file_.tensors().find("errors")->second.bytes,
                                              file_.tensors().find("statistics")->second.bytes};
  if (hash_of(layout_.key, parts) != checksums_[count]) throw wrong("is damaged: its numbers have changed");
  const std::size_t width = errors_of(layout_);
  std::vector<double> numbers(count * width);
  std::memcpy(numbers.data(), parts[0].data(), parts[0].size());
  for (std::size_t i = 0; i < count; ++i) {
    const double* const own = numbers.data() + width * i;
    LocalErrors& errors = errors_.emplace_back();
    errors.fnorm = own[0];
    errors.relative = own[1];
    errors.hessian = own[2];
    if (layout_.looked_up) errors.lookup = own[3];
    if (layout_.fisher) errors.fisher = own[width - 1];
  }
  const auto is_unknown_or_error = [](double value) { return std::isnan(value) || is_error(value); };
  for (const LocalErrors& errors : errors_)
    if (!is_error(errors.fnorm) || !is_error(errors.relative) || !is_unknown_or_error(errors.hessian) ||
        !is_error(errors.lookup) || !is_unknown_or_error(errors.fisher))
      throw wrong("has errors that are negative or not finite");
  double statistics[kStatistics];
  std::memcpy(statistics, parts[1].data(), sizeof statistics);
  statistics_.kurtosis = statistics[0];
  std::copy(statistics + 1, statistics + kStatistics, statistics_.percentiles);
}

void LinearFile::check_scheme(std::size_t scheme) const {
  const Scheme& wanted = layout_.schemes[scheme];
  std::vector<std::span<const std::byte>> parts;
  for (const TensorSpec& spec : tensors_of(to_string(wanted), stored_shape(wanted, layout_.out, layout_.in)))
    parts.push_back(file_.tensors().find(spec.name)->second.bytes);
  if (hash_of(layout_.key, parts) != checksums_[scheme])
    throw InputError(fmt::format(
        "{}: is damaged: the tensors of {} have changed; run `knapsaq bank` again to make them anew",
        file_.file().path().string(), to_string(wanted)));
}

StoredMatrix LinearFile::matrix(std::size_t scheme) const {
  check_scheme(scheme);
  const Scheme& wanted = layout_.schemes.at(scheme);
  StoredMatrix stored = read_stored(to_string(wanted), stored_shape(wanted, layout_.out, layout_.in),
                                    [&](const std::string& name) { return file_.tensors().at(name); });
  file_.file().release(file_.file().bytes());
  return stored;
}

void LinearFile::verify() const {
  for (std::size_t i = 0; i < layout_.schemes.size(); ++i) check_scheme(i);
  file_.file().release(file_.file().bytes());
}

}  // namespace knapsaq
