/*
 * comneck.h: the C ABI of libcomneck, and its manual.
 *
 * Rules that hold for every function:
 *   - only int32_t, int64_t, float and pointers; every pointer is followed by its length, in bytes unless its name says otherwise;
 *   - the result is a status; details of the last failure on this thread are in comneck_last_error();
 *   - nothing is thrown, printed, or aborted; misuse is a status, never undefined behaviour, as long as pointers and lengths are true;
 *   - strings are UTF-8 and zero-terminated.
 */
#ifndef COMNECK_H
#define COMNECK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define COMNECK_API __attribute__((visibility("default")))

/* Raised with every change of this header; Java refuses to load another one. */
#define COMNECK_ABI_VERSION 1

/* Status values. */
enum {
  COMNECK_OK = 0,
  COMNECK_MISUSE = 1,        /* an argument is wrong: a bug in the caller */
  COMNECK_DAMAGED = 2,       /* bytes from outside are not what they claim to be */
  COMNECK_OUT_OF_MEMORY = 3, /* an allocation failed */
  COMNECK_UNSUPPORTED = 4,   /* this machine cannot do it */
  COMNECK_INTERNAL = 5       /* a bug of ours */
};

/* COMNECK_ABI_VERSION of the library that was loaded. */
COMNECK_API int32_t comneck_abi_version(void);

/* What went wrong in the last call on this thread that did not return COMNECK_OK: one sentence, valid until the next call. */
COMNECK_API const char *comneck_last_error(void);

#ifdef __cplusplus
}
#endif

#endif
