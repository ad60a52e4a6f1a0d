#include "parallel/meta_communicator.h"

#include <glog/logging.h>

#include <algorithm>

#include "runtime/base/error.h"

namespace cairn {
namespace {

class MetaCommunicator : public Communicator {
 public:
  MetaCommunicator(int rank, int size, std::string name, std::vector<CommRecord>* log)
      : Communicator(rank, size, std::move(name), std::make_shared<FlightRecorder>(rank)),
        log_(log) {
    CHECK(rank >= 0 && rank < size) << rank << " of " << size;
    CHECK(log != nullptr);
  }

  void AllReduce(const Tensor& tensor, ReduceOp, Stream&) override { Note("AllReduce", tensor); }
  void AllGather(const Tensor& output, const Tensor& input, Stream&) override {
    CHECK_EQ(output.numel(), size() * input.numel());
    Note("AllGather", output);
  }
  void ReduceScatter(const Tensor& output, const Tensor& input, Stream&) override {
    CHECK_EQ(input.numel(), size() * output.numel());
    Note("ReduceScatter", input);
  }
  void AllToAll(const Tensor& output, const Tensor& input, Stream&) override {
    CHECK_EQ(input.numel(), output.numel());
    Note("AllToAll", output);
  }
  void Broadcast(const Tensor& tensor, int, Stream&) override { Note("Broadcast", tensor); }
  void Send(const Tensor& tensor, int, Stream&) override { Note("Send", tensor); }
  void Recv(const Tensor& tensor, int, Stream&) override { Note("Recv", tensor); }

  std::vector<std::string> AllGatherBytes(const std::string& bytes) override {
    return std::vector<std::string>(size(), bytes);
  }
  std::unique_ptr<Communicator> Split(int, int, const std::string& name) override {
    Throw(ErrorKind::kInternal, fmt::format("meta Split of {} into {}", this->name(), name),
          "an imagined rank cannot ask the others for their colors; use NewMetaGroup");
  }
  std::unique_ptr<Communicator> Background(const std::string& name) override {
    return std::make_unique<MetaCommunicator>(rank(), size(), name, log_);
  }
  void Leave() override {}  // nobody waits
  void Abort(const std::string& reason) override {
    Throw(ErrorKind::kCommunication, fmt::format("meta {}", name()), "aborted: {}", reason);
  }

 private:
  void Note(const char* verb, const Tensor& larger) {
    auto record = std::ranges::find_if(
        *log_, [&](const CommRecord& r) { return r.group == name() && r.verb == verb; });
    if (record == log_->end()) {
      record = log_->insert(log_->end(), CommRecord{name(), verb, size()});
    }
    record->calls += 1;
    record->bytes += static_cast<int64_t>(larger.bytes());
  }

  std::vector<CommRecord>* log_;
};

}  // namespace

std::unique_ptr<Communicator> NewMetaCommunicator(int rank, int size,
                                                  std::vector<CommRecord>* log) {
  return NewMetaGroup(rank, size, "world", log);
}

std::unique_ptr<Communicator> NewMetaGroup(int rank, int size, const std::string& name,
                                           std::vector<CommRecord>* log) {
  return std::make_unique<MetaCommunicator>(rank, size, name, log);
}

}  // namespace cairn
