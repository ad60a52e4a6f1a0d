#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "runtime/device/device.h"

namespace cairn::testing {

/// A test on a device of a kind that the machine may lack: SetUp() calls Use(). Without a GPU such
/// a test is skipped, and fails where CAIRN_REQUIRE_GPU=1 asks for one.
class DeviceFixture : public ::testing::Test {
 protected:
  void Use(DeviceKind kind) {
    if (kind == DeviceKind::kCuda && CountCudaDevices() == 0) {
      const char* const required = std::getenv("CAIRN_REQUIRE_GPU");
      if (required != nullptr && std::string(required) == "1") {
        FAIL() << "CAIRN_REQUIRE_GPU=1, and this process sees no GPU";
      }
      GTEST_SKIP() << "this process sees no GPU";
    }
    device_ = NewDevice(kind);
  }

  std::unique_ptr<Device> device_;
};

/// The devices that a test of any device runs on. The CPU stands in where there is no GPU.
inline auto EachDeviceKind() { return ::testing::Values(DeviceKind::kCpu, DeviceKind::kCuda); }

}  // namespace cairn::testing
