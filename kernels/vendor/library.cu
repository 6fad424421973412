#include "vendor/library.h"

#include <dlfcn.h>

#include <vector>

namespace comneck::cuda {

void *open_library(const char *path, std::initializer_list<const char *> names, std::string *text) {
  text->clear();
  std::vector<const char *> candidates(names);
  if (path != nullptr) candidates = {path};
#if !defined(__CUDACC__)
  if (path == nullptr) {
    // The real one could be found, which would take the emulation's streams for a device's.
    *text = "the emulation takes a library by its path only";
    return nullptr;
  }
#endif
  for (const char *name : candidates) {
    if (void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL); library != nullptr) return library;
    const char *reason = dlerror();
    *text += (text->empty() ? "" : "; ") + std::string(reason == nullptr ? name : reason);
  }
  return nullptr;
}

void *find_function(void *library, const char *name, std::string *text) {
  void *function = dlsym(library, name);
  if (function == nullptr) *text = std::string("it has no function ") + name;
  return function;
}

}  // namespace comneck::cuda
