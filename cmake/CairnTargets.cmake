# cairn_library(NAME [libraries...]): the room in the current folder; its *.cc (but main.cc), and what
# it stands on. Files of the GPU backend are *.cu, *_cuda.cc, cuda_*.cc and nccl_*.cc; a build without
# it has *_cuda_stub.cc instead.
function(cairn_library name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc ${CMAKE_CURRENT_SOURCE_DIR}/*.cu)
  list(FILTER sources EXCLUDE REGEX "/main\\.cc$")
  set(gpu_sources ${sources})
  list(FILTER gpu_sources INCLUDE REGEX "\\.cu$|/(cuda|nccl)_[^/]*\\.cc$|_cuda\\.cc$")
  list(FILTER gpu_sources EXCLUDE REGEX "_cuda_stub\\.cc$")
  if(CAIRN_CUDA)
    list(FILTER sources EXCLUDE REGEX "_cuda_stub\\.cc$")
  elseif(gpu_sources)
    list(REMOVE_ITEM sources ${gpu_sources})
  endif()
  if(sources)
    add_library(${name} STATIC ${sources})
    target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
    target_link_libraries(${name} PUBLIC fmt::fmt ${ARGN})
    if(CAIRN_CUDA AND gpu_sources)
      target_link_libraries(${name} PRIVATE cairn_cuda_toolkit)
    endif()
  else()
    add_library(${name} INTERFACE)
    target_include_directories(${name} INTERFACE ${PROJECT_SOURCE_DIR})
    target_link_libraries(${name} INTERFACE fmt::fmt ${ARGN})
  endif()
endfunction()

# cairn_test(FOLDER [THREADS] libraries...): one GoogleTest program of the *_test.cc in tests/FOLDER.
# Its ctest name is FOLDER; the program is bin/test_FOLDER with '/' as '_'. THREADS: it runs ranks or
# streams as threads, and so is labelled for the sanitizers.
function(cairn_test folder)
  cmake_parse_arguments(ARG "THREADS" "" "" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*_test.cc
       ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*_testing.cc)
  if(NOT sources)
    return()
  endif()
  string(REPLACE "/" "_" program test_${folder})
  add_executable(${program} ${sources})
  target_link_libraries(${program} PRIVATE ${ARG_UNPARSED_ARGUMENTS} GTest::gmock GTest::gtest_main)
  # Paths go only to sources that use them: the others are the same in every checkout, for ccache.
  foreach(source IN LISTS sources)
    file(STRINGS ${source} uses REGEX "CAIRN_(SOURCE|BINARY)_DIR" LIMIT_COUNT 1)
    if(uses)
      set_property(SOURCE ${source} APPEND PROPERTY COMPILE_DEFINITIONS
        CAIRN_SOURCE_DIR="${PROJECT_SOURCE_DIR}" CAIRN_BINARY_DIR="${PROJECT_BINARY_DIR}")
    endif()
  endforeach()
  add_test(NAME ${folder} COMMAND ${program})
  set_tests_properties(${folder} PROPERTIES TIMEOUT 1200)
  # The OpenMP library is not built for the thread sanitizer, which takes its barriers for races; ranks
  # that are threads have one OpenMP thread each anyway.
  if(CAIRN_SANITIZE MATCHES thread)
    set_tests_properties(${folder} PROPERTIES ENVIRONMENT
      "OMP_NUM_THREADS=1;TSAN_OPTIONS=suppressions=${CMAKE_CURRENT_SOURCE_DIR}/tsan.supp")
  endif()
  if(ARG_THREADS)
    set_tests_properties(${folder} PROPERTIES LABELS threads)
    add_dependencies(thread_tests ${program})
  endif()
endfunction()

# cairn_mpi_test(FOLDER/NAME RANKS n... LIBRARIES libraries...): the program of
# tests/FOLDER/NAME_testmain.cc and the *_testing.cc beside it, run by mpirun at each number of ranks;
# once more over TCP, where a message needs its sender's help to arrive, as between hosts; and once with the
# argument "fail": one rank throws, and the job must end with status 3.
function(cairn_mpi_test path)
  cmake_parse_arguments(ARG "" "" "RANKS;LIBRARIES" ${ARGN})
  # Open MPI's plug-ins are not built for the thread sanitizer, which reports their locks as races.
  if(CAIRN_SANITIZE MATCHES thread)
    return()
  endif()
  cmake_path(GET path PARENT_PATH folder)
  file(GLOB helpers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*_testing.cc)
  string(REPLACE "/" "_" program test_${path})
  add_executable(${program} ${path}_testmain.cc ${helpers})
  target_link_libraries(${program} PRIVATE ${ARG_LIBRARIES} GTest::gmock GTest::gtest)
  # More ranks than cores, also as root in a container.
  set(environment OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1
      ASAN_OPTIONS=fast_unwind_on_malloc=0
      LSAN_OPTIONS=suppressions=${CMAKE_CURRENT_SOURCE_DIR}/parallel/mpi_lsan.supp)
  set(launch ${MPIEXEC_EXECUTABLE} --oversubscribe --bind-to none ${MPIEXEC_NUMPROC_FLAG})
  foreach(ranks IN LISTS ARG_RANKS)
    add_test(NAME ${path}_${ranks} COMMAND ${launch} ${ranks} $<TARGET_FILE:${program}>)
    set_tests_properties(${path}_${ranks} PROPERTIES TIMEOUT 300 ENVIRONMENT "${environment}")
  endforeach()
  add_test(NAME ${path}_tcp COMMAND ${launch} 4 --mca btl self,tcp $<TARGET_FILE:${program}>)
  set_tests_properties(${path}_tcp PROPERTIES TIMEOUT 300 ENVIRONMENT "${environment}")
  add_test(NAME ${path}_fail COMMAND bash -c "\"$@\"; test $? -eq 3" mpirun
           ${launch} 3 $<TARGET_FILE:${program}> fail)
  set_tests_properties(${path}_fail PROPERTIES TIMEOUT 60 ENVIRONMENT "${environment}")
endfunction()
