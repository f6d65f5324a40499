/* test_dispatch.c - who runs what: tables of workers and tasks. */
#include "tests/broker/pure.h"

static void test_models(void **state)
{
    struct pure    p;
    struct worker *turbo, *base;
    struct pair    pair;

    (void)state;
    pure_open(&p);
    pure_job(&p, 3, "none", "base", "turbo", NULL); /* nobody has the first lane's model: the others run all the same */
    assert_false(pure_next(&p, 0, &pair));
    turbo = pure_worker(&p, 10, "turbo", NULL, 0);
    base = pure_worker(&p, 10, "base", NULL, 0);
    for (int i = 0; i < 6; i++) {
        assert_true(pure_next(&p, 0, &pair));
        assert_ptr_equal(pair.worker, str_is(pair.task->lot->lane->model, "base") ? base : turbo);
    }
    assert_int_equal(turbo->n_held, 3);
    assert_int_equal(base->n_held, 3);
    assert_false(pure_next(&p, 0, &pair));
    pure_close(&p);
}

/* An empty model is the farm's default, and a job keeps to what it began with. */
static void test_default_is_pinned(void **state)
{
    struct pure    p;
    struct worker *first, *second;
    struct pair    pair;
    struct job    *j;

    (void)state;
    pure_open(&p);
    j = pure_job(&p, 3, "", NULL);
    first = pure_worker(&p, 1, "turbo", NULL, 0);
    second = pure_worker(&p, 5, "base", NULL, 0);
    assert_true(pure_next(&p, 0, &pair));
    assert_ptr_equal(pair.worker, first);
    assert_string_equal(j->model, "turbo");
    assert_false(pure_next(&p, 0, &pair)); /* base is free, but would be another picture */
    pure_end(&p, pair.task, TASK_DONE);
    roster_drop(&p.roster, first); /* now base is the farm's default: not for this job */
    assert_false(pure_next(&p, 0, &pair));
    pure_job(&p, 1, "", NULL);
    assert_true(pure_next(&p, 0, &pair));
    assert_ptr_equal(pair.worker, second);
    assert_ptr_not_equal(task_job(pair.task), j);
    pure_close(&p);
}

static void test_a_crash_goes_elsewhere(void **state)
{
    struct pure    p;
    struct worker *a, *b;
    struct pair    pair;
    struct task   *t;

    (void)state;
    pure_open(&p);
    a = pure_worker(&p, 1, "turbo", NULL, 0);
    pure_job(&p, 2, "turbo", NULL);
    assert_true(pure_next(&p, 0, &pair));
    t = pair.task;
    t->avoid = a->id;
    pure_end(&p, t, TASK_QUEUED);
    queue_push_front(&p.queue, t);
    assert_true(pure_next(&p, 0, &pair)); /* there is no other worker: the same again */
    assert_ptr_equal(pair.task, t);
    pure_end(&p, t, TASK_QUEUED);
    queue_push_front(&p.queue, t);
    b = pure_worker(&p, 1, "turbo", NULL, 0);
    b->capacity = 0; /* loading: no other */
    assert_true(pure_next(&p, 0, &pair));
    assert_ptr_equal(pair.task, t);
    pure_end(&p, t, TASK_QUEUED);
    queue_push_front(&p.queue, t);
    b->capacity = 1;
    assert_true(pure_next(&p, 0, &pair));
    assert_ptr_equal(pair.worker, b);
    assert_ptr_equal(pair.task, t);
    assert_true(pure_next(&p, 0, &pair)); /* a takes the innocent one */
    assert_ptr_equal(pair.worker, a);

    pure_end(&p, t, TASK_QUEUED); /* b is free; busy it with something, then t waits for it though a is free */
    t->avoid = b->id;
    queue_push_front(&p.queue, t);
    assert_false(pure_next(&p, 0, &pair)); /* b is free, but a is there: wait for a */
    pure_end(&p, a->grant->task, TASK_DONE);
    assert_true(pure_next(&p, 0, &pair));
    assert_ptr_equal(pair.worker, a);
    pure_close(&p);
}

/* One that waits for another worker does not hold up the tasks behind it. */
static void test_no_head_of_line(void **state)
{
    struct pure    p;
    struct worker *a, *b;
    struct pair    pair;
    struct task   *t;

    (void)state;
    pure_open(&p);
    a = pure_worker(&p, 1, "turbo", NULL, 0);
    b = pure_worker(&p, 1, "turbo", NULL, 0);
    pure_job(&p, 4, "turbo", NULL);
    assert_true(pure_next(&p, 0, &pair));
    t = pair.task;
    assert_true(pure_next(&p, 0, &pair));
    assert_ptr_equal(pair.worker, b);
    t->avoid = a->id;
    pure_end(&p, t, TASK_QUEUED);
    queue_push_front(&p.queue, t);
    assert_true(pure_next(&p, 0, &pair)); /* a is free, t wants b: the next in the lane goes to a */
    assert_ptr_not_equal(pair.task, t);
    assert_ptr_equal(pair.worker, a);
    pure_close(&p);
}

static void test_least_loaded_then_fastest(void **state)
{
    struct pure    p;
    struct worker *slow, *fast, *suspect;
    struct pair    pair;

    (void)state;
    pure_open(&p);
    suspect = pure_worker(&p, 9, "turbo", NULL, 0);
    slow = pure_worker(&p, 2, "turbo", NULL, WORKER_SUSPECT_MS);
    fast = pure_worker(&p, 2, "turbo", NULL, WORKER_SUSPECT_MS);
    slow->ms_per_image = 900;
    fast->ms_per_image = 300;
    pure_job(&p, 9, "turbo", NULL);
    for (int i = 0; i < 4; i++) {
        assert_true(pure_next(&p, WORKER_SUSPECT_MS, &pair));
        assert_ptr_equal(pair.worker, i % 2 ? slow : fast);
    }
    assert_false(pure_next(&p, WORKER_SUSPECT_MS, &pair)); /* never more than the capacity; none to the silent one */
    assert_int_equal(suspect->n_held, 0);
    pure_close(&p);
}

/* ---- batches ---- */
/* The head is chosen by shares; those of its shape ride along, whoever's, up to what the worker makes at once; others do not. */
static void test_batch(void **state)
{
    struct pure    p;
    struct worker *w;
    struct pair    pair;
    struct spec    small = pure_spec(256, "a cat"), big = pure_spec(512, "a cat"), other = pure_spec(256, "a dog");
    struct job    *a, *b, *c;

    (void)state;
    pure_open(&p);
    w = pure_worker(&p, 8, "turbo", NULL, 0);
    w->max_batch = 4;
    a = pure_of(&p, 1, "a", CLASS_NORMAL, &small, 0);
    b = pure_of(&p, 3, "b", CLASS_NORMAL, &big, 0);
    c = pure_of(&p, 9, "c", CLASS_BULK, &other, 0);
    assert_true(pure_next(&p, 0, &pair)); /* a's one, and c's of the same shape: bulk rides with normal, and pays */
    assert_ptr_equal(task_job(pair.task), a);
    assert_int_equal(pair.n_also, 3);
    for (int i = 0; i < 3; i++) assert_ptr_equal(task_job(pair.also[i]), c);
    assert_int_equal(pair.also[0]->charged_ms, rates_charge_ms(&p.rates, pair.model, pair.also[0]->lot->cost));
    assert_int_equal(c->share->used_ms, 3 * pair.also[0]->charged_ms);
    assert_true(pure_next(&p, 0, &pair)); /* four places are left: b's three, which nobody joins */
    assert_ptr_equal(task_job(pair.task), b);
    assert_int_equal(pair.n_also, 2);
    assert_false(pure_next(&p, 0, &pair)); /* one place is free, but it is busy: it waits until four are */
    assert_int_equal(w->n_held, 7);
    pure_end(&p, w->grant->task, TASK_DONE);
    assert_false(pure_next(&p, 0, &pair));
    for (int i = 0; i < 2; i++) pure_end(&p, w->grant->task, TASK_DONE);
    assert_true(pure_next(&p, 0, &pair));
    assert_int_equal(pair.n_also, 3);
    while (w->grant) pure_end(&p, w->grant->task, TASK_DONE);
    assert_true(pure_next(&p, 0, &pair)); /* two are left, the worker idles: nobody waits for more */
    assert_int_equal(pair.n_also, 1);
    pure_close(&p);
}

/* What crashed, or failed in a batch, is made alone, and does not ride with others. */
static void test_solo(void **state)
{
    struct pure  p;
    struct pair  pair;
    struct spec  s = pure_spec(256, "a cat");
    struct job  *j;

    (void)state;
    pure_open(&p);
    pure_worker(&p, 16, "turbo", NULL, 0)->max_batch = 8;
    j = pure_of(&p, 6, "a", CLASS_NORMAL, &s, 0);
    j->batch->task[0].solo = true;
    j->batch->task[3].crashes = 1;
    assert_true(pure_next(&p, 0, &pair));
    assert_int_equal(pair.task->index, 0);
    assert_int_equal(pair.n_also, 0);
    assert_true(pure_next(&p, 0, &pair));
    assert_int_equal(pair.task->index, 1);
    assert_int_equal(pair.n_also, 3); /* 2, 4, 5 */
    assert_true(pure_next(&p, 0, &pair));
    assert_int_equal(pair.task->index, 3);
    assert_int_equal(pair.n_also, 0);
    pure_close(&p);
}

/* ---- affinity ---- */
/* Ten prompts with four seeds each, on four workers: each prompt is encoded about once, and the first one is not starved. */
static void test_prompts(void **state)
{
    struct pure    p;
    struct worker *w[4];
    struct pair    pair;
    char           text[10][20];
    struct job    *j[10];
    int            n_encoded = 0, first_done = 0;

    (void)state;
    pure_open(&p);
    for (int i = 0; i < 4; i++) w[i] = pure_worker(&p, 1, "turbo", NULL, 0);
    for (int i = 0; i < 10; i++) snprintf(text[i], sizeof text[i], "prompt %d", i);
    { /* one job of ten items */
        uint8_t       key[KEY_BYTES] = {99}, sha[32] = {0};
        struct batch *c, *same;

        j[0] = book_job(&p.book, key, str_of("j"), 40, 0);
        c = job_batch(j[0], 0, 40, sha, &same);
        for (int i = 0; i < 10; i++) {
            struct item it = {.n_images = 4, .spec = pure_spec(256, text[i])};

            batch_lot(c, &it, str_of("b"));
        }
        batch_seal(&p.book, c);
        for (int i = 0; i < 40; i++) queue_push(&p.queue, &c->task[i]);
    }
    for (int done = 0; done < 40;) {
        while (pure_next(&p, 0, &pair)) {
            n_encoded += !worker_knows(pair.worker, pair.task->lot->prompt);
            worker_prompt(pair.worker, pair.task->lot->prompt);
        }
        for (int i = 0; i < 4; i++)
            if (w[i]->grant) {
                struct task *t = w[i]->grant->task;

                done++;
                if (t->index == 0) first_done = done;
                pure_end(&p, t, TASK_DONE);
            }
    }
    assert_in_range(n_encoded, 10, 16); /* without it: up to 40 */
    assert_true(first_done <= 12);
    pure_close(&p);
}

/* ---- memory ---- */
static void test_out_of_memory(void **state)
{
    struct pure    p;
    struct worker *small, *large;
    struct pair    pair;
    struct spec    big = pure_spec(1024, ""), tiny = pure_spec(256, "");
    const int64_t  px = 1024 * 1024;

    (void)state;
    pure_open(&p);
    small = pure_worker(&p, 1, "turbo", NULL, 0);
    large = pure_worker(&p, 1, "turbo", NULL, 0);
    worker_deny(small, px, 0);
    pure_of(&p, 3, "a", CLASS_NORMAL, &big, 0);
    pure_of(&p, 1, "b", CLASS_NORMAL, &tiny, 0);
    assert_true(pure_next(&p, 0, &pair));
    assert_ptr_equal(pair.worker, large);
    assert_true(pure_next(&p, 0, &pair)); /* the small one still makes small ones, past the others that wait */
    assert_ptr_equal(pair.worker, small);
    assert_int_equal(pair.task->lot->width_px, 256);
    pure_end(&p, pair.task, TASK_DONE);
    assert_false(pure_next(&p, 0, &pair));
    assert_false(dispatch_denied(&p.roster, str_of("turbo"), px, 0));
    worker_deny(large, px, 0);
    assert_true(dispatch_denied(&p.roster, str_of("turbo"), px, 0));
    assert_false(dispatch_denied(&p.roster, str_of("turbo"), px - 1, 0));
    assert_false(dispatch_denied(&p.roster, str_of("base"), px, 0)); /* nobody is there to say so */
    assert_false(worker_denies(small, px, DENIED_MS));
    small->seen_ms = DENIED_MS;
    assert_true(pure_next(&p, DENIED_MS, &pair)); /* ten minutes later it may try again */
    assert_ptr_equal(pair.worker, small);
    pure_close(&p);
}

/* ---- a second lease ---- */
static void test_hedge(void **state)
{
    struct pure    p;
    struct worker *slow, *fast;
    struct pair    pair, h;
    struct task   *t;
    struct grant  *g;
    struct spec    s = pure_spec(256, "");
    uint32_t       cost;

    (void)state;
    pure_open(&p);
    slow = pure_worker(&p, 2, "turbo", NULL, 0);
    snprintf(slow->about, sizeof slow->about, "slow");
    pure_of(&p, 2, "a", CLASS_NORMAL, &s, 0);
    assert_true(pure_next(&p, 0, &pair));
    t = pair.task;
    cost = t->lot->cost;
    assert_true(pure_next(&p, 0, &pair));
    pure_begin(&p, t);
    assert_false(dispatch_hedge(&p.roster, &p.rates, 100, &h)); /* nobody idles */
    fast = pure_worker(&p, 1, "turbo", NULL, 0);
    snprintf(fast->about, sizeof fast->about, "fast");
    slow->n_ranks = 2; /* two transformers: it is about to begin there */
    slow->rank[0].parts = slow->rank[1].parts = RANK_IMAGE;
    assert_false(dispatch_hedge(&p.roster, &p.rates, 100, &h));
    slow->n_ranks = 1;
    assert_true(dispatch_hedge(&p.roster, &p.rates, 100, &h)); /* what has not even begun there */
    assert_ptr_equal(h.task, pair.task);
    assert_ptr_equal(h.worker, fast);
    g = roster_grant(fast, h.task, 77, 100);
    assert_ptr_equal(h.task->hedge, g);
    assert_ptr_equal(h.task->grant->worker, slow);
    assert_false(dispatch_hedge(&p.roster, &p.rates, 100, &h)); /* it is busy now */
    grant_free(&p.roster, h.task->grant); /* the slow one gives it back: the other is its lease now */
    assert_ptr_equal(h.task->grant, g);
    assert_null(h.task->hedge);
    pure_end(&p, h.task, TASK_DONE);
    assert_int_equal(fast->n_held, 0);

    assert_false(dispatch_hedge(&p.roster, &p.rates, 100, &h)); /* the first one runs, and nobody knows how fast */
    rates_learn(&p.rates, worker_kind(slow), str_of("turbo"), cost, 10000);
    rates_learn(&p.rates, worker_kind(fast), str_of("turbo"), cost, 1000);
    t->grant->usual_ms = 10000;
    assert_true(dispatch_hedge(&p.roster, &p.rates, 1000, &h)); /* 9 s left there, 1 s here */
    assert_ptr_equal(h.task, t);
    fast->seen_ms = slow->seen_ms = 8500;
    assert_false(dispatch_hedge(&p.roster, &p.rates, 8500, &h)); /* 1.5 s left: not worth it */
    t->grant->stage = STAGE_DENOISE;
    t->grant->step = 1;
    t->grant->steps = 8;
    assert_true(dispatch_hedge(&p.roster, &p.rates, 8500, &h)); /* but its steps say a minute */
    t->grant->stage = STAGE_UPLOAD;
    assert_false(dispatch_hedge(&p.roster, &p.rates, 8500, &h));
    t->grant->stage = STAGE_DENOISE;
    t->crashes = 1;
    assert_false(dispatch_hedge(&p.roster, &p.rates, 8500, &h)); /* nobody else is put at risk */
    pure_close(&p);
}

/* Of equal idle workers one is asked for all, unless there is a lease that it alone may not have; another kind is asked for itself. */
static void test_hedge_for_equals(void **state)
{
    struct pure    p;
    struct worker *slow, *idle[3];
    struct pair    pair, h;
    struct spec    s = pure_spec(256, "");
    struct task   *t;

    (void)state;
    pure_open(&p);
    slow = pure_worker(&p, 1, "turbo", NULL, 0);
    snprintf(slow->about, sizeof slow->about, "slow");
    pure_of(&p, 1, "a", CLASS_NORMAL, &s, 0);
    assert_true(pure_next(&p, 0, &pair));
    t = pair.task;
    pure_begin(&p, t);
    t->grant->usual_ms = 10000;
    for (int i = 0; i < 3; i++) idle[i] = pure_worker(&p, 1, i < 2 ? "turbo" : "base", i < 2 ? NULL : "turbo", 0);
    for (int i = 0; i < 3; i++) snprintf(idle[i]->about, sizeof idle[i]->about, "fast");
    rates_learn(&p.rates, str_of("slow"), str_of("turbo"), t->lot->cost, 10000);
    rates_learn(&p.rates, str_of("fast"), str_of("turbo"), t->lot->cost, 9000);
    assert_false(dispatch_hedge(&p.roster, &p.rates, 100, &h));
    rates_learn(&p.rates, str_of("faster"), str_of("turbo"), t->lot->cost, 1000);
    snprintf(idle[1]->about, sizeof idle[1]->about, "faster");
    assert_true(dispatch_hedge(&p.roster, &p.rates, 100, &h));
    assert_ptr_equal(h.worker, idle[1]); /* of another kind */
    for (int i = 0; i < 3; i++) snprintf(idle[i]->about, sizeof idle[i]->about, "faster");
    assert_true(dispatch_hedge(&p.roster, &p.rates, 100, &h));
    assert_ptr_equal(h.worker, idle[0]);
    t->avoid = idle[0]->id;
    assert_true(dispatch_hedge(&p.roster, &p.rates, 100, &h));
    assert_ptr_equal(h.worker, idle[1]); /* its equal crashed under it, it did not */
    worker_deny(idle[1], 1, 100);
    assert_true(dispatch_hedge(&p.roster, &p.rates, 100, &h));
    assert_ptr_equal(h.worker, idle[2]);
    idle[0]->n_models = 0;
    t->avoid = 0;
    assert_true(dispatch_hedge(&p.roster, &p.rates, 100, &h)); /* other models: not alike */
    assert_ptr_equal(h.worker, idle[2]);
    idle[0]->n_models = 1;
    pure_close(&p);
}

/* A hedge whose worker leaves is no more; the lease goes on. */
static void test_hedge_ends(void **state)
{
    struct pure  p;
    struct pair  pair;
    struct spec  s = pure_spec(256, "");
    struct grant *first, *second;

    (void)state;
    pure_open(&p);
    pure_worker(&p, 1, "turbo", NULL, 0);
    pure_of(&p, 1, "a", CLASS_NORMAL, &s, 0);
    assert_true(pure_next(&p, 0, &pair));
    first = pair.task->grant;
    second = roster_grant(pure_worker(&p, 1, "turbo", NULL, 0), pair.task, 9, 0);
    grant_revoke(second);
    assert_ptr_equal(pair.task->grant, first);
    assert_null(pair.task->hedge);
    assert_int_equal(second->worker->n_held, 1); /* until it says so */
    grant_free(&p.roster, second);
    second = roster_grant(p.roster.worker->next, pair.task, 10, 0);
    grant_revoke(first);
    assert_ptr_equal(pair.task->grant, second);
    pure_close(&p);
}

/* ---- called back ---- */
static void test_recall(void **state)
{
    struct pure   p;
    struct pair   pair;
    struct spec   s = pure_spec(256, "");
    struct grant *g;
    struct job   *bulk, *urgent;

    (void)state;
    pure_open(&p);
    pure_worker(&p, 2, "turbo", NULL, 0);
    bulk = pure_of(&p, 9, "a", CLASS_BULK, &s, 0);
    while (pure_next(&p, 0, &pair)) continue;
    pure_begin(&p, &bulk->batch->task[0]);
    bulk->batch->task[0].grant->stage = STAGE_DENOISE;
    assert_null(dispatch_recall(&p.queue, &p.roster, 10)); /* nobody urgent waits */
    urgent = pure_of(&p, 2, "b", CLASS_INTERACTIVE, &s, 0);
    g = dispatch_recall(&p.queue, &p.roster, 10);
    assert_ptr_equal(g, bulk->batch->task[1].grant);
    assert_null(dispatch_recall(&p.queue, &p.roster, 10)); /* one is on its way for the one who waits */
    pure_end(&p, &bulk->batch->task[1], TASK_QUEUED);      /* RELEASE */
    queue_push_front(&p.queue, &bulk->batch->task[1]);
    assert_true(pure_next(&p, 20, &pair));
    assert_ptr_equal(task_job(pair.task), urgent);
    assert_null(dispatch_recall(&p.queue, &p.roster, 30)); /* its client has something running: from here on shares decide */
    pure_end(&p, pair.task, TASK_DONE);
    assert_true(pure_next(&p, 40, &pair));
    pure_end(&p, pair.task, TASK_DONE);
    assert_true(pure_next(&p, 50, &pair));
    assert_ptr_equal(pair.task, &bulk->batch->task[1]);
    pure_of(&p, 1, "c", CLASS_INTERACTIVE, &s, 0);
    assert_null(dispatch_recall(&p.queue, &p.roster, 60)); /* a task is called back once: bulk goes on, too */
    pure_close(&p);
}

/* In one class: a newcomer gets his part of what has not begun, and not more; between equals nothing moves. */
static void test_recall_for_an_equal(void **state)
{
    struct pure   p;
    struct pair   pair;
    struct spec   s = pure_spec(256, "");
    struct grant *g;
    int           n = 0;

    (void)state;
    pure_open(&p);
    for (int i = 0; i < 4; i++) pure_worker(&p, 2, "turbo", NULL, 0);
    pure_of(&p, 50, "a", CLASS_NORMAL, &s, 0);
    while (pure_next(&p, 0, &pair))
        if (pair.worker->n_held == 1) pure_begin(&p, pair.task);
    pure_of(&p, 10, "b", CLASS_NORMAL, &s, 0);
    for (int ended = 0; ended < 4; ended++) { /* with each that ends: a's turn, and b's by recall */
        while ((g = dispatch_recall(&p.queue, &p.roster, 10))) {
            struct task *t = g->task;

            assert_true(g->begun_ms == 0 && !strcmp(task_job(t)->share->key.client, "a"));
            pure_end(&p, t, TASK_QUEUED);
            queue_push_front(&p.queue, t);
            assert_true(pure_next(&p, 10, &pair));
            assert_string_equal(task_job(pair.task)->share->key.client, "b");
            n++;
        }
        pure_end(&p, p.roster.worker->grant->task, TASK_DONE);
        assert_true(pure_next(&p, 10, &pair));
        pure_begin(&p, p.roster.worker->grant->task); /* what waited there */
    }
    assert_in_range(n, 2, 4);
    assert_in_range(task_job(&p.book.by_id->batch->task[0])->n[TASK_RUNNING], 4, 6); /* of eight */
    pure_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),          cmocka_unit_test(test_default_is_pinned),         cmocka_unit_test(test_a_crash_goes_elsewhere),
        cmocka_unit_test(test_no_head_of_line), cmocka_unit_test(test_least_loaded_then_fastest),
        cmocka_unit_test(test_batch),           cmocka_unit_test(test_solo),                      cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_out_of_memory),   cmocka_unit_test(test_hedge),                     cmocka_unit_test(test_hedge_ends),
        cmocka_unit_test(test_hedge_for_equals), cmocka_unit_test(test_recall),         cmocka_unit_test(test_recall_for_an_equal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
