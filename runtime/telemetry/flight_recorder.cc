#include "runtime/telemetry/flight_recorder.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/base/error.h"

namespace cairn {
namespace {

using Json = nlohmann::json;

// Enough to show the last steps of a rank in a pipeline, few enough to cost nothing.
constexpr size_t kKeptOperations = 256;

double Seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(FlightOperation, group, verb, peer, sequence, bytes, iteration,
                                   microbatch, begin_seconds, seconds, running)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(FlightGroup, name, ranks, collectives, sends, receives)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(FlightRecord, rank, groups, operations)

const FlightOperation* FlightRecord::LongestRunning() const {
  const FlightOperation* longest = nullptr;
  for (const FlightOperation& operation : operations) {
    if (!operation.running) continue;
    if (longest == nullptr || operation.seconds > longest->seconds) longest = &operation;
  }
  return longest;
}

const FlightGroup* FlightRecord::FindGroup(const FlightRecord& theirs, int index) const {
  const FlightGroup& like = theirs.groups[index];
  const auto alike = [&](const FlightGroup& group) {
    return group.name == like.name && group.ranks == like.ranks;
  };
  auto before = std::count_if(theirs.groups.begin(), theirs.groups.begin() + index, alike);
  for (const FlightGroup& group : groups) {
    if (alike(group) && before-- == 0) return &group;
  }
  return nullptr;
}

std::string FlightRecord::ToJson() const { return Json(*this).dump(1) + "\n"; }

FlightRecord FlightRecord::FromJson(std::string_view json, const std::string& where) {
  try {
    auto record = Json::parse(json).get<FlightRecord>();
    for (const FlightOperation& operation : record.operations) {
      if (operation.group < 0 || operation.group >= static_cast<int>(record.groups.size())) {
        Throw(ErrorKind::kIo, where, "names the group {} of {}", operation.group,
              record.groups.size());
      }
    }
    return record;
  } catch (const nlohmann::json::exception& error) {
    Throw(ErrorKind::kIo, where, "is no flight record: {}", error.what());
  }
}

int FlightRecorder::AddGroup(std::string name, std::vector<int> ranks) {
  const std::lock_guard<std::mutex> lock(mutex_);
  groups_.push_back({.name = std::move(name),
                     .ranks = std::move(ranks),
                     .collectives = 0,
                     .sends = {},
                     .receives = {}});
  return static_cast<int>(groups_.size()) - 1;
}

FlightRecorder::Scope::Scope(FlightRecorder& recorder, int group, const char* verb, int64_t bytes,
                             int peer)
    : recorder_(recorder) {
  const std::lock_guard<std::mutex> lock(recorder.mutex_);
  FlightGroup& state = recorder.groups_.at(group);
  const int world_peer = peer < 0 ? -1 : state.ranks.at(peer);
  int64_t& count = peer < 0                           ? state.collectives
                   : std::string_view(verb) == "Send" ? state.sends[world_peer]
                                                      : state.receives[world_peer];
  ticket_ = recorder.next_ticket_++;
  recorder.running_.emplace(ticket_,
                            Kept{.group = group,
                                 .verb = verb,
                                 .peer = world_peer,
                                 .sequence = ++count,
                                 .bytes = bytes,
                                 .iteration = recorder.iteration_.load(std::memory_order_relaxed),
                                 .microbatch = recorder.microbatch_.load(std::memory_order_relaxed),
                                 .begin = Clock::now(),
                                 .end = {}});
}

FlightRecorder::Scope::~Scope() {
  const std::lock_guard<std::mutex> lock(recorder_.mutex_);
  auto node = recorder_.running_.extract(ticket_);
  node.mapped().end = Clock::now();
  recorder_.done_.emplace_back(ticket_, node.mapped());
  if (recorder_.done_.size() > kKeptOperations) recorder_.done_.pop_front();
}

double FlightRecorder::LongestWaitSeconds(std::string_view except,
                                          std::chrono::steady_clock::time_point since) const {
  const Clock::time_point now = Clock::now();
  const std::lock_guard<std::mutex> lock(mutex_);
  double longest = 0;
  for (const auto& [ticket, kept] : running_) {
    if (groups_[kept.group].name == except) continue;
    longest = std::max(longest, Seconds(now - std::max(kept.begin, since)));
  }
  return longest;
}

FlightOperation FlightRecorder::Describe(const Kept& kept, bool running,
                                         Clock::time_point now) const {
  return {.group = kept.group,
          .verb = kept.verb,
          .peer = kept.peer,
          .sequence = kept.sequence,
          .bytes = kept.bytes,
          .iteration = kept.iteration,
          .microbatch = kept.microbatch,
          .begin_seconds = Seconds(kept.begin - start_),
          .seconds = Seconds((running ? now : kept.end) - kept.begin),
          .running = running};
}

FlightRecord FlightRecorder::Record() const {
  const Clock::time_point now = Clock::now();
  const std::lock_guard<std::mutex> lock(mutex_);
  std::map<int64_t, FlightOperation> by_ticket;
  for (const auto& [ticket, kept] : done_) by_ticket.emplace(ticket, Describe(kept, false, now));
  for (const auto& [ticket, kept] : running_) by_ticket.emplace(ticket, Describe(kept, true, now));
  FlightRecord record;
  record.rank = rank_;
  record.groups = groups_;
  for (auto& [ticket, operation] : by_ticket) record.operations.push_back(std::move(operation));
  return record;
}

}  // namespace cairn
