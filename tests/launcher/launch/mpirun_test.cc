#include "launcher/launch/mpirun.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "runtime/base/error.h"
#include "runtime/base/shell.h"

namespace cairn {
namespace {

using ::testing::_;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

TEST(HostsTest, AreReadInOrder) {
  const std::vector<HostSlots> hosts = ParseHosts("a:8,node-2.rack_1:1,10.0.0.3");
  EXPECT_EQ(hosts, (std::vector<HostSlots>{{"a", 8}, {"node-2.rack_1", 1}, {"10.0.0.3", 1}}));
  EXPECT_EQ(TotalSlots(hosts), 10);
}

struct WrongHosts {
  const char* text;
  const char* says;
};

TEST(HostsTest, MistakesAreNamed) {
  for (const WrongHosts& wrong : {
           WrongHosts{"", "`` is no host name; write name:ranks"},
           WrongHosts{"a:8,", "`` is no host name"},
           WrongHosts{"a b:8", "`a b` is no host name"},
           WrongHosts{"--oversubscribe", "is no host name"},
           WrongHosts{"a;id:8", "`a;id` is no host name"},
           WrongHosts{"a:", "`` of host a is not a number of ranks from 1 to 1048576"},
           WrongHosts{"a:0", "`0` of host a"},
           WrongHosts{"a:-1", "`-1` of host a"},
           WrongHosts{"a:8x", "`8x` of host a"},
           WrongHosts{"a:99999999999999999999", "of host a"},
           WrongHosts{"a:8,b,a:4", "a is named twice; give its ranks once, as a:12"},
           WrongHosts{"a:1048576,b", "more than 1048576 ranks"},
       }) {
    try {
      ParseHosts(wrong.text);
      ADD_FAILURE() << wrong.text;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      EXPECT_THAT(error.what(), HasSubstr("--hosts: "));
      EXPECT_THAT(error.what(), HasSubstr(wrong.says));
    }
  }
}

TEST(MpirunTest, OneHost) {
  MpirunOptions options;
  options.ranks = 4;
  options.oversubscribe = true;
  EXPECT_EQ(ShellLine(MpirunWords(options)),
            "mpirun -n 4 --oversubscribe --map-by slot --bind-to none --mca mpi_yield_when_idle 1");
}

TEST(MpirunTest, ManyHostsBoundOverOneNetwork) {
  MpirunOptions options;
  options.ranks = 16;
  options.hosts = ParseHosts("a:8,b:8");
  options.threads = 4;
  options.interface = "10.0.0.0/16";
  options.as_root = true;
  options.environment = {{"CAIRN_CONFIG_DIR", "/my configs"}, {"OMP_NUM_THREADS", "2"}};
  EXPECT_EQ(ShellLine(MpirunWords(options)),
            "mpirun --allow-run-as-root -n 16 --host a:8,b:8 --map-by slot:PE=4 --bind-to core "
            "--mca mpi_yield_when_idle 1 --mca btl_tcp_if_include 10.0.0.0/16 "
            "--mca oob_tcp_if_include 10.0.0.0/16 -x OMP_NUM_THREADS=4 "
            "-x 'CAIRN_CONFIG_DIR=/my configs'");
}

TEST(MpirunTest, RanksThatShareCoresAreNotBound) {
  MpirunOptions options;
  options.ranks = 4;
  options.oversubscribe = true;
  options.threads = 2;
  EXPECT_EQ(ShellLine(MpirunWords(options)),
            "mpirun -n 4 --oversubscribe --map-by slot --bind-to none --mca mpi_yield_when_idle 1 "
            "-x OMP_NUM_THREADS=2");
}

TEST(RankEnvironmentTest, TakesWhatRanksRead) {
  setenv("NCCL_SOCKET_IFNAME", "eth1", 1);
  setenv("OTHER_NCCL_SOCKET_IFNAME", "eth2", 1);
  const auto environment = RankEnvironment();
  unsetenv("NCCL_SOCKET_IFNAME");
  unsetenv("OTHER_NCCL_SOCKET_IFNAME");
  EXPECT_THAT(environment, Contains(Pair("NCCL_SOCKET_IFNAME", "eth1")));
  EXPECT_THAT(environment, Not(Contains(Pair("OTHER_NCCL_SOCKET_IFNAME", _))));
}

}  // namespace
}  // namespace cairn
