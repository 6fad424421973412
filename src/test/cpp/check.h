// A failing check prints where and what, and the program ends with status 1.
#ifndef COMNECK_TEST_CHECK_H
#define COMNECK_TEST_CHECK_H

#include <cstdio>
#include <cstdlib>

#define CHECK(condition)                                                                  \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                                       \
    }                                                                                     \
  } while (0)

#define CHECK_EQ(a, b)                                                                                      \
  do {                                                                                                      \
    auto value_a = (a);                                                                                     \
    auto value_b = (b);                                                                                     \
    if (!(value_a == value_b)) {                                                                            \
      std::fprintf(stderr, "%s:%d: %s is %.17g, but %s is %.17g\n", __FILE__, __LINE__, #a,                 \
                   static_cast<double>(value_a), #b, static_cast<double>(value_b));                         \
      std::exit(1);                                                                                         \
    }                                                                                                       \
  } while (0)

#endif
