#include <utility>
#include <vector>

#include "runtime/device/cuda_call.h"
#include "runtime/device/cuda_device.h"

namespace cairn {
namespace {

// The word that kernels of a graph find their step in.
class StepWord {
 public:
  explicit StepWord(Allocator& allocator)
      : allocator_(&allocator),
        word_(static_cast<uint32_t*>(allocator.Allocate(sizeof(uint32_t), kCategory))) {}
  ~StepWord() { allocator_->Free(word_, sizeof(uint32_t), kCategory); }
  StepWord(const StepWord&) = delete;
  StepWord& operator=(const StepWord&) = delete;

  uint32_t* get() const { return word_; }

 private:
  static constexpr MemoryCategory kCategory = MemoryCategory::kActivations;

  Allocator* allocator_;
  uint32_t* word_;
};

// While it lives, the compute stream records, and the calling thread's memory is the graph's.
class Recording {
 public:
  Recording(CudaDevice& device, BlockReserve& reserve, const StepWord& step)
      : device_(&device), reserve_(&reserve) {
    CheckCuda(cudaSetDevice(device.index()), "cudaSetDevice");
    // Relaxed: memory may be taken from CUDA meanwhile, and other threads may ask for events.
    CheckCuda(cudaStreamBeginCapture(device.native_stream(), cudaStreamCaptureModeRelaxed),
              "cudaStreamBeginCapture");
    reserve.Open();
    device.BeginRecording(step.get());
  }
  // After an error: what was recorded, if anything, is of no use.
  ~Recording() {
    if (device_ == nullptr) return;
    cudaGraph_t graph = nullptr;
    (void)Close(&graph);
    (void)cudaGetLastError();
    if (graph != nullptr) LogCuda(cudaGraphDestroy(graph), "cudaGraphDestroy");
  }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  // The compute stream waits for every stream that was drawn in, as CUDA wants it. Those.
  std::vector<CudaStream*> Join() {
    std::vector<CudaStream*> streams = device_->RecordingStreams();
    for (CudaStream* stream : streams) device_->compute_stream().Wait(stream->Record());
    return streams;
  }

  cudaGraph_t End() {
    cudaGraph_t graph = nullptr;
    CheckCuda(Close(&graph), "cudaStreamEndCapture");
    return graph;
  }

 private:
  cudaError_t Close(cudaGraph_t* graph) {
    CudaDevice* const device = std::exchange(device_, nullptr);
    device->EndRecording();
    reserve_->Close();
    return cudaStreamEndCapture(device->native_stream(), graph);
  }

  CudaDevice* device_;
  BlockReserve* reserve_;
};

class CudaGraph : public Replay {
 public:
  CudaGraph(CudaDevice& device, const std::function<void()>& work)
      : device_(&device), reserve_(device.allocator()), step_(device.allocator()) {
    Recording recording(device, reserve_, step_);
    work();
    drawn_in_ = recording.Join();
    const cudaGraph_t graph = recording.End();
    const cudaError_t code = cudaGraphInstantiate(&graph_, graph, 0);
    LogCuda(cudaGraphDestroy(graph), "cudaGraphDestroy");
    CheckCuda(code, "cudaGraphInstantiate");
  }
  // A launch that still runs goes on; its memory is handed out again in the compute stream's order.
  ~CudaGraph() override { LogCuda(cudaGraphExecDestroy(graph_), "cudaGraphExecDestroy"); }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  void Launch(uint32_t step) override {
    CheckCuda(cudaSetDevice(device_->index()), "cudaSetDevice");
    device_->Copy(step_.get(), &step, sizeof(step), device_->compute_stream());
    // The graph's branches are none of these streams: only what is launched is ordered with them.
    for (CudaStream* stream : drawn_in_) device_->compute_stream().Wait(stream->Record());
    CheckCuda(cudaGraphLaunch(graph_, device_->native_stream()), "cudaGraphLaunch");
  }

 private:
  CudaDevice* device_;
  BlockReserve reserve_;
  StepWord step_;
  std::vector<CudaStream*> drawn_in_;
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace

std::unique_ptr<Replay> CudaDevice::Capture(const std::function<void()>& work) {
  return std::make_unique<CudaGraph>(*this, work);
}

}  // namespace cairn
