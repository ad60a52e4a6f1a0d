#include "runtime/base/shared_library.h"

#include <gtest/gtest.h>

#include "runtime/base/error.h"

namespace cairn {
namespace {

TEST(SharedLibraryTest, FindsFunctions) {
  const SharedLibrary library("libm.so.6", "");
  double (*round_down)(double) = nullptr;
  library.Find("floor", round_down);
  EXPECT_EQ(round_down(3.5), 3.0);
}

TEST(SharedLibraryTest, SaysWhatIsMissing) {
  try {
    const SharedLibrary library("libcairn-nowhere.so.7", "install it");
    FAIL() << "there is no such library";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDevice);
    EXPECT_EQ(error.where(), "libcairn-nowhere.so.7");
    EXPECT_NE(error.message().find("; install it"), std::string::npos) << error.message();
  }
  const SharedLibrary library("libm.so.6", "");
  int (*nothing)() = nullptr;
  EXPECT_THROW(library.Find("cairn_has_no_such_function", nothing), Error);
}

}  // namespace
}  // namespace cairn
