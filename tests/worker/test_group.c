/* test_group.c - the real engine's parts on several CPU ranks: the bytes of one engine whatever the placement and the order; nobody waits behind a
 * busy rank; cancelling; ranks that fail, and what never arrives (linked with --wrap=engine_denoise and --wrap=engine_send). */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "proto/wire.h"
#include "tests/engine/tiny.h"
#include "worker/group.h"

#define WAIT_MS   120000 /* for what must come */
#define TASKS     64
#define LOST_SEED 777001 /* its rank fails while it paints */
#define NAN_SEED  777003 /* this picture fails */
#define SLOW_SEED 777002 /* does not come past its first step while it is held */

static const char *const places[] = {"", "text=cpu image=cpu", "text=cpu image=cpu,cpu vae=cpu", "text=cpu image=cpu,cpu,cpu"};

struct step {
    enum stage stage;
    int        step, rank;
};

static struct seen { /* what the hooks said; shared: under mtx */
    pthread_mutex_t mtx;
    struct {
        bool        back;
        int         rc;
        uint8_t     sha[SHA256_BYTES]; /* of pixels and latents */
        struct step step[64];
        int         n_steps;
    } task[TASKS];
    int        n_back, n_lost, order[TASKS];
    uint64_t   lost;
    struct err why;
    bool       ready;
    int        in_hand, in_hand_most; /* denoising at once */
} seen = {.mtx = PTHREAD_MUTEX_INITIALIZER};

static atomic_bool drops; /* engine_send() forgets */
static atomic_bool held;

/* ---- faults ---- */

int __real_engine_denoise(struct engine *g, const struct embed *pos, const struct embed *neg, const struct gen *gen, const struct gen_hooks *h,
                          struct latent **out, struct err *e);
int __wrap_engine_denoise(struct engine *g, const struct embed *pos, const struct embed *neg, const struct gen *gen, const struct gen_hooks *h,
                          struct latent **out, struct err *e);
int __real_engine_send(struct engine *g, const struct embed *p, uint64_t ticket, enum engine_side side, struct err *e);
int __wrap_engine_send(struct engine *g, const struct embed *p, uint64_t ticket, enum engine_side side, struct err *e);

static int slow_step(void *ctx, int done, int n_steps)
{
    const struct gen_hooks *h = ctx;
    int                     rc;

    while (!(rc = h->on_step(h->ctx, done, n_steps)) && held) sleep_ms(5);
    return rc;
}

int __wrap_engine_denoise(struct engine *g, const struct embed *pos, const struct embed *neg, const struct gen *gen, const struct gen_hooks *h,
                          struct latent **out, struct err *e)
{
    const struct gen_hooks slow = {(void *)(uintptr_t)h, slow_step};
    int                    rc;

    if (gen->seed == LOST_SEED) return err_set(e, ERR_DEVICE, "an illegal address");
    if (gen->seed == NAN_SEED) return err_set(e, ERR_NAN, "not finite");
    pthread_mutex_lock(&seen.mtx);
    if (++seen.in_hand > seen.in_hand_most) seen.in_hand_most = seen.in_hand;
    pthread_mutex_unlock(&seen.mtx);
    rc = __real_engine_denoise(g, pos, neg, gen, gen->seed == SLOW_SEED ? &slow : h, out, e);
    pthread_mutex_lock(&seen.mtx);
    seen.in_hand--;
    pthread_mutex_unlock(&seen.mtx);
    return rc;
}

int __wrap_engine_send(struct engine *g, const struct embed *p, uint64_t ticket, enum engine_side side, struct err *e)
{
    return drops ? 0 : __real_engine_send(g, p, ticket, side, e);
}

/* ---- hooks ---- */

static void on_loading(void *ctx, int64_t done_bytes, int64_t all_bytes, const char *what)
{
    (void)ctx;
    assert_true(done_bytes <= all_bytes);
    assert_false(seen.ready); /* ready is the last word */
    seen.ready = strcmp(what, "ready") == 0;
}

static void on_stage(void *ctx, const struct picture *p, enum stage stage, int step)
{
    (void)ctx;
    pthread_mutex_lock(&seen.mtx);
    if (seen.task[p->task].n_steps < 64) seen.task[p->task].step[seen.task[p->task].n_steps++] = (struct step){stage, step, p->rank};
    pthread_mutex_unlock(&seen.mtx);
}

static void back(struct picture *p, int rc)
{
    struct sha256 s;

    sha256_init(&s);
    if (!rc) sha256_put(&s, p->image.rgb, (size_t)p->image.width_px * (size_t)p->image.height_px * 3);
    sha256_put(&s, p->latents.at, p->latents.len);
    pthread_mutex_lock(&seen.mtx);
    if (seen.task[p->task].back) abort(); /* G1: once */
    seen.task[p->task].back = true;
    seen.task[p->task].rc = rc;
    sha256_take(&s, seen.task[p->task].sha);
    seen.order[seen.n_back++] = (int)p->task;
    pthread_mutex_unlock(&seen.mtx);
    picture_free(p);
}

static void on_pixels(void *ctx, struct picture *p)
{
    (void)ctx;
    back(p, 0);
}

static void on_failed(void *ctx, struct picture *p, int rc, const struct err *e)
{
    (void)ctx, (void)e;
    back(p, rc);
}

static void on_lost(void *ctx, struct picture *p, const struct err *e)
{
    (void)ctx;
    pthread_mutex_lock(&seen.mtx);
    seen.n_lost++;
    seen.lost = p->task;
    seen.why = *e;
    pthread_mutex_unlock(&seen.mtx);
    picture_free(p);
}

static const struct group_hooks hooks = {NULL, on_loading, on_stage, on_pixels, on_failed, on_lost};

/* ---- groups and pictures ---- */

static int try_open(struct group **g, const char *model, const char *place, int64_t transfer_ms, struct err *e)
{
    struct place      p;
    struct group_conf c = {.engine = {.model_dir = model, .device = "cpu", .precision = ENGINE_F32, .n_threads = 1}, .place = &p, .transfer_ms = transfer_ms};

    memset(&seen.task, 0, sizeof seen.task);
    seen.n_back = seen.n_lost = seen.in_hand_most = 0;
    seen.ready = drops = false;
    held = true;
    if (place_parse(&p, place, e)) fail_msg("%s", e->text);
    return group_open(g, &c, &hooks, e);
}

static struct group *opened(const char *place, int64_t transfer_ms)
{
    struct group *g = NULL;
    struct err    e = {0};

    if (try_open(&g, TINY_MODEL, place, transfer_ms, &e)) fail_msg("%s", e.text);
    assert_true(seen.ready);
    return g;
}

static struct picture *picture_of(uint64_t task, const struct item *it)
{
    struct picture *p = NULL;
    struct buf      b;
    struct err      e = {0};

    buf_init(&b, LINK_PAYLOAD_MAX);
    if (wire_item_pack(it, &b, &e) || picture_open(&p, task, task + 100, buf_str(&b), &e)) fail_msg("%s", e.text);
    buf_release(&b);
    return p;
}

static struct picture *tiny_picture(uint64_t task, int i)
{
    const struct tiny_case *c = &tiny_cases[i];
    struct item             it = {.n_images = 1};
    char                    text[1024];

    spec_init(&it.spec);
    it.spec.prompt = str_of(tiny_prompt(i, text));
    if (c->negative) it.spec.negative = str_of(c->negative);
    it.spec.width_px = c->w, it.spec.height_px = c->h, it.spec.steps = c->steps;
    it.spec.guidance = c->guidance, it.spec.cfg_norm = c->cfg_norm, it.spec.cfg_trunc = c->cfg_trunc;
    it.spec.seed = c->seed;
    assert_int_equal(rng_parse(str_of(c->noise == NOISE_TORCH_CPU ? "torch-cpu" : "torch-cuda"), &it.spec.rng, NULL), 0);
    it.spec.want_latents = true;
    return picture_of(task, &it);
}

static struct picture *small(uint64_t task, int steps, uint64_t seed)
{
    struct item it = {.n_images = 1};

    spec_init(&it.spec);
    it.spec.prompt = str_of("a small one");
    it.spec.width_px = it.spec.height_px = 32;
    it.spec.steps = steps;
    it.spec.seed = seed;
    return picture_of(task, &it);
}

/* Waits for room. */
static void put(struct group *g, struct picture *p)
{
    struct err e = {0};
    int        rc;

    for (int64_t until = now_ms() + WAIT_MS; (rc = group_put(g, p, &e)) == ERR_BUSY && now_ms() < until;) sleep_ms(1);
    assert_int_equal(rc, 0);
}

static bool wait_for(int (*of)(void), int n)
{
    int64_t until = now_ms() + WAIT_MS;
    int     got = 0;

    while (got < n && now_ms() < until) {
        pthread_mutex_lock(&seen.mtx);
        got = of();
        pthread_mutex_unlock(&seen.mtx);
        if (got < n) sleep_ms(1);
    }
    return got >= n;
}

static int n_back(void)
{
    return seen.n_back;
}

static int n_lost(void)
{
    return seen.n_lost;
}

static int step_of_task_0(void)
{
    int n = seen.task[0].n_steps;

    return n && seen.task[0].step[n - 1].stage == STAGE_DENOISE ? seen.task[0].step[n - 1].step : 0;
}

/* ---- bytes ---- */

static void same_bytes_everywhere(void **state)
{
    static uint8_t want[TINY_CASES][SHA256_BYTES];
    static const int jump[] = {1, 3, 5, 7}; /* another order for each placement */

    (void)state;
    for (int k = 0; k < 4; k++) {
        struct group *g = opened(places[k], WAIT_MS);
        int           n = k ? TINY_CASES + TINY_CASES / 2 : TINY_CASES;

        for (int i = 0; i < n; i++) put(g, tiny_picture((uint64_t)i, i * jump[k] % TINY_CASES));
        assert_true(wait_for(n_back, n));
        for (int i = 0; i < n; i++) {
            int c = i * jump[k] % TINY_CASES;

            assert_int_equal(seen.task[i].rc, 0);
            if (k == 0) memcpy(want[c], seen.task[i].sha, SHA256_BYTES);
            else assert_memory_equal(want[c], seen.task[i].sha, SHA256_BYTES);
        }
        assert_true(group_idle(g));
        group_free(g);
    }
}

/* What is said of a task, and of which rank. */
static void what_is_said(void **state)
{
    static const struct step want[] = {{STAGE_TEXT, 0, 0}, {STAGE_WAITING, 0, 0}, {STAGE_DENOISE, 0, 1}, {STAGE_DENOISE, 1, 1},
                                       {STAGE_DENOISE, 2, 1}, {STAGE_WAITING, 0, 1}, {STAGE_DECODE, 2, 0}};
    struct group     *g = opened("text=cpu image=cpu vae=cpu", WAIT_MS);
    struct group_load load[PLACE_RANKS_MAX];

    (void)state;
    assert_int_equal(group_ranks(g), 2);
    assert_string_equal(group_link_about(g), "memory");
    assert_string_equal(group_rank_profile(g, 1)->device, "cpu");
    assert_int_equal(group_profile(g)->n_steps, 8);
    put(g, small(1, 2, 5));
    assert_true(wait_for(n_back, 1));
    assert_int_equal(seen.task[1].n_steps, 7);
    for (int i = 0; i < 7; i++) {
        assert_int_equal(seen.task[1].step[i].stage, want[i].stage);
        assert_int_equal(seen.task[1].step[i].step, want[i].step);
        assert_int_equal(seen.task[1].step[i].rank, want[i].rank);
    }
    group_loads(g, load);
    for (int i = 0; i < 2; i++) assert_true(load[i].busy_permille <= 1000 && load[i].total_bytes > 0);
    for (int64_t until = now_ms() + WAIT_MS; load[0].busy_permille && now_ms() < until; group_loads(g, load)) sleep_ms(20);
    assert_int_equal(load[0].busy_permille, 0);
    group_free(g);
}

/* ---- who waits for whom ---- */

/* One image rank has a long one: all the others go through the other rank meanwhile. */
static void nobody_behind_a_busy_rank(void **state)
{
    struct group *g = opened("text=cpu image=cpu,cpu vae=cpu", WAIT_MS);

    (void)state;
    put(g, small(0, 3, SLOW_SEED));
    assert_true(wait_for(step_of_task_0, 1));
    for (uint64_t k = 1; k <= 12; k++) put(g, small(k, 1, k));
    assert_true(wait_for(n_back, 12));
    held = false;
    assert_true(wait_for(n_back, 13));
    assert_int_equal(seen.order[12], 0);
    assert_int_equal(seen.in_hand_most, 2);
    group_free(g);
}

static void no_more_than_fit(void **state)
{
    struct group   *g = opened("text=cpu image=cpu vae=cpu", WAIT_MS);
    struct picture *p = small(9, 1, 1);
    struct err      e = {0};

    (void)state;
    put(g, small(0, 3, SLOW_SEED));
    for (uint64_t k = 1; k < 3; k++) assert_int_equal(group_put(g, small(k, 1, k), &e), 0); /* place_tasks() is 3 */
    assert_int_equal(group_put(g, p, &e), ERR_BUSY);
    assert_false(group_idle(g));
    held = false;
    put(g, p); /* when one has gone */
    assert_true(wait_for(n_back, 4));
    group_free(g);
}

/* ---- cancel ---- */

static void canceled(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        struct group *g = opened(places[k], WAIT_MS);
        bool          has_room = k > 0;

        put(g, small(0, 3, SLOW_SEED));
        assert_true(wait_for(step_of_task_0, 1));
        if (k == 1) { /* one image rank: the second waits encoded on a shelf */
            put(g, small(1, 3, SLOW_SEED));
            assert_true(group_cancel(g, 1, 101));
            assert_true(wait_for(n_back, 1));
            assert_int_equal(seen.order[0], 1);
            assert_int_equal(seen.task[1].rc, ERR_CANCELED);
        }
        assert_false(group_cancel(g, 0, 99)); /* another lease */
        assert_false(group_cancel(g, 50, 150));
        assert_true(group_cancel(g, 0, 100));
        if (has_room) put(g, small(2, 1, 3));
        assert_true(wait_for(n_back, (k == 1) + 1 + has_room));
        assert_int_equal(seen.task[0].rc, ERR_CANCELED);
        if (has_room) assert_int_equal(seen.task[2].rc, 0);
        put(g, small(3, 3, SLOW_SEED)); /* left in its hands */
        group_free(g);
    }
}

/* ---- faults ---- */

static void a_rank_is_lost(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        struct group *g = opened(places[k], WAIT_MS);
        int           n_before;

        put(g, small(1, 1, 1));
        assert_true(wait_for(n_back, 1));
        n_before = seen.n_back;
        if (k > 1) put(g, small(2, 3, SLOW_SEED)); /* in the hands of another rank */
        put(g, small(3, 1, LOST_SEED));
        assert_true(wait_for(n_lost, 1));
        assert_int_equal(seen.lost, 3);
        assert_string_equal(seen.why.text, "an illegal address");
        group_abort(g, "the end");
        group_free(g);
        assert_int_equal(seen.n_lost, 1);
        assert_int_equal(seen.n_back, n_before); /* nothing is given back after that */
    }
}

static void an_embedding_never_comes(void **state)
{
    struct group *g = opened("text=cpu image=cpu,cpu", 4000); /* the first of them is to come, on a slow machine, too */
    struct err    e = {0};

    (void)state;
    put(g, small(1, 1, 1));
    assert_true(wait_for(n_back, 1));
    drops = true;
    put(g, small(2, 1, 2));
    assert_true(wait_for(n_lost, 1));
    assert_int_equal(seen.lost, 2);
    assert_non_null(strstr(seen.why.text, "did not come"));
    (void)group_put(g, small(3, 1, 3), &e); /* nobody takes it: it goes with the group */
    group_free(g);
    assert_int_equal(seen.n_back, 1);
}

static void refusals(void **state)
{
    struct group *g = NULL;
    struct err    e = {0};

    (void)state;
    assert_int_equal(try_open(&g, "/nowhere", "text=cpu image=cpu,cpu", WAIT_MS, &e), ERR_NOTFOUND);
    assert_non_null(strstr(e.text, "rank 0 on cpu"));
    assert_null(g);
    memset(&e, 0, sizeof e);
    assert_int_equal(try_open(&g, TINY_MODEL, "text=cpu image=cuda:99", WAIT_MS, &e), ERR_DEVICE); /* no GPU, or not so many */
    assert_non_null(strstr(e.text, "rank 1 on cuda:99"));
    g = opened("text=cpu image=cpu", WAIT_MS);
    put(g, small(1, 1, NAN_SEED)); /* fails, and takes nothing with it */
    put(g, small(2, 1, 2));
    assert_true(wait_for(n_back, 2));
    assert_int_equal(seen.task[1].rc, ERR_NAN);
    assert_int_equal(seen.task[2].rc, 0);
    group_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bytes_everywhere), cmocka_unit_test(what_is_said), cmocka_unit_test(nobody_behind_a_busy_rank),
        cmocka_unit_test(no_more_than_fit),      cmocka_unit_test(canceled),     cmocka_unit_test(a_rank_is_lost),
        cmocka_unit_test(an_embedding_never_comes), cmocka_unit_test(refusals),
    };

    log_level_set(LOG_WARN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
