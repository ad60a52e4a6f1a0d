#include "runtime/telemetry/stall.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

namespace cairn {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Ranks whose operations a test begins and ends by hand.
class World {
 public:
  explicit World(int size) {
    for (int rank = 0; rank < size; ++rank) {
      recorders_.push_back(std::make_unique<FlightRecorder>(rank));
      recorders_.back()->SetIteration(17);
      evidence_.hosts.push_back("host" + std::to_string(rank / 2));
    }
    evidence_.records.resize(size);
  }

  // A group on each of its ranks.
  std::string Group(const std::string& name, const std::vector<int>& ranks) {
    for (const int rank : ranks) index_[{rank, name}] = recorders_[rank]->AddGroup(name, ranks);
    return name;
  }
  void Done(int rank, const std::string& group, const char* verb, int peer = -1) {
    const FlightRecorder::Scope scope(*recorders_[rank], index_.at({rank, group}), verb, 4, peer);
  }
  void Waits(int rank, const std::string& group, const char* verb, int peer = -1) {
    running_.push_back(std::make_unique<FlightRecorder::Scope>(
        *recorders_[rank], index_.at({rank, group}), verb, 4, peer));
  }
  // All ranks but `silent` write their records.
  StallVerdict Verdict(const std::vector<int>& silent = {}) {
    for (size_t rank = 0; rank < recorders_.size(); ++rank) {
      if (std::ranges::find(silent, rank) == silent.end()) {
        evidence_.records[rank] = recorders_[rank]->Record();
      }
    }
    return ExplainStall(evidence_);
  }

 private:
  std::map<std::pair<int, std::string>, int> index_;
  std::vector<std::unique_ptr<FlightRecorder>> recorders_;
  std::vector<std::unique_ptr<FlightRecorder::Scope>> running_;
  StallEvidence evidence_;
};

TEST(StallTest, ARankThatIsStopped) {
  World world(3);
  const std::string dp = world.Group("dp", {0, 1, 2});
  for (int rank = 0; rank < 3; ++rank) world.Done(rank, dp, "AllReduce");
  world.Waits(0, dp, "AllReduce");
  world.Waits(1, dp, "AllReduce");
  const StallVerdict verdict = world.Verdict({2});
  EXPECT_THAT(verdict.suspects, ElementsAre(2));
  EXPECT_THAT(verdict.text,
              AllOf(HasSubstr("rank 2 (host1) never reached AllReduce #2 of dp [0,1,2] "
                              "(iteration 17), in which rank "),
                    HasSubstr("so does rank "), HasSubstr("it does not answer")));
}

TEST(StallTest, ARankThatComputes) {
  World world(2);
  const std::string tp = world.Group("tp", {0, 1});
  world.Done(0, tp, "AllReduce");
  world.Done(1, tp, "AllReduce");
  world.Waits(1, tp, "AllGather");
  const StallVerdict verdict = world.Verdict();
  EXPECT_THAT(verdict.suspects, ElementsAre(0));
  EXPECT_THAT(verdict.text,
              AllOf(HasSubstr("rank 0 (host0) never reached AllGather #2 of tp [0,1]"),
                    HasSubstr("it computes, or hangs, since its last operation, AllReduce #1")));
}

// 0 waits for 1's message, 1 for 3, which is to call a collective with it.
TEST(StallTest, TheEndOfAChainIsNamed) {
  World world(4);
  const std::string tp = world.Group("tp", {1, 3});
  world.Group("filler", {0});  // the groups of ranks 0 and 1 have other indices
  const std::string pp = world.Group("pp-forward", {1, 0});
  world.Waits(0, pp, "Recv", 0);
  world.Waits(1, tp, "AllReduce");
  const StallVerdict verdict = world.Verdict();
  EXPECT_THAT(verdict.suspects, ElementsAre(3));
  EXPECT_THAT(verdict.text,
              AllOf(HasSubstr("rank 3 (host1) never reached AllReduce #1 of tp [1,3]"),
                    HasSubstr("it has not communicated at all")));
}

TEST(StallTest, AMessageThatWasSentAccusesNobody) {
  World world(2);
  const std::string pp = world.Group("pp-forward", {0, 1});
  world.Done(0, pp, "Send", 1);
  world.Waits(1, pp, "Recv", 0);
  EXPECT_THAT(world.Verdict().suspects, IsEmpty());
  world.Waits(1, pp, "Recv", 0);
  const StallVerdict verdict = world.Verdict();
  EXPECT_THAT(verdict.suspects, ElementsAre(0));
  EXPECT_THAT(verdict.text, HasSubstr("Recv #2 from rank 0 on pp-forward"));
}

TEST(StallTest, RanksThatCallDifferentCollectives) {
  World world(2);
  const std::string dp = world.Group("dp", {0, 1});
  world.Waits(0, dp, "AllReduce");
  world.Waits(1, dp, "AllGather");
  const StallVerdict verdict = world.Verdict();
  EXPECT_THAT(verdict.suspects, ElementsAre(0, 1));
  EXPECT_THAT(verdict.text, AllOf(HasSubstr("it called AllGather #1 of dp [0,1] (iteration 17) "
                                            "instead"),
                                  HasSubstr("it called AllReduce #1")));
}

TEST(StallTest, ACircle) {
  World world(3);
  const std::string a = world.Group("a", {0, 1});
  const std::string b = world.Group("b", {1, 2});
  const std::string c = world.Group("c", {2, 0});
  world.Waits(0, a, "AllReduce");
  world.Waits(1, b, "AllReduce");
  world.Waits(2, c, "AllReduce");
  const StallVerdict verdict = world.Verdict();
  EXPECT_THAT(verdict.suspects, ElementsAre(0, 1, 2));
  EXPECT_THAT(verdict.text, HasSubstr("it has been in AllReduce #1 of b [1,2]"));
}

TEST(StallTest, NobodyWaits) {
  World world(2);
  const std::string dp = world.Group("dp", {0, 1});
  world.Done(0, dp, "AllReduce");
  EXPECT_THAT(world.Verdict().suspects, IsEmpty());
  EXPECT_EQ(world.Verdict({1}).text, "");
}

}  // namespace
}  // namespace cairn
