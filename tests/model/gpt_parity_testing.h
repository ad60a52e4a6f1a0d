#pragma once

#include <cstddef>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "model/stage.h"
#include "parallel/grad_reducer.h"
#include "parallel/parameter_buffers.h"
#include "runtime/checkpoint/safetensors.h"

namespace cairn::testing {

/// The elements of a global tensor that a rank holds, as its local tensor: padding is zero.
std::vector<float> LocalPart(const ShardSpec& shard, const std::vector<float>& global);

/// One file of tests/model/data, as gpt_parity.py wrote it.
class ReferenceFile {
 public:
  explicit ReferenceFile(const std::string& name);

  /// A number that the file's metadata says.
  double Number(const std::string& key) const;
  /// The elements of a tensor, and its shape.
  template <typename T>
  std::vector<T> Read(const std::string& tensor, Shape* shape = nullptr) const {
    const SafetensorsEntry& entry = Entry(tensor);
    std::vector<T> elements((entry.end - entry.begin) / sizeof(T));
    file_.Read(entry, 0, std::as_writable_bytes(std::span(elements)));
    if (shape != nullptr) *shape = Shape(entry.shape);
    return elements;
  }
  /// LocalPart of an fp32 tensor.
  std::vector<float> ReadShard(const ShardSpec& shard, const std::string& tensor) const;

 private:
  const SafetensorsEntry& Entry(const std::string& tensor) const;

  SafetensorsFile file_;
};

/// A model that PyTorch computed: CASE_weights and CASE_reference.
struct ReferenceCase {
  explicit ReferenceCase(const std::string& name);

  /// The model's shape, with the vocabulary padded to a multiple of `multiple`.
  GptConfig Config(int64_t multiple) const;

  ReferenceFile weights;
  ReferenceFile reference;
  int64_t samples;
  int64_t seq_length;
};

/// How far `actual` is from `expected`.
struct Deviation {
  double norm = 0;  ///< ‖actual − expected‖ / ‖expected‖
  double max = 0;   ///< largest |actual − expected| over the largest |expected|
};

Deviation Compare(double actual, double expected);
Deviation Compare(const std::vector<float>& actual, const std::vector<float>& expected);

/// What of a run must not change its result.
struct TestLayout {
  MeshShape mesh = {};
  bool sequence_parallel = false;
  std::string_view recompute = "none";  ///< train.recompute_granularity
  bool exact = false;                   ///< train.deterministic
  DType dtype = DType::kFloat32;
  int64_t micro_batch_size = 1;
  const char* schedule = "1f1b";
  int64_t vocab_multiple = 8;
  double dropout = 0;
  double loss_scale = 1;

  /// What a failed test is called.
  friend void PrintTo(const TestLayout& layout, std::ostream* out);
};

/// One rank of a model in a layout, with the weights of a case: everything but an optimizer.
class ModelRank {
 public:
  ModelRank(Communicator& world, const ReferenceCase& reference, const TestLayout& layout);

  /// Forward and backward over the case's samples. Returns the mean loss, on every rank; afterwards
  /// gradients are complete.
  double Run();
  /// This rank's columns of the logits [tokens of its samples, V/tp], without dropout; on the last
  /// stage, else empty.
  std::vector<float> Logits();

  const Mesh& mesh() const { return mesh_; }
  const VocabShard& vocab_shard() const { return stage_.vocab_shard(); }
  /// Index of this rank's first sample in the batch.
  int64_t first_sample() const { return samples_per_rank_ * mesh_.coordinate().dp; }
  const ParameterList& parameters() const { return registry_.list(); }
  /// The local gradient of the mean loss.
  std::vector<float> Gradient(const Parameter& parameter) const;

 private:
  std::vector<Microbatch> Microbatches() const;
  void LoadWeights();

  const ReferenceCase* reference_;
  TestLayout layout_;
  std::unique_ptr<Device> device_ = NewCpuDevice();
  Mesh mesh_;
  ModelParallel parallel_;
  int64_t samples_per_rank_;
  GptConfig config_;
  ParameterRegistry registry_;
  GptStage stage_;
  ParameterBuffers buffers_;
  ModelStage model_stage_;
  GradReducer reducer_;
};

}  // namespace cairn::testing
