#include "runtime/device/device.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "runtime/base/build.h"
#include "runtime/base/error.h"

namespace cairn {
namespace {

TEST(DeviceTest, CpuCopies) {
  const auto device = NewDevice(DeviceKind::kCpu);
  EXPECT_EQ(device->kind(), DeviceKind::kCpu);
  const std::vector<int> from = {1, 2, 3};
  std::vector<int> to(3);
  device->Copy(to.data(), from.data(), 12, device->compute_stream());
  EXPECT_EQ(to, from);
  const auto stream = device->NewStream("copy");
  std::vector<int> again(3);
  device->Copy(again.data(), to.data(), 12, *stream);
  stream->Synchronize();
  EXPECT_EQ(again, from);
  device->Copy(nullptr, nullptr, 0, *stream);
}

TEST(DeviceTest, CpuRefusesMoreThanTheMachineHas) {
  const auto device = NewCpuDevice();
  EXPECT_THROW(device->allocator().Allocate(size_t{1} << 60, MemoryCategory::kActivations), Error);
}

TEST(DeviceTest, LargeBlocksAreUsable) {
  const auto device = NewCpuDevice();
  const size_t bytes = (5 << 20) + 3;
  void* pointer = device->allocator().Allocate(bytes, MemoryCategory::kActivations);
  std::memset(pointer, 1, bytes);
  device->allocator().Free(pointer, bytes, MemoryCategory::kActivations);
}

TEST(DeviceTest, MetaCountsWithoutTaking) {
  const auto device = NewDevice(DeviceKind::kMeta);
  const size_t bytes = size_t{1} << 50;
  EXPECT_EQ(device->allocator().Allocate(bytes, MemoryCategory::kOptimizer), nullptr);
  EXPECT_EQ(device->allocator().stats().peak_total, int64_t{1} << 50);
  device->allocator().Free(nullptr, bytes, MemoryCategory::kOptimizer);
  EXPECT_EQ(device->allocator().stats().current_total, 0);
  bool ran = false;
  device->compute_stream().Run([&] { ran = true; });
  EXPECT_FALSE(ran);
}

TEST(DeviceTest, AnAbsentGpuIsAnErrorNotSilence) {
  const int absent = CountCudaDevices();
  try {
    NewDevice(DeviceKind::kCuda, absent);
    FAIL() << "there is no GPU " << absent;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDevice);
    EXPECT_EQ(error.where(), fmt::format("cuda:{}", absent));
    EXPECT_NE(error.message().find(BuiltWithCuda() ? "this process sees" : "no CUDA backend"),
              std::string::npos)
        << error.message();
  }
}

TEST(DeviceTest, HostMemoryForCopiesIsMemoryOfTheCpu) {
  const auto host = NewDevice(DeviceKind::kMeta)->NewHostDevice();
  EXPECT_EQ(host->kind(), DeviceKind::kCpu);
}

TEST(DeviceTest, Names) {
  EXPECT_STREQ(DeviceKindName(DeviceKind::kCpu), "cpu");
  EXPECT_STREQ(DeviceKindName(DeviceKind::kCuda), "cuda");
  EXPECT_STREQ(DeviceKindName(DeviceKind::kMeta), "meta");
}

}  // namespace
}  // namespace cairn
