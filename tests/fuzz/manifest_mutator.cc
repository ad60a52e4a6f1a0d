#include "tests/fuzz/manifest_mutator.h"

#include <google/protobuf/message.h>

#include <limits>
#include <random>
#include <vector>

#include "runtime/checkpoint/manifest.pb.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace cairn::fuzz {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  void Change(Message& root) {
    std::vector<Message*> messages;
    Collect(root, messages);
    Message& message = *messages[Below(messages.size())];
    const FieldDescriptor& field =
        *message.GetDescriptor()->field(static_cast<int>(Below(FieldCount(message))));
    if (field.is_map()) return;
    if (field.is_repeated()) {
      ChangeRepeated(message, field);
    } else {
      ChangeSingle(message, field);
    }
  }

 private:
  static size_t FieldCount(const Message& message) {
    return static_cast<size_t>(message.GetDescriptor()->field_count());
  }

  size_t Below(size_t count) { return random_() % count; }

  // `message` and all messages in it.
  void Collect(Message& message, std::vector<Message*>& messages) {
    messages.push_back(&message);
    const Reflection& reflection = *message.GetReflection();
    std::vector<const FieldDescriptor*> fields;
    reflection.ListFields(message, &fields);
    for (const FieldDescriptor* field : fields) {
      if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || field->is_map()) continue;
      if (!field->is_repeated()) Collect(*reflection.MutableMessage(&message, field), messages);
      for (int i = 0; field->is_repeated() && i < reflection.FieldSize(message, field); ++i) {
        Collect(*reflection.MutableRepeatedMessage(&message, field, i), messages);
      }
    }
  }

  uint64_t Number(uint64_t old) {
    switch (Below(8)) {
      case 0:
        return old + 1;
      case 1:
        return old - 1;
      case 2:
        return Below(8);
      case 3:
        return Below(4096);
      case 4:
        return uint64_t{1} << Below(64);
      case 5:
        return (uint64_t{1} << Below(64)) - 1;
      case 6:
        return old * 2;
      default:
        return static_cast<uint64_t>(random_()) << 32 | random_();
    }
  }

  void ChangeSingle(Message& message, const FieldDescriptor& field) {
    const Reflection& reflection = *message.GetReflection();
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_UINT32:
        return reflection.SetUInt32(
            &message, &field, static_cast<uint32_t>(Number(reflection.GetUInt32(message, &field))));
      case FieldDescriptor::CPPTYPE_UINT64:
        return reflection.SetUInt64(&message, &field,
                                    Number(reflection.GetUInt64(message, &field)));
      case FieldDescriptor::CPPTYPE_INT64:
        return reflection.SetInt64(&message, &field,
                                   static_cast<int64_t>(Number(static_cast<uint64_t>(
                                       reflection.GetInt64(message, &field)))));
      case FieldDescriptor::CPPTYPE_DOUBLE: {
        static constexpr double kInfinity = std::numeric_limits<double>::infinity();
        static constexpr double kValues[] = {
            0, -1, 1, 65536, 1e308, kInfinity, std::numeric_limits<double>::quiet_NaN()};
        return reflection.SetDouble(&message, &field, kValues[Below(std::size(kValues))]);
      }
      case FieldDescriptor::CPPTYPE_STRING: {
        const std::string old = reflection.GetString(message, &field);
        return reflection.SetString(&message, &field, MutateBytes(old, old.size() + 32));
      }
      default:
        reflection.ClearField(&message, &field);
    }
  }

  void ChangeRepeated(Message& message, const FieldDescriptor& field) {
    const Reflection& reflection = *message.GetReflection();
    const auto size = static_cast<size_t>(reflection.FieldSize(message, &field));
    const size_t choice = Below(4);
    if (size > 0 && choice == 0) return reflection.RemoveLast(&message, &field);
    if (size > 1 && choice == 1) {
      return reflection.SwapElements(&message, &field, static_cast<int>(Below(size)),
                                     static_cast<int>(Below(size)));
    }
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      Message* const added = reflection.AddMessage(&message, &field);
      if (size > 0) {
        added->CopyFrom(
            reflection.GetRepeatedMessage(message, &field, static_cast<int>(Below(size))));
      }
    } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_INT64) {
      if (size == 0 || choice == 2) {
        return reflection.AddInt64(&message, &field, static_cast<int64_t>(Number(0)));
      }
      const auto at = static_cast<int>(Below(size));
      const auto old = static_cast<uint64_t>(reflection.GetRepeatedInt64(message, &field, at));
      reflection.SetRepeatedInt64(&message, &field, at, static_cast<int64_t>(Number(old)));
    } else {  // checksums
      reflection.AddUInt32(&message, &field, static_cast<uint32_t>(Number(0)));
    }
  }

  std::mt19937 random_;
};

}  // namespace

std::string MutateBytes(std::string bytes, size_t max_size) {
  const size_t size = bytes.size();
  bytes.resize(std::max(max_size, size));
  bytes.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(bytes.data()), size, bytes.size()));
  return bytes;
}

std::string MutateManifest(const std::string& bytes, size_t max_size, uint32_t seed) {
  // It tells standard error of each string that is not UTF-8.
  static const auto silenced = google::protobuf::SetLogHandler(nullptr);
  static_cast<void>(silenced);
  checkpoint_pb::Manifest manifest;
  if (seed % 8 == 0 || !manifest.ParseFromString(bytes)) return MutateBytes(bytes, max_size);
  Mutator mutator(seed);
  mutator.Change(manifest);
  std::string changed = manifest.SerializeAsString();
  return changed.size() <= max_size ? changed : bytes;
}

}  // namespace cairn::fuzz
