/* spool.h - finished images waiting for their client: DIR/blobs/ab/<sha256>, named by their content.
 *
 *   spool_begin(&s, &part, &put, &e); spool_write(put, 0, bytes, &e) ...;    loop thread
 *   spool_check(put, &e); spool_commit(put, &e);                             any thread (syncer.c): a file is read back and hashed, and synced
 *   spool_end(put);                                                          loop thread
 *
 * Invariants: P1 a file under its final name has the bytes of its name: it was hashed as it was written, fsynced, then renamed, and the folder
 *   fsynced, before any row speaks of it.  P2 a file is removed only when nobody counts on it (spool_ref), after the journal forgot it.
 *   P3 what stands in DIR/blobs without being counted is an orphan of a crash: spool_sweep() at boot removes it.
 *   P4 no two threads sync one folder at once, and no promise follows a sync of it that failed.
 * The 256 folders are made with their first file: a farm of one's own would make and remove them all for one picture.
 * Not here: which task a blob belongs to, when its retention ends (broker.c). */
#ifndef BROKER_SPOOL_H
#define BROKER_SPOOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/str.h"
#include "proto/msg.h"

#define SPOOL_MEM_BYTES (64 << 10) /* received into memory: making a file may wait for the disk, and the loop must not */

struct blob;

struct spool_os { /* the calls that can fail, so that tests can let them */
    ssize_t (*write)(int fd, const void *at, size_t len);
    int     (*fsync)(int fd);
    int     (*rename)(const char *from, const char *to);
};

/* A sync that failed takes with it what others had put into the folder, and the next one says nothing of it: so they take turns, and after a failure there is none. */
struct spool_turn {
    pthread_mutex_t mtx;
    bool            lost; /* under mtx */
};

#define SPOOL_FOLDERS 256 /* by the first byte of the content's name */

struct spool {
    char            dir[3800]; /* DIR/blobs */
    struct spool_os os;
    struct blob    *blob; /* by content: how many rows count on it */
    uint64_t        n_temp;
    atomic_bool     folder[SPOOL_FOLDERS]; /* there, and its name durable: seen by this process */
    struct spool_turn turn[SPOOL_FOLDERS], turn_of_dir; /* to sync them, and dir itself */
};

struct spool_put {
    struct spool *spool;
    struct part   part;
    uint64_t      have_bytes;
    int           fd;  /* -1: no file yet */
    char         *mem; /* of a part up to SPOOL_MEM_BYTES; NULL: it is written as it comes */
    bool          checked, committed;
    char          temp[4096], path[4096];
};

int  spool_open(struct spool *s, const char *dir, struct err *e);
void spool_release(struct spool *s);

/* Begins to receive a part; *out is yours until spool_end(). ERR_LIMIT: the disk is full. */
int  spool_begin(struct spool *s, const struct part *p, struct spool_put **out, struct err *e);
/* The next bytes. offset must be where the last call ended: ERR_PROTO; past the part's size: ERR_PROTO; full disk: ERR_LIMIT. */
int  spool_write(struct spool_put *put, uint64_t offset, struct str bytes, struct err *e);
/* All there, and the SHA-256 right? ERR_FORMAT if not; ERR_IO. Slow for a file; any thread. */
int  spool_check(struct spool_put *put, struct err *e);
/* Makes it durable under its name. Slow; any thread; ERR_IO, or ERR_LIMIT when the disk is full. */
int  spool_commit(struct spool_put *put, struct err *e);
void spool_end(struct spool_put *put); /* removes the temporary unless committed */

void spool_ref(struct spool *s, const uint8_t sha256[32]);
/* One row less counts on it; at none the file is removed. */
void spool_unref(struct spool *s, const uint8_t sha256[32]);
/* Opens a blob for reading; with verify its bytes are hashed first. ERR_NOTFOUND: missing; ERR_FORMAT: not what its name says (then
 * the file was removed); ERR_IO. *fd is yours. */
int  spool_get(struct spool *s, const struct part *p, bool verify, int *fd, struct err *e);
/* Removes temporaries and every blob that nobody counts on. Returns how many. */
size_t spool_sweep(struct spool *s);

#endif
