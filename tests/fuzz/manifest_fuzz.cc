#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <cstring>
#include <string>

#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/manifest.pb.h"
#include "tests/fuzz/fuzz_testing.h"
#include "tests/fuzz/manifest_mutator.h"

// MANIFEST.pb, and a rank's description of its shard. Input: the bytes.

namespace cairn::fuzz {
namespace {

// How protobuf itself understands the bytes of a manifest, written again.
std::string ByProtobuf(std::string_view bytes) {
  checkpoint_pb::Manifest message;
  CHECK(message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
  std::string written;
  {
    google::protobuf::io::StringOutputStream stream(&written);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    // An empty state is written, too.
    message.mutable_training_state();
    CHECK(message.SerializeToCodedStream(&coded));
  }
  return written;
}

void RunOne(std::string_view input) {
  const auto manifest = Try(input.size(), kManifestBound, {ErrorKind::kCheckpoint},
                            [&] { return ParseManifest(input, "input"); });
  if (manifest) {
    const std::string written = SerializeManifest(*manifest);
    CHECK_EQ(SerializeManifest(ParseManifest(written, "again")), written);
    CHECK(ByProtobuf(input) == written) << "protobuf reads something else";
  }
  const auto shard = Try(input.size(), kManifestBound, {ErrorKind::kCheckpoint},
                         [&] { return ParseShardResult(input); });
  if (shard) {
    const std::string written = SerializeShardResult(*shard);
    CHECK_EQ(SerializeShardResult(ParseShardResult(written)), written);
  }
}

}  // namespace
}  // namespace cairn::fuzz

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  const std::string changed =
      cairn::fuzz::MutateManifest(std::string(cairn::fuzz::AsText(data, size)), max_size, seed);
  std::memcpy(data, changed.data(), changed.size());
  return changed.size();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cairn::fuzz::RunOne(cairn::fuzz::AsText(data, size));
  return 0;
}
