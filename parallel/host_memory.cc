#include "parallel/host_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <random>

#include "parallel/mpi_call.h"

namespace cairn {
namespace {

using Name = std::array<char, 64>;

// Random, so that a rank on another host finds nothing by it.
Name RandomName() {
  std::random_device random;
  Name name{};
  fmt::format_to_n(name.data(), name.size() - 1, "/cairn-{:08x}{:08x}{:08x}{:08x}", random(),
                   random(), random(), random());
  return name;
}

// Null where there is no such memory, or no room: a page that is missing later would be a SIGBUS.
std::byte* Map(const Name& name, int flags, size_t bytes) {
  const int file = shm_open(name.data(), flags, 0600);
  if (file < 0) return nullptr;
  void* data = MAP_FAILED;
  if ((flags & O_CREAT) == 0 || posix_fallocate(file, 0, static_cast<off_t>(bytes)) == 0) {
    data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  }
  close(file);  // the mapping holds the memory
  return data == MAP_FAILED ? nullptr : static_cast<std::byte*>(data);
}

}  // namespace

std::unique_ptr<HostMemory> HostMemory::New(MPI_Comm group, const std::string& name, size_t bytes) {
  int rank = 0;
  CheckMpi(MPI_Comm_rank(group, &rank), "HostMemory", name);
  Name shared = RandomName();
  std::byte* data = rank == 0 ? Map(shared, O_RDWR | O_CREAT | O_EXCL, bytes) : nullptr;
  CheckMpi(MPI_Bcast(shared.data(), static_cast<int>(shared.size()), MPI_CHAR, 0, group),
           "HostMemory", name);
  if (rank != 0) data = Map(shared, O_RDWR, bytes);
  int everywhere = data == nullptr ? 0 : 1;
  const int code = MPI_Allreduce(MPI_IN_PLACE, &everywhere, 1, MPI_INT, MPI_MIN, group);
  if (rank == 0) shm_unlink(shared.data());
  std::unique_ptr<HostMemory> memory(data == nullptr ? nullptr : new HostMemory(data, bytes));
  CheckMpi(code, "HostMemory", name);
  if (everywhere == 0) return nullptr;
  return memory;
}

HostMemory::~HostMemory() { munmap(data_, bytes_); }

}  // namespace cairn
