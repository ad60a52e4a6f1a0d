#include "launcher/tensor_stream.h"

#include <glog/logging.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <utility>

namespace cairn {
namespace {

constexpr int64_t kTile = 16;  // fp32 elements of a cache line

constexpr std::array<std::pair<std::string_view, DType>, 3> kFloatingDTypes = {
    {{"F32", DType::kFloat32}, {"BF16", DType::kBFloat16}, {"F16", DType::kFloat16}}};

int64_t Product(std::span<const int64_t> extents) {
  return std::accumulate(extents.begin(), extents.end(), int64_t{1}, std::multiplies<>());
}

// Writes `source`, an array of `extents`, with its axes in another order. The axis that is
// contiguous in the source and the one that is contiguous in the target are walked in tiles, so
// that neither side leaves its cache lines half used.
template <typename T>
void Permute(std::span<const float> source, std::span<const int64_t> extents,
             std::span<const int> order, T* target) {
  const size_t rank = extents.size();
  const size_t last = rank - 1;
  std::vector<int64_t> source_stride(rank);  // of each target axis
  std::vector<int64_t> target_stride(rank);
  std::vector<int64_t> size(rank);
  size_t tiled = last;
  int64_t stride = 1;
  for (size_t k = rank; k-- > 0;) {
    size[k] = extents[order[k]];
    target_stride[k] = stride;
    stride *= size[k];
    source_stride[k] = Product(extents.subspan(order[k] + 1));
    if (static_cast<size_t>(order[k]) == last) tiled = k;
  }
  const int64_t rows = tiled == last ? 1 : size[tiled];
  const int64_t columns = size[last];
  std::vector<int64_t> index(rank, 0);
  size[tiled] = size[last] = 1;  // walked inside
  while (true) {
    const float* from = source.data();
    T* to = target;
    for (size_t k = 0; k < rank; ++k) {
      from += index[k] * source_stride[k];
      to += index[k] * target_stride[k];
    }
    for (int64_t first = 0; first < rows; first += kTile) {
      const int64_t end = std::min(first + kTile, rows);
      for (int64_t column = 0; column < columns; ++column) {
        for (int64_t row = first; row < end; ++row) {
          to[row * target_stride[tiled] + column] =
              static_cast<T>(from[row + column * source_stride[last]]);
        }
      }
    }
    size_t k = rank;
    while (k > 0 && ++index[k - 1] == size[k - 1]) index[--k] = 0;
    if (k == 0) return;
  }
}

// Makes the bytes of a PermutedSource slab by slab.
class Permuter {
 public:
  Permuter(std::vector<int64_t> extents, std::vector<int> order, DType dtype, int64_t slab_bytes,
           SlabReader read)
      : extents_(std::move(extents)),
        order_(std::move(order)),
        dtype_(dtype),
        read_(std::move(read)),
        rows_(extents_[order_[0]]),
        row_elements_(Product(extents_) / rows_),
        slab_rows_(std::max<int64_t>(
            1, slab_bytes / (row_elements_ * static_cast<int64_t>(sizeof(float))))) {}

  uint64_t size() const { return static_cast<uint64_t>(rows_) * row_bytes(); }

  void Fill(uint64_t begin, std::span<std::byte> out) {
    if (begin == 0) Restart();
    while (!out.empty()) {
      CHECK_GE(begin, slab_begin_) << "bytes are made in their order";
      if (begin >= slab_begin_ + slab_.size()) LoadNext();
      const uint64_t skip = begin - slab_begin_;
      const auto piece = out.first(std::min<uint64_t>(out.size(), slab_.size() - skip));
      std::memcpy(piece.data(), slab_.data() + skip, piece.size());
      begin += piece.size();
      out = out.subspan(piece.size());
    }
    if (begin == size()) Restart();  // a file has many tensors, each with a source
  }

 private:
  uint64_t row_bytes() const { return static_cast<uint64_t>(row_elements_) * DTypeSize(dtype_); }

  void Restart() {
    next_row_ = 0;
    slab_begin_ = 0;
    Release();
  }

  // Gives the memory back, which clearing, or assigning {}, would not.
  void Release() { std::vector<std::byte>().swap(slab_); }

  void LoadNext() {
    const int64_t count = std::min(slab_rows_, rows_ - next_row_);
    std::vector<int64_t> extents = extents_;
    extents[order_[0]] = count;
    Release();
    std::vector<float> read(Product(extents));
    read_(next_row_, count, read);
    slab_.resize(static_cast<uint64_t>(count) * row_bytes());
    DispatchFloating("permute", dtype_, [&](auto type) {
      using T = decltype(type);
      Permute(read, extents, order_, reinterpret_cast<T*>(slab_.data()));
    });
    slab_begin_ = static_cast<uint64_t>(next_row_) * row_bytes();
    next_row_ += count;
  }

  std::vector<int64_t> extents_;
  std::vector<int> order_;
  DType dtype_;
  SlabReader read_;
  int64_t rows_;  // along the slabs' axis
  int64_t row_elements_;
  int64_t slab_rows_;
  int64_t next_row_ = 0;
  uint64_t slab_begin_ = 0;
  std::vector<std::byte> slab_;
};

}  // namespace

std::optional<DType> FloatingDType(std::string_view safetensors_dtype) {
  for (const auto& [name, dtype] : kFloatingDTypes) {
    if (name == safetensors_dtype) return dtype;
  }
  return std::nullopt;
}

const char* SafetensorsName(DType dtype) {
  for (const auto& [name, known] : kFloatingDTypes) {
    if (known == dtype) return name.data();
  }
  ThrowUnsupportedDType("safetensors", dtype);
}

void DecodeFloats(DType dtype, std::span<const std::byte> bytes, std::span<float> out) {
  CHECK_EQ(bytes.size(), out.size() * DTypeSize(dtype));
  DispatchFloating("decode", dtype, [&](auto type) {
    using T = decltype(type);
    for (size_t i = 0; i < out.size(); ++i) {
      T element;
      std::memcpy(&element, bytes.data() + i * sizeof(T), sizeof(T));
      out[i] = static_cast<float>(element);
    }
  });
}

ByteSource PermutedSource(std::vector<int64_t> extents, std::vector<int> order, DType dtype,
                          int64_t slab_bytes, SlabReader read) {
  auto permuter = std::make_shared<Permuter>(std::move(extents), std::move(order), dtype,
                                             slab_bytes, std::move(read));
  const uint64_t size = permuter->size();
  return {size, [permuter = std::move(permuter)](uint64_t begin, std::span<std::byte> out) {
            permuter->Fill(begin, out);
          }};
}

}  // namespace cairn
