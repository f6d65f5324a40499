/* job.h - what was asked and how far it is: the broker's memory of the journal.
 *
 *   struct book b; book_init(&b, 1);
 *   struct job *j = book_job(&b, key, name, n_tasks, wall_ms);   struct batch *c = job_batch(j, first_task, n_tasks, sha256);
 *   batch_lot(c, &item, bytes);  batch_seal(c);                  tasks exist now, all QUEUED
 *   task_move(&b, t, TASK_RUNNING);                              the only way a state changes
 *
 * A job is n_tasks images, told in batches (one SUBMIT each); a batch is lots (one item each: n_images that differ in the seed).
 * A task's id is job << 20 | index: no table is needed to find it. Ids only grow.
 * Invariants: B1 a state changes in task_move() alone, along the arrows of its table.  B2 job.n[state] counts exactly job's tasks.
 *   B3 every move but the one to RUNNING takes the next seq and is an event; an event is shown only when durable (book_durable).
 *   B4 task.grant != NULL iff RUNNING; task.hedge only with it.
 * Not here: which task is next (queue.c), who works (roster.c), surviving a crash (journal.c). */
#ifndef BROKER_JOB_H
#define BROKER_JOB_H

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "base/str.h"
#include "broker/tenant.h"
#include "proto/msg.h"

#define TASK_INDEX_BITS  20
#define TASK_STATES      7   /* indexable by enum task_state; 0 is unused */
#define CRASHES_MAX      3   /* FAIL_CRASHED and FAIL_STUCK */
#define TRANSIENTS_MAX   8   /* FAIL_TRANSIENT and FAIL_OOM */
#define NANS_MAX         2
#define LEASES_PER_TASK_MAX 20
#define RECENT           64  /* completions remembered per job, for its rate */

_Static_assert(JOB_TASKS_MAX <= 1 << TASK_INDEX_BITS, "a task's index must fit its id");

struct job;
struct batch;
struct grant;
struct waiter;
struct worker;

struct turn { /* where a task's share and class stood when it was taken from the queue (queue.h) */
    uint64_t share_ms, class_ms;
    uint8_t  level;
};

/* One client's tasks of one class: what gets a part of the farm. Owned by the book, ordered by queue.c. */
struct share {
    struct {
        uint8_t job_class; /* enum job_class */
        char    client[NAME_MAX_BYTES + 1];
    } key;
    struct tenant *tenant;
    uint64_t       n_running;
    uint8_t        level;     /* the class it stands in: one above its own when it waited too long */
    bool           parked;    /* stands in none: its client was told to pause */
    uint64_t       used_ms;   /* virtual time: what was taken, joined at the class's present (queue.c) */
    uint64_t       home_ms;   /* used_ms in its own class, while level is another */
    uint64_t       credit_ms; /* paid too much: the next ones cost less */
    int64_t        since_ms;  /* it was served, or began to wait */
    size_t         n_jobs;
    struct lane   *lane;   /* utlist, head is next; owned by queue.c */
    struct share  *prev, *next; /* in the queue's class by used, while it has a lane */
    UT_hash_handle hh;
};

/* Tasks of one job that ask for one model: the unit of the queue's round robin. */
struct lane {
    struct job  *job;
    struct str   model;          /* as asked; empty = the farm's default, see job.model */
    struct task *fresh, *retry;  /* utlist heads; owned by queue.c */
    struct lane *prev, *next;    /* in the queue, while one of them is not empty */
    struct lane *sister;         /* the job's next lane */
    uint8_t      n_passed;       /* times that its first task was passed over for another's sake (dispatch.c) */
};

struct lot { /* one item: n_images tasks that differ in the seed */
    struct batch *batch;
    struct lane  *lane;
    uint32_t      first_task, n_images; /* index in the job */
    uint64_t      seed;
    int32_t       width_px, height_px;
    uint32_t      cost;  /* of one image, in units of a step over 256 x 256 pixels; at least 1 */
    bool          want_latents;
    uint64_t      shape;  /* equal: may be made in one batch */
    uint64_t      prompt; /* equal: a worker that made one has the other's text at hand */
    struct str    label, bytes; /* bytes: wire_item_pack() */
    struct lot   *next;
    char          mem[];
};

/* Pixels of one image; a side that is the model's own counts as 1024. */
int64_t lot_px(const struct lot *l);

struct outcome { /* what is left of a task's last run */
    struct part part[PARTS_MAX];
    uint64_t    home[PARTS_MAX]; /* where the bytes are: store.h */
    size_t      n_parts; /* of DONE: 0 when its retention ended */
    uint32_t    took_ms;
    int64_t     collected_wall_ms; /* 0: not collected */
    bool        verified[PARTS_MAX]; /* its bytes were read and hashed for a FETCH since this start */
    bool        fresh[PARTS_MAX];    /* its file was hashed when it came, since this start, and nobody has fetched it */
    char        worker[NAME_MAX_BYTES + 1];
    uint64_t    crashed[CRASHES_MAX]; /* worker.id of those who crashed under it; 0: none */
    char       *error; /* owned; of FAILED, EXPIRED, or the last failed attempt */
};

enum task_place { PLACE_NONE, PLACE_FRESH, PLACE_RETRY, PLACE_DELAYED }; /* in queue.c */

struct task {
    struct lot     *lot;
    uint32_t        index;
    uint8_t         state, place;
    uint8_t         leases, crashes, transients, nans;
    bool            solo;     /* never in a batch: it failed in one */
    bool            recalled; /* once: it is not called back again */
    uint32_t        charged_ms; /* paid by its share and not yet settled */
    uint64_t        seq;      /* of its last event; 0: none yet */
    uint64_t        avoid;    /* worker.id it crashed last; 0: none */
    int64_t         ready_ms; /* back-off: not before (monotonic) */
    struct grant   *grant;    /* while RUNNING */
    struct grant   *hedge;    /* a second one, on an idle worker; never without the first */
    struct outcome *out;      /* NULL until something happened */
    struct task    *prev, *next;
};

struct batch {
    struct job   *job;
    uint32_t      first_task, n_tasks;
    uint8_t       sha256[32];
    bool          durable; /* its SUBMIT is committed */
    struct lot   *lot, *lot_last; /* in order of tasks */
    struct task  *task;    /* [n_tasks] after batch_seal() */
    struct batch *next;    /* in order of first_task */
};

struct event {
    uint64_t     seq;
    struct task *task; /* stale when task->seq differs */
};
struct event_log {
    struct event *at;
    size_t        n, cap;
};

struct job {
    uint64_t         id;
    uint8_t          key[KEY_BYTES];
    char             name[NAME_MAX_BYTES + 1];
    char             model[MODEL_MAX_BYTES + 1]; /* what an empty model means in this job, once its first lease is given */
    int64_t          created_wall_ms, changed_wall_ms;
    uint32_t         n_tasks, n_known;
    uint32_t         n[TASK_STATES], n_collected;
    uint32_t         n_shown[TASK_STATES]; /* final states that are durable */
    bool             canceled;
    uint32_t         n_canceling;  /* canceled, and a worker has not let go of it yet */
    uint64_t         deadline_ms;  /* after created_wall_ms; 0: none */
    int64_t          due_ms;       /* the same on the monotonic clock; 0: none, or passed */
    bool             overdue;      /* it passed */
    bool             leaving;      /* in book_drop() */
    struct job      *prev_due, *next_due; /* in book.due while due_ms */
    uint64_t         cost_left;    /* of its tasks that are not final */
    struct batch    *batch;
    struct lane     *lane;
    struct share    *share;
    struct event_log log;
    uint64_t         tick; /* book.tick of its last progress */
    int64_t          eta_ms, eta_at_ms; /* as told last, and when the whole farm was looked at for it (broker_info.c) */
    struct waiter   *waiter;    /* broker_events.c: who waits for news of it */
    struct job      *next_news; /* in book.news */
    bool             in_news;
    int64_t          recent_ms[RECENT];
    uint64_t         n_recent;
    UT_hash_handle   by_id, by_key;
};

struct change {
    uint64_t    seq;
    struct job *job;
    uint8_t     from, to;
};

struct book {
    struct job      *by_id, *by_key;
    struct share    *share;
    struct tenant   *tenant;
    struct quota     quota;    /* of every new tenant */
    struct job      *due;      /* utlist by prev_due, next_due: jobs with a deadline that may still pass */
    uint64_t         next_job, seq, durable_seq;
    uint64_t         tick; /* counts movements that are not events: leases, steps */
    uint64_t         n_open; /* tasks not final */
    struct event_log log;
    struct change   *change;
    size_t           change_at, n_change, change_cap;
    struct job      *news; /* jobs with changes that became durable since book_news_take() */
};

void book_init(struct book *b, uint64_t next_job, uint64_t seq);
void book_release(struct book *b);
/* A new job with the next id; the key must be new. Never NULL (out of memory aborts). */
struct job *book_job(struct book *b, const uint8_t key[KEY_BYTES], struct str name, uint32_t n_tasks, int64_t wall_ms);
/* Whose share a job takes; before any of its tasks is in the queue. Until then: CLASS_NORMAL of client "". */
void book_share(struct book *b, struct job *j, struct str client, enum job_class c);
/* What has not begun at due_ms (monotonic) expires; 0: never. */
void book_due(struct book *b, struct job *j, int64_t due_ms);
struct job *book_find(const struct book *b, uint64_t id);
struct job *book_find_key(const struct book *b, const uint8_t key[KEY_BYTES]);
struct task *book_task(const struct book *b, uint64_t task_id); /* NULL when unknown */
/* Forgets n jobs wholly; none of their tasks may be in the queue or leased. One walk through the log for all of them. */
void book_drop(struct book *b, struct job *const *job, size_t n);
/* Everything up to seq is on disk: its events may be shown. */
void book_durable(struct book *b, uint64_t seq);
/* Fits [first, first + n) into the job: NULL when it overlaps a batch (then *same is the batch with exactly this range, or NULL). */
struct batch *job_batch(struct job *j, uint32_t first_task, uint32_t n_tasks, const uint8_t sha256[32], struct batch **same);
void batch_lot(struct batch *c, const struct item *it, struct str bytes);
void batch_seal(struct book *b, struct batch *c); /* the lots cover the batch: makes the tasks, QUEUED */
void batch_drop(struct book *b, struct batch *c); /* a SUBMIT that was refused after all */

struct job *task_job(const struct task *t);
uint64_t    task_id(const struct task *t);
uint64_t    task_seed(const struct task *t);
bool        task_final(const struct task *t);
struct outcome *task_outcome(struct task *t); /* made when missing */
uint64_t    outcome_bytes(const struct outcome *o); /* of its parts */
void        task_error(struct task *t, struct str text);
bool        task_move_ok(enum task_state from, enum task_state to);
void        task_move(struct book *b, struct task *t, enum task_state to);
/* What the journal says of a task, at the start; before anything moves, in order of seq. B4 is the caller's: an orphan for RUNNING. */
void        task_restore(struct book *b, struct task *t, enum task_state state, uint64_t seq);
/* The task's durable face; strs are borrowed from it. */
void        task_describe(const struct task *t, struct task_info *out);

/* Events after cursor of one job (NULL: all), oldest first, durable ones only: n <= cap; *next is the cursor behind them. */
size_t book_events(const struct book *b, const struct job *j, uint64_t cursor, struct task **out, size_t cap, uint64_t *next);
bool   book_news(const struct book *b, const struct job *j, uint64_t cursor); /* would book_events() give any? */
struct job *book_news_take(struct book *b); /* each job with new events once; NULL: no more */

void  job_completed(struct job *j, int64_t now_ms); /* for its rate */
float job_rate(const struct job *j, int64_t now_ms); /* images per second lately; 0: not known */

#endif
