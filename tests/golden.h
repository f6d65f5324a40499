/* golden.h - arrays out of the small safetensors files of tests/golden, for tests only: trusts its files, fails the test when they are missing.
 *
 *   size_t n; float *v = golden_read(TESTS_DIR "/golden/tiny-a/golden.safetensors", "noise0", &n);   free(v)
 */
#ifndef TESTS_GOLDEN_H
#define TESTS_GOLDEN_H

#include <stddef.h>

/* The bytes of tensor `name` (F32 or I32: 4 bytes a value), *n values; malloc'd. */
void *golden_read(const char *path, const char *name, size_t *n);
/* A whole file, NUL-terminated; malloc'd. */
char *golden_file(const char *path, size_t *len);

#endif
