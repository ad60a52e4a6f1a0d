#include "runtime/base/shared_library.h"

#include <dlfcn.h>

#include "runtime/base/error.h"

namespace cairn {

SharedLibrary::SharedLibrary(const char* name, const std::string& advice)
    : name_(name), handle_(::dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) {
  if (handle_ == nullptr) {
    const char* reason = ::dlerror();
    Throw(ErrorKind::kDevice, name_, "cannot be opened ({}); {}",
          reason != nullptr ? reason : "no reason given", advice);
  }
}

void* SharedLibrary::Symbol(const char* symbol) const {
  void* address = ::dlsym(handle_, symbol);
  if (address == nullptr) {
    Throw(ErrorKind::kDevice, name_, "has no {}: another version than this build needs", symbol);
  }
  return address;
}

}  // namespace cairn
