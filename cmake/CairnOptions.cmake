# Options and compiler flags that hold for every target.
option(CAIRN_TESTS "Build the tests" ON)
option(CAIRN_CUDA "Build the GPU backend where nvcc is found" ON)
option(CAIRN_FUZZ "Build the fuzz targets (clang; preset fuzz)" OFF)
set(CAIRN_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize= takes them (empty: none)")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g")

# No fused multiply-add unless the source says std::fma: a loop's vector body and its scalar tail must
# round alike, or the split of a tensor over ranks would change its bits.
# (-Wno-restrict: g++ 12 reports it for plain std::string concatenation, GCC bug 105651.)
# CUDA has options of its own, in CairnCuda.cmake.
set(host_code $<COMPILE_LANGUAGE:C,CXX>)
add_compile_options("$<${host_code}:-Wall;-Wextra;-Werror>"
                    $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict>
                    $<${host_code}:-ffp-contract=off>)
add_link_options(-fuse-ld=lld)

if(CAIRN_SANITIZE)
  add_compile_options("$<${host_code}:-fsanitize=${CAIRN_SANITIZE};-fno-omit-frame-pointer>")
  add_link_options(-fsanitize=${CAIRN_SANITIZE})
  add_compile_definitions(CAIRN_SANITIZED=1)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()
