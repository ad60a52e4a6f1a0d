# The GPU backend, where nvcc and the headers of cuDNN and NCCL are found; CAIRN_CUDA is ON from here on
# only if it is built. The CUDA runtime is linked statically and asks for no driver before a GPU is used.
# cuBLASLt, cuDNN and NCCL are opened when first needed (runtime/base/shared_library.h): no program of
# this tree needs any of them to start.
if(CAIRN_CUDA)
  find_program(CMAKE_CUDA_COMPILER nvcc HINTS ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin)
  if(CMAKE_CUDA_COMPILER)
    find_path(CAIRN_CUDNN_INCLUDE cudnn_graph.h HINTS ENV CUDA_HOME PATHS /usr/local/cuda
              PATH_SUFFIXES include)
    find_path(CAIRN_NCCL_INCLUDE nccl.h HINTS ENV CUDA_HOME PATHS /usr/local/cuda
              PATH_SUFFIXES include)
  endif()
  if(NOT CAIRN_CUDNN_INCLUDE OR NOT CAIRN_NCCL_INCLUDE)
    message(STATUS "Without CUDA: nvcc, cudnn_graph.h or nccl.h is missing")
    set(CAIRN_CUDA OFF)
  endif()
endif()
if(NOT CAIRN_CUDA)
  return()
endif()

# A100, H100 and H200, B200; the rest by way of compute_80.
set(CMAKE_CUDA_ARCHITECTURES 80 90a-real 100-real)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
enable_language(CUDA)
# CMake 3.25 does not know that nvcc has C++20.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
find_package(CUDAToolkit 13 REQUIRED)
# No fused multiply-add, as on the CPU: elementwise kernels then compute the same bits on both.
add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;-fmad=false;\
-Werror=all-warnings;-Xcompiler=-Wall,-Wextra,-Werror>")

# What opens a library by its name also looks beside the toolkit's.
list(APPEND CMAKE_BUILD_RPATH ${CUDAToolkit_LIBRARY_DIR})

# Everything that the sources of a room need to use the GPU; no NVIDIA library but the runtime.
add_library(cairn_cuda_toolkit INTERFACE)
target_include_directories(cairn_cuda_toolkit SYSTEM INTERFACE
  ${CUDAToolkit_INCLUDE_DIRS} ${CAIRN_CUDNN_INCLUDE} ${CAIRN_NCCL_INCLUDE})
target_link_libraries(cairn_cuda_toolkit INTERFACE CUDA::cudart_static ${CMAKE_DL_LIBS})
