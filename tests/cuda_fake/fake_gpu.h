#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cairn::fake {

/// One call of a GPU's host thread that does nothing (an order left out), or is refused
/// (cudaMalloc).
struct Omission {
  int device = -1;
  std::string call;    ///< "cudaStreamWaitEvent", ...
  int64_t index = -1;  ///< of the device's calls of that name, from 0
};

/// When a host that only asks learns that an event has happened.
enum class Answers : uint8_t {
  kLate,   ///< not before it has waited for what comes after: it learns no order by asking
  kEarly,  ///< as soon as the work can have been done
};

/// How fake GPUs behave, where real ones may do either.
struct Behaviour {
  Answers answers = Answers::kLate;
  /// Operations of NCCL that fit beside each other on a GPU: when so many wait for their peers,
  /// they keep others out. No GPU's streams have more.
  size_t nccl_at_once = 4;
  /// Which stream comes first where several could; 0: in the order of their making.
  unsigned seed = 0;
  int nccl_version = 22809;
  /// Whether NCCL tells the others of a rank's abort (as over a network), or lets them wait.
  bool tells_of_aborts = true;
  Omission omission{};
};

/// GPUs 0, 1, ... from here to End(). They share nothing but NCCL.
void Begin(int devices, const Behaviour& behaviour = {});

/// What was wrong with the calls since Begin(), one line each; empty: nothing. That what was made
/// and not given back, and copies that no host waited for, are among it.
std::vector<std::string> End();

/// How often the host of `device` called `call` since Begin().
int64_t Calls(int device, const std::string& call);

/// What the omitted wait's stream did next, beside waiting.
std::string OmittedBefore();

/// The calling thread is a rank: one of those that a deadlock is judged by.
class RankScope {
 public:
  explicit RankScope(int rank);
  ~RankScope();
  RankScope(const RankScope&) = delete;
  RankScope& operator=(const RankScope&) = delete;
};

/// NCCL reports an error to all ranks of all communicators from now on, and moves nothing any more.
void BreakNetwork();

}  // namespace cairn::fake
