// A vendor's library, opened by name. It stays loaded: such libraries do not expect to be unloaded while a device is in use.
#ifndef COMNECK_KERNELS_VENDOR_LIBRARY_H
#define COMNECK_KERNELS_VENDOR_LIBRARY_H

#include <initializer_list>
#include <string>

namespace comneck::cuda {

// path: a file; null: the first of the names that the system's search finds. Null with the reason in *text when there is none.
void *open_library(const char *path, std::initializer_list<const char *> names, std::string *text);

// Its function, or null with the reason in *text.
void *find_function(void *library, const char *name, std::string *text);

}  // namespace comneck::cuda

#endif
