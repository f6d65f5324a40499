/* test_transfer.c - an upload is whole, a thread of the broker's hashes it, and meanwhile somebody leaves, comes back, lets go, cancels or ends the
 * broker: right bytes are DONE, or dropped with their job; wrong ones are kept by nobody, and the image is made once more. */
#include "tests/broker/actors.h"

#define LARGE (16 << 20)

enum meanwhile { NOTHING, LEAVES, COMES_BACK, LETS_GO, CANCELS, ENDS, MEANWHILES };

struct cast {
    struct farm  f;
    struct actor c, w;
    char         hold[300]; /* while this file is there, right bytes are not synced (actors.h) */
};

static char large[LARGE], back[LARGE];

/* All of it, its last byte as wrong as asked for. */
static void upload(struct actor *w, const struct lease *l, bool wrong)
{
    const struct str bytes = {large, LARGE};
    struct msg       m = {.kind = MSG_OFFER, .offer = offer_of(l, bytes, (struct str){0})}, ok = actor_ask(w, &m, MSG_OFFER_OK);

    assert_int_equal(ok.offer_ok.verdict, OFFER_UPLOAD);
    large[LARGE - 1] ^= wrong;
    actor_upload(w, ok.offer_ok.transfer[0], ok.offer_ok.credit_bytes, bytes, LARGE);
    large[LARGE - 1] ^= wrong;
    actor_beat(w, l, 1, STAGE_UPLOAD, 8); /* answered: the broker has it all */
}

static size_t n_workers(struct actor *c)
{
    return actor_ask(c, &(struct msg){.kind = MSG_WORKERS}, MSG_WORKERS_OK).workers_ok.n_workers;
}

/* Both on new connections; the worker is another process, which knows of nothing. */
static void all_anew(struct cast *t)
{
    actor_again(&t->c, t->f.endpoint);
    actor_again(&t->w, t->f.endpoint);
    random_bytes(t->w.instance, sizeof t->w.instance);
    actor_hello(&t->c, NULL, 0);
    actor_hello(&t->w, NULL, 0);
}

/* An upload's end is still to come when this returns, if its bytes are right. */
static void meanwhile(struct cast *t, enum meanwhile what, const struct lease *l, uint64_t job)
{
    switch (what) {
    case LEAVES:
        actor_send(&t->w, &(struct msg){.kind = MSG_BYE});
        for (int64_t until = now_ms() + ACTOR_WAIT_MS; n_workers(&t->c); sleep_ms(1)) assert_true(now_ms() < until);
        all_anew(t);
        return;
    case COMES_BACK:
        actor_again(&t->w, t->f.endpoint);
        actor_hello(&t->w, (struct held[]){{l->task, l->epoch}}, 1);
        return;
    case LETS_GO:
        actor_send(&t->w, &(struct msg){.kind = MSG_RELEASE, .release = {.task = l->task, .epoch = l->epoch}});
        actor_beat(&t->w, NULL, 0, STAGE_UPLOAD, 0); /* answered: it has heard the other, too */
        return;
    case CANCELS: actor_ask(&t->c, &(struct msg){.kind = MSG_CANCEL, .cancel.job = job}, MSG_CANCEL_OK); return;
    case ENDS:
        kill(t->f.pid, SIGTERM);
        actor_sees_end(&t->c);
        unlink(t->hold); /* it waits for that now */
        assert_int_equal(farm_end(&t->f, SIGTERM), 0);
        farm_start(&t->f);
        all_anew(t);
        return;
    default: return;
    }
}

/* Until the job's only task is in this state and n results are kept. */
static void until(struct cast *t, uint64_t job, enum task_state state, int n)
{
    unsigned is = 0;

    for (int64_t end = now_ms() + 60000; now_ms() < end; sleep_ms(20)) {
        is = show(&t->c, job).show_ok.task[0].info.state;
        if (is == state && n_blobs(&t->f) == n) return;
    }
    fail_msg("state %u, not %d; %d results are kept, not %d", is, (int)state, n_blobs(&t->f), n);
}

static void whole_and_then(enum meanwhile what, bool wrong)
{
    struct cast  t = {0};
    struct lease l;
    uint64_t     job;

    farm_open(&t.f);
    snprintf(t.hold, sizeof t.hold, "%s/hold", t.f.tmp.dir);
    tmp_write(&t.f.tmp, "hold", "", 0);
    setenv("ACTORS_HOLD", t.hold, 1);
    farm_start(&t.f);
    actor_open(&t.c, t.f.endpoint, ROLE_CLIENT);
    actor_open(&t.w, t.f.endpoint, ROLE_WORKER);
    actor_hello(&t.c, NULL, 0);
    actor_hello(&t.w, NULL, 0);
    job = actor_submit(&t.c, "large", 1, 1, "", MSG_SUBMIT_OK).submit_ok.job;
    l = actor_take(&t.w, MSG_LEASE).lease;
    upload(&t.w, &l, wrong);
    meanwhile(&t, what, &l, job);
    unlink(t.hold);
    if (what == CANCELS) {
        until(&t, job, TASK_CANCELED, 0);
    } else {
        if (wrong && (what == NOTHING || what == LETS_GO)) assert_int_equal(actor_take(&t.w, MSG_ERROR).error.code, WIRE_INVALID); /* the others are not there to hear it */
        if (wrong && what != NOTHING && what != COMES_BACK) l = actor_take(&t.w, MSG_LEASE).lease;
        if (wrong) upload(&t.w, &l, false);
        until(&t, job, TASK_DONE, 1);
        assert_int_equal(actor_fetch(&t.c, l.task, PART_IMAGE, 0, 1, back, LARGE), LARGE);
        assert_memory_equal(back, large, LARGE);
    }
    actor_close(&t.c);
    actor_close(&t.w);
    farm_close(&t.f);
}

static void test_right(void **state)
{
    (void)state;
    for (int what = NOTHING; what < MEANWHILES; what++) whole_and_then((enum meanwhile)what, false);
}

static void test_wrong(void **state)
{
    (void)state;
    for (int what = NOTHING; what < MEANWHILES; what++) whole_and_then((enum meanwhile)what, true);
}

int main(int argc, char **argv)
{
    int                     code = actors_main(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_right), cmocka_unit_test(test_wrong)};

    if (code >= 0) return code;
    for (size_t i = 0; i < LARGE; i++) large[i] = (char)(i * 2654435761u >> 13);
    code = cmocka_run_group_tests(tests, NULL, NULL);
    if (code == 0) peer_shutdown(); /* a test that failed left its peers open: that would wait for ever */
    return code;
}
