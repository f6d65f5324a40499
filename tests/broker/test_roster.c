/* test_roster.c - silence, leases, and what a worker is called; all time is made up. */
#include "tests/broker/pure.h"

static void test_silence(void **state)
{
    struct pure    p;
    struct worker *w;

    (void)state;
    pure_open(&p);
    w = pure_worker(&p, 1, "turbo", NULL, 1000);
    assert_string_equal(worker_state(w, 1000), "ready");
    assert_false(worker_suspect(w, 1000 + WORKER_SUSPECT_MS - 1));
    assert_true(worker_suspect(w, 1000 + WORKER_SUSPECT_MS));
    assert_false(worker_free(w, 1000 + WORKER_SUSPECT_MS));
    assert_string_equal(worker_state(w, 1000 + WORKER_SUSPECT_MS), "suspect");
    assert_null(roster_lost(&p.roster, 1000 + WORKER_LOST_MS - 1));
    assert_ptr_equal(roster_lost(&p.roster, 1000 + WORKER_LOST_MS), w);
    for (int i = 0; i < 2; i++) { /* the broker slept, not the worker; and when it had spoken before that is known, it was not heard in the future */
        roster_forgive(&p.roster, 60000, 61000);
        assert_int_equal(w->seen_ms, 61000);
    }
    assert_null(roster_lost(&p.roster, 61000 + WORKER_LOST_MS - 1));
    assert_ptr_equal(roster_lost(&p.roster, 61000 + WORKER_LOST_MS), w);
    w->capacity = 0;
    assert_string_equal(worker_state(w, 61000), "loading");
    pure_close(&p);
}

static void test_cut_off(void **state)
{
    struct pure    p;
    struct worker *w;
    struct hello   h = {.role = ROLE_WORKER, .name = str_of("again"), .capacity = 1};
    struct route   route = {.len = 2, .id = {9, 9}};

    (void)state;
    pure_open(&p);
    w = pure_worker(&p, 1, "turbo", NULL, 100000);
    worker_cut_off(w, 100000);
    assert_true(worker_suspect(w, 100000)); /* no new leases */
    assert_null(roster_lost(&p.roster, 100000 + CUT_OFF_MS - 1)); /* but those it has are its own for a moment */
    assert_ptr_equal(roster_lost(&p.roster, 100000 + CUT_OFF_MS), w);
    worker_cut_off(w, 100000 + CUT_OFF_MS - 1); /* said again: no longer */
    assert_ptr_equal(roster_lost(&p.roster, 100000 + CUT_OFF_MS), w);
    memcpy(h.instance, w->instance, KEY_BYTES);
    assert_ptr_equal(roster_hello(&p.roster, &h, NULL, &route, 101000), w);
    assert_false(worker_suspect(w, 101000 + WORKER_SUSPECT_MS - 1));
    pure_close(&p);
}

static void test_same_instance_is_same_worker(void **state)
{
    struct pure    p;
    struct worker *w;
    struct hello   h = {.role = ROLE_WORKER, .name = str_of("again"), .capacity = 3};
    struct route   route = {.len = 2, .id = {9, 9}};

    (void)state;
    pure_open(&p);
    w = pure_worker(&p, 1, "turbo", NULL, 0);
    memcpy(h.instance, w->instance, KEY_BYTES);
    assert_ptr_equal(roster_hello(&p.roster, &h, NULL, &route, 50), w);
    assert_int_equal(p.roster.n_workers, 1);
    assert_true(route_eq(&w->route, &route));
    assert_string_equal(w->name, "again");
    assert_int_equal(w->n_models, 0);
    h.instance[0] ^= 1;
    assert_ptr_not_equal(roster_hello(&p.roster, &h, NULL, &route, 50), w);
    pure_close(&p);
}

/* HELLO names a worker's devices, each BEAT that has them brings their load. */
static void test_ranks(void **state)
{
    char           name[16] = "cuda:0";
    struct rank    rank[2] = {{.device = str_of(name), .parts = RANK_TEXT}, {.device = str_of("cuda:1"), .parts = RANK_IMAGE | RANK_VAE}};
    struct hello   h = {.role = ROLE_WORKER, .name = str_of("group"), .capacity = 3, .rank = rank, .n_ranks = 2};
    struct route   route = {.len = 2, .id = {9, 9}};
    struct pure    p;
    struct worker *w;

    (void)state;
    pure_open(&p);
    w = roster_hello(&p.roster, &h, NULL, &route, 0);
    assert_int_equal(w->n_ranks, 2);
    assert_int_equal(worker_lanes(w), 1);
    rank[1].busy_permille = 700;
    worker_ranks(w, rank, 2);
    memset(name, 'x', sizeof name); /* what was said is kept, not where it stood */
    assert_true(str_is(w->rank[0].device, "cuda:0"));
    assert_int_equal(w->rank[1].busy_permille, 700);
    worker_ranks(w, rank, 0); /* a beat without any */
    assert_int_equal(w->n_ranks, 2);
    h.n_ranks = 0; /* started anew, as one device */
    roster_hello(&p.roster, &h, NULL, &route, 10);
    assert_int_equal(w->n_ranks, 0);
    assert_int_equal(worker_lanes(w), 1);
    rank[0].parts = RANK_IMAGE;
    worker_ranks(w, rank, 2);
    assert_int_equal(worker_lanes(w), 2);
    pure_close(&p);
}

static void test_one_name_is_one_content(void **state)
{
    struct pure       p;
    struct worker    *w;
    struct model_info m = {.name = str_of("turbo"), .digest = {1}};
    struct hello      h = {.role = ROLE_WORKER, .name = str_of("other"), .model = &m, .n_models = 1, .instance = {7, 7, 7}};
    struct str        model = {0};

    (void)state;
    pure_open(&p);
    w = pure_worker(&p, 1, "turbo", "base", 0);
    assert_ptr_equal(roster_clash(&p.roster, &h, &model), w);
    assert_true(str_is(model, "turbo"));
    m.digest[0] = 0;
    assert_null(roster_clash(&p.roster, &h, &model)); /* the same content */
    m.digest[0] = 1;
    m.name = str_of("mine");
    assert_null(roster_clash(&p.roster, &h, &model)); /* another name */
    m.name = str_of("turbo");
    memcpy(h.instance, w->instance, KEY_BYTES);
    assert_null(roster_clash(&p.roster, &h, &model)); /* the worker itself, with a new model */
    pure_close(&p);
}

static void test_leases(void **state)
{
    struct pure     p;
    struct worker  *w;
    struct job     *j;
    struct task    *t;
    struct grant   *g;
    struct progress at = {.stage = STAGE_DENOISE, .step = 1, .steps = 8};

    (void)state;
    pure_open(&p);
    w = pure_worker(&p, 2, "turbo", NULL, 0);
    j = pure_job(&p, 3, "", NULL);
    t = j->batch->task;
    queue_take(&p.queue, &t[0], 1, true);
    g = roster_grant(w, &t[0], 11, 100);
    task_move(&p.book, &t[0], TASK_RUNNING);
    assert_int_equal(w->n_held, 1);
    assert_true(worker_free(w, 100));
    assert_ptr_equal(worker_grant(w, task_id(&t[0]), 11), g);
    assert_null(worker_grant(w, task_id(&t[0]), 12));
    assert_int_equal(g->deadline_ms, 100 + LEASE_BUDGET_MS);
    assert_true(grant_progress(g, &at, 200));
    assert_int_equal(g->deadline_ms, 200 + LEASE_BUDGET_MS);
    assert_false(grant_progress(g, &at, 300)); /* alive, but it does not move */
    assert_int_equal(g->deadline_ms, 200 + LEASE_BUDGET_MS);
    assert_int_equal(g->reported_ms, 300);
    grant_revoke(g);
    task_move(&p.book, &t[0], TASK_CANCELED);
    assert_null(t[0].grant);
    assert_int_equal(w->n_held, 1); /* the slot is still full */
    grant_free(&p.roster, g);
    assert_int_equal(w->n_held, 0);

    queue_take(&p.queue, &t[1], 1, true);
    g = roster_orphan(&p.roster, &t[1], 5); /* after a restart */
    task_move(&p.book, &t[1], TASK_RUNNING);
    roster_adopt(&p.roster, g, w, 1000);
    assert_null(p.roster.orphans);
    assert_ptr_equal(worker_grant(w, task_id(&t[1]), 5)->task, &t[1]);
    assert_true(g->sent);
    pure_close(&p);
}

static void test_why(void **state)
{
    struct pure p;
    char        text[200];

    (void)state;
    pure_open(&p);
    roster_why(&p.roster, str_of("base"), 0, text, sizeof text);
    assert_string_equal(text, "no worker is connected");
    pure_worker(&p, 1, "turbo", "demo", 0);
    pure_worker(&p, 1, "turbo", NULL, 0);
    roster_why(&p.roster, str_of("base"), 0, text, sizeof text);
    assert_string_equal(text, "no worker has model 'base' (workers have: turbo demo)");
    roster_why(&p.roster, str_of("demo"), 0, text, sizeof text);
    assert_string_equal(text, "");
    roster_why(&p.roster, (struct str){0}, 0, text, sizeof text);
    assert_string_equal(text, "");
    roster_why(&p.roster, str_of("demo"), 10000, text, sizeof text);
    assert_string_equal(text, "every worker with model 'demo' is loading, draining, quarantined or silent: zfarm workers says which");
    for (size_t cap = 1; cap < 60; cap++) { /* cut, never overrun */
        memset(text, 'x', sizeof text);
        roster_why(&p.roster, str_of("base"), 0, text, cap);
        assert_true(strlen(text) < cap && text[cap] == 'x');
    }
    assert_true(str_is(roster_default(&p.roster), "turbo"));
    pure_close(&p);
}

static void test_mean_time(void **state)
{
    struct worker w = {0};

    (void)state;
    worker_took(&w, 800);
    assert_int_equal(w.ms_per_image, 800);
    for (int i = 0; i < 100; i++) worker_took(&w, 100);
    assert_in_range(w.ms_per_image, 100, 110);
    worker_took(&w, UINT32_MAX);
    assert_true(w.ms_per_image > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silence), cmocka_unit_test(test_cut_off), cmocka_unit_test(test_same_instance_is_same_worker), cmocka_unit_test(test_ranks), cmocka_unit_test(test_one_name_is_one_content), cmocka_unit_test(test_leases),
        cmocka_unit_test(test_why),     cmocka_unit_test(test_mean_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
