#include "graph_interpreter_testing.h"

#include <array>
#include <cmath>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "runtime/tensor/dtype.h"

namespace cairn::cuda::testing {
namespace {

using Dims = std::array<int64_t, 4>;

struct Descriptor {
  cudnnBackendDescriptorType_t type;
  std::map<int, std::vector<char>> attributes;

  template <typename T>
  std::vector<T> All(cudnnBackendAttributeName_t name) const {
    const std::vector<char>& bytes = attributes.at(name);
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  template <typename T>
  T One(cudnnBackendAttributeName_t name) const {
    T value;
    std::memcpy(&value, attributes.at(name).data(), sizeof(T));
    return value;
  }
  const Descriptor& To(cudnnBackendAttributeName_t name) const { return *One<Descriptor*>(name); }
  bool Has(cudnnBackendAttributeName_t name) const { return attributes.contains(name); }
};

// Descriptors refer to each other after cuDNN's user has destroyed them.
struct Recorder {
  std::deque<Descriptor> descriptors;
  Descriptor* graph = nullptr;  // the one finalized last
};
Recorder& TheRecorder() {
  static Recorder recorder;
  return recorder;
}

size_t SizeOf(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR:
      return 1;
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
      return 8;
    default:
      return 4;
  }
}

// The elements of four dimensions, in order.
void ForEach(const Dims& dims, const std::function<void(const Dims&)>& f) {
  for (int64_t a = 0; a < dims[0]; ++a) {
    for (int64_t b = 0; b < dims[1]; ++b) {
      for (int64_t c = 0; c < dims[2]; ++c) {
        for (int64_t d = 0; d < dims[3]; ++d) f({a, b, c, d});
      }
    }
  }
}

int64_t Offset(const Dims& at, const Dims& strides) {
  int64_t offset = 0;
  for (int i = 0; i < 4; ++i) offset += at[i] * strides[i];
  return offset;
}

// A tensor's elements by their offset.
using Elements = std::map<int64_t, double>;

class Interpreter {
 public:
  explicit Interpreter(const Descriptor& pack) {
    const auto uids = pack.All<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const auto pointers = pack.All<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    for (size_t i = 0; i < uids.size(); ++i) memory_[uids[i]] = pointers.at(i);
  }

  void Run(const Descriptor& graph) {
    for (const Descriptor* operation : graph.All<Descriptor*>(CUDNN_ATTR_OPERATIONGRAPH_OPS)) {
      switch (operation->type) {
        case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
          Pointwise(*operation);
          break;
        case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
          Matmul(*operation);
          break;
        case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
          Reduce(*operation);
          break;
        case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
          Store(operation->To(CUDNN_ATTR_OPERATION_RESHAPE_YDESC),
                Load(operation->To(CUDNN_ATTR_OPERATION_RESHAPE_XDESC)));
          break;
        default:
          throw std::logic_error("an operation that the interpreter does not know");
      }
    }
  }

 private:
  static Dims Get(const Descriptor& tensor, cudnnBackendAttributeName_t name) {
    const auto values = tensor.All<int64_t>(name);
    return {values.at(0), values.at(1), values.at(2), values.at(3)};
  }
  static Dims DimsOf(const Descriptor& tensor) { return Get(tensor, CUDNN_ATTR_TENSOR_DIMENSIONS); }
  static Dims StridesOf(const Descriptor& tensor) { return Get(tensor, CUDNN_ATTR_TENSOR_STRIDES); }
  static int64_t Uid(const Descriptor& tensor) {
    return tensor.One<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID);
  }

  // Calls f with a typed pointer to the memory of a tensor.
  template <typename F>
  void WithMemory(const Descriptor& tensor, F&& f) {
    void* const base = memory_.at(Uid(tensor));
    switch (tensor.One<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE)) {
      case CUDNN_DATA_FLOAT:
        return f(static_cast<float*>(base));
      case CUDNN_DATA_HALF:
        return f(static_cast<Float16*>(base));
      case CUDNN_DATA_BFLOAT16:
        return f(static_cast<BFloat16*>(base));
      default:
        throw std::logic_error("memory of a type that the interpreter does not know");
    }
  }

  Elements Load(const Descriptor& tensor) {
    if (tensor.One<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL)) return virtual_.at(Uid(tensor));
    Elements elements;
    WithMemory(tensor, [&](auto* base) {
      ForEach(DimsOf(tensor), [&](const Dims& at) {
        const int64_t offset = Offset(at, StridesOf(tensor));
        elements[offset] = static_cast<float>(base[offset]);
      });
    });
    return elements;
  }

  void Store(const Descriptor& tensor, Elements elements) {
    if (tensor.One<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL)) {
      virtual_[Uid(tensor)] = std::move(elements);
      return;
    }
    WithMemory(tensor, [&](auto* base) {
      using T = std::remove_pointer_t<decltype(base)>;
      for (const auto& [offset, value] : elements) base[offset] = T(static_cast<float>(value));
    });
  }

  // An operand of an operation of size `dims`: dimensions of 1 are repeated, heads shared.
  struct Operand {
    Elements elements;
    Dims dims;
    Dims strides;
    double At(const Dims& at, const Dims& all) const {
      Dims own = at;
      for (int i = 0; i < 4; ++i) own[i] = at[i] * dims[i] / all[i];
      return elements.at(Offset(own, strides));
    }
  };
  Operand Read(const Descriptor& tensor) {
    return {Load(tensor), DimsOf(tensor), StridesOf(tensor)};
  }

  void Pointwise(const Descriptor& operation) {
    const Descriptor& math = operation.To(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
    const Descriptor& result = operation.To(CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
    const auto mode = math.One<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
    const Dims dims = DimsOf(result);
    const Operand x = Read(operation.To(CUDNN_ATTR_OPERATION_POINTWISE_XDESC));
    Operand b;
    Operand mask;
    if (operation.Has(CUDNN_ATTR_OPERATION_POINTWISE_BDESC)) {
      b = Read(operation.To(CUDNN_ATTR_OPERATION_POINTWISE_BDESC));
    }
    if (operation.Has(CUDNN_ATTR_OPERATION_POINTWISE_TDESC)) {
      mask = Read(operation.To(CUDNN_ATTR_OPERATION_POINTWISE_TDESC));
    }
    Elements y;
    ForEach(dims, [&](const Dims& at) {
      const double left = x.At(at, dims);
      const auto right = [&] { return b.At(at, dims); };
      const auto value = [&]() -> double {
        switch (mode) {
          case CUDNN_POINTWISE_ADD:
            return left + right();
          case CUDNN_POINTWISE_SUB:
            return left - right();
          case CUDNN_POINTWISE_MUL:
            return left * right();
          case CUDNN_POINTWISE_DIV:
            return left / right();
          case CUDNN_POINTWISE_EXP:
            return std::exp(left);
          case CUDNN_POINTWISE_LOG:
            return std::log(left);
          case CUDNN_POINTWISE_IDENTITY:
            return left;
          case CUDNN_POINTWISE_CMP_GE:
            return left >= right() ? 1 : 0;
          case CUDNN_POINTWISE_BINARY_SELECT:
            return mask.At(at, dims) != 0 ? left : right();
          case CUDNN_POINTWISE_GEN_INDEX:
            return static_cast<double>(
                at.at(static_cast<size_t>(math.One<int64_t>(CUDNN_ATTR_POINTWISE_AXIS))));
          default:
            throw std::logic_error("a mode that the interpreter does not know");
        }
      };
      y[Offset(at, StridesOf(result))] = value();
    });
    Store(result, std::move(y));
  }

  void Matmul(const Descriptor& operation) {
    const Operand a = Read(operation.To(CUDNN_ATTR_OPERATION_MATMUL_ADESC));
    const Operand b = Read(operation.To(CUDNN_ATTR_OPERATION_MATMUL_BDESC));
    const Descriptor& result = operation.To(CUDNN_ATTR_OPERATION_MATMUL_CDESC);
    const Dims dims = DimsOf(result);
    const int64_t depth = a.dims[3];
    if (b.dims[2] != depth || a.dims[2] != dims[2] || b.dims[3] != dims[3]) {
      throw std::logic_error("a product of matrices that do not fit");
    }
    Elements c;
    ForEach(dims, [&](const Dims& at) {
      double sum = 0;
      for (int64_t k = 0; k < depth; ++k) {
        sum += a.At({at[0], at[1], at[2], k}, {dims[0], dims[1], dims[2], depth}) *
               b.At({at[0], at[1], k, at[3]}, {dims[0], dims[1], depth, dims[3]});
      }
      c[Offset(at, StridesOf(result))] = sum;
    });
    Store(result, std::move(c));
  }

  void Reduce(const Descriptor& operation) {
    const auto op = operation.To(CUDNN_ATTR_OPERATION_REDUCTION_DESC)
                        .One<cudnnReduceTensorOp_t>(CUDNN_ATTR_REDUCTION_OPERATOR);
    const Operand x = Read(operation.To(CUDNN_ATTR_OPERATION_REDUCTION_XDESC));
    const Descriptor& result = operation.To(CUDNN_ATTR_OPERATION_REDUCTION_YDESC);
    const Dims dims = DimsOf(result);
    Elements y;
    ForEach(x.dims, [&](const Dims& at) {
      Dims to = at;
      for (int i = 0; i < 4; ++i) to[i] = at[i] * dims[i] / x.dims[i];
      const double value = x.At(at, x.dims);
      const auto [place, is_new] = y.try_emplace(Offset(to, StridesOf(result)), value);
      if (is_new) return;
      place->second =
          op == CUDNN_REDUCE_TENSOR_MAX ? std::fmax(place->second, value) : place->second + value;
    });
    Store(result, std::move(y));
  }

  std::map<int64_t, void*> memory_;
  std::map<int64_t, Elements> virtual_;
};

cudnnStatus_t Create(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* descriptor) {
  *descriptor = &TheRecorder().descriptors.emplace_back(Descriptor{type, {}});
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t Destroy(cudnnBackendDescriptor_t) { return CUDNN_STATUS_SUCCESS; }

cudnnStatus_t SetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                           cudnnBackendAttributeType_t type, int64_t count, const void* values) {
  const char* const bytes = static_cast<const char*>(values);
  static_cast<Descriptor*>(descriptor)->attributes[name] = {
      bytes, bytes + static_cast<size_t>(count) * SizeOf(type)};
  return CUDNN_STATUS_SUCCESS;
}

// One choice of engine, without notes or a workspace.
cudnnStatus_t GetAttribute(cudnnBackendDescriptor_t const, cudnnBackendAttributeName_t name,
                           cudnnBackendAttributeType_t, int64_t, int64_t* count, void*) {
  *count = name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE ? 0 : 1;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t Finalize(cudnnBackendDescriptor_t descriptor) {
  auto* const recorded = static_cast<Descriptor*>(descriptor);
  if (recorded->type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) TheRecorder().graph = recorded;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t Execute(cudnnHandle_t, cudnnBackendDescriptor_t, cudnnBackendDescriptor_t pack) {
  Interpreter(*static_cast<Descriptor*>(pack)).Run(*TheRecorder().graph);
  return CUDNN_STATUS_SUCCESS;
}

}  // namespace

Cudnn Interpreted(Cudnn cudnn) {
  TheRecorder() = {};
  cudnn.descriptor_create = Create;
  cudnn.descriptor_destroy = Destroy;
  cudnn.set_attribute = SetAttribute;
  cudnn.get_attribute = GetAttribute;
  cudnn.finalize = Finalize;
  cudnn.execute = Execute;
  return cudnn;
}

}  // namespace cairn::cuda::testing
