#include "parallel/agreement.h"

namespace cairn {
namespace {

// A vote: 'y' and a value, or 'n', the kind, and where and what as text (where ends in a NUL).
std::string EncodeFailure(const Error& error) {
  return fmt::format("n{}{}{}{}", static_cast<char>(error.kind()), error.where(), '\0',
                     error.message());
}

Error DecodeFailure(const std::string& bytes) {
  const size_t end = bytes.find('\0', 2);
  return Error(static_cast<ErrorKind>(bytes[1]), bytes.substr(2, end - 2), bytes.substr(end + 1));
}

std::string Vote(const std::function<std::string()>& work) {
  try {
    return fmt::format("y{}", work());
  } catch (const Error& error) {
    return EncodeFailure(error);
  } catch (const std::exception& error) {
    return EncodeFailure(Error(ErrorKind::kInternal, "unexpected", error.what()));
  }
}

}  // namespace

void RunTogether(Communicator& world, const std::function<void()>& work) {
  const std::string own = Vote([&] {
    work();
    return std::string();
  });
  for (const std::string& vote : world.AllGatherBytes(own)) {
    if (vote[0] == 'y') continue;
    const Error error = DecodeFailure(vote);
    throw CollectiveError(error.kind(), error.where(), error.message());
  }
}

std::string RunOnFirst(Communicator& world, const std::function<std::string()>& work) {
  const std::string own = world.rank() == 0 ? Vote(work) : "y";
  const std::string first = world.AllGatherBytes(own)[0];
  if (first[0] != 'y') {
    const Error error = DecodeFailure(first);
    throw CollectiveError(error.kind(), error.where(), error.message());
  }
  return first.substr(1);
}

}  // namespace cairn
