#include <fmt/format.h>

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
  stream.capture = std::make_unique<Graph>();
  return true;
}

uintptr_t Machine::EndCapture(Stream& stream) {
  if (!stream.capture) {
    Problem(fmt::format("cudaStreamEndCapture of {}, which does not record", stream.name));
    return 0;
  }
  graphs_[next_graph_] = std::move(*std::exchange(stream.capture, nullptr));
  return next_graph_++;
}

uintptr_t Machine::Instantiate(uintptr_t graph) {
  const auto found = graphs_.find(graph);
  if (found == graphs_.end()) {
    Problem("cudaGraphInstantiate of what is no graph, or no more");
    return 0;
  }
  graphs_[next_graph_] = found->second;
  return next_graph_++;
}

bool Machine::LaunchGraph(uintptr_t handle, Stream& stream) {
  const auto found = graphs_.find(handle);
  if (found == graphs_.end()) {
    Problem("cudaGraphLaunch of what is no graph, or no more");
    return false;
  }
  if (Refused(stream, "cudaGraphLaunch")) return false;
  for (const Graph::Node& node : found->second.nodes) Give(stream, node.operation, node.accesses);
  return true;
}

void Machine::DestroyGraph(uintptr_t handle, const char* call) {
  if (graphs_.erase(handle) == 0) {
    Problem(fmt::format("{} of what is no graph, or no more", call));
  }
}

}  // namespace cairn::fake
