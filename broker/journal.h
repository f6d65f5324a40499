/* journal.h - what survives kill -9 and power loss: SQLite in DIR/journal.db, its own thread, one connection, group commit.
 *
 *   journal_open(&j, dir, &e); journal_load(j, &reader, &e); journal_start(j, &e);
 *   r = journal_req(j, JOURNAL_SYNC, on_written, ctx); journal_put_task(r, &row); journal_send(j, r);
 *   loop: when journal_fd(j) is readable, journal_reap(j) calls on_written(ctx, rc, err) of all that were written, in order
 *
 * docs/JOURNAL.md has the schema in prose. Invariants:
 *   J1 A completion says 0 only after the request's transaction was fsynced (JOURNAL_SYNC), or is at least in the WAL, safe from
 *      kill -9 (leases: losing one in a power cut is harmless, its epoch never comes again).
 *   J2 Requests are written in the order they were sent, each wholly in one transaction; completions come in that order.
 *   J3 A row that names a file is sent only when the file is durable under its name (syncer.c ran spool_commit()); the bytes of a small
 *      result are a row of their own, written and forgotten in one transaction with the task's row that names it.
 *   J4 boot_id is one more at every open, durable before journal_open() returns. Job ids and seq only grow.
 *   J5 After the first I/O or corruption error nothing is ever completed with 0 again: journal_reap() hands ERR_IO to everybody.
 *   J6 A full disk refuses new work only: a JOURNAL_NEW request completes with ERR_LIMIT; all others wait and are tried again
 *      (a ballast file is given up first), so what was accepted can still be finished, delivered and canceled.
 *   J7 One process (flock on DIR/lock), one connection, one thread.  J8 Every item and task row carries its crc32c; a row that
 *      fails it, or a failed quick_check, stops the start with a sentence: nothing is dropped silently.
 * Not here: what the rows mean (broker.c), the images (spool.c), SQL (journal_db.c). */
#ifndef BROKER_JOURNAL_H
#define BROKER_JOURNAL_H

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"
#include "proto/msg.h"

struct journal;
struct journal_req;

enum journal_mode {
    JOURNAL_WAL,  /* in the WAL is enough: leases */
    JOURNAL_SYNC, /* fsynced */
    JOURNAL_NEW   /* fsynced; new work: refused when the disk is full */
};

struct job_row {
    uint64_t   job;
    uint8_t    key[KEY_BYTES];
    struct str name, model, client;
    uint32_t   n_tasks, job_class;
    int64_t    created_wall_ms, changed_wall_ms;
    bool       canceled;
    uint64_t   deadline_ms; /* after created_wall_ms; 0: none */
};
struct batch_row {
    uint64_t job;
    uint32_t first_task, n_tasks;
    uint8_t  sha256[32];
};
struct item_row {
    uint64_t   job;
    uint32_t   first_task, n_images;
    struct str bytes;
};
struct task_row { /* a task without a row is QUEUED and was never leased */
    uint64_t    task, seq, epoch;
    uint32_t    state, leases, crashes, transients, nans, took_ms;
    int64_t     collected_wall_ms;
    struct part part[PARTS_MAX];
    uint64_t    home[PARTS_MAX]; /* of a part: the result row with its bytes; 0: a file */
    size_t      n_parts;
    struct str  worker, error;
};

/* What people decided, until they decide otherwise. */
enum setting_kind { SETTING_FARM_PAUSED = 1 /* no name */, SETTING_CLIENT_PAUSED, SETTING_WORKER_DRAINED };

struct journal_reader { /* rows come as: jobs; batches and items by task order; tasks */
    void *ctx;
    int (*job)(void *ctx, const struct job_row *r, struct err *e);
    int (*batch)(void *ctx, const struct batch_row *r, struct err *e);
    int (*item)(void *ctx, const struct item_row *r, struct err *e);
    int (*task)(void *ctx, const struct task_row *r, struct err *e);
    int (*setting)(void *ctx, enum setting_kind kind, struct str name, struct err *e); /* comes first; may be NULL */
};

typedef void journal_done_f(void *ctx, int rc, const struct err *e);
/* bytes live until it returns. ERR_NOTFOUND: no such row; ERR_FORMAT: it fails its crc32c; ERR_IO: as J5. */
typedef void journal_read_f(void *ctx, int rc, struct str bytes, const struct err *e);

/* ERR_BUSY: another broker has the folder (the sentence names its pid). ERR_FORMAT: damaged. The folder is made when missing. */
int  journal_open(struct journal **out, const char *dir, struct err *e);
int  journal_load(struct journal *j, const struct journal_reader *r, struct err *e);
int  journal_start(struct journal *j, struct err *e);
/* Writes all that was sent, ends the thread, lets go of the folder. What could not be written, or was not
 * reaped, completes now with ERR_STATE, on the caller's thread. */
void journal_close(struct journal *j);

uint64_t       journal_boot_id(const struct journal *j);
const uint8_t *journal_store(const struct journal *j); /* [KEY_BYTES]: names this journal for ever */
uint64_t       journal_next_job(const struct journal *j); /* as found at open */
uint64_t       journal_seq(const struct journal *j);      /* the highest ever given, as found at open */
int            journal_n_unclean(const struct journal *j);   /* starts within minutes, this one counted, each after an end in disorder */
uint64_t       journal_next_result(const struct journal *j); /* as found at open */
bool           journal_full(const struct journal *j);     /* the disk is full now */
int            journal_fd(const struct journal *j);       /* readable: journal_reap() has work */
void           journal_reap(struct journal *j);           /* calls the completions, on the caller's thread */

struct journal_req *journal_req(enum journal_mode mode, journal_done_f *done, void *ctx);
void *journal_ctx(const struct journal_req *r);
void journal_put_job(struct journal_req *r, const struct job_row *row);     /* inserts or replaces; strs are copied */
void journal_put_batch(struct journal_req *r, const struct batch_row *row); /* inserts */
void journal_put_item(struct journal_req *r, const struct item_row *row);   /* inserts */
void journal_put_task(struct journal_req *r, const struct task_row *row);   /* inserts or replaces */
void journal_put_result(struct journal_req *r, uint64_t row, struct str bytes); /* inserts; bytes are copied */
void journal_forget_result(struct journal_req *r, uint64_t row);
void journal_put_setting(struct journal_req *r, enum setting_kind kind, struct str name, bool on); /* off: forgets it */
void journal_forget_job(struct journal_req *r, uint64_t job, uint64_t seq); /* all its rows; seq stays the highest ever given */
void journal_send(struct journal *j, struct journal_req *r);                /* r is the journal's from now on */

/* Reads the bytes of a result row that is durable already: it overtakes requests that wait, also for a full disk. */
void journal_read_result(struct journal *j, uint64_t row, journal_read_f *done, void *ctx);

struct journal_counts {
    uint64_t n_commits, n_requests, n_ops, commit_us_max, commit_us_sum;
};
void journal_count(struct journal *j, struct journal_counts *out);

#endif
