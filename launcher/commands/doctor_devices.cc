#include <dlfcn.h>
#include <fmt/format.h>
#include <google/protobuf/stubs/common.h>
#include <isa-l.h>
#include <openssl/crypto.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <xxhash.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <system_error>
#include <vector>

#include "launcher/commands/doctor_checks.h"
#include "runtime/base/build.h"
#include "runtime/base/error.h"
#include "runtime/base/shared_library.h"
#include "runtime/device/device.h"
#include "runtime/telemetry/format.h"

namespace cairn {
namespace {

/// What the NVIDIA driver says; found at run time, since the program must start without it.
struct Driver {
  bool loaded = false;
  int failure = 0;  ///< the driver's own error number; 0 is none
  int version = 0;  ///< of the newest CUDA that it runs, 1000 x major + 10 x minor
  std::vector<std::string> gpus;
};

Driver AskDriver() {
  Driver driver;
  // The driver has threads by then, so that it must not be unmapped.
  const std::unique_ptr<void, int (*)(void*)> library(
      ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE),
      [](void* handle) { return handle == nullptr ? 0 : ::dlclose(handle); });
  if (library == nullptr) return driver;
  const auto find = [&library]<typename F>(const char* name, F*& function) {
    function = reinterpret_cast<F*>(::dlsym(library.get(), name));
    return function != nullptr;
  };
  int (*initialize)(unsigned) = nullptr;
  int (*get_version)(int*) = nullptr;
  int (*get_count)(int*) = nullptr;
  int (*get_device)(int*, int) = nullptr;
  int (*get_name)(char*, int, int) = nullptr;
  int (*get_memory)(size_t*, int) = nullptr;
  driver.loaded = find("cuInit", initialize) && find("cuDriverGetVersion", get_version) &&
                  find("cuDeviceGetCount", get_count) && find("cuDeviceGet", get_device) &&
                  find("cuDeviceGetName", get_name) && find("cuDeviceTotalMem_v2", get_memory);
  if (!driver.loaded) return driver;
  int count = 0;
  if ((driver.failure = initialize(0)) != 0 ||
      (driver.failure = get_version(&driver.version)) != 0 ||
      (driver.failure = get_count(&count)) != 0) {
    return driver;
  }
  for (int i = 0; i < count; ++i) {
    int device = 0;
    std::array<char, 256> name{};
    size_t memory = 0;
    if ((driver.failure = get_device(&device, i)) != 0 ||
        (driver.failure = get_name(name.data(), static_cast<int>(name.size() - 1), device)) != 0 ||
        (driver.failure = get_memory(&memory, device)) != 0) {
      return driver;
    }
    driver.gpus.push_back(
        fmt::format("{} {}", name.data(), FormatBytes(static_cast<int64_t>(memory))));
  }
  return driver;
}

/// True if a device of NVIDIA's, of the display class, is on the PCI bus.
bool HasNvidiaOnPci() {
  std::error_code failure;
  namespace fs = std::filesystem;
  for (fs::directory_iterator entry("/sys/bus/pci/devices", failure);
       !failure && entry != fs::directory_iterator(); entry.increment(failure)) {
    std::string vendor;
    std::string device_class;
    std::ifstream(entry->path() / "vendor") >> vendor;
    std::ifstream(entry->path() / "class") >> device_class;
    if (vendor == "0x10de" && device_class.starts_with("0x03")) return true;
  }
  return false;
}

/// Why this build cannot use GPU 0; empty if it can.
std::string WhyNoCudaDevice() {
  try {
    NewDevice(DeviceKind::kCuda, 0);
    return "";
  } catch (const Error& error) {
    return error.message();
  }
}

DoctorCheck CheckDriver(const Driver& driver) {
  DoctorCheck check("GPUs");
  check.facts = {{"driver", driver.loaded}, {"gpus", driver.gpus}};
  if (driver.loaded && driver.failure != 0) {
    check.text = fmt::format("the NVIDIA driver reports error {}", driver.failure);
    if (HasNvidiaOnPci()) check.Warn("see what nvidia-smi says");
  } else if (!driver.gpus.empty()) {
    check.text = fmt::format("{}; driver for CUDA {}.{}", fmt::join(driver.gpus, ", "),
                             driver.version / 1000, driver.version % 1000 / 10);
    check.facts["cuda_version"] = driver.version;
  } else if (HasNvidiaOnPci()) {
    check.text = "an NVIDIA GPU without its driver (libcuda.so.1)";
    check.Warn("install the NVIDIA driver, or pass it into the container");
  } else {
    check.text = driver.loaded ? "none" : "none, and no NVIDIA driver";
  }
  return check;
}

DoctorCheck CheckBuild(const Driver& driver) {
  DoctorCheck check("this build");
  const std::string why_not = WhyNoCudaDevice();
  check.facts = {{"cuda", BuiltWithCuda()}, {"cuda_usable", why_not.empty()}};
  check.text = why_not.empty()   ? "trains on CPUs and GPUs"
               : BuiltWithCuda() ? "trains on CPUs; it could on GPUs"
                                 : "CPU only";
  if (!why_not.empty() && !driver.gpus.empty()) check.Warn("the GPUs stay idle: " + why_not);
  return check;
}

/// The libraries that training on a GPU opens; only told of where there is one to train on.
DoctorCheck CheckCudaLibraries() {
  DoctorCheck check("CUDA libraries");
  for (const char* name : {"libcublasLt.so.13", "libcudnn.so.9", "libnccl.so.2"}) {
    try {
      const SharedLibrary library(name, "");
      check.facts[name] = true;
      check.text += fmt::format("{}{}", check.text.empty() ? "" : ", ", name);
    } catch (const Error& error) {
      check.facts[name] = false;
      check.Warn(fmt::format("{} {}install it, or name its folder in LD_LIBRARY_PATH", name,
                             error.message()));
    }
  }
  if (check.text.empty()) check.text = "none";
  return check;
}

std::string PcreVersion() {
  std::array<char, 64> text{};
  if (::pcre2_config(PCRE2_CONFIG_VERSION, nullptr) > static_cast<int>(text.size()) ||
      ::pcre2_config(PCRE2_CONFIG_VERSION, text.data()) < 0) {
    return "?";
  }
  const std::string version = text.data();
  return version.substr(0, version.find(' '));
}

}  // namespace

std::vector<DoctorCheck> CheckGpus() {
  const Driver driver = AskDriver();
  std::vector<DoctorCheck> checks = {CheckDriver(driver), CheckBuild(driver)};
  if (BuiltWithCuda() && !driver.gpus.empty()) checks.push_back(CheckCudaLibraries());
  return checks;
}

std::vector<DoctorCheck> CheckLibraries() {
  DoctorCheck check("libraries");
  const dnnl::version_t* const onednn = dnnl::version();
  const unsigned xxhash = ::XXH_versionNumber();  // 10000 x major + 100 x minor + patch
  check.facts = {
      {"oneDNN", fmt::format("{}.{}.{}", onednn->major, onednn->minor, onednn->patch)},
      {"protobuf", google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION)},
      {"PCRE2", PcreVersion()},
      {"OpenSSL", ::OpenSSL_version(OPENSSL_VERSION_STRING)},
      {"xxHash", fmt::format("{}.{}.{}", xxhash / 10000, xxhash / 100 % 100, xxhash % 100)},
      {"ISA-L",
       fmt::format("{}.{}.{}", ISAL_MAJOR_VERSION, ISAL_MINOR_VERSION, ISAL_PATCH_VERSION)}};
  for (const auto& [name, version] : check.facts.items()) {
    check.text +=
        fmt::format("{}{} {}", check.text.empty() ? "" : ", ", name, version.get<std::string>());
  }
  return {check};
}

}  // namespace cairn
