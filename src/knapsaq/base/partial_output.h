#pragma once

#include <filesystem>

namespace knapsaq {

/// A file or folder that is being written, under the name `<path>.partial-<process id>`. It is locked as long
/// as its process lives, so a later process can recognise what a dead one left behind.
class PartialOutput {
 public:
  enum class Kind { file, folder };
  /// Creates an empty one. Throws IoError, naming `path`, if that fails.
  PartialOutput(const std::filesystem::path& path, Kind kind);
  /// Removes it with its content, unless forget() was called.
  ~PartialOutput();
  PartialOutput(const PartialOutput&) = delete;
  PartialOutput& operator=(const PartialOutput&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Open for writing if it is a file.
  int descriptor() const { return descriptor_; }
  /// Call it when it has another name.
  void forget() { owned_ = false; }

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  bool owned_ = true;
};

/// A lock on a file or folder for the lifetime of this object, if nobody else holds one.
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

/// `<path>.old-<process id>`: the name of a folder that waits while another one takes its name, if the system
/// cannot exchange the two (exchange.h).
std::filesystem::path waiting_name(const std::filesystem::path& path);

/// Restores the name of `path` if a process died while the folder waited under waiting_name(). Call it before
/// checking whether an output exists.
void restore_waiting(const std::filesystem::path& path);

/// Removes what dead processes left of `path`: partial outputs, and waiting folders that have been replaced.
void remove_leftovers(const std::filesystem::path& path);

}  // namespace knapsaq
