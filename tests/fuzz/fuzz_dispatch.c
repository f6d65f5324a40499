/* fuzz_dispatch.c - the state machine of the dispatcher: any order of frames from three clients and four workers, of commits, failed sends, passing
 * time and crashes, against the broker's own rooms (broker_world.h is the world around them).
 * Input: a list of events of 4 bytes: what, who, and two numbers. Workers remember what they were leased, as real ones do, and may lie about it.
 * Checked after each event, over everything there is: D1 a task stands in exactly one place.  D2 every grant is in its worker's list and its
 * task's hand.  D3 all counts - of jobs, shares, clients, workers, the queue - are what counting gives.  D4 attempts are bounded.  D5 shares stand in
 * order, and no virtual time runs away.  D6 nobody holds more than was granted, and no batch is larger than its worker makes. W1 to W4: broker_world.h. */
#include "tests/fuzz/broker_world.h"

#include <inttypes.h>
#include <utlist.h>

#include "base/hash.h"
#include "proto/check.h"

#define EVENTS_RUN 400
#define FIRST_WORKER 4
#define HELD 24

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct held_lease {
    struct lease l;
    uint32_t     stage, step;
};
static struct actor {
    uint32_t          n, restarts;
    uint64_t          seq;
    bool              here;
    struct held_lease held[HELD];
} actor[WORLD_ROUTES];
static struct broker *broker;

static void world_lease(int route, const struct lease *l)
{
    struct actor *a = &actor[route];

    if (a->n < HELD) a->held[a->n++] = (struct held_lease){*l, STAGE_WAITING, 0};
    a->held[a->n - 1].l.spec.prompt = a->held[a->n - 1].l.spec.negative = a->held[a->n - 1].l.spec.model = (struct str){0}; /* its arena goes */
}

static void forget(struct actor *a, uint32_t k)
{
    if (k < a->n) a->held[k] = a->held[--a->n];
}

static void world_forget(int route, uint64_t task)
{
    struct actor *a = &actor[route];

    for (uint32_t k = a->n; k-- > 0;)
        if (a->held[k].l.task == task) forget(a, k);
}

static void world_beat_ok(int route, const struct beat_ok *m)
{
    (void)route;
    for (size_t i = 0; i < m->n_recall; i++) /* a recall is for what runs somewhere and was not called back before */
        CHECK(book_task(&broker->book, m->recall[i].task) && book_task(&broker->book, m->recall[i].task)->recalled);
}

/* ---- the oracle ---- */
struct tally {
    size_t   n_ready, n_delayed, n_running;
    uint64_t n_open;
};

static void check_task(const struct batch *c, const struct task *t, struct tally *n)
{
    bool queued = t->place != PLACE_NONE;

    CHECK(!queued || t->state == TASK_QUEUED);                                   /* D1 */
    CHECK(t->state != TASK_QUEUED || queued == c->durable);                      /* one not durable yet waits for its row */
    CHECK((t->state == TASK_RUNNING) == (t->grant != NULL) && (t->grant || !t->hedge));
    CHECK(!t->grant || t->grant->task == t);                                     /* D2 */
    CHECK(!t->hedge || (t->hedge->task == t && t->hedge != t->grant && t->hedge->worker != t->grant->worker));
    CHECK(t->leases <= LEASES_PER_TASK_MAX && t->crashes <= CRASHES_MAX && t->nans <= NANS_MAX && t->transients <= TRANSIENTS_MAX); /* D4 */
    n->n_delayed += t->place == PLACE_DELAYED;
    n->n_ready += queued && t->place != PLACE_DELAYED;
    n->n_running += t->state == TASK_RUNNING;
    n->n_open += !task_final(t);
}

static void check_workers(void)
{
    struct worker *w;
    struct grant  *g;

    DL_FOREACH(broker->roster.worker, w)
    {
        uint32_t n = 0;

        DL_FOREACH(w->grant, g)
        {
            n++;
            CHECK(g->worker == w && (!g->task || g->task->grant == g || g->task->hedge == g)); /* D2 */
            CHECK(g->n_batch >= 1 && g->n_batch <= BATCH_MAX);
            CHECK(!g->canceling || (!g->task && g->canceling->n_canceling));
        }
        CHECK(n == w->n_held && n <= LEASES_MAX); /* D3, D6 */
        CHECK(w->standing && w->standing->n_workers);
    }
    DL_FOREACH(broker->roster.orphans, g) CHECK(!g->worker && g->task && (g->task->grant == g || g->task->hedge == g));
}

static void check_shares(void)
{
    struct share *s, *next;

    HASH_ITER(hh, broker->book.share, s, next)
    {
        uint64_t n_running = 0;

        for (const struct job *j = broker->book.by_id; j; j = j->by_id.next) n_running += j->share == s ? j->n[TASK_RUNNING] : 0;
        CHECK(n_running == s->n_running && s->used_ms < 1ull << 60 && s->credit_ms < 1ull << 60); /* D3, D5 */
    }
    for (int c = CLASS_INTERACTIVE; c <= CLASS_BULK; c++) {
        const struct queue_class *k = &broker->queue.of[c];

        CHECK(k->used_ms < 1ull << 60 && k->credit_ms < 1ull << 60);
        DL_FOREACH(k->share, s) CHECK(s->level == c && s->lane && !s->parked && (!s->next || s->used_ms <= s->next->used_ms));
    }
}

static void check_all(void)
{
    struct tally n = {0};

    for (const struct job *j = broker->book.by_id; j; j = j->by_id.next) {
        uint32_t of[TASK_STATES] = {0};
        uint64_t cost_left = 0;

        for (const struct batch *c = j->batch; c; c = c->next)
            for (uint32_t i = 0; c->task && i < c->n_tasks; i++) {
                check_task(c, &c->task[i], &n);
                of[c->task[i].state]++;
                cost_left += task_final(&c->task[i]) ? 0 : c->task[i].lot->cost;
            }
        for (int k = 1; k < TASK_STATES; k++) CHECK(of[k] == j->n[k]); /* D3 */
        CHECK(cost_left == j->cost_left);
    }
    CHECK(n.n_open == broker->book.n_open && n.n_ready == broker->queue.n_ready && n.n_delayed == broker->queue.n_delayed);
    for (const struct tenant *t = broker->book.tenant; t; t = t->hh.next) {
        uint64_t n_queued = 0, n_running = 0;

        for (const struct job *j = broker->book.by_id; j; j = j->by_id.next) {
            if (j->share->tenant != t) continue;
            n_queued += j->n[TASK_QUEUED];
            n_running += j->n[TASK_RUNNING];
        }
        CHECK(n_queued == t->n_queued && n_running == t->n_running && t->kept_bytes < 1ull << 40);
    }
    check_workers();
    check_shares();
}

/* ---- events ---- */
static struct str name_of(char text[16], const char *kind, int who)
{
    snprintf(text, 16, "%s%d:1", kind, who);
    return str_of(text);
}

/* A worker's transformers: a group of so many. */
static size_t ranks(struct rank out[4], uint8_t x)
{
    size_t n = x / 9 % 5;

    for (size_t i = 0; i < n; i++) out[i] = (struct rank){.device = str_of("cpu"), .parts = i ? RANK_IMAGE : (uint32_t)(1 + x % 7), .busy_permille = x};
    return n;
}

static void hello(int route, uint8_t x, uint8_t y)
{
    struct actor     *a = &actor[route];
    char              text[16];
    struct held       held[HELD];
    struct model_info model[2] = {{.name = str_of("turbo")}, {.name = str_of("base")}};
    struct rank       rank[4];
    struct msg        m = {.kind = MSG_HELLO, .hello = {.role = route < FIRST_WORKER ? ROLE_CLIENT : ROLE_WORKER, .major = WIRE_MAJOR, .minor = WIRE_MINOR}};

    m.hello.name = name_of(text, "n", route < FIRST_WORKER ? route % 3 : x & 64 ? 4 : route); /* x & 64: two of one name */
    m.hello.instance[0] = (uint8_t)(1 + route);
    m.hello.instance[1] = x >> 7; /* another process of that name */
    if (route >= FIRST_WORKER) {
        m.hello.capacity = x % 9;
        m.hello.max_batch = y % 5;
        m.hello.rank = rank;
        m.hello.n_ranks = ranks(rank, x);
        m.hello.model = model + (y >> 7);
        m.hello.n_models = 1 + !(y & 128 || y & 64);
        for (uint32_t i = 0; i < a->n; i++)
            if (!(y & 32) || i) held[m.hello.n_held++] = (struct held){a->held[i].l.task, a->held[i].l.epoch};
        m.hello.held = held;
        if (y & 32) forget(a, 0);
    }
    a->here = true;
    world_say(route, &m);
}

static void submit(int route, uint8_t x, uint8_t y)
{
    static const char *const prompt[] = {"a cat", "a dog", "a fox", ""};
    struct item  it[2] = {{.n_images = 1 + x % 4}, {.n_images = 1 + y % 3}};
    struct msg   m = {.kind = MSG_SUBMIT, .submit = {.key = {(uint8_t)(1 + x % 16)}, .item = it, .n_items = 1 + (y >> 7)}};

    for (int i = 0; i < 2; i++) {
        spec_init(&it[i].spec);
        it[i].spec.prompt = str_of(prompt[(x >> (4 + i)) & 3]);
        it[i].spec.model = str_of(y & 64 ? "base" : y & 32 ? "" : "turbo");
        it[i].spec.width_px = it[i].spec.height_px = 64 << (x >> 6 & 1) << i;
    }
    m.submit.n_tasks = it[0].n_images + (m.submit.n_items > 1 ? it[1].n_images : 0);
    m.submit.job_class = (enum job_class)(1 + y % 3);
    m.submit.deadline_ms = (y & 24) == 24 ? 3000 : 0;
    if (y & 4 && m.submit.n_items == 1) m.submit.n_tasks += 2; /* the rest comes later, or never */
    if ((y & 5) == 5) m.submit.first_task = 1;
    world_say(route, &m);
}

static void offer(int route, uint8_t x, uint8_t y)
{
    struct actor *a = &actor[route];
    char          bytes[] = "the result of ....";
    struct msg    m = {.kind = y & 1 ? MSG_OFFERS : MSG_OFFER};
    struct offer  o = {.n_parts = 1, .took_ms = (uint32_t)y << (x & 15)};
    struct lease  l = a->n ? a->held[x % a->n].l : (struct lease){.task = 1u << 20 | y % 8, .epoch = 1ull << 32 | x, .spec = {.width_px = 64, .height_px = 64}};

    if (y & 64) l.task ^= 1; /* a lie */
    memcpy(bytes + 14, &l.task, 4);
    o.task = l.task;
    o.epoch = l.epoch;
    o.width_px = l.spec.width_px ? l.spec.width_px : 64;
    o.height_px = l.spec.height_px ? l.spec.height_px : 64;
    o.part[0] = (struct part){.kind = PART_IMAGE, .size_bytes = sizeof bytes};
    sha256_of(bytes, sizeof bytes, o.part[0].sha256);
    o.bytes[0] = (struct str){bytes, sizeof bytes};
    if (m.kind == MSG_OFFER)
        m.offer = o;
    else
        m.offers = (struct offers){&o, 1};
    world_say(route, &m);
    if (m.kind == MSG_OFFERS && a->n && !(y & 64)) forget(a, x % a->n);
}

static void failed(int route, uint8_t x, uint8_t y)
{
    struct actor *a = &actor[route];
    struct lease  l = a->n ? a->held[x % a->n].l : (struct lease){.task = 1u << 20, .epoch = 1ull << 32 | x};
    struct msg    m = {.kind = MSG_FAILED, .failed = {l.task, l.epoch + (y >> 7), (enum fail_class)(1 + y % 7), str_of("boom")}};

    if ((y & 24) == 24) m = (struct msg){.kind = MSG_RELEASE, .release = {l.task, l.epoch, str_of("enough")}};
    world_say(route, &m);
    if (a->n) forget(a, x % a->n);
}

static void beat(int route, uint8_t x, uint8_t y)
{
    struct actor   *a = &actor[route];
    struct progress p[HELD];
    struct rank     rank[4];
    struct msg      m = {.kind = MSG_BEAT, .beat = {.seq = ++a->seq, .progress = p, .rank = rank}};

    m.beat.n_ranks = ranks(rank, x);

    if (x & 128) a->restarts++;
    m.beat.engine_restarts = a->restarts;
    if (a->n) { /* one of them moves */
        struct held_lease *h = &a->held[x % a->n];

        h->stage = STAGE_WAITING + y % 6;
        h->step = y >> 5;
    }
    for (uint32_t i = 0; i < a->n; i++)
        if (i || !(y & 16)) /* or is forgotten to be told */
            p[m.beat.n_progress++] = (struct progress){.job = a->held[i].l.job, .task = a->held[i].l.task, .epoch = a->held[i].l.epoch, .stage = a->held[i].stage,
                                                       .step = a->held[i].step, .steps = 8};
    world_say(route, &m);
}

static void control(int route, uint8_t x, uint8_t y)
{
    char       text[16];
    struct msg m = {.kind = MSG_CONTROL, .control = {.verb = (enum control_verb)(1 + x % 5), .job = 1 + y % 8, .one = (y & 64) != 0, .index = y % 3}};

    if (m.control.verb == CONTROL_DRAIN || m.control.verb == CONTROL_UNDRAIN) m.control.worker = name_of(text, "n", 4 + y % 4);
    if (m.control.verb >= CONTROL_PAUSE && y & 1) {
        name_of(text, "n", y % 3);
        m.control.client = (struct str){text, 2};
    }
    world_say(route, &m);
}

static void ask(int route, uint8_t x, uint8_t y)
{
    uint64_t   task[2] = {(uint64_t)(1 + x % 8) << 20 | (y & 3), (uint64_t)(1 + x % 8) << 20 | ((y >> 2) & 3)};
    struct msg m = {.kind = MSG_CANCEL, .cancel = {1 + y % 12}};

    switch (x % 7) {
    case 1: m = (struct msg){.kind = MSG_JOBS, .jobs = {.limit = 9}}; break;
    case 2: m = (struct msg){.kind = MSG_SHOW, .show = {.job = 1 + y % 8, .limit = 50}}; break;
    case 3: m = (struct msg){.kind = MSG_WORKERS}; break;
    case 4: m = (struct msg){.kind = MSG_EVENTS, .events = {.job = y % 5, .cursor = y / 8, .limit = 100, .wait_ms = y & 1 ? 1000 : 0}}; break;
    case 5: m = (struct msg){.kind = MSG_COLLECTED, .collected = {task, 2}}; break;
    case 6: m = (struct msg){.kind = MSG_BYE}; break;
    default: break;
    }
    world_say(route, &m);
}

static void start(bool quotas)
{
    struct broker_conf c = {.listen = {"fuzz"}, .n_listen = 1, .data = "/", .retention_ms = 1000, .ready_fd = -1, .farm_queued = 100, .remember_ms = quotas ? 0 : 7 * 86400000LL};
    struct err         e = {0};

    if (quotas) c.quota = (struct quota){.queued = 20, .leases = 3, .items_per_s = 1, .burst = 300, .bytes = 100};
    world_n_timers = 0;
    if (broker_open(&broker, &c, &e)) {
        fprintf(stderr, "%s\n", e.text);
        abort();
    }
}

static void event(const uint8_t *d, bool quotas)
{
    static const int64_t step_ms[] = {1, 100, 500, 2000, 7000, 21000, 200000, 700000000};
    int                  client = d[1] % 3, worker = FIRST_WORKER + d[1] % 4;

    switch (d[0] % 16) {
    case 0: hello(client, d[2], d[3]); return;
    case 1: hello(worker, d[2], d[3]); return;
    case 2:
    case 3: submit(client, d[2], d[3]); return;
    case 4:
    case 5: offer(worker, d[2], d[3]); return;
    case 6: failed(worker, d[2], d[3]); return;
    case 7:
    case 8: beat(worker, d[2], d[3]); return;
    case 9: control(client, d[2], d[3]); return;
    case 10: ask(client, d[2], d[3]); return;
    case 11: world_say(worker, d[2] & 1 ? &(struct msg){.kind = MSG_BYE} : &(struct msg){.kind = MSG_READY, .ready = {d[3] % 9}}); return;
    case 12: world_pass(step_ms[d[2] % 8]); return;
    case 13:
    case 14: world_commit(1 + d[2] % 16); return;
    default: break;
    }
    if (d[1] & 1) { /* a queue is full, or a connection gone, for a while */
        world_send_rc[d[2] % WORLD_ROUTES] = d[3] % 3 == 0 ? 0 : d[3] % 3 == 1 ? ERR_BUSY : ERR_NOTFOUND;
    } else if (d[2] < 64) { /* kill -9 */
        broker_close(broker);
        start(quotas);
        if (d[3] & 1)
            for (int i = FIRST_WORKER; i < WORLD_ROUTES; i++)
                if (actor[i].here) hello(i, 4, 4);
    }
}

static uint64_t n_runs, n_events;

static void say_counts(void)
{
    fprintf(stderr, "fuzz_dispatch: %" PRIu64 " runs, %" PRIu64 " events\n", n_runs, n_events);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool quotas = size && data[0] & 1;

    if (!n_runs++ && atexit(say_counts)) abort();

    log_level_set(LOG_NONE);
    world_reset();
    memset(actor, 0, sizeof actor);
    start(quotas);
    if (size && !(data[0] & 2)) /* most inputs would never come so far as to have a farm */
        for (int i = 0; i < WORLD_ROUTES; i++) hello(i, 4, data[0] & 4 ? 4 : 1);
    check_all();
    for (size_t at = 1; at + 4 <= size && at < 4 * EVENTS_RUN; at += 4) {
        event(data + at, quotas);
        n_events++;
        if (size && data[0] & 8) world_commit(100); /* the disk is fast */
        check_all();
    }
    world_commit(1000000);
    check_all();
    broker_close(broker);
    world_reset();
    return 0;
}
