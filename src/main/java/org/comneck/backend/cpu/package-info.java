/** The cpu backend: our C++ library (src/main/cpp) through the foreign function interface. */
package org.comneck.backend.cpu;
