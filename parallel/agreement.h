#pragma once

#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include "parallel/communicator.h"
#include "runtime/base/error.h"

namespace cairn {

/// An error that every rank of the world throws at the same place: rank 0 reports it, once, and the
/// ranks end in good order.
class CollectiveError : public Error {
 public:
  using Error::Error;
};

/// Runs `work` on every rank; when it threw an Error on any, every rank throws that of the lowest
/// such rank as a CollectiveError. `work` must not wait for other ranks. Collective.
void RunTogether(Communicator& world, const std::function<void()>& work);

/// The same bytes on every rank: those that `work` gave on rank 0. Errors as RunTogether.
/// Collective.
std::string RunOnFirst(Communicator& world, const std::function<std::string()>& work);

/// Every rank's `value`, by rank, for values without pointers. Collective.
template <typename T>
std::vector<T> GatherValues(Communicator& world, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::vector<T> values;
  for (const std::string& bytes :
       world.AllGatherBytes(std::string(reinterpret_cast<const char*>(&value), sizeof(T)))) {
    std::memcpy(&values.emplace_back(), bytes.data(), sizeof(T));
  }
  return values;
}

}  // namespace cairn
