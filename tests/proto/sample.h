/* sample.h - a valid message of any kind with every field set, made from a small random stream: for round trips, goldens and fuzz seeds.
 * One draw per statement: C leaves the order inside an initializer open, and the goldens must not depend on the compiler. */
#ifndef TESTS_PROTO_SAMPLE_H
#define TESTS_PROTO_SAMPLE_H

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "proto/msg.h"

static const enum msg_kind sample_kinds[] = {
    MSG_HELLO, MSG_WELCOME, MSG_ERROR, MSG_GOAWAY, MSG_BYE, MSG_SUBMIT, MSG_SUBMIT_OK, MSG_CANCEL, MSG_CANCEL_OK, MSG_JOBS, MSG_JOBS_OK,
    MSG_SHOW, MSG_SHOW_OK, MSG_EVENTS, MSG_EVENTS_OK, MSG_FETCH, MSG_FETCH_OK, MSG_COLLECTED, MSG_COLLECTED_OK, MSG_WORKERS,
    MSG_WORKERS_OK, MSG_READY, MSG_LEASE, MSG_BEAT, MSG_BEAT_OK, MSG_OFFER, MSG_OFFER_OK, MSG_RESULT_OK, MSG_FAILED, MSG_FAILED_OK,
    MSG_RELEASE, MSG_CHUNK, MSG_CREDIT, MSG_CONTROL, MSG_CONTROL_OK,
    MSG_LEASES, MSG_OFFERS, MSG_OFFERS_OK}; /* new ones go to the end: what is drawn for the others stays */
#define SAMPLE_KINDS (sizeof sample_kinds / sizeof sample_kinds[0])

struct sample {
    uint64_t      state;
    struct arena *a;
    size_t        many; /* rows in lists: 1..many */
};

static inline uint64_t sample_u64(struct sample *s) /* splitmix64: the same on every machine */
{
    uint64_t z = s->state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint32_t sample_in(struct sample *s, uint32_t low, uint32_t high)
{
    return low + (uint32_t)(sample_u64(s) % ((uint64_t)high - low + 1));
}

static inline uint64_t sample_id(struct sample *s)
{
    uint32_t shift = sample_in(s, 0, 60);

    return (sample_u64(s) >> shift) | 1;
}

static inline float sample_share(struct sample *s, float max)
{
    return max * (float)sample_in(s, 1, 64) / 64.0f;
}

static inline struct str sample_text(struct sample *s, uint32_t most_chars)
{
    static const char *const chars[] = {"a", "Z", " ", "\"", "\\", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x90\xb1", "7", "%"};
    uint32_t                 n = sample_in(s, 1, most_chars);
    char                    *at = arena_take(s->a, n * 4 + 1);
    size_t                   len = 0;

    for (uint32_t i = 0; i < n; i++) {
        const char *c = chars[sample_in(s, 0, 9)];
        memcpy(at + len, c, strlen(c));
        len += strlen(c);
    }
    return (struct str){at, len};
}

static inline void sample_bytes(struct sample *s, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++) out[i] = (uint8_t)sample_u64(s);
}

static inline struct spec sample_spec(struct sample *s)
{
    struct spec p;

    spec_init(&p);
    p.prompt = sample_text(s, 60);
    p.negative = sample_text(s, 20);
    p.model = sample_text(s, 10);
    p.width_px = (int32_t)sample_in(s, 1, 256) * 16;
    p.height_px = (int32_t)sample_in(s, 1, 256) * 16;
    p.steps = (int32_t)sample_in(s, 1, STEPS_MAX);
    p.guidance = sample_share(s, GUIDANCE_MAX);
    p.cfg_norm = sample_share(s, 2);
    p.cfg_trunc = sample_share(s, 1);
    p.seed = sample_u64(s) | 1;
    if (sample_in(s, 0, 3)) p.rng.threads = 256 * sample_in(s, 1, 65536);
    else p.rng = (struct rng){RNG_TORCH_CPU, 0};
    p.want_latents = true;
    return p;
}

static inline struct part sample_part(struct sample *s, enum part_kind kind)
{
    struct part p = {0};
    p.kind = kind;
    p.size_bytes = sample_in(s, 1, PART_MAX_BYTES);

    sample_bytes(s, p.sha256, 32);
    return p;
}

static inline struct held *sample_held(struct sample *s, size_t *n)
{
    struct held *h;

    *n = sample_in(s, 1, (uint32_t)s->many);
    h = arena_array(s->a, *n, sizeof *h);
    for (size_t i = 0; i < *n; i++) {
        h[i].task = sample_id(s);
        h[i].epoch = sample_id(s);
    }
    return h;
}

static inline struct model_info *sample_models(struct sample *s, size_t *n)
{
    struct model_info *m;

    *n = sample_in(s, 1, 3);
    m = arena_array(s->a, *n, sizeof *m);
    for (size_t i = 0; i < *n; i++) {
        m[i].name = sample_text(s, 8);
        m[i].profile = sample_text(s, 8);
        m[i].steps = (int32_t)sample_in(s, 1, STEPS_MAX);
        m[i].guidance = sample_share(s, 8);
        sample_bytes(s, m[i].digest, 32);
    }
    return m;
}

/* Nothing is drawn for them: what is drawn for the rest stays. */
static inline struct rank *sample_ranks(struct sample *s, size_t *n)
{
    struct rank *r;

    *n = s->many < RANKS_MAX ? s->many : RANKS_MAX;
    r = arena_array(s->a, *n, sizeof *r);
    for (size_t i = 0; i < *n; i++)
        r[i] = (struct rank){.device = str_of(i ? "cuda:1" : "cpu"), .parts = (uint32_t)(1 + i % 7), .used_bytes = (i + 1) << 30,
                             .total_bytes = 25769803776u, .busy_permille = (uint32_t)(999 - i)};
    return r;
}

static inline struct progress *sample_progress(struct sample *s, size_t *n)
{
    struct progress *g;

    *n = sample_in(s, 1, (uint32_t)s->many);
    g = arena_array(s->a, *n, sizeof *g);
    for (size_t i = 0; i < *n; i++) {
        uint32_t steps = sample_in(s, 1, STEPS_MAX);
        g[i].job = sample_id(s);
        g[i].task = sample_id(s);
        g[i].epoch = sample_id(s);
        g[i].index = sample_in(s, 1, 99999);
        g[i].stage = (enum stage)sample_in(s, 1, STAGE_UPLOAD);
        g[i].step = sample_in(s, 1, steps);
        g[i].steps = steps;
        g[i].age_ms = sample_in(s, 1, 100000);
        g[i].worker = sample_text(s, 12);
    }
    return g;
}

static inline struct job_info sample_job(struct sample *s)
{
    struct job_info j = {0};

    j.job = sample_id(s);
    j.name = sample_text(s, 20);
    j.created_wall_ms = 1700000000000 + sample_in(s, 0, 1u << 30);
    j.n_tasks = sample_in(s, 1, 100000);
    j.n_queued = sample_in(s, 1, 9);
    j.n_running = sample_in(s, 1, 9);
    j.n_done = sample_in(s, 1, 9);
    j.n_failed = sample_in(s, 1, 9);
    j.n_canceled = sample_in(s, 1, 9);
    j.n_collected = sample_in(s, 1, 9);
    j.eta_ms = sample_in(s, 0, 1) ? -1 : 77;
    j.images_per_s = sample_share(s, 4);
    j.why = sample_text(s, 30);
    j.job_class = CLASS_INTERACTIVE;
    j.client = j.name;
    j.n_expired = 3;
    j.n_canceling = 2;
    j.deadline_ms = 60000;

    sample_bytes(s, j.key, KEY_BYTES);
    return j;
}

static inline struct task_info sample_task(struct sample *s)
{
    struct task_info t = {0};

    t.seq = sample_id(s);
    t.job = sample_id(s);
    t.task = sample_id(s);
    t.index = sample_in(s, 1, 99999);
    t.state = (enum task_state)sample_in(s, 1, 5);
    t.seed = sample_u64(s) | 1;
    t.width_px = 16;
    t.height_px = 4096;
    t.label = sample_text(s, 20);
    t.n_parts = 2;
    t.took_ms = sample_in(s, 1, 1u << 30);
    t.attempts = sample_in(s, 1, 9);
    t.collected = true;
    t.worker = sample_text(s, 20);
    t.error = sample_text(s, 100);

    t.part[0] = sample_part(s, PART_IMAGE);
    t.part[1] = sample_part(s, PART_LATENTS);
    return t;
}

static inline struct lease sample_lease(struct sample *s)
{
    struct lease l = {.budget_ms = 600000};

    l.task = sample_id(s);
    l.epoch = sample_id(s);
    l.job = sample_id(s);
    l.index = sample_in(s, 1, 99999);
    l.spec = sample_spec(s);
    return l;
}

/* With its bytes. */
static inline struct offer sample_offer(struct sample *s)
{
    struct offer o = {.width_px = 64, .height_px = 16, .took_ms = 3, .n_parts = 1};

    o.task = sample_id(s);
    o.epoch = sample_id(s);
    o.part[0] = sample_part(s, PART_IMAGE);
    o.bytes[0] = sample_text(s, 50);
    o.part[0].size_bytes = o.bytes[0].len;
    return o;
}

static inline void sample_lists(struct sample *s, struct msg *m)
{
    size_t n = sample_in(s, 1, (uint32_t)s->many);

    switch (m->kind) {
    case MSG_SUBMIT:
        m->submit.name = sample_text(s, 20);
        m->submit.n_tasks = JOB_TASKS_MAX;
        m->submit.first_task = sample_in(s, 1, 1000);
        m->submit.n_items = n;
        m->submit.deadline_ms = 5000;
        m->submit.job_class = CLASS_BULK; /* nothing is drawn for fields of later minors: the bytes of the others stay */
        sample_bytes(s, m->submit.key, KEY_BYTES);
        m->submit.item = arena_array(s->a, n, sizeof *m->submit.item);
        for (size_t i = 0; i < n; i++) {
            m->submit.item[i].spec = sample_spec(s);
            m->submit.item[i].n_images = sample_in(s, 1, 9);
            m->submit.item[i].label = sample_text(s, 20);
        }
        break;
    case MSG_JOBS_OK:
        m->jobs_ok = (struct jobs_ok){arena_array(s->a, n, sizeof *m->jobs_ok.job), n};
        for (size_t i = 0; i < n; i++) m->jobs_ok.job[i] = sample_job(s);
        break;
    case MSG_SHOW_OK:
        m->show_ok.job = sample_job(s);
        m->show_ok.task = arena_array(s->a, n, sizeof *m->show_ok.task);
        m->show_ok.n_tasks = n;
        for (size_t i = 0; i < n; i++) {
            m->show_ok.task[i].info = sample_task(s);
            m->show_ok.task[i].spec = sample_spec(s);
        }
        break;
    case MSG_EVENTS_OK:
        m->events_ok.next_cursor = sample_id(s);
        m->events_ok.event = arena_array(s->a, n, sizeof *m->events_ok.event);
        m->events_ok.n_events = n;
        m->events_ok.job = sample_job(s);
        sample_bytes(s, m->events_ok.store, KEY_BYTES);
        for (size_t i = 0; i < n; i++) m->events_ok.event[i] = sample_task(s);
        m->events_ok.progress = sample_progress(s, &m->events_ok.n_progress);
        break;
    case MSG_LEASES:
        m->leases = (struct leases){arena_array(s->a, n, sizeof *m->leases.lease), n};
        for (size_t i = 0; i < n; i++) m->leases.lease[i] = sample_lease(s);
        break;
    case MSG_OFFERS:
        m->offers = (struct offers){arena_array(s->a, n, sizeof *m->offers.offer), n};
        for (size_t i = 0; i < n; i++) m->offers.offer[i] = sample_offer(s);
        break;
    case MSG_OFFERS_OK:
        m->offers_ok = (struct offers_ok){arena_array(s->a, n, sizeof *m->offers_ok.offer), n};
        for (size_t i = 0; i < n; i++) m->offers_ok.offer[i] = (struct offer_ok){.task = i + 1, .verdict = OFFER_HAVE};
        break;
    case MSG_COLLECTED:
        m->collected = (struct collected){arena_array(s->a, n, sizeof *m->collected.task), n};
        for (size_t i = 0; i < n; i++) m->collected.task[i] = sample_id(s);
        break;
    case MSG_WORKERS_OK:
        m->workers_ok = (struct workers_ok){arena_array(s->a, n, sizeof *m->workers_ok.worker), n};
        for (size_t i = 0; i < n; i++) {
            struct worker_info w = {0};
            w.name = sample_text(s, 9);
            w.device = sample_text(s, 9);
            w.about = sample_text(s, 40);
            w.version = sample_text(s, 5);
            w.state = sample_text(s, 5);
            w.capacity = sample_in(s, 1, 64);
            w.n_held = sample_in(s, 1, 64);
            w.n_done = sample_id(s);
            w.n_failed = sample_id(s);
            w.ms_per_image = sample_in(s, 1, 9999);
            w.silent_ms = 5;
            w.why = w.about;
            w.max_batch = 4;
            w.rank = sample_ranks(s, &w.n_ranks);
            w.model = sample_models(s, &w.n_models);
            w.progress = sample_progress(s, &w.n_progress);
            m->workers_ok.worker[i] = w;
        }
        break;
    default: break;
    }
}

/* Strings and lists live in s->a. Lists have 1..s->many rows, 1 <= many <= 64. */
static inline struct msg sample_msg(struct sample *s, enum msg_kind kind)
{
    struct msg  m = {.kind = kind, .correlation = sample_u64(s)};
    struct held h = {0};

    h.task = sample_id(s);
    h.epoch = sample_id(s);

    sample_lists(s, &m);
    switch (kind) {
    case MSG_HELLO:
        m.hello.role = ROLE_WORKER;
        m.hello.major = 1;
        m.hello.minor = 7;
        m.hello.name = sample_text(s, 20);
        m.hello.version = sample_text(s, 8);
        m.hello.device = sample_text(s, 8);
        m.hello.about = sample_text(s, 40);
        m.hello.capacity = sample_in(s, 1, 64);
        m.hello.max_batch = 4;
        m.hello.rank = sample_ranks(s, &m.hello.n_ranks);
        sample_bytes(s, m.hello.instance, KEY_BYTES);
        m.hello.model = sample_models(s, &m.hello.n_models);
        m.hello.held = sample_held(s, &m.hello.n_held);
        break;
    case MSG_WELCOME:
        m.welcome.major = 1;
        m.welcome.minor = 3;
        m.welcome.boot_id = sample_id(s);
        m.welcome.beat_ms = 2000;
        sample_bytes(s, m.welcome.store, KEY_BYTES);
        m.welcome.drop = sample_held(s, &m.welcome.n_drop);
        break;
    case MSG_ERROR:
    case MSG_GOAWAY:
        m.error.code = (enum wire_error)sample_in(s, 1, WIRE_VERSION);
        m.error.retry_after_ms = sample_in(s, 1, 5000);
        m.error.text = sample_text(s, 50);
        break;
    case MSG_SUBMIT_OK:
        m.submit_ok.job = h.task;
        m.submit_ok.duplicate = true;
        m.submit_ok.n_tasks_known = sample_in(s, 1, JOB_TASKS_MAX);
        break;
    case MSG_CANCEL: m.cancel.job = h.task; break;
    case MSG_CANCEL_OK:
        m.cancel_ok.n_canceled = sample_in(s, 1, 99);
        m.cancel_ok.n_canceling = sample_in(s, 1, 99);
        m.cancel_ok.n_finished = sample_in(s, 1, 99);
        break;
    case MSG_JOBS:
        m.jobs.job = h.task;
        m.jobs.limit = sample_in(s, 1, JOBS_MAX);
        break;
    case MSG_SHOW:
        m.show.job = h.task;
        m.show.first_task = sample_in(s, 1, 999);
        m.show.limit = sample_in(s, 1, SHOW_TASKS_MAX);
        break;
    case MSG_EVENTS:
        m.events.job = h.task;
        m.events.cursor = h.epoch;
        m.events.limit = sample_in(s, 1, EVENTS_MAX);
        m.events.wait_ms = sample_in(s, 1, EVENTS_WAIT_MAX_MS);
        m.events.inline_bytes = 4096;
        break;
    case MSG_FETCH:
        m.fetch.task = h.task;
        m.fetch.kind = PART_LATENTS;
        m.fetch.offset = sample_in(s, 1, PART_MAX_BYTES);
        m.fetch.credit_bytes = sample_in(s, 1, CREDIT_MAX_BYTES);
        m.fetch.transfer = h.epoch;
        break;
    case MSG_FETCH_OK:
        m.fetch_ok.transfer = h.task;
        m.fetch_ok.part = sample_part(s, PART_IMAGE);
        break;
    case MSG_COLLECTED_OK: m.collected_ok.n_known = sample_in(s, 1, 512); break;
    case MSG_READY: m.ready.capacity = sample_in(s, 1, 64); break;
    case MSG_LEASE:
        m.lease.task = h.task;
        m.lease.epoch = h.epoch;
        m.lease.job = sample_id(s);
        m.lease.index = sample_in(s, 1, 99999);
        m.lease.budget_ms = sample_in(s, 1, 1u << 30);
        m.lease.spec = sample_spec(s);
        m.lease.batch = 5;
        break;
    case MSG_BEAT:
        m.beat.seq = h.task;
        m.beat.engine_restarts = sample_in(s, 1, 99);
        m.beat.progress = sample_progress(s, &m.beat.n_progress);
        m.beat.rank = sample_ranks(s, &m.beat.n_ranks);
        break;
    case MSG_BEAT_OK:
        m.beat_ok.seq = h.task;
        m.beat_ok.cancel = sample_held(s, &m.beat_ok.n_cancel);
        m.beat_ok.recall = m.beat_ok.cancel;
        m.beat_ok.n_recall = m.beat_ok.n_cancel;
        break;
    case MSG_OFFER:
        m.offer.task = h.task;
        m.offer.epoch = h.epoch;
        m.offer.width_px = 1024;
        m.offer.height_px = 16;
        m.offer.took_ms = sample_in(s, 1, 99);
        m.offer.text_ms = sample_in(s, 1, 99);
        m.offer.denoise_ms = sample_in(s, 1, 99);
        m.offer.decode_ms = sample_in(s, 1, 99);
        m.offer.n_parts = 2;
        m.offer.part[0] = sample_part(s, PART_IMAGE);
        m.offer.part[1] = sample_part(s, PART_LATENTS);
        break;
    case MSG_OFFER_OK:
        m.offer_ok.task = h.task;
        m.offer_ok.verdict = OFFER_UPLOAD;
        m.offer_ok.transfer[0] = h.epoch;
        m.offer_ok.transfer[1] = sample_id(s);
        m.offer_ok.credit_bytes = sample_in(s, 1, CREDIT_MAX_BYTES);
        break;
    case MSG_RESULT_OK: m.result_ok = (struct result_ok){h.task, h.epoch}; break;
    case MSG_FAILED:
        m.failed.task = h.task;
        m.failed.epoch = h.epoch;
        m.failed.why = (enum fail_class)sample_in(s, 1, FAIL_CANCELED);
        m.failed.text = sample_text(s, 60);
        break;
    case MSG_FAILED_OK: m.failed_ok = (struct failed_ok){h.task, h.epoch}; break;
    case MSG_RELEASE:
        m.release.task = h.task;
        m.release.epoch = h.epoch;
        m.release.why = sample_text(s, 30);
        break;
    case MSG_CHUNK:
        m.chunk.transfer = h.task;
        m.chunk.offset = sample_in(s, 1, 1u << 20);
        m.chunk.last = true;
        m.chunk.bytes = sample_text(s, 200);
        break;
    case MSG_CONTROL:
        m.control.verb = (enum control_verb)sample_in(s, 1, CONTROL_UNDRAIN);
        m.control.job = h.task;
        m.control.one = true;
        m.control.index = sample_in(s, 1, JOB_TASKS_MAX - 1);
        m.control.worker = sample_text(s, 9);
        m.control.client = m.control.worker;
        break;
    case MSG_CONTROL_OK:
        m.control_ok.n = sample_in(s, 1, 99);
        m.control_ok.quarantine_over = true;
        break;
    case MSG_CREDIT:
        m.credit.transfer = h.task;
        m.credit.credit_bytes = sample_in(s, 1, CREDIT_MAX_BYTES);
        break;
    default: break;
    }
    return m;
}

#endif
