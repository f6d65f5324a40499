/* journal_db.h - between journal.c (requests, thread, group commit) and journal_db.c (SQLite); nobody else includes it.
 * A struct db is used by one thread at a time: the one that opened it, then the journal's. */
#ifndef BROKER_JOURNAL_DB_H
#define BROKER_JOURNAL_DB_H

#include "broker/journal.h"

enum op_kind { OP_JOB, OP_BATCH, OP_ITEM, OP_TASK, OP_FORGET };

struct op {
    enum op_kind kind;
    union {
        struct job_row   job;
        struct batch_row batch;
        struct item_row  item;
        struct task_row  task;
        struct { uint64_t job, seq; } forget;
    };
    struct op *next;
    char       mem[];
};

struct journal_req {
    enum journal_mode   mode;
    journal_done_f     *done;
    void               *ctx;
    struct op          *op, *op_last;
    int                 rc;
    struct err          err;
    struct journal_req *next;
};

struct db;

/* Locks the folder, opens and checks the file, counts this start durably. */
int  db_open(struct db **out, const char *dir, struct err *e);
void db_close(struct db *d);
int  db_load(struct db *d, const struct journal_reader *r, struct err *e);
/* All requests of the chain in one transaction. ERR_LIMIT: the disk is full and nothing was written; other errors are for good. */
int  db_commit(struct db *d, const struct journal_req *first, uint64_t *n_ops, struct err *e);
/* Copies the WAL back when it is due. A full disk is no error: later. */
int  db_tidy(struct db *d, struct err *e);
bool db_give_ballast(struct db *d); /* frees the space kept for such days: true when there was some */

struct db_ids {
    uint64_t boot_id, next_job, seq;
    uint8_t  store[KEY_BYTES];
};
const struct db_ids *db_ids(const struct db *d);

#endif
