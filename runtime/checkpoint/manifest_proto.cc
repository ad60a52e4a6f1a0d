#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <limits>

#include "runtime/base/error.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/manifest.pb.h"

// From the structs of manifest.h to the messages of manifest.proto.

namespace cairn {
namespace {

void Encode(const Chunk& chunk, checkpoint_pb::Chunk& message) {
  message.set_file(chunk.file);
  message.set_entry(chunk.entry);
  message.set_file_offset(chunk.file_offset);
  message.mutable_offset()->Assign(chunk.offset.begin(), chunk.offset.end());
  message.mutable_extent()->Assign(chunk.extent.begin(), chunk.extent.end());
  message.mutable_crc32c()->Assign(chunk.crc32c.begin(), chunk.crc32c.end());
}

void Encode(const TensorEntry& tensor, checkpoint_pb::TensorEntry& message) {
  message.set_name(tensor.name);
  message.set_kind(tensor.kind);
  message.set_dtype(tensor.dtype);
  message.mutable_shape()->Assign(tensor.shape.begin(), tensor.shape.end());
  for (const Chunk& chunk : tensor.chunks) Encode(chunk, *message.add_chunks());
}

void Encode(const FileEntry& file, checkpoint_pb::FileEntry& message) {
  message.set_name(file.name);
  message.set_size(file.size);
  message.set_header_bytes(file.header_bytes);
  message.set_header_crc32c(file.header_crc32c);
  message.set_xxh3_128(file.xxh3_128);
}

void Encode(const TrainingState& state, checkpoint_pb::TrainingState& message) {
  message.set_loss_scale(state.loss_scale);
  message.set_loss_scale_growth_tracker(state.loss_scale_growth_tracker);
  message.set_loss_scale_hysteresis(state.loss_scale_hysteresis);
  message.set_optimizer_steps(state.optimizer_steps);
  message.set_skipped_iterations(state.skipped_iterations);
  message.set_seed(state.seed);
  message.set_skipped_samples(state.skipped_samples);
  message.set_loss_trend_count(state.loss_trend_count);
  message.set_loss_trend_mean(state.loss_trend_mean);
  message.set_loss_trend_variance(state.loss_trend_variance);
}

// Maps have no order of their own: deterministic output sorts them.
std::string Serialize(const google::protobuf::MessageLite& message) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    if (message.ByteSizeLong() > static_cast<size_t>(std::numeric_limits<int>::max()) ||
        !message.SerializeToCodedStream(&coded)) {
      Throw(ErrorKind::kCheckpoint, "manifest", "the description would exceed 2 GiB");
    }
  }
  return bytes;
}

}  // namespace

std::string SerializeManifest(const Manifest& manifest) {
  checkpoint_pb::Manifest message;
  message.set_format_version(manifest.format_version);
  message.set_iteration(manifest.iteration);
  message.set_consumed_samples(manifest.consumed_samples);
  message.set_tokens(manifest.tokens);
  message.set_config_text(manifest.config_text);
  Encode(manifest.training_state, *message.mutable_training_state());
  message.mutable_layout()->insert(manifest.layout.begin(), manifest.layout.end());
  for (const TensorEntry& tensor : manifest.tensors) Encode(tensor, *message.add_tensors());
  for (const FileEntry& file : manifest.files) Encode(file, *message.add_files());
  return Serialize(message);
}

std::string SerializeShardResult(const ShardResult& shard) {
  checkpoint_pb::Shard message;
  Encode(shard.file, *message.mutable_file());
  for (const TensorEntry& tensor : shard.tensors) Encode(tensor, *message.add_tensors());
  return Serialize(message);
}

}  // namespace cairn
