#pragma once

#include <string>

namespace cairn {

/// A library that is opened when it is first needed, so that the program starts without it. It is
/// never closed: those that need this start threads of their own.
class SharedLibrary {
 public:
  /// Throws Error(kDevice) with the loader's reason and `advice`.
  SharedLibrary(const char* name, const std::string& advice);

  /// Sets `function` to the library's function `symbol`; throws Error(kDevice) if it has none.
  template <typename F>
  void Find(const char* symbol, F*& function) const {
    function = reinterpret_cast<F*>(Symbol(symbol));
  }

 private:
  void* Symbol(const char* symbol) const;

  std::string name_;
  void* handle_;
};

}  // namespace cairn
