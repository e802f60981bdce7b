#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace knapsaq {

/// Root of every exception that leaves the library. what() is one line: what is wrong, where, what to do.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Data from outside (a file, a tensor, a text) is invalid.
class InputError : public Error {
 public:
  using Error::Error;
};

/// The caller asked for something without meaning: an unknown scheme, a size without a number.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// The operating system refused: a file that cannot be opened, a full disk.
class IoError : public Error {
 public:
  using Error::Error;
};

/// A budget below the smallest possible allocation.
class InfeasibleError : public Error {
 public:
  InfeasibleError(const std::string& what, double smallest) : Error(what), smallest_(smallest) {}
  /// The smallest feasible budget, in the unit that the caller used (bytes or bits per weight).
  double smallest() const { return smallest_; }

 private:
  double smallest_;
};

/// The user interrupted (Ctrl-C); what was finished is kept.
class Cancelled : public Error {
 public:
  Cancelled() : Error("interrupted") {}
};

}  // namespace knapsaq
