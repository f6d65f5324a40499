/* gather.h - parts of results become files: fetched, verified, written whole or not at all.
 *
 *   struct gather g; gather_open(&g, "out", false, &e);            the folder is made and proved writable before anything is submitted
 *   gather_part(&g, c, task, &part, "00000-42.png", &was_there, &e);   a file that is there with the right hash is not fetched again
 *   gather_release(&g);
 *
 * Durable when it returns: file fsynced, renamed, folder fsynced; only then may the broker hear COLLECTED.
 * Not here: which tasks (follow.c), how names are made (fields.c). */
#ifndef CLIENT_GATHER_H
#define CLIENT_GATHER_H

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"
#include "client/client.h"

#define GATHER_PATH_BYTES 4096

struct gather {
    char       dir[GATHER_PATH_BYTES];
    bool       replace; /* other content under the name is replaced; else it is ERR_CONFLICT */
    struct buf bytes;
};

/* Makes the folder when it is missing. ERR_IO with the reason when no file can be made in it. */
int  gather_open(struct gather *g, const char *dir, bool replace, struct err *e);
void gather_release(struct gather *g);
/* path: dir/name, or name itself when it holds a '/'. ERR_LIMIT when too long. */
int gather_path(const struct gather *g, const char *name, char path[GATHER_PATH_BYTES], struct err *e);
/* ERR_CONFLICT: another file has the name. ERR_IO: the disk. Others: the broker's. *was_there: nothing was fetched. */
int gather_part(struct gather *g, struct client *c, uint64_t task, const struct part *part, const char *path, bool *was_there,
                struct err *e);
/* Is the file at path this part, by size and SHA-256? */
bool gather_same(const char *path, uint64_t size_bytes, const uint8_t sha256[32]);
/* Can a file be written at path? Its folder exists and is writable, the name is free or a regular file. */
int gather_target_check(const char *path, struct err *e);

#endif
