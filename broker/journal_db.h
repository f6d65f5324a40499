/* journal_db.h - between journal.c (requests, thread, group commit), journal_db.c (SQLite: opening, writing), journal_rows.c (reading)
 * and journal_mark.c (was the end lost?); nobody else includes it.
 * A struct db is used by one thread at a time: the one that opened it, then the journal's. */
#ifndef BROKER_JOURNAL_DB_H
#define BROKER_JOURNAL_DB_H

#include <sqlite3.h>

#include "broker/journal.h"

enum op_kind { OP_JOB, OP_BATCH, OP_ITEM, OP_TASK, OP_RESULT, OP_FORGET_RESULT, OP_FORGET, OP_SETTING };

struct op {
    enum op_kind kind;
    union {
        struct job_row   job;
        struct batch_row batch;
        struct item_row  item;
        struct task_row  task;
        struct { uint64_t row; struct str bytes; } result;
        struct { uint64_t job, seq; } forget;
        struct { enum setting_kind kind; struct str name; bool on; } setting;
    };
    struct op *next;
    char       mem[];
};

struct block { /* memory of a request's ops */
    struct block *next;
    size_t        used, cap;
    _Alignas(16) char mem[];
};

struct journal_req {
    enum journal_mode   mode;
    struct block       *block; /* the one in use first */
    journal_done_f     *done;
    journal_read_f     *read; /* instead: a result row is wanted */
    uint64_t            row;
    struct buf          bytes;
    void               *ctx;
    struct op          *op, *op_last;
    int                 rc;
    struct err          err;
    struct journal_req *next;
};

struct db_ids {
    uint64_t boot_id, next_job, next_result, seq;
    uint8_t  store[KEY_BYTES];
    int      n_unclean; /* starts lately, this one counted, after an end that was no end in order */
};

enum statement { PUT_JOB, PUT_BATCH, PUT_ITEM, PUT_TASK, PUT_RESULT, GET_RESULT, FORGET_RESULT, FORGET_TASKS, FORGET_ITEMS, FORGET_BATCHES, FORGET_JOB,
                 PUT_SETTING, FORGET_SETTING, SET_META, N_STATEMENTS };

struct db {
    char          dir[3800];
    int           lock_fd;
    struct db_ids ids;
    sqlite3      *db;
    sqlite3_stmt *stmt[N_STATEMENTS];
    bool          sync_full, ballast;
    int           wal_pages;
    int64_t       page_bytes; /* 8192: three results of 2 KiB are one page, and of 4096 each would need its own. An older journal keeps its 4096 */
    int           mark_fd;
    uint64_t      n_commits;   /* that were synced, over all starts: meta's "commits", and DIR/mark */
};

/* Locks the folder, opens and checks the file, counts this start durably. */
int  db_open(struct db **out, const char *dir, struct err *e);
int  db_end(struct db *d);   /* the end is in order: the next start need not wonder. Before db_close(), when all was written */
void db_close(struct db *d);
int  db_load(struct db *d, const struct journal_reader *r, struct err *e);
/* All requests of the chain in one transaction. ERR_LIMIT: the disk is full and nothing was written; other errors are for good. */
int  db_commit(struct db *d, const struct journal_req *first, uint64_t *n_ops, struct err *e);
/* Copies the WAL back when it is due. A full disk is no error: later. */
int  db_tidy(struct db *d, struct err *e);
bool db_give_ballast(struct db *d); /* frees the space kept for such days: true when there was some */

const struct db_ids *db_ids(const struct db *d);
/* A result row's bytes into out. As journal_read_f says; an I/O error is for good. */
int db_read_result(struct db *d, uint64_t row, struct buf *out, struct err *e);

/* ---- journal_mark.c ---- */
int  mark_open(struct db *d, struct err *e); /* ERR_FORMAT: the journal has lost its end */
void mark_set(struct db *d);                 /* n_commits are synced */

/* ---- between journal_db.c and journal_rows.c ---- */
#define ROW_ID(job, index) ((sqlite3_int64)((job) << 20 | (index)))
#define ROW_INDEX(id)      ((uint32_t)((id) & 0xfffff))
#define PART_BYTES         (1 + 8 + 32) /* of a part in a task's row */

int      db_err(struct db *d, int rc, const char *doing, struct err *e); /* SQLite's words into ours */
size_t   db_pack_parts(const struct task_row *t, uint8_t *out);
uint32_t db_task_crc(const struct task_row *t, const uint8_t *parts, size_t parts_bytes);
uint32_t db_result_crc(uint64_t row, struct str bytes);

#endif
