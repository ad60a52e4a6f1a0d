// What every device promises of streams, events and memory. On a GPU nothing waits unless told to,
// so that a missing wait shows; buffers are large enough that it does.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "device_testing.h"
#include "runtime/base/error.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

constexpr auto kActivations = MemoryCategory::kActivations;
constexpr size_t kLarge = 8 << 20;

// Memory of a device, as a scope.
class Block {
 public:
  Block(Device& device, size_t bytes, MemoryCategory category = kActivations)
      : device_(device),
        bytes_(bytes),
        category_(category),
        data_(device.allocator().Allocate(bytes, category)) {}
  ~Block() { device_.allocator().Free(data_, bytes_, category_); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  void* data() const { return data_; }
  unsigned char* bytes() const { return static_cast<unsigned char*>(data_); }

 private:
  Device& device_;
  size_t bytes_;
  MemoryCategory category_;
  void* data_;
};

class AnyDeviceTest : public testing::DeviceFixture,
                      public ::testing::WithParamInterface<DeviceKind> {
 protected:
  void SetUp() override {
    Use(GetParam());
    if (device_ != nullptr) host_ = device_->NewHostDevice();
  }
  Stream& compute() { return device_->compute_stream(); }

  std::unique_ptr<Device> host_;  // memory that copies are fastest with
};

TEST_P(AnyDeviceTest, CopiesComeBackWhateverTheirSizeAndPlace) {
  const size_t size = 1 << 20;
  const Block source(*host_, size);
  const Block back(*host_, size);
  const Block there(*device_, size);
  for (size_t i = 0; i < size; ++i) source.bytes()[i] = static_cast<unsigned char>(i * 7 + i / 251);
  device_->Copy(nullptr, nullptr, 0, compute());
  for (const auto& [offset, bytes] : {std::pair<size_t, size_t>{0, 1}, {3, 4097}, {1, size - 1}}) {
    std::fill_n(back.bytes(), size, 0xee);
    device_->Copy(there.bytes() + offset, source.bytes(), bytes, compute());
    device_->Copy(back.bytes(), there.bytes() + offset, bytes, compute());
    compute().Synchronize();
    ASSERT_TRUE(std::equal(back.bytes(), back.bytes() + bytes, source.bytes())) << bytes;
    ASSERT_TRUE(bytes == size || back.bytes()[bytes] == 0xee) << "wrote on";
  }
  // Memory that is not of the pinned kind.
  std::vector<unsigned char> plain(4097);
  device_->Copy(plain.data(), there.bytes() + 1, plain.size(), compute());
  compute().Synchronize();
  EXPECT_TRUE(std::equal(plain.begin(), plain.end(), source.bytes()));
}

// A block of numbers is handed from stream to stream, through as many blocks; without the events a
// copy would read what the one before it has not written.
TEST_P(AnyDeviceTest, EventsOrderStreams) {
  const auto first = device_->NewStream("first");
  const auto second = device_->NewStream("second");
  const Block source(*host_, kLarge);
  const Block result(*host_, kLarge);
  const Block blank(*host_, kLarge);
  std::fill_n(blank.bytes(), kLarge, 0);
  const Block a(*device_, kLarge);
  const Block b(*device_, kLarge);
  for (unsigned char round = 1; round <= 4; ++round) {
    std::fill_n(source.bytes(), kLarge, round);
    std::fill_n(result.bytes(), kLarge, 0);
    device_->Copy(a.data(), blank.data(), kLarge, *first);
    device_->Copy(a.data(), source.data(), kLarge, *first);
    second->Wait(first->Record());
    device_->Copy(b.data(), a.data(), kLarge, *second);
    first->Wait(second->Record());
    device_->Copy(a.data(), blank.data(), kLarge, *first);  // not before it was read
    const Event read = first->Record();
    compute().Wait(second->Record());
    device_->Copy(result.data(), b.data(), kLarge, compute());
    compute().Record().Synchronize();
    EXPECT_EQ(std::count(result.bytes(), result.bytes() + kLarge, round), kLarge);
    read.Synchronize();
    second->Wait(read);
  }
  first->Synchronize();
  second->Synchronize();
}

TEST_P(AnyDeviceTest, EventsAreReusableAndOutliveTheirStream) {
  Event event;
  event.Synchronize();  // one of nothing
  compute().Wait(event);
  {
    const auto stream = device_->NewStream("short-lived");
    event = stream->Record();
    event.Synchronize();
  }
  event.Synchronize();
  compute().Wait(event);
  compute().Synchronize();
}

// Host work comes after the copies before it, and before those after it.
TEST_P(AnyDeviceTest, HostWorkIsInTheStreamsOrder) {
  const auto stream = device_->NewStream("stream");
  const Block source(*host_, kLarge);
  const Block seen(*host_, kLarge);
  const Block there(*device_, kLarge);
  std::fill_n(source.bytes(), kLarge, 1);
  std::fill_n(seen.bytes(), kLarge, 0);
  device_->Copy(there.data(), source.data(), kLarge, *stream);
  device_->Copy(seen.data(), there.data(), kLarge, *stream);
  int last = 0;
  stream->Run([&] {
    last = seen.bytes()[kLarge - 1];
    std::fill_n(source.bytes(), kLarge, 2);
  });
  device_->Copy(there.data(), source.data(), kLarge, *stream);
  device_->Copy(seen.data(), there.data(), kLarge, *stream);
  stream->Synchronize();
  EXPECT_EQ(last, 1);
  EXPECT_EQ(std::count(seen.bytes(), seen.bytes() + kLarge, 2), kLarge);
}

// A block is handed out again before the work that used it is done: the next user's work comes
// after it on the compute stream.
TEST_P(AnyDeviceTest, ReusedBlocksKeepTheOrderOfTheComputeStream) {
  const Block ones(*host_, kLarge);
  const Block twos(*host_, kLarge);
  const Block result(*host_, kLarge);
  std::fill_n(ones.bytes(), kLarge, 1);
  std::fill_n(twos.bytes(), kLarge, 2);
  std::fill_n(result.bytes(), kLarge, 0);
  const Block kept(*device_, kLarge);
  void* freed = nullptr;
  {
    const Block block(*device_, kLarge);
    freed = block.data();
    device_->Copy(block.data(), ones.data(), kLarge, compute());
    device_->Copy(kept.data(), block.data(), kLarge, compute());
  }
  const Block again(*device_, kLarge);
  EXPECT_EQ(again.data(), freed);
  device_->Copy(again.data(), twos.data(), kLarge, compute());
  device_->Copy(result.data(), kept.data(), kLarge, compute());
  compute().Synchronize();
  EXPECT_EQ(std::count(result.bytes(), result.bytes() + kLarge, 1), kLarge);
}

TEST_P(AnyDeviceTest, TooMuchMemoryIsAnErrorThatNamesTheUse) {
  const Block held(*device_, 3 << 20, MemoryCategory::kParameters);
  const int64_t before = device_->allocator().stats().current_total;
  for (int attempt = 0; attempt < 2; ++attempt) {
    try {
      device_->allocator().Allocate(size_t{1} << 50, kActivations);
      FAIL() << "a pebibyte was given";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kOutOfMemory);
      EXPECT_THAT(error.message(), HasSubstr("1073741824 MiB for activations were refused"));
      EXPECT_THAT(error.message(), HasSubstr("parameters 3 MiB"));
    }
  }
  EXPECT_EQ(device_->allocator().stats().current_total, before);
  // The device works on.
  const Block host_block(*host_, 4096);
  const Block block(*device_, 4096);
  device_->Copy(block.data(), host_block.data(), 4096, compute());
  compute().Synchronize();
}

TEST_P(AnyDeviceTest, RangesNest) {
  const DeviceRange outer(*device_, "outer");
  const DeviceRange inner(*device_, "inner");
}

INSTANTIATE_TEST_SUITE_P(Devices, AnyDeviceTest, testing::EachDeviceKind(),
                         [](const auto& info) { return DeviceKindName(info.param); });

class GpuTest : public testing::DeviceFixture {
 protected:
  void SetUp() override { Use(DeviceKind::kCuda); }
};

TEST_F(GpuTest, HasANameOfItsOwnAndOnlyRealNumbersAreGiven) {
  EXPECT_NE(device_->hardware_id(), "");
  EXPECT_EQ(NewDevice(DeviceKind::kCuda, 0)->hardware_id(), device_->hardware_id());
  EXPECT_THROW(NewDevice(DeviceKind::kCuda, CountCudaDevices()), Error);
  EXPECT_THROW(NewDevice(DeviceKind::kCuda, -1), Error);
}

TEST_F(GpuTest, AFailedCallIsAnErrorWithItsPlace) {
  const Block block(*device_, 64);
  try {
    device_->Copy(nullptr, block.data(), 64, device_->compute_stream());
    device_->compute_stream().Synchronize();
    FAIL() << "copied to nowhere";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDevice);
    EXPECT_THAT(error.where(), HasSubstr("cuda:0 cudaMemcpyAsync (runtime/device/cuda_device.cc:"));
  }
}

}  // namespace
}  // namespace cairn
