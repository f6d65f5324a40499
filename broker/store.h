/* store.h - the bytes of results, by their content, in two homes: a part up to RESULT_ROW_MAX_BYTES is a row of the journal and shares the
 * fsync of its task's row; a larger one is a file of the spool. Above this room nobody asks which.
 *
 *   store_open(&s, dir, journal, &e); store_known(&s, &part, home) for every part a task's row names; store_sweep(&s);
 *   in:   store_begin(&s, &part, &put, &e); spool_write(put, ...) ...; then spool_check(put, &e), store_commit(put, &e): large ones on any thread, they are slow
 *         home = store_keep(&s, req, &part, bytes);  in the request with the task's row; bytes: store_bytes(put), or what rode in an OFFER
 *   out:  store_get(&s, &part, home, verify, &got, &e), or store_peek() for what happens to be in memory
 *   away: store_drop_row(&s, req, &part, home) in the request with the row that names it no more, then store_drop_file() when that is durable
 *
 * Invariants: T1 bytes are checked against their SHA-256 before they are kept, and again when they come from the disk; what fails is
 *   never handed on. A file that this process hashed itself is handed on once without: whoever fetches it hashes it, too, and asks again
 *   when it is wrong (outcome.fresh).  T2 one content is one row, however many tasks name it, and goes with the last of them, in the same transaction.
 *   T3 bytes in memory are a copy of at most STORE_FRESH_BYTES: what was kept last; the oldest leave first.
 * Not here: which task a part belongs to, when its retention ends (restore.c), chunks and credit (transfer.c). */
#ifndef BROKER_STORE_H
#define BROKER_STORE_H

#include "broker/journal.h"
#include "broker/spool.h"

#define RESULT_ROW_MAX_BYTES INLINE_MAX_BYTES
#define STORE_FRESH_BYTES    (32u << 20)

struct kept;

struct store {
    struct spool    spool;
    struct journal *journal;
    struct kept    *kept;  /* rows by content */
    struct kept    *fresh; /* utlist: rows whose bytes are in memory, oldest first */
    size_t          fresh_bytes;
    uint64_t        next_row;
};

int    store_open(struct store *s, const char *dir, struct journal *j, struct err *e);
void   store_release(struct store *s);
bool   store_known(struct store *s, const struct part *p, uint64_t home); /* a row read at the start names it; false: rows contradict each other */
size_t store_sweep(struct store *s); /* files of a crash that no row names; how many */

bool       store_is_row(const struct part *p); /* by size: no file, no syncer */
int        store_begin(struct store *s, const struct part *p, struct spool_put **out, struct err *e); /* as spool_begin() */
int        store_commit(struct spool_put *put, struct err *e); /* as spool_commit(); nothing to do for a row */
struct str store_bytes(const struct spool_put *put);           /* of a row, checked; empty for a file; live until spool_end() */
/* A part is the task's from now on, its row (of bytes) goes with r. bytes are checked already (T1), empty for a file. Returns its home. */
uint64_t store_keep(struct store *s, struct journal_req *r, const struct part *p, struct str bytes);

/* The bytes of a row in memory, empty when it is not; they live until the next store_keep(). */
struct str store_peek(const struct store *s, const struct part *p, uint64_t home);
struct stored {
    int        fd;    /* a file's, yours; -1 */
    struct str bytes; /* a row's; they live until the next store_keep() */
};
/* ERR_BUSY: a row that is not in memory: store_read(). Others as spool_get(). */
int store_get(struct store *s, const struct part *p, uint64_t home, bool verify, struct stored *out, struct err *e);
/* Reads a row from the journal; done as journal_read_f, with bytes that have their crc32c: store_right() looks at their SHA-256. */
void store_read(struct store *s, uint64_t home, journal_read_f *done, void *ctx);
bool store_right(const struct part *p, struct str bytes);

/* A row that names a part no more is in r. True: the part was a row and is done with. False: a file; store_drop_file() when r is durable. */
bool store_drop_row(struct store *s, struct journal_req *r, const struct part *p, uint64_t home);
void store_drop_file(struct store *s, const struct part *p);

#endif
