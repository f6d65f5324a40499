/* test_worker.c - a whole worker (supervisor and engine child, with a fake engine) against a scripted broker.
 * This program is all three: the test and broker, with --worker the supervisor, with --engine-child the engine. */
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/png.h"
#include "proto/peer.h"
#include "tests/worker/fake_broker.h"
#include "tests/worker/fake_engine.c"
#include "worker/engine_child.h"
#include "worker/worker.h"

static void hello(void **state)
{
    struct fake *f = *state;
    struct msg   m;
    int64_t      from = now_ms(); /* of the first beat at the earliest */

    start_worker(f, "dir/turbo");
    m = welcome(f, NULL, 0);
    assert_int_equal(m.hello.role, ROLE_WORKER);
    assert_int_equal(m.hello.capacity, 2);
    assert_int_equal(m.hello.n_held, 0);
    assert_int_equal(m.hello.n_models, 1);
    assert_true(str_is(m.hello.name, "test") && str_is(m.hello.model[0].name, "turbo") && str_is(m.hello.model[0].profile, "fake"));
    assert_true(str_is(m.hello.about, "a fake engine") && str_is(m.hello.device, "cuda:0"));
    assert_int_equal(m.hello.model[0].steps, 4);
    assert_int_equal(expect(f, MSG_READY).ready.capacity, 2);
    for (int64_t until = now_ms() + WAIT_MS; f->n_beats < 3 && now_ms() < until;) expect_for(f, (enum msg_kind)0, 20);
    assert_true(f->n_beats >= 3 && f->n_beats <= 2 + (now_ms() - from) / BEAT_TEST_MS);
}

static void result_with_small_credit(void **state)
{
    struct fake    *f = *state;
    struct buf      out[PARTS_MAX] = {0}, again[PARTS_MAX] = {0};
    struct png_text text[4];
    struct image    img = {0};
    size_t          n_text = 4;
    struct msg      offer;
    struct err      e = {0};

    start_worker(f, "turbo=some/dir");
    welcome(f, NULL, 0);
    lease(f, 5, "a cat", 0, true);
    offer = expect(f, MSG_OFFER);
    assert_int_equal(offer.offer.epoch, 105);
    assert_int_equal(offer.offer.n_parts, 2);
    assert_int_equal(offer.offer.width_px, 64);
    upload(f, &offer, 1000, out);
    if (png_read(buf_str(&out[0]), &img, text, &n_text, &e)) fail_msg("%s", e.text);
    assert_int_equal(img.width_px, 64);
    assert_int_equal(img.height_px, 48);
    assert_int_equal(n_text, 2);
    assert_string_equal(text[0].key, "parameters");
    assert_non_null(strstr(text[0].value.at, "a cat\nSteps: 4, Sampler: Euler"));
    assert_string_equal(text[1].key, "zfarm");
    png_texts_free(text, n_text);
    image_free(&img);
    assert_true(out[1].len > 16 * 8 * 6 * 4);
    lease(f, 5, "a cat", 0, true); /* the same spec again: the same bytes */
    offer = expect(f, MSG_OFFER);
    upload(f, &offer, CHUNK_MAX_BYTES, again);
    for (int p = 0; p < 2; p++) {
        assert_true(str_eq(buf_str(&out[p]), buf_str(&again[p])));
        buf_release(&out[p]);
        buf_release(&again[p]);
    }
}

/* A spec that leaves the size open: the model's own, and the picture says it. */
static void own_size(void **state)
{
    struct fake    *f = *state;
    struct buf      out[PARTS_MAX] = {0};
    struct png_text text[4];
    struct image    img = {0};
    size_t          n_text = 4;
    struct msg      m = {.kind = MSG_LEASE, .lease = {.task = 4, .epoch = 104, .job = 1, .budget_ms = 60000}};
    struct err      e = {0};

    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    spec_init(&m.lease.spec);
    m.lease.spec.prompt = str_of("a cat");
    m.lease.spec.height_px = 64;
    tell(f, m);
    m = expect(f, MSG_OFFER);
    assert_int_equal(m.offer.width_px, 96);
    assert_int_equal(m.offer.height_px, 64);
    upload(f, &m, CHUNK_MAX_BYTES, out);
    if (png_read(buf_str(&out[0]), &img, text, &n_text, &e)) fail_msg("%s", e.text);
    assert_true(img.width_px == 96 && img.height_px == 64);
    assert_non_null(strstr(text[0].value.at, "Size: 96x64"));
    assert_non_null(strstr(text[1].value.at, "\"width\": 96, \"height\": 64"));
    png_texts_free(text, n_text);
    image_free(&img);
    buf_release(&out[0]);
}

/* What has not begun is given back when it is called for; what runs is not, nor what was leased anew. */
static void recall(void **state)
{
    struct fake *f = *state;
    struct held  held[] = {{1, 101}, {2, 999}, {2, 102}};
    struct msg   m;

    start_worker(f, "turbo");
    assert_int_equal(welcome(f, NULL, 0).hello.max_batch, 1);
    lease(f, 1, "held", 8, false);
    lease(f, 2, "a dog", 3, false);
    wait_step(f, 1, 1);
    wait_held(f, 2);
    tell(f, (struct msg){.kind = MSG_BEAT_OK, .beat_ok = {.recall = held, .n_recall = 3}});
    m = expect(f, MSG_RELEASE);
    assert_int_equal(m.release.task, 2);
    assert_int_equal(m.release.epoch, 102);
    let_go(f, "held");
    finish(f, 1);
}

/* An answer to the failure of an older lease does not make the worker forget that of the newer one. */
static void failed_ok_of_an_older_lease(void **state)
{
    struct fake *f = *state;
    struct msg   m;

    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    lease(f, 1, "nan", 4, false);
    m = expect(f, MSG_FAILED);
    tell(f, (struct msg){.kind = MSG_FAILED_OK, .correlation = m.correlation, .failed_ok = {1, 55}});
    m = expect(f, MSG_BEAT);
    tell(f, (struct msg){.kind = MSG_ERROR, .correlation = m.correlation, .error = {WIRE_UNKNOWN_SESSION, 0, {"who are you", 11}}});
    assert_int_equal(welcome(f, NULL, 0).hello.n_held, 1);
    expect_failed(f, 1, FAIL_NAN, "not finite");
}

static void cancel(void **state)
{
    struct fake *f = *state;
    struct held  both[2] = {{1, 101}, {2, 102}};

    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    lease(f, 1, "held", 8, false); /* it never ends by itself */
    lease(f, 2, "a dog", 3, false);
    wait_step(f, 1, 2);
    tell(f, (struct msg){.kind = MSG_BEAT_OK, .beat_ok = {.seq = 0, .cancel = both, .n_cancel = 2}});
    expect_failed(f, 2, FAIL_CANCELED, "before it began");
    expect_failed(f, 1, FAIL_CANCELED, "canceled after step");
    lease(f, 3, "a cat", 3, false);
    finish(f, 3);
}

/* As a broker that has just begun: whoever goes on as if it knew him is told that it does not. */
static struct msg welcome_anew(struct fake *f, struct held *drop, size_t n_drop)
{
    for (int64_t until = now_ms() + WAIT_MS; now_ms() < until;) {
        struct msg m;

        if (peer_recv(f->peer, &f->arena, &f->worker, &m, NULL)) {
            peer_wait(f->peer, 20);
            continue;
        }
        if (m.kind == MSG_HELLO) return greet(f, m, drop, n_drop);
        peer_send(f->peer, &f->worker, &(struct msg){.kind = MSG_ERROR, .correlation = m.correlation, .error = {WIRE_UNKNOWN_SESSION, 0, {"who are you", 11}}}, NULL);
    }
    fail_msg("no HELLO came");
    return (struct msg){0};
}

/* The broker goes while a result is offered, another lease runs, and comes back as if nothing had been. */
static void broker_vanishes(void **state)
{
    struct fake *f = *state;
    struct held  drop = {2, 102};
    struct msg   m, first;

    start_worker(f, "turbo");
    first = welcome(f, NULL, 0);
    lease(f, 1, "a cat", 3, false);
    expect(f, MSG_OFFER);
    lease(f, 2, "held", 8, false);
    wait_step(f, 2, 1);
    peer_close(f->peer);
    listen_again(f);
    m = welcome_anew(f, &drop, 1);
    assert_memory_equal(m.hello.instance, first.hello.instance, KEY_BYTES);
    assert_int_equal(m.hello.n_held, 2);
    finish(f, 1);
    quiet(f); /* the other was dropped */
    lease(f, 3, "a bird", 3, false);
    finish(f, 3);
}

static void unknown_session(void **state)
{
    struct fake *f = *state;
    struct route before;
    struct msg   m;

    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    m = expect(f, MSG_BEAT);
    before = f->worker;
    tell(f, (struct msg){.kind = MSG_ERROR, .correlation = m.correlation, .error = {WIRE_UNKNOWN_SESSION, 0, {"who are you", 11}}});
    welcome(f, NULL, 0);
    assert_false(route_eq(&before, &f->worker));
    lease(f, 1, "a cat", 3, false);
    m = expect(f, MSG_OFFER);
    for (int i = 0; i < 6; i++) { /* a busy broker (its disk is full) is no refusal: offered again, however often */
        tell(f, (struct msg){.kind = MSG_ERROR, .correlation = m.correlation, .error = {WIRE_BUSY, 10, {"later", 5}}});
        m = expect(f, MSG_OFFER);
    }
    tell(f, (struct msg){.kind = MSG_OFFER_OK, .correlation = m.correlation, .offer_ok = {.task = 1, .verdict = OFFER_HAVE}});
    quiet(f);
}

/* To a broker that understands it: small results inside OFFER, several of them in OFFERS; what it will not have so comes by itself. */
static void small_results_ride(void **state)
{
    struct fake    *f = *state;
    struct offer_ok ok[2] = {{.verdict = OFFER_HAVE}, {.verdict = OFFER_UPLOAD}};
    uint8_t         sha[32];
    struct msg      m;

    f->minor = 1;
    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    for (uint64_t task = 1; task <= 2; task++) {
        lease(f, task, "a cat", 3, task == 2);
        m = expect(f, MSG_OFFER);
        assert_int_equal(m.offer.n_parts, task);
        for (size_t p = 0; p < task; p++) {
            sha256_of(m.offer.bytes[p].at, m.offer.bytes[p].len, sha);
            assert_memory_equal(sha, m.offer.part[p].sha256, 32);
        }
    }
    m = expect(f, MSG_BEAT); /* both unanswered; in a new session they are said together */
    tell(f, (struct msg){.kind = MSG_ERROR, .correlation = m.correlation, .error = {WIRE_UNKNOWN_SESSION, 0, {"who are you", 11}}});
    assert_int_equal(welcome(f, NULL, 0).hello.n_held, 2);
    m = expect(f, MSG_OFFERS);
    assert_int_equal(m.offers.n_offers, 2);
    for (size_t i = 0; i < 2; i++) ok[i].task = m.offers.offer[i].task;
    tell(f, (struct msg){.kind = MSG_OFFERS_OK, .correlation = m.correlation, .offers_ok = {ok, 2}});
    m = expect(f, MSG_OFFER);
    assert_int_equal(m.offer.task, ok[1].task);
    tell(f, (struct msg){.kind = MSG_RESULT_OK, .correlation = m.correlation, .result_ok = {m.offer.task, m.offer.epoch}});
    quiet(f);
}

static void drain(void **state)
{
    struct fake *f = *state;

    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    lease(f, 1, "held", 8, false);
    lease(f, 2, "a dog", 3, false);
    wait_step(f, 1, 2);
    wait_held(f, 2);
    kill(f->pid, SIGTERM);
    assert_int_equal(expect(f, MSG_READY).ready.capacity, 0);
    assert_int_equal(expect(f, MSG_RELEASE).release.task, 2);
    let_go(f, "held");
    finish(f, 1);
    expect(f, MSG_BYE);
    assert_int_equal(worker_status(f), 0);
}

static void drain_too_long(void **state)
{
    struct fake *f = *state;

    f->drain_ms = 2000;
    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    lease(f, 1, "held", 200, false); /* 6 s at least, and 2 s are given */
    wait_step(f, 1, 3);
    kill(f->pid, SIGTERM);
    assert_int_equal(expect(f, MSG_RELEASE).release.task, 1);
    expect(f, MSG_BYE);
    assert_int_equal(worker_status(f), 0);
}

static void second_signal(void **state)
{
    struct fake *f = *state;
    pid_t        engine;

    start_worker(f, "turbo");
    welcome(f, NULL, 0);
    lease(f, 1, "held", 8, false);
    wait_step(f, 1, 1);
    engine = engine_pid(f);
    kill(f->pid, SIGINT);
    assert_int_equal(expect(f, MSG_READY).ready.capacity, 0); /* it has heard the first: two that are pending at once would be one */
    kill(f->pid, SIGINT);
    assert_int_equal(worker_status(f), 0);
    assert_int_equal(kill(engine, 0), -1); /* no engine is left behind */
}

static void model_does_not_open(void **state)
{
    struct fake *f = *state;

    start_worker(f, "missing");
    assert_int_equal(worker_status(f), 1);
    start_worker(f, "wobbles"); /* the self-test sees it */
    assert_int_equal(worker_status(f), 1);
    start_worker(f, "crashes");
    assert_int_equal(worker_status(f), 1);
}

static void version_refused(void **state)
{
    struct fake *f = *state;
    struct msg   m;

    start_worker(f, "turbo");
    m = expect(f, MSG_HELLO);
    tell(f, (struct msg){.kind = MSG_ERROR, .correlation = m.correlation, .error = {WIRE_VERSION, 0, {"2.0 is spoken here", 18}}});
    assert_int_equal(worker_status(f), 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(hello), T(result_with_small_credit), T(own_size), T(recall),
        T(failed_ok_of_an_older_lease), T(cancel), T(broker_vanishes), T(unknown_session), T(small_results_ride),
        T(drain), T(drain_too_long), T(second_signal), T(model_does_not_open), T(version_refused),
    };

    if (engine_child_is(argc, argv)) return engine_child_main(argc, argv);
    if (argc == 7 && !strcmp(argv[1], "--worker")) return run_worker(argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
