#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "machine.h"

namespace cairn::fake {

bool Machine::Refused(const Stream& stream, const char* call) {
  if (!stream.capture) return false;
  Problem(fmt::format("{} while {} records", call, stream.name));
  return true;
}

bool Machine::BeginCapture(Stream& stream) {
  if (Refused(stream, "cudaStreamBeginCapture")) return false;
  stream.capture = std::make_shared<Capture>();
  stream.capture->graph.origin = stream.id;
  return true;
}

void Machine::RecordNode(Stream& stream, const std::string& what,
                         std::function<void(Stream&, Graph::Records&)> give,
                         std::vector<Access> accesses) {
  NextIs(stream, what);
  Clock& clock = stream.capture->clocks[stream.id];
  clock.resize(std::max(clock.size(), streams_.size()));
  ++clock[stream.id];
  stream.capture->graph.nodes.push_back({stream.id, std::move(give), std::move(accesses)});
}

// An event of a capture draws a stream into it.
void Machine::WaitInCapture(Stream& stream, const std::shared_ptr<Record>& record) {
  const std::string& recorded_from = StreamOf(record->stream).name;
  if (record->capture->ended) {
    return Problem(fmt::format("{} waits for an event of a capture of {} that has ended",
                               stream.name, recorded_from));
  }
  if (!stream.capture) stream.capture = record->capture;
  if (stream.capture != record->capture) {
    return Problem(fmt::format("{} waits for an event of another capture than its own, of {}",
                               stream.name, recorded_from));
  }
  if (record->stream == stream.id) return;
  Join(stream.capture->clocks[stream.id], record->clock);
  RecordNode(stream, fmt::format("a wait for {}", recorded_from),
             [this, record](Stream& branch, Graph::Records& made) {
               WaitOn(branch, made.at(record.get()));
             },
             {});
}

uintptr_t Machine::EndCapture(Stream& stream, std::string* unjoined) {
  const std::shared_ptr<Capture> capture = stream.capture;
  if (!capture || capture->graph.origin != stream.id) {
    Problem(fmt::format("cudaStreamEndCapture of {}, which does not record", stream.name));
    return 0;
  }
  NextIs(stream, "a capture's end");
  const Clock& joined = capture->clocks[stream.id];
  for (const auto& [id, clock] : capture->clocks) {
    if (At(clock, id) > At(joined, id)) *unjoined = StreamOf(id).name;
  }
  capture->ended = true;
  for (const auto& recording : streams_) {
    if (recording->capture == capture) recording->capture = nullptr;
  }
  Graph recorded = std::exchange(capture->graph, {});
  if (!unjoined->empty()) return 0;
  graphs_[next_graph_] = std::move(recorded);
  return next_graph_++;
}

uintptr_t Machine::Instantiate(uintptr_t graph) {
  const auto found = graphs_.find(graph);
  if (found == graphs_.end()) {
    Problem("cudaGraphInstantiate of what is no graph, or no more");
    return 0;
  }
  Graph& made = graphs_[next_graph_] = found->second;
  for (const Graph::Node& node : made.nodes) {
    if (node.stream == made.origin || made.branches.contains(node.stream)) continue;
    made.branches[node.stream] =
        NewStream(fmt::format("a graph's branch of {}", StreamOf(node.stream).name));
  }
  return next_graph_++;
}

// Again and again each branch is the same stream: CUDA runs launches of a graph one after the
// other.
bool Machine::LaunchGraph(uintptr_t handle, Stream& stream) {
  const auto found = graphs_.find(handle);
  if (found == graphs_.end()) {
    Problem("cudaGraphLaunch of what is no graph, or no more");
    return false;
  }
  if (Refused(stream, "cudaGraphLaunch")) return false;
  Give(stream, {.what = "a graph's launch", .ready = nullptr, .run = nullptr}, {});
  Graph::Records made;
  for (const Graph::Node& node : found->second.nodes) {
    Stream& branch = node.stream == found->second.origin
                         ? stream
                         : *streams_[found->second.branches.at(node.stream) - 1];
    node.give(branch, made);
  }
  return true;
}

void Machine::DestroyGraph(uintptr_t handle, const char* call) {
  const auto found = graphs_.find(handle);
  if (found == graphs_.end()) {
    return Problem(fmt::format("{} of what is no graph, or no more", call));
  }
  for (const auto& [stream, branch] : found->second.branches)
    streams_[branch - 1]->destroyed = true;
  graphs_.erase(found);
  Changed();
}

}  // namespace cairn::fake
