/* journal.c - requests, the journal's thread, group commit, completions back to the loop.
 * Believes: J1-J6 of journal.h. While one commit is in its fsync the next requests collect: the batch sizes itself.
 * Not here: SQL (journal_db.c), meaning (broker.c), images (spool.c, syncer.c). */
#include "broker/journal.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "broker/journal_db.h"

#define FULL_RETRY_MS         500
#define FIRST_BLOCK_BYTES     1024
#define BLOCK_BYTES           16384
#define RESULT_READ_MAX_BYTES PART_MAX_BYTES

struct list {
    struct journal_req *first, *last;
};

struct journal {
    int             event_fd;
    struct db      *db;   /* the opener's, then the journal thread's */
    bool            dead; /* journal thread */
    struct err      dead_err;
    pthread_mutex_t mtx; /* guards all below */
    pthread_cond_t  wake;
    pthread_t       thread;
    bool            started, stop;
    struct list     inbox, written, left;
    struct journal_counts counts;
    atomic_bool     full;
};

static void list_put(struct list *l, struct journal_req *r)
{
    r->next = NULL;
    if (l->last)
        l->last->next = r;
    else
        l->first = r;
    l->last = r;
}

static void req_free(struct journal_req *r)
{
    struct block *k, *next;

    for (k = r->block; k; k = next) {
        next = k->next;
        free(k);
    }
    buf_release(&r->bytes);
    free(r);
}

/* Tells whoever asked, and forgets it. */
static void complete(struct journal_req *r)
{
    if (r->read)
        r->read(r->ctx, r->rc, buf_str(&r->bytes), &r->err);
    else if (r->done)
        r->done(r->ctx, r->rc, &r->err);
    req_free(r);
}

static struct journal_req *list_take(struct list *l)
{
    struct journal_req *r = l->first;

    if (r && !(l->first = r->next)) l->last = NULL;
    return r;
}

/* ---- the thread ---- */
static void die(struct journal *j, const struct err *e)
{
    if (!j->dead) log_error("journal_dead", "error=\"%s\"", e->text);
    j->dead = true;
    j->dead_err = *e;
}

static void hand_back(struct journal *j, struct list *l)
{
    struct journal_req *r;
    uint64_t            one = 1;

    if (!l->first) return;
    pthread_mutex_lock(&j->mtx);
    while ((r = list_take(l))) {
        if (j->dead) {
            r->rc = ERR_IO;
            r->err = j->dead_err;
        }
        list_put(&j->written, r);
    }
    pthread_mutex_unlock(&j->mtx);
    while (write(j->event_fd, &one, sizeof one) < 0 && errno == EINTR) {}
}

/* The disk is full: new work goes back refused, the rest stays in l to be tried again. */
static void refuse_new(struct journal *j, struct list *l, const struct err *e)
{
    struct list         keep = {0}, refused = {0};
    struct journal_req *r;

    while ((r = list_take(l))) {
        if (r->mode == JOURNAL_NEW) {
            r->rc = ERR_LIMIT;
            r->err = *e;
        }
        list_put(r->rc ? &refused : &keep, r);
    }
    *l = keep;
    hand_back(j, &refused);
}

static void write_list(struct journal *j, struct list *l)
{
    struct err e = {0};
    int64_t    began_us = now_us(), took_us;
    uint64_t   n_ops = 0, n_requests = 0;
    int        rc;

    do {
        n_ops = 0;
        rc = j->dead ? ERR_IO : db_commit(j->db, l->first, &n_ops, &e);
    } while (rc == ERR_LIMIT && db_give_ballast(j->db));
    if (rc == 0) rc = db_tidy(j->db, &e);
    if (rc && rc != ERR_LIMIT && !j->dead) die(j, &e);
    if (rc == ERR_LIMIT) {
        if (!atomic_exchange(&j->full, true)) log_error("disk_full", "error=\"%s\" new_work=refused", e.text);
        refuse_new(j, l, &e);
        return;
    }
    if (atomic_exchange(&j->full, false)) log_info("disk_full_over", "new_work=accepted");
    for (const struct journal_req *r = l->first; r; r = r->next) n_requests++;
    took_us = now_us() - began_us;
    pthread_mutex_lock(&j->mtx);
    j->counts.n_commits++;
    j->counts.n_requests += n_requests;
    j->counts.n_ops += n_ops;
    j->counts.commit_us_sum += (uint64_t)took_us;
    if ((uint64_t)took_us > j->counts.commit_us_max) j->counts.commit_us_max = (uint64_t)took_us;
    pthread_mutex_unlock(&j->mtx);
    hand_back(j, l);
}

static void read_list(struct journal *j, struct list *l)
{
    for (struct journal_req *r = l->first; r && !j->dead; r = r->next) {
        r->rc = db_read_result(j->db, r->row, &r->bytes, &r->err);
        if (r->rc == ERR_IO) die(j, &r->err);
    }
    hand_back(j, l);
}

static void *journal_main(void *arg)
{
    struct journal     *j = arg;
    struct list         work = {0}, reads = {0};
    struct journal_req *r;

    for (;;) {
        bool stop;

        pthread_mutex_lock(&j->mtx);
        if (work.first && !j->stop && !j->inbox.first) clock_cond_wait(&j->wake, &j->mtx, now_ms() + FULL_RETRY_MS);
        while (!work.first && !j->inbox.first && !j->stop) pthread_cond_wait(&j->wake, &j->mtx);
        while ((r = list_take(&j->inbox))) list_put(r->read ? &reads : &work, r);
        stop = j->stop;
        pthread_mutex_unlock(&j->mtx);
        read_list(j, &reads);
        if (work.first) write_list(j, &work);
        if (stop) break;
    }
    j->left = work; /* the disk stayed full: they were never promised */
    if (!j->dead && !work.first) db_end(j->db);
    return NULL;
}

/* ---- opening and closing ---- */
int journal_open(struct journal **out, const char *dir, struct err *e)
{
    struct journal *j = calloc(1, sizeof *j);
    int             rc;

    if (!j) return err_set(e, ERR_NOMEM, "no memory for the journal");
    pthread_mutex_init(&j->mtx, NULL);
    if (clock_cond_init(&j->wake)) abort();
    j->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = j->event_fd < 0 ? err_errno(e, ERR_IO, "making an eventfd for the journal") : db_open(&j->db, dir, e);
    if (rc)
        journal_close(j);
    else
        *out = j;
    return rc;
}

int journal_load(struct journal *j, const struct journal_reader *r, struct err *e)
{
    assert(!j->started);
    return db_load(j->db, r, e);
}

int journal_start(struct journal *j, struct err *e)
{
    int rc = pthread_create(&j->thread, NULL, journal_main, j);

    if (rc) return err_set(e, ERR_NOMEM, "starting the journal's thread: %s", strerror(rc));
    j->started = true;
    return 0;
}

void journal_close(struct journal *j)
{
    struct journal_req *r;

    if (!j) return;
    if (j->started) {
        pthread_mutex_lock(&j->mtx);
        j->stop = true;
        pthread_cond_signal(&j->wake);
        pthread_mutex_unlock(&j->mtx);
        pthread_join(j->thread, NULL);
    }
    while ((r = list_take(&j->written)) || (r = list_take(&j->left)) || (r = list_take(&j->inbox))) {
        err_set(&r->err, ERR_STATE, "the journal was closed");
        r->rc = ERR_STATE;
        complete(r);
    }
    db_close(j->db);
    if (j->event_fd >= 0) close(j->event_fd);
    pthread_cond_destroy(&j->wake);
    pthread_mutex_destroy(&j->mtx);
    free(j);
}

uint64_t journal_boot_id(const struct journal *j)
{
    return db_ids(j->db)->boot_id;
}

const uint8_t *journal_store(const struct journal *j)
{
    return db_ids(j->db)->store;
}

uint64_t journal_next_job(const struct journal *j)
{
    return db_ids(j->db)->next_job;
}

uint64_t journal_seq(const struct journal *j)
{
    return db_ids(j->db)->seq;
}

int journal_n_unclean(const struct journal *j)
{
    return db_ids(j->db)->n_unclean;
}

uint64_t journal_next_result(const struct journal *j)
{
    return db_ids(j->db)->next_result;
}

bool journal_full(const struct journal *j)
{
    return atomic_load(&j->full);
}

int journal_fd(const struct journal *j)
{
    return j->event_fd;
}

void journal_reap(struct journal *j)
{
    struct list         got;
    struct journal_req *r;
    uint64_t            count;

    while (read(j->event_fd, &count, sizeof count) < 0 && errno == EINTR) {}
    pthread_mutex_lock(&j->mtx);
    got = j->written;
    j->written = (struct list){0};
    pthread_mutex_unlock(&j->mtx);
    while ((r = list_take(&got))) complete(r);
}

void journal_read_result(struct journal *j, uint64_t row, journal_read_f *done, void *ctx)
{
    struct journal_req *r = journal_req(JOURNAL_WAL, NULL, ctx);

    r->read = done;
    r->row = row;
    buf_init(&r->bytes, RESULT_READ_MAX_BYTES);
    journal_send(j, r);
}

void journal_count(struct journal *j, struct journal_counts *out)
{
    pthread_mutex_lock(&j->mtx);
    *out = j->counts;
    pthread_mutex_unlock(&j->mtx);
}

/* ---- requests ---- */
struct journal_req *journal_req(enum journal_mode mode, journal_done_f *done, void *ctx)
{
    struct journal_req *r = calloc(1, sizeof *r);

    if (!r) abort();
    r->mode = mode;
    r->done = done;
    r->ctx = ctx;
    return r;
}

void *journal_ctx(const struct journal_req *r)
{
    return r->ctx;
}

static struct op *op_new(struct journal_req *r, enum op_kind kind, size_t mem_bytes)
{
    size_t        need = (sizeof(struct op) + mem_bytes + 1 + 15) & ~(size_t)15;
    struct block *k = r->block;
    struct op    *o;

    if (!k || k->cap - k->used < need) { /* a request of one row is small, one of many takes few blocks */
        size_t cap = k ? BLOCK_BYTES : FIRST_BLOCK_BYTES;

        if (cap < need) cap = need;
        k = malloc(sizeof *k + cap);
        if (!k) abort();
        *k = (struct block){.next = r->block, .cap = cap};
        r->block = k;
    }
    o = memset(k->mem + k->used, 0, sizeof *o);
    k->used += need;
    o->kind = kind;
    if (r->op_last)
        r->op_last->next = o;
    else
        r->op = o;
    r->op_last = o;
    return o;
}

/* Copies s behind used bytes of the op's memory. */
static struct str op_keep(struct op *o, size_t *used, struct str s)
{
    char *at = o->mem + *used;

    if (s.len) memcpy(at, s.at, s.len);
    *used += s.len;
    return (struct str){at, s.len};
}

void journal_put_job(struct journal_req *r, const struct job_row *row)
{
    struct op *o = op_new(r, OP_JOB, row->name.len + row->model.len + row->client.len);
    size_t     used = 0;

    o->job = *row;
    o->job.name = op_keep(o, &used, row->name);
    o->job.model = op_keep(o, &used, row->model);
    o->job.client = op_keep(o, &used, row->client);
}

void journal_put_batch(struct journal_req *r, const struct batch_row *row)
{
    op_new(r, OP_BATCH, 0)->batch = *row;
}

void journal_put_item(struct journal_req *r, const struct item_row *row)
{
    struct op *o = op_new(r, OP_ITEM, row->bytes.len);
    size_t     used = 0;

    o->item = *row;
    o->item.bytes = op_keep(o, &used, row->bytes);
}

void journal_put_task(struct journal_req *r, const struct task_row *row)
{
    struct op *o = op_new(r, OP_TASK, row->worker.len + row->error.len);
    size_t     used = 0;

    o->task = *row;
    o->task.worker = op_keep(o, &used, row->worker);
    o->task.error = op_keep(o, &used, row->error);
}

void journal_put_result(struct journal_req *r, uint64_t row, struct str bytes)
{
    struct op *o = op_new(r, OP_RESULT, bytes.len);
    size_t     used = 0;

    o->result.row = row;
    o->result.bytes = op_keep(o, &used, bytes);
}

void journal_forget_result(struct journal_req *r, uint64_t row)
{
    op_new(r, OP_FORGET_RESULT, 0)->result.row = row;
}

void journal_put_setting(struct journal_req *r, enum setting_kind kind, struct str name, bool on)
{
    struct op *o = op_new(r, OP_SETTING, name.len);
    size_t     used = 0;

    o->setting.kind = kind;
    o->setting.name = op_keep(o, &used, name);
    o->setting.on = on;
}

void journal_forget_job(struct journal_req *r, uint64_t job, uint64_t seq)
{
    struct op *o = op_new(r, OP_FORGET, 0);

    o->forget.job = job;
    o->forget.seq = seq;
}

void journal_send(struct journal *j, struct journal_req *r)
{
    pthread_mutex_lock(&j->mtx);
    list_put(&j->inbox, r);
    pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->mtx);
}
