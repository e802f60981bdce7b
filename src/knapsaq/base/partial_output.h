#pragma once

#include <filesystem>

namespace knapsaq {

/// A file or folder that is being written, under the name `<path>.partial-<process id>`. It is locked as long
/// as its process lives, however that ends: so a later process knows what a dead one left behind.
class PartialOutput {
 public:
  enum class Kind { file, folder };
  /// Makes an empty one. Throws IoError, naming `path`, if that cannot be done.
  PartialOutput(const std::filesystem::path& path, Kind kind);
  /// Removes it with all that is in it, unless forget() was called.
  ~PartialOutput();
  PartialOutput(const PartialOutput&) = delete;
  PartialOutput& operator=(const PartialOutput&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Open for writing if it is a file.
  int descriptor() const { return descriptor_; }
  /// It has another name now.
  void forget() { owned_ = false; }

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  bool owned_ = true;
};

/// A lock on a file or folder for the life of this object, where nobody else holds one.
class TryLock {
 public:
  explicit TryLock(const std::filesystem::path& path);
  ~TryLock();
  TryLock(const TryLock&) = delete;
  TryLock& operator=(const TryLock&) = delete;
  enum class State { held, of_another, unknown };  ///< unknown: the file system has no locks
  State state() const { return state_; }

 private:
  int descriptor_ = -1;
  State state_ = State::unknown;
};

/// `<path>.old-<process id>`: where a folder waits while another one takes its name, where the system cannot
/// exchange the two (exchange.h).
std::filesystem::path waiting_name(const std::filesystem::path& path);

/// Gives `path` its name back if a process died while the folder waited under waiting_name(). Whoever asks
/// whether an output exists asks afterwards.
void restore_waiting(const std::filesystem::path& path);

/// Removes what dead processes left of `path`: partial ones, and folders that waited and are replaced.
void remove_leftovers(const std::filesystem::path& path);

}  // namespace knapsaq
