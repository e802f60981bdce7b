#pragma once

#include <cstdint>
#include <string_view>

namespace knapsaq {

/// Hears how far long work is. The library only reports; a face of it (command line, Python, page) shows.
/// advance() may be called from any thread.
class Progress {
 public:
  virtual ~Progress() = default;
  /// Work named `what` starts and consists of `total` units (`unit` is a plural: "tokens", "linears").
  virtual void begin(std::string_view what, std::uint64_t total, std::string_view unit) = 0;
  /// `done` more units are finished.
  virtual void advance(std::uint64_t done) = 0;
  virtual void end() = 0;

  /// Hears and says nothing.
  static Progress& none();
};

/// Calls begin() now and end() when the scope is left, also by an exception.
class ProgressScope {
 public:
  ProgressScope(Progress& progress, std::string_view what, std::uint64_t total, std::string_view unit)
      : progress_(progress) {
    progress_.begin(what, total, unit);
  }
  ~ProgressScope() { progress_.end(); }
  ProgressScope(const ProgressScope&) = delete;
  ProgressScope& operator=(const ProgressScope&) = delete;
  void advance(std::uint64_t done = 1) { progress_.advance(done); }

 private:
  Progress& progress_;
};

}  // namespace knapsaq
