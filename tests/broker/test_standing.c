/* test_standing.c - what is held against a worker's name, for how long. */
#include "tests/broker/pure.h"

static void test_blame(void **state)
{
    struct standing *all = NULL, *s = standing_get(&all, str_of("gpu3"));

    (void)state;
    s->n_workers = 1;
    assert_false(standing_blame(s, 0));
    assert_false(standing_blame(s, 1));
    assert_false(standing_barred(s, 2));
    assert_true(standing_blame(s, 2));
    assert_true(standing_barred(s, 2 + QUARANTINE_FIRST_MS - 1));
    assert_false(standing_barred(s, 2 + QUARANTINE_FIRST_MS));
    assert_false(standing_blame(s, 3)); /* it is out already */
    assert_int_equal(s->n_blames, 0);
    s->n_workers = 0;
    standing_drop(&all, s, 4);
    assert_ptr_equal(standing_find(all, str_of("gpu3")), s); /* a new process of that name is the same machine */
    standing_sweep(&all, 2 + QUARANTINE_FIRST_MS + QUARANTINE_FORGET_MS);
    assert_null(all);
}

/* 180 s, 360 s, ... 30 min; after an hour without, 180 s again. Two starts in ten minutes, or three in more, are nothing. */
static void test_recycles(void **state)
{
    struct standing *all = NULL, *s = standing_get(&all, str_of("gpu3"));
    int64_t          now = 0, want_ms = QUARANTINE_FIRST_MS;

    (void)state;
    for (int i = 0; i < 9; i++, now += RECYCLES_WITHIN_MS / 2 + 1000) assert_false(standing_recycled(s, now));
    now += RECYCLES_WITHIN_MS;
    for (int round = 0; round < 6; round++) {
        assert_false(standing_recycled(s, now + 1));
        assert_false(standing_recycled(s, now + 2));
        assert_true(standing_recycled(s, now + 3));
        assert_int_equal(s->barred_until_ms - (now + 3), want_ms);
        want_ms = 2 * want_ms < QUARANTINE_MAX_MS ? 2 * want_ms : QUARANTINE_MAX_MS;
        now = s->barred_until_ms + 1000;
    }
    assert_int_equal(want_ms, QUARANTINE_MAX_MS);
    now += QUARANTINE_FORGET_MS;
    for (int i = 0; i < 3; i++) standing_recycled(s, now);
    assert_int_equal(s->barred_until_ms - now, QUARANTINE_FIRST_MS);
    standing_release(&all);
}

/* An image's fault: told of before it is pardoned, after, and when it had quarantined. */
static void test_pardon(void **state)
{
    struct standing *all = NULL, *s = standing_get(&all, str_of("gpu3"));
    int64_t          now = 1000;

    (void)state;
    for (int i = 0; i < 20; i++, now += 1000) {
        assert_false(standing_recycled(s, now));
        assert_false(standing_pardon(s, now));
    }
    for (int i = 0; i < 20; i++, now += 1000) {
        assert_false(standing_pardon(s, now));
        assert_false(standing_recycled(s, now));
    }
    assert_false(standing_pardon(s, now)); /* told of too late: another start */
    now += PARDON_MS + 1;
    assert_false(standing_recycled(s, now));
    assert_false(standing_recycled(s, now + 1));
    assert_true(standing_recycled(s, now + 2));
    assert_true(standing_pardon(s, now + 3));
    assert_false(standing_barred(s, now + 3));
    assert_int_equal(s->n_quarantines, 0);
    assert_true(standing_recycled(s, now + 4)); /* the two others count */
    assert_int_equal(s->barred_until_ms, now + 4 + QUARANTINE_FIRST_MS);
    standing_release(&all);
    s = standing_get(&all, str_of("gpu4"));
    for (int i = 0; i < BLAMES_MAX; i++) standing_blame(s, now);
    assert_false(standing_pardon(s, now)); /* for its own deeds */
    assert_true(standing_barred(s, now));
    standing_release(&all);
}

/* Somebody mended it: it is free at once and its counts begin anew, but the next quarantine is the longer one, and is remembered as long. */
static void test_well(void **state)
{
    struct standing *all = NULL, *s = standing_get(&all, str_of("gpu3"));
    int64_t          now = 1000;

    (void)state;
    standing_blame(s, now);
    standing_recycled(s, now);
    assert_false(standing_well(s, now)); /* nothing to end, but nothing counts any more */
    for (int round = 1; round <= 2; round++) {
        assert_false(standing_recycled(s, ++now));
        assert_false(standing_recycled(s, ++now));
        assert_false(standing_blame(s, now));
        assert_false(standing_blame(s, now));
        assert_true(standing_recycled(s, ++now));
        assert_int_equal(s->barred_until_ms - now, round * QUARANTINE_FIRST_MS);
        assert_true(standing_well(s, ++now));
        assert_false(standing_barred(s, now));
        assert_false(standing_well(s, now));
    }
    for (int i = 1; i <= BLAMES_MAX; i++) assert_int_equal(standing_blame(s, now), i == BLAMES_MAX);
    assert_int_equal(s->barred_until_ms - now, 4 * QUARANTINE_FIRST_MS);
    assert_true(standing_well(s, ++now));
    standing_sweep(&all, now + QUARANTINE_FORGET_MS - 1);
    assert_ptr_equal(standing_find(all, str_of("gpu3")), s);
    standing_sweep(&all, now + QUARANTINE_FORGET_MS);
    assert_null(all);
}

/* In the roster: a drained or quarantined worker serves nobody, says so, and a worker that comes back is what its name was. */
static void test_in_the_roster(void **state)
{
    struct pure    p;
    struct worker *w;

    (void)state;
    pure_open(&p);
    w = pure_worker(&p, 1, "turbo", NULL, 0);
    assert_true(worker_free(w, 0));
    for (int i = 0; i < BLAMES_MAX; i++) standing_blame(w->standing, 0);
    assert_false(worker_serves(w, 1));
    assert_string_equal(worker_state(w, 1), "quarantined");
    assert_false(worker_serves(w, WORKER_SUSPECT_MS)); /* silent */
    w->seen_ms = QUARANTINE_FIRST_MS;
    assert_true(worker_free(w, QUARANTINE_FIRST_MS));
    w->standing->drained = true;
    assert_string_equal(worker_state(w, QUARANTINE_FIRST_MS), "drained");
    roster_drop(&p.roster, w);
    p.n_workers = 0; /* the next one takes the same name */
    w = pure_worker(&p, 1, "turbo", NULL, 5);
    assert_false(worker_serves(w, 5));
    w->standing->drained = false;
    pure_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_blame), cmocka_unit_test(test_recycles), cmocka_unit_test(test_pardon), cmocka_unit_test(test_well),
                                       cmocka_unit_test(test_in_the_roster)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
