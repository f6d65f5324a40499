/* job.c - jobs, batches, lots, tasks, and task_move(), the only place where a state changes.
 * Believes: one thread; out of memory aborts (the journal has everything).
 * Not here: deciding (broker_*.c), bytes on disk (journal.c). */
#include "broker/job.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define OWN_PX 1024 /* a guess for sides that the spec leaves to the model */
#define RATE_WINDOW_MS 30000
#define RATE_MIN       8 /* completions a rate is taken from when the window has fewer */

static void *must(void *p)
{
    if (!p) abort();
    return p;
}

/* ---- the table of arrows: [from][to] ---- */
static const bool arrow[TASK_STATES][TASK_STATES] = {
    [TASK_QUEUED] = {[TASK_RUNNING] = true, [TASK_DONE] = true /* a late result */, [TASK_CANCELED] = true, [TASK_EXPIRED] = true},
    [TASK_RUNNING] = {[TASK_QUEUED] = true, [TASK_DONE] = true, [TASK_FAILED] = true, [TASK_CANCELED] = true},
    [TASK_FAILED] = {[TASK_QUEUED] = true /* somebody asked for it */},
    [TASK_DONE] = {[TASK_QUEUED] = true /* its bytes were damaged on disk */},
};

bool task_move_ok(enum task_state from, enum task_state to)
{
    return from < TASK_STATES && to < TASK_STATES && arrow[from][to];
}

static void log_put(struct event_log *l, struct task *t)
{
    if (l->n == l->cap) { /* first throw out what is stale; grow only when that was little */
        size_t kept = 0;

        for (size_t i = 0; i < l->n; i++)
            if (l->at[i].task->seq == l->at[i].seq) l->at[kept++] = l->at[i];
        l->n = kept;
        if (kept * 4 >= l->cap * 3) {
            l->cap = l->cap ? l->cap * 2 : 16;
            l->at = must(realloc(l->at, l->cap * sizeof *l->at));
        }
    }
    l->at[l->n++] = (struct event){t->seq, t};
}

static void change_put(struct book *b, struct change c)
{
    if (b->change_at == b->n_change) b->change_at = b->n_change = 0;
    if (b->n_change == b->change_cap) {
        b->change_cap = b->change_cap ? b->change_cap * 2 : 256;
        b->change = must(realloc(b->change, b->change_cap * sizeof *b->change));
    }
    b->change[b->n_change++] = c;
}

static bool final(unsigned state)
{
    return task_state_final((enum task_state)state);
}

/* n tasks of the job more (or less, modulo 2^64) in that state. */
static void count(struct job *j, unsigned state, uint64_t n)
{
    j->n[state] += (uint32_t)n;
    if (state == TASK_QUEUED) j->share->tenant->n_queued += n;
    if (state != TASK_RUNNING) return;
    j->share->tenant->n_running += n;
    j->share->n_running += n;
}

void task_move(struct book *b, struct task *t, enum task_state to)
{
    struct job *j = task_job(t);

    assert(task_move_ok((enum task_state)t->state, to));
    assert(t->place == PLACE_NONE && (t->grant != NULL) == (to == TASK_RUNNING) && (t->grant || !t->hedge));
    count(j, t->state, (uint64_t)-1);
    count(j, to, 1);
    b->n_open += (uint64_t)final(t->state) - (uint64_t)final(to);
    j->cost_left += t->lot->cost * ((uint64_t)final(t->state) - (uint64_t)final(to));
    if (to == TASK_RUNNING) {
        j->tick = ++b->tick;
    } else {
        t->seq = ++b->seq;
        log_put(&b->log, t);
        log_put(&j->log, t);
        change_put(b, (struct change){t->seq, j, t->state, (uint8_t)to});
    }
    t->state = (uint8_t)to;
}

void task_restore(struct book *b, struct task *t, enum task_state state, uint64_t seq)
{
    struct job *j = task_job(t);

    assert(t->state == TASK_QUEUED && t->place == PLACE_NONE && seq <= b->seq);
    count(j, TASK_QUEUED, (uint64_t)-1);
    count(j, state, 1);
    b->n_open -= final(state);
    j->cost_left -= final(state) ? t->lot->cost : 0;
    if (final(state)) j->n_shown[state]++;
    t->state = (uint8_t)state;
    t->seq = seq;
    if (!seq) return;
    log_put(&b->log, t);
    log_put(&j->log, t);
}

void book_durable(struct book *b, uint64_t seq)
{
    assert(seq <= b->seq);
    if (seq <= b->durable_seq) return;
    b->durable_seq = seq;
    while (b->change_at < b->n_change && b->change[b->change_at].seq <= seq) {
        struct change *c = &b->change[b->change_at++];

        if (final(c->from)) c->job->n_shown[c->from]--;
        if (final(c->to)) c->job->n_shown[c->to]++;
        if (c->job->in_news) continue;
        c->job->in_news = true;
        c->job->next_news = b->news;
        b->news = c->job;
    }
}

/* ---- the book ---- */
void book_init(struct book *b, uint64_t next_job, uint64_t seq)
{
    *b = (struct book){.next_job = next_job, .seq = seq, .durable_seq = seq};
}

static void share_leave(struct book *b, struct job *j)
{
    struct share *s = j->share;

    if (!s) return;
    s->tenant->n_queued -= j->n[TASK_QUEUED];
    s->tenant->n_running -= j->n[TASK_RUNNING];
    s->n_running -= j->n[TASK_RUNNING];
    j->share = NULL;
    if (--s->n_jobs) return;
    HASH_DEL(b->share, s);
    s->tenant->n_shares--;
    free(s);
}

void book_share(struct book *b, struct job *j, struct str client, enum job_class c)
{
    struct share probe, *s;

    assert(client.len <= NAME_MAX_BYTES);
    memset(&probe.key, 0, sizeof probe.key);
    probe.key.job_class = (uint8_t)c;
    if (client.len) memcpy(probe.key.client, client.at, client.len);
    HASH_FIND(hh, b->share, &probe.key, sizeof probe.key, s);
    if (!s) {
        s = must(calloc(1, sizeof *s));
        s->key = probe.key;
        s->level = (uint8_t)c;
        s->tenant = tenants_get(&b->tenant, client, &b->quota);
        s->tenant->n_shares++;
        s->parked = s->tenant->paused;
        HASH_ADD(hh, b->share, key, sizeof s->key, s);
    }
    s->n_jobs++;
    share_leave(b, j);
    j->share = s;
    s->tenant->n_queued += j->n[TASK_QUEUED];
    s->tenant->n_running += j->n[TASK_RUNNING];
    s->n_running += j->n[TASK_RUNNING];
}

void book_due(struct book *b, struct job *j, int64_t due_ms)
{
    if (j->due_ms) DL_DELETE2(b->due, j, prev_due, next_due);
    j->due_ms = due_ms;
    if (due_ms) DL_APPEND2(b->due, j, prev_due, next_due);
}

struct job *book_job(struct book *b, const uint8_t key[KEY_BYTES], struct str name, uint32_t n_tasks, int64_t wall_ms)
{
    struct job *j = must(calloc(1, sizeof *j));

    assert(name.len <= NAME_MAX_BYTES && !book_find_key(b, key));
    j->id = b->next_job++;
    memcpy(j->key, key, KEY_BYTES);
    if (name.len) memcpy(j->name, name.at, name.len);
    j->n_tasks = n_tasks;
    j->created_wall_ms = j->changed_wall_ms = wall_ms;
    HASH_ADD(by_id, b->by_id, id, sizeof j->id, j);
    HASH_ADD(by_key, b->by_key, key, KEY_BYTES, j);
    book_share(b, j, (struct str){0}, CLASS_NORMAL);
    return j;
}

struct job *book_find(const struct book *b, uint64_t id)
{
    struct job *j;

    HASH_FIND(by_id, b->by_id, &id, sizeof id, j);
    return j;
}

struct job *book_find_key(const struct book *b, const uint8_t key[KEY_BYTES])
{
    struct job *j;

    HASH_FIND(by_key, b->by_key, key, KEY_BYTES, j);
    return j;
}

struct task *book_task(const struct book *b, uint64_t id)
{
    struct job *j = book_find(b, id >> TASK_INDEX_BITS);
    uint32_t    index = (uint32_t)(id & ((1u << TASK_INDEX_BITS) - 1));

    for (struct batch *c = j ? j->batch : NULL; c && c->first_task <= index; c = c->next)
        if (index - c->first_task < c->n_tasks) return c->task ? &c->task[index - c->first_task] : NULL;
    return NULL;
}

static void batch_free(struct batch *c)
{
    struct lot *l, *next;

    for (l = c->lot; l; l = next) {
        next = l->next;
        free(l);
    }
    for (uint32_t i = 0; c->task && i < c->n_tasks; i++)
        if (c->task[i].out) {
            free(c->task[i].out->error);
            free(c->task[i].out);
        }
    free(c->task);
    free(c);
}

struct job *book_news_take(struct book *b)
{
    struct job *j = b->news;

    if (!j) return NULL;
    b->news = j->next_news;
    j->next_news = NULL;
    j->in_news = false;
    return j;
}

static void job_free(struct book *b, struct job *j)
{
    struct job **at = &b->news;

    struct batch *c, *next_batch;
    struct lane  *l, *next_lane;

    while (j->in_news && *at != j) at = &(*at)->next_news;
    if (j->in_news) *at = j->next_news;
    share_leave(b, j);
    book_due(b, j, 0);
    HASH_DELETE(by_id, b->by_id, j);
    HASH_DELETE(by_key, b->by_key, j);
    for (c = j->batch; c; c = next_batch) {
        next_batch = c->next;
        batch_free(c);
    }
    for (l = j->lane; l; l = next_lane) {
        next_lane = l->sister;
        free(l);
    }
    free(j->log.at);
    free(j);
}

void book_drop(struct book *b, struct job *const *job, size_t n)
{
    size_t kept = 0;

    if (n == 0) return;
    for (size_t i = 0; i < n; i++) job[i]->leaving = true;
    for (size_t i = 0; i < b->log.n; i++)
        if (!task_job(b->log.at[i].task)->leaving) b->log.at[kept++] = b->log.at[i];
    b->log.n = kept;
    for (size_t i = b->change_at; i < b->n_change; i++) assert(!b->change[i].job->leaving);
    for (size_t i = 0; i < n; i++) job_free(b, job[i]);
}

void book_release(struct book *b)
{
    struct job *j, *next;

    HASH_ITER(by_id, b->by_id, j, next) job_free(b, j);
    tenants_release(&b->tenant);
    free(b->log.at);
    free(b->change);
    *b = (struct book){0};
}

/* ---- batches ---- */
struct batch *job_batch(struct job *j, uint32_t first_task, uint32_t n_tasks, const uint8_t sha256[32], struct batch **same)
{
    struct batch **at = &j->batch, *c;

    *same = NULL;
    assert(n_tasks > 0 && first_task < j->n_tasks && n_tasks <= j->n_tasks - first_task);
    while (*at && (*at)->first_task + (*at)->n_tasks <= first_task) at = &(*at)->next;
    if (*at && (*at)->first_task < first_task + n_tasks) {
        if ((*at)->first_task == first_task && (*at)->n_tasks == n_tasks) *same = *at;
        return NULL;
    }
    c = must(calloc(1, sizeof *c));
    c->job = j;
    c->first_task = first_task;
    c->n_tasks = n_tasks;
    memcpy(c->sha256, sha256, 32);
    c->next = *at;
    *at = c;
    return c;
}

static struct lane *job_lane(struct job *j, struct str model)
{
    struct lane *l;

    for (l = j->lane; l; l = l->sister)
        if (str_eq(l->model, model)) return l;
    l = must(calloc(1, sizeof *l + model.len + 1));
    l->job = j;
    if (model.len) memcpy(l + 1, model.at, model.len);
    l->model = (struct str){(const char *)(l + 1), model.len};
    l->sister = j->lane;
    j->lane = l;
    return l;
}

/* In proportion to the work of an engine, roughly: pixels x steps, twice with guidance. The model's own defaults count as 8 steps unguided. */
static int64_t px_of(int32_t width_px, int32_t height_px)
{
    return (int64_t)(width_px ? width_px : OWN_PX) * (height_px ? height_px : OWN_PX);
}

int64_t lot_px(const struct lot *l)
{
    return px_of(l->width_px, l->height_px);
}

static uint32_t cost_of(const struct spec *s)
{
    uint64_t px = (uint64_t)px_of(s->width_px, s->height_px), steps = s->steps > 0 ? (uint64_t)s->steps : 8;
    uint64_t n = px * steps * (s->guidance > 0 ? 2 : 1) / (256 * 256);

    return n ? (uint32_t)n : 1;
}

/* FNV-1a, 64 bits: a mistaken equality costs a cache miss, or a batch of two shapes, which a worker refuses. */
static uint64_t mix(uint64_t h, const void *at, size_t n)
{
    h ^= 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)at)[i]) * 0x100000001b3u;
    return h;
}

/* What must be equal for images to be made in one batch: all but prompts, seeds and whose random numbers they are. */
static uint64_t shape_of(const struct spec *s)
{
    const int32_t whole[] = {s->width_px, s->height_px, s->steps};
    const float   real[] = {s->guidance, s->cfg_norm, s->cfg_trunc};

    return mix(mix(0, whole, sizeof whole), real, sizeof real);
}

void batch_lot(struct batch *c, const struct item *it, struct str bytes)
{
    struct lot *l = must(calloc(1, sizeof *l + bytes.len + it->label.len + 1)), *last = c->lot_last;

    l->batch = c;
    l->lane = job_lane(c->job, it->spec.model);
    l->first_task = last ? last->first_task + last->n_images : c->first_task;
    l->n_images = it->n_images;
    l->seed = it->spec.seed;
    l->width_px = it->spec.width_px;
    l->height_px = it->spec.height_px;
    l->cost = cost_of(&it->spec);
    l->shape = shape_of(&it->spec);
    l->prompt = mix(mix(0, it->spec.prompt.at, it->spec.prompt.len), it->spec.negative.at, it->spec.negative.len);
    l->want_latents = it->spec.want_latents;
    memcpy(l->mem, bytes.at, bytes.len);
    l->bytes = (struct str){l->mem, bytes.len};
    if (it->label.len) memcpy(l->mem + bytes.len, it->label.at, it->label.len);
    l->label = (struct str){l->mem + bytes.len, it->label.len};
    if (last)
        last->next = l;
    else
        c->lot = l;
    c->lot_last = l;
}

void batch_seal(struct book *b, struct batch *c)
{
    uint32_t n = 0;

    c->task = must(calloc(c->n_tasks, sizeof *c->task));
    for (struct lot *l = c->lot; l; l = l->next) {
        assert(l->n_images <= c->n_tasks - n);
        for (uint32_t i = 0; i < l->n_images; i++, n++) {
            c->task[n].lot = l;
            c->task[n].index = c->first_task + n;
            c->task[n].state = TASK_QUEUED;
        }
    }
    assert(n == c->n_tasks);
    c->job->n_known += n;
    c->job->tick = ++b->tick;
    count(c->job, TASK_QUEUED, n);
    b->n_open += n;
    for (const struct lot *l = c->lot; l; l = l->next) c->job->cost_left += (uint64_t)l->cost * l->n_images;
}

void batch_drop(struct book *b, struct batch *c)
{
    struct job    *j = c->job;
    struct batch **at = &j->batch;

    for (uint32_t i = 0; i < c->n_tasks; i++) assert(c->task[i].state == TASK_QUEUED && c->task[i].place == PLACE_NONE && !c->task[i].seq);
    while (*at != c) at = &(*at)->next;
    *at = c->next;
    j->n_known -= c->n_tasks;
    count(j, TASK_QUEUED, -(uint64_t)c->n_tasks);
    b->n_open -= c->n_tasks;
    for (const struct lot *l = c->lot; l; l = l->next) j->cost_left -= (uint64_t)l->cost * l->n_images;
    batch_free(c);
    if (!j->batch) job_free(b, j);
}

/* ---- tasks ---- */
struct job *task_job(const struct task *t)
{
    return t->lot->batch->job;
}

uint64_t task_id(const struct task *t)
{
    return task_job(t)->id << TASK_INDEX_BITS | t->index;
}

uint64_t task_seed(const struct task *t)
{
    return t->lot->seed + (t->index - t->lot->first_task);
}

bool task_final(const struct task *t)
{
    return final(t->state);
}

struct outcome *task_outcome(struct task *t)
{
    if (!t->out) t->out = must(calloc(1, sizeof *t->out));
    return t->out;
}

uint64_t outcome_bytes(const struct outcome *o)
{
    uint64_t n = 0;

    for (size_t i = 0; i < o->n_parts; i++) n += o->part[i].size_bytes;
    return n;
}

void task_error(struct task *t, struct str text)
{
    struct outcome *o = task_outcome(t);

    free(o->error);
    o->error = must(calloc(1, text.len + 1));
    if (text.len) memcpy(o->error, text.at, text.len);
}

void task_describe(const struct task *t, struct task_info *out)
{
    const struct outcome *o = t->out;

    *out = (struct task_info){.seq = t->seq, .job = task_job(t)->id, .task = task_id(t), .index = t->index,
                              .state = (enum task_state)t->state, .seed = task_seed(t), .width_px = t->lot->width_px,
                              .height_px = t->lot->height_px, .label = t->lot->label,
                              .attempts = t->leases};
    if (!o) return;
    out->worker = str_of(o->worker);
    out->took_ms = o->took_ms;
    if (t->state == TASK_DONE) {
        out->n_parts = o->n_parts;
        memcpy(out->part, o->part, sizeof out->part);
        out->collected = o->collected_wall_ms != 0;
    } else {
        out->error = str_of(o->error);
    }
}

/* ---- events ---- */
static size_t log_after(const struct event_log *l, uint64_t cursor)
{
    size_t lo = 0, hi = l->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (l->at[mid].seq > cursor)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

size_t book_events(const struct book *b, const struct job *j, uint64_t cursor, struct task **out, size_t cap, uint64_t *next)
{
    const struct event_log *l = j ? &j->log : &b->log;
    size_t                  n = 0;

    *next = cursor;
    for (size_t i = log_after(l, cursor); i < l->n && l->at[i].seq <= b->durable_seq && n < cap; i++) {
        *next = l->at[i].seq;
        if (l->at[i].task->seq == l->at[i].seq) out[n++] = l->at[i].task; /* else it moved on: its newer entry follows */
    }
    return n;
}

bool book_news(const struct book *b, const struct job *j, uint64_t cursor)
{
    struct task *one;
    uint64_t     next;

    return book_events(b, j, cursor, &one, 1, &next) > 0;
}

/* ---- how fast ---- */
void job_completed(struct job *j, int64_t now_ms)
{
    j->recent_ms[j->n_recent++ % RECENT] = now_ms;
}

float job_rate(const struct job *j, int64_t now_ms)
{
    uint64_t have = j->n_recent < RECENT ? j->n_recent : RECENT, n = 0;
    int64_t  first = 0, last;

    if (have < 2) return 0;
    last = j->recent_ms[(j->n_recent - 1) % RECENT];
    for (uint64_t i = 0; i < have; i++) { /* newest first: all of the window, or a few older ones when it has not enough */
        int64_t at = j->recent_ms[(j->n_recent - 1 - i) % RECENT];

        if (now_ms - at > RATE_WINDOW_MS && n >= RATE_MIN) break;
        first = at;
        n++;
    }
    if (now_ms - last > last - first) last = now_ms; /* nothing came for as long as all of that took: it is slowing down */
    return last > first ? (float)(n - 1) * 1000.0f / (float)(last - first) : 0;
}
