#include "launcher/health_monitor.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "parallel/agreement.h"
#include "parallel/flight_files.h"
#include "runtime/base/host.h"

namespace cairn {
namespace {

// Ranks for each core of the fullest host.
double RanksPerCore(Communicator& world, const std::vector<std::string>& hosts) {
  double most = 0;
  const std::vector<std::string> cores = world.AllGatherBytes(std::to_string(HostCores()));
  for (size_t rank = 0; rank < hosts.size(); ++rank) {
    const auto ranks = static_cast<double>(std::ranges::count(hosts, hosts[rank]));
    most = std::max(most, ranks / std::stod(cores[rank]));
  }
  return most;
}

std::vector<int> StagesOf(const MeshShape& shape) {
  std::vector<int> stages;
  stages.reserve(shape.world());
  for (int rank = 0; rank < shape.world(); ++rank) stages.push_back(CoordinateOf(shape, rank).pp);
  return stages;
}

}  // namespace

HealthMonitor::HealthMonitor(const Mesh& mesh, const Options& options)
    : world_(mesh.world()),
      hosts_(mesh.world().AllGatherBytes(HostName())),
      stragglers_(StagesOf(mesh.shape()), RanksPerCore(world_, hosts_)) {
  if (world_.size() == 1) return;
  directory_ = RunOnFirst(world_, [&] { return BeginFlight(options.run_dir, hosts_); });
  if (options.hang_timeout_seconds == 0) return;
  Watchdog::Options watch;
  watch.directory = directory_;
  watch.least_seconds = options.hang_timeout_seconds;
  watchdog_ = std::make_unique<Watchdog>(world_, watch);
}

void HealthMonitor::LetFirstReport() const {
  constexpr std::chrono::seconds kPatience(5);
  if (!directory_.empty() && !AnnounceFailure(directory_)) {
    std::this_thread::sleep_for(kPatience);
  }
}

void HealthMonitor::BeginStep(int64_t iteration) {
  world_.recorder()->SetIteration(iteration);
  wait_before_ns_ = world_.wait_ns();
  step_.Restart();
}

void HealthMonitor::EndStep() {
  step_before_seconds_ = std::exchange(step_seconds_, step_.ElapsedSeconds());
  const double waited = static_cast<double>(world_.wait_ns() - wait_before_ns_) * 1e-9;
  busy_seconds_ = std::max(0.0, step_seconds_ - waited);
  if (watchdog_) watchdog_->StepDone(step_seconds_);
}

std::optional<std::string> HealthMonitor::FindStraggler(const std::vector<double>& busy_seconds) {
  if (world_.size() == 1) return std::nullopt;
  const std::optional<Straggler> straggler =
      stragglers_.Observe(busy_seconds, step_before_seconds_);
  if (!straggler) return std::nullopt;
  return fmt::format(
      "rank {} ({}) is slow: busy {:.1f} times as long as it should be; the others wait for it "
      "{:.0f}% of each step",
      straggler->rank, hosts_[straggler->rank], straggler->slowdown,
      100 * straggler->share_of_step);
}

}  // namespace cairn
