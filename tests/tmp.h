/* tmp.h - a folder of one's own for a test; gone at the end.
 *
 *   struct tmp t; tmp_open(&t);  path = tmp_path(&t, "a.png");  ...  tmp_close(&t);
 *
 * Failures abort: a test without a folder proves nothing. */
#ifndef TESTS_TMP_H
#define TESTS_TMP_H

#include <stdbool.h>
#include <stddef.h>

struct tmp {
    char dir[256];
    char path[4][512]; /* tmp_path() gives these in turn */
    int  next;
    bool mounted; /* tmp_open_small() */
};

void  tmp_open(struct tmp *t);
/* A file system of its own with about `bytes` of room (tmpfs). false, and nothing made, when we may not mount. */
bool  tmp_open_small(struct tmp *t, size_t bytes);
void  tmp_close(struct tmp *t);
char *tmp_path(struct tmp *t, const char *name); /* valid for the next three calls */
void  tmp_write(struct tmp *t, const char *name, const void *at, size_t len);
int   tmp_n_files(const struct tmp *t); /* entries of the folder, hidden ones counted */

#endif
