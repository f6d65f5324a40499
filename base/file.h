/* file.h - map read-only; write atomically (tmp, fsync, rename); folders.
 *
 *   struct file_map m; if (file_map_open(&m, path, &e)) ...   m.at[0..m.len)   file_map_close(&m);
 *   file_write(path, bytes, len, FILE_REPLACE, &e);            a reader sees the old file, no file or the whole new one
 *
 * A temporary is named ".<name>.<pid>-<8 hex>.tmp" in the target's folder (two writers never share one) and is unlinked when anything
 * fails. A target that exists and is not a regular file (/dev/null, a folder) is refused.
 * Not here: what the bytes mean. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct file_map {
    const uint8_t *at; /* NULL for an empty file */
    size_t         len;
    char           path[512];
    int            fd; /* kept open: file_map_check() looks whether the file was cut under us */
};

enum file_mode { FILE_REPLACE, FILE_NEW }; /* FILE_NEW: ERR_CONFLICT when the name exists */

/* Regular files only; errors name the path. */
int  file_map_open(struct file_map *m, const char *path, struct err *e);
void file_map_close(struct file_map *m);
int  file_map_check(const struct file_map *m, struct err *e); /* ERR_IO when the file is now shorter than the map */
/* The process holds its pages no longer; the map stays, and what is touched again is read again. */
void file_map_drop(const struct file_map *m);

/* Whole small file into b (cleared first); ERR_LIMIT past b->max. */
int file_read(const char *path, struct buf *b, struct err *e);
/* As file_read, of a file that must be its owner's: ERR_STATE when it belongs to neither this user nor root, or when its mode has one of the
 * forbidden bits (0077: a secret; 0022: others may read it but not write). */
int file_read_guarded(const char *path, unsigned forbidden, struct buf *b, struct err *e);
/* Durable: data fsynced, renamed, folder fsynced. */
int file_write(const char *path, const void *at, size_t len, enum file_mode mode, struct err *e);

bool file_exists(const char *path);
bool file_is_folder(const char *path);
/* fsync of a folder: the names in it are durable. -1 with errno; 0, too, where that cannot be asked for. */
int file_sync_folder(const char *dir);
/* mkdir -p with mode 0777 & ~umask; the names of what it makes, and of the last one also when it was there, are durable. */
int file_make_folder(const char *path, struct err *e);
/* rm -rf of a folder that we made ourselves; does not follow links; missing is fine. */
int file_remove_tree(const char *path, struct err *e);
/* Unlinks the temporaries in dir whose writers no longer live on this machine: what kill -9 in the middle of file_write() leaves. */
void file_drop_temps(const char *dir);
/* Makes a private folder (0700) under $TMPDIR or /tmp: "<prefix>-XXXXXX". path receives it. */
int file_temp_folder(const char *prefix, char *path, size_t path_cap, struct err *e);
/* dir + "/" + name into path; ERR_LIMIT when it does not fit. */
int file_join(char *path, size_t path_cap, const char *dir, const char *name, struct err *e);
/* A name a client may create in its own folder: 1..200 bytes, valid UTF-8, no '/', '\\', control bytes, leading '.' or '-'. */
bool file_name_ok(struct str name);
/* Free bytes for this process on the file system of path, or -1. */
int64_t file_free_bytes(const char *path);

#endif
