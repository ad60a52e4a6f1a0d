#include "parallel/replica_check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <string>
#include <vector>

#include "parallel/agreement.h"
#include "runtime/checkpoint/digest.h"

namespace cairn {
namespace {

std::string DigestOf(const Tensor& tensor) {
  // On the CPU the bytes lie where they are; elsewhere they are copied.
  std::vector<std::byte> copy;
  const void* bytes = tensor.raw();
  if (tensor.device().kind() != DeviceKind::kCpu) {
    copy.resize(tensor.bytes());
    Device& device = tensor.device();
    device.Copy(copy.data(), bytes, copy.size(), device.compute_stream());
    device.compute_stream().Synchronize();
    bytes = copy.data();
  }
  Xxh3Stream digest;
  digest.Update({static_cast<const std::byte*>(bytes), tensor.bytes()});
  return digest.HexDigest();
}

// Who holds what others hold alike: of the digests of a group's ranks, those that differ from most.
std::vector<int> Odd(const std::vector<std::string>& digests) {
  std::map<std::string, int> votes;
  for (const std::string& digest : digests) ++votes[digest];
  std::string most;
  for (const auto& [digest, count] : votes) {
    if (2 * count > static_cast<int>(digests.size())) most = digest;
  }
  std::vector<int> odd;
  for (size_t rank = 0; rank < digests.size(); ++rank) {
    if (digests[rank] != most) odd.push_back(static_cast<int>(rank));
  }
  return odd;
}

// The digests of the parameters that `group` must hold alike, in an order that its ranks share.
struct Digests {
  std::vector<std::string> names;
  std::vector<std::string> values;

  std::string Joined() const { return fmt::format("{}", fmt::join(values, "")); }
};

template <typename Shared>
Digests DigestsOf(const ParameterBuffers& buffers, const Shared& shared) {
  Digests digests;
  for (const Parameter* parameter : buffers.parameters()) {
    if (!shared(*parameter)) continue;
    digests.names.push_back(parameter->name);
    digests.values.push_back(DigestOf(parameter->weight.Current()));
  }
  return digests;
}

// "" if the ranks of `group` agree, else what they differ in. Collective over the group.
std::string Compare(Communicator& group, const std::vector<int>& world_ranks,
                    const Digests& digests) {
  const std::vector<std::string> all = group.AllGatherBytes(digests.Joined());
  if (Odd(all).empty()) return "";
  constexpr size_t kDigits = 32;
  for (size_t i = 0; i < digests.names.size(); ++i) {
    std::vector<std::string> of_tensor;
    of_tensor.reserve(all.size());
    for (const std::string& joined : all) of_tensor.push_back(joined.substr(i * kDigits, kDigits));
    std::vector<int> odd = Odd(of_tensor);
    if (odd.empty()) continue;
    for (int& rank : odd) rank = world_ranks[rank];
    const bool majority = odd.size() < of_tensor.size();
    return fmt::format(
        "rank{} {} hold{} another \"{}\" than {}: a bit flipped in memory or on its way",
        odd.size() == 1 ? "" : "s", fmt::join(odd, ", "), odd.size() == 1 ? "s" : "",
        digests.names[i],
        majority ? "the other replicas" : "each other, and no majority tells which is right");
  }
  return "its ranks hold different parameters";
}

}  // namespace

void CheckReplicas(const Mesh& mesh, const ParameterBuffers& buffers) {
  const auto world_ranks = [&](Communicator& group, int MeshCoordinate::*axis) {
    std::vector<int> ranks(group.size());
    for (int i = 0; i < group.size(); ++i) {
      MeshCoordinate coordinate = mesh.coordinate();
      coordinate.*axis = i;
      ranks[i] = RankOf(mesh.shape(), coordinate);
    }
    return ranks;
  };
  std::string problem;
  const auto compare = [&](Communicator& group, const std::vector<int>& ranks, auto shared) {
    const std::string found =
        group.size() > 1 ? Compare(group, ranks, DigestsOf(buffers, shared)) : "";
    if (problem.empty()) problem = found;
  };
  compare(mesh.dp(), world_ranks(mesh.dp(), &MeshCoordinate::dp),
          [](const Parameter&) { return true; });
  compare(mesh.tp(), world_ranks(mesh.tp(), &MeshCoordinate::tp),
          [](const Parameter& parameter) { return parameter.tp_replicated; });
  if (mesh.embedding() != nullptr) {
    MeshCoordinate end = mesh.coordinate();
    end.pp = 0;
    const int first = RankOf(mesh.shape(), end);
    end.pp = mesh.shape().pp - 1;
    compare(*mesh.embedding(), {first, RankOf(mesh.shape(), end)},
            [](const Parameter& parameter) { return parameter.tied_across_stages; });
  }
  RunTogether(mesh.world(), [&] {
    if (!problem.empty()) throw Error(ErrorKind::kDevice, "replicated weights", problem);
  });
}

}  // namespace cairn
