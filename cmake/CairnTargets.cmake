# cairn_library(NAME [libraries...]): the room in the current folder; its *.cc (but main.cc), and what
# it stands on.
function(cairn_library name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  list(FILTER sources EXCLUDE REGEX "/main\\.cc$")
  if(sources)
    add_library(${name} STATIC ${sources})
    target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
    target_link_libraries(${name} PUBLIC fmt::fmt ${ARGN})
  else()
    add_library(${name} INTERFACE)
    target_include_directories(${name} INTERFACE ${PROJECT_SOURCE_DIR})
    target_link_libraries(${name} INTERFACE fmt::fmt ${ARGN})
  endif()
endfunction()

# cairn_test(FOLDER libraries...): one GoogleTest program of the *_test.cc in tests/FOLDER.
# Its ctest name is FOLDER; the program is bin/test_FOLDER with '/' as '_'.
function(cairn_test folder)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*_test.cc
       ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*_testing.cc)
  if(NOT sources)
    return()
  endif()
  string(REPLACE "/" "_" program test_${folder})
  add_executable(${program} ${sources})
  target_link_libraries(${program} PRIVATE ${ARGN} GTest::gmock GTest::gtest_main)
  target_compile_definitions(${program} PRIVATE
    CAIRN_SOURCE_DIR="${PROJECT_SOURCE_DIR}" CAIRN_BINARY_DIR="${PROJECT_BINARY_DIR}")
  add_test(NAME ${folder} COMMAND ${program})
  set_tests_properties(${folder} PROPERTIES TIMEOUT 1200)
endfunction()
