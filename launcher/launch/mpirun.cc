#include "launcher/launch/mpirun.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <numeric>

#include "runtime/base/error.h"
#include "runtime/config/text.h"

namespace cairn {
namespace {

constexpr const char* kWhere = "--hosts";
constexpr int kMaxSlots = 1 << 20;

HostSlots ParseHost(std::string_view text) {
  const size_t colon = text.find(':');
  HostSlots host{std::string(text.substr(0, colon)), 1};
  constexpr std::string_view kNameCharacters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  if (host.name.empty() || host.name.front() == '-' ||
      host.name.find_first_not_of(kNameCharacters) != std::string::npos) {
    Throw(ErrorKind::kUsage, kWhere, "{} is no host name; write name:ranks,name:ranks",
          Quoted(host.name));
  }
  if (colon == std::string_view::npos) return host;
  const std::string_view digits = text.substr(colon + 1);
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, host.slots);
  if (error != std::errc() || stop != end || host.slots < 1 || host.slots > kMaxSlots) {
    Throw(ErrorKind::kUsage, kWhere, "{} of host {} is not a number of ranks from 1 to {}",
          Quoted(digits), host.name, kMaxSlots);
  }
  return host;
}

}  // namespace

std::vector<HostSlots> ParseHosts(std::string_view text) {
  std::vector<HostSlots> hosts;
  int64_t total = 0;
  while (true) {
    const size_t comma = text.find(',');
    HostSlots host = ParseHost(text.substr(0, comma));
    for (const HostSlots& other : hosts) {
      if (other.name != host.name) continue;
      Throw(ErrorKind::kUsage, kWhere, "{} is named twice; give its ranks once, as {}:{}",
            host.name, host.name, std::min(kMaxSlots, other.slots + host.slots));
    }
    total += host.slots;
    if (total > kMaxSlots) {
      Throw(ErrorKind::kUsage, kWhere, "these hosts take more than {} ranks", kMaxSlots);
    }
    hosts.push_back(std::move(host));
    if (comma == std::string_view::npos) return hosts;
    text.remove_prefix(comma + 1);
  }
}

int TotalSlots(const std::vector<HostSlots>& hosts) {
  return std::accumulate(hosts.begin(), hosts.end(), 0,
                         [](int sum, const HostSlots& host) { return sum + host.slots; });
}

std::vector<std::pair<std::string, std::string>> RankEnvironment() {
  std::vector<std::pair<std::string, std::string>> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view name = text.substr(0, equals);
    const bool matters = name == "LD_LIBRARY_PATH" || name.starts_with("CAIRN_") ||
                         name.starts_with("NCCL_") || name.starts_with("OMP_") ||
                         name.starts_with("ONEDNN_");
    if (matters) variables.emplace_back(name, text.substr(equals + 1));
  }
  std::sort(variables.begin(), variables.end());
  return variables;
}

std::vector<std::string> MpirunWords(const MpirunOptions& options) {
  std::vector<std::string> words = {"mpirun"};
  auto add = [&](std::initializer_list<std::string> more) {
    words.insert(words.end(), more.begin(), more.end());
  };
  if (options.as_root) add({"--allow-run-as-root"});
  add({"-n", fmt::to_string(options.ranks)});
  if (!options.hosts.empty()) {
    std::string list;
    for (const HostSlots& host : options.hosts) {
      list += fmt::format("{}{}:{}", list.empty() ? "" : ",", host.name, host.slots);
    }
    add({"--host", list});
  }
  // Threads that were bound with their rank's one core would all share it.
  const bool bound = options.threads > 0 && !options.oversubscribe;
  if (options.oversubscribe) add({"--oversubscribe"});
  add({"--map-by", bound ? fmt::format("slot:PE={}", options.threads) : "slot", "--bind-to",
       bound ? "core" : "none"});
  add({"--mca", "mpi_yield_when_idle", "1"});
  if (!options.interface.empty()) {
    for (const char* layer : {"btl_tcp_if_include", "oob_tcp_if_include"}) {
      add({"--mca", layer, options.interface});
    }
  }
  if (options.threads > 0) add({"-x", fmt::format("OMP_NUM_THREADS={}", options.threads)});
  for (const auto& [name, value] : options.environment) {
    if (name == "OMP_NUM_THREADS" && options.threads > 0) continue;
    add({"-x", fmt::format("{}={}", name, value)});
  }
  return words;
}

}  // namespace cairn
