/* test_delivery.c - how a lease ends, on a real broker process: crashes, memory, NaN, blame, quarantine; second leases and called back ones;
 * cancels confirmed, deadlines, pauses, quotas. Workers are scripts (actors.h). */
#include "tests/broker/actors.h"

struct cast { /* a farm, a client and two workers */
    struct farm  f;
    struct actor c, a, b;
};

static int open_cast(void **state)
{
    struct cast *t = calloc(1, sizeof *t);

    farm_open(&t->f);
    farm_start(&t->f);
    actor_open(&t->c, t->f.endpoint, ROLE_CLIENT);
    actor_hello(&t->c, NULL, 0);
    actor_open(&t->a, t->f.endpoint, ROLE_WORKER);
    actor_open(&t->b, t->f.endpoint, ROLE_WORKER);
    t->a.name = "A";
    t->b.name = "B";
    *state = t;
    return 0;
}

static int close_cast(void **state)
{
    struct cast *t = *state;

    actor_close(&t->c);
    actor_close(&t->a);
    actor_close(&t->b);
    farm_close(&t->f);
    free(t);
    return 0;
}

static uint64_t submit(struct actor *c, const char *name, uint32_t n)
{
    return actor_submit(c, name, 1, n, "", MSG_SUBMIT_OK).submit_ok.job;
}

static uint64_t submit_class(struct actor *c, const char *key, uint32_t n, int32_t px, enum job_class class, uint64_t deadline_ms)
{
    struct item it = {.n_images = n};
    struct msg  m = {.kind = MSG_SUBMIT, .submit = {.name = str_of(key), .n_tasks = n, .item = &it, .n_items = 1, .job_class = class, .deadline_ms = deadline_ms}};

    memcpy(m.submit.key, key, strlen(key));
    spec_init(&it.spec);
    it.spec.prompt = str_of("a cat");
    it.spec.width_px = it.spec.height_px = px;
    return actor_ask(c, &m, MSG_SUBMIT_OK).submit_ok.job;
}

static struct lease take(struct actor *w)
{
    return actor_take(w, MSG_LEASE).lease;
}

static void gave_up(struct actor *w, const struct lease *l, enum fail_class why, const char *words)
{
    actor_ask(w, &(struct msg){.kind = MSG_FAILED, .failed = {.task = l->task, .epoch = l->epoch, .why = why, .text = str_of(words)}}, MSG_FAILED_OK);
}

static void nothing_for(struct actor *w)
{
    struct msg m;

    for (int i = 0; i < 3; i++) actor_read(w, 100);
    assert_false(actor_find(w, MSG_LEASE, 0, &m));
}

static bool find_worker(struct cast *t, const char *name, struct worker_info *out)
{
    struct msg m = actor_ask(&t->c, &(struct msg){.kind = MSG_WORKERS}, MSG_WORKERS_OK);

    for (size_t i = 0; i < m.workers_ok.n_workers; i++) {
        *out = m.workers_ok.worker[i];
        if (str_eq(out->name, str_of(name))) return true;
    }
    return false;
}

static struct worker_info worker(struct cast *t, const char *name)
{
    struct worker_info w;

    if (!find_worker(t, name, &w)) fail_msg("worker %s is not there", name);
    return w;
}

/* The broker has heard its BYE. */
static void is_gone(struct cast *t, const char *name)
{
    struct worker_info w;

    for (int64_t until = now_ms() + ACTOR_WAIT_MS; find_worker(t, name, &w); sleep_ms(5)) assert_true(now_ms() < until);
}

static struct task_info image_of(struct cast *t, uint64_t job, uint32_t index)
{
    return show(&t->c, job).show_ok.task[index].info;
}

static struct job_info job_of(struct cast *t, uint64_t job)
{
    return actor_ask(&t->c, &(struct msg){.kind = MSG_JOBS, .jobs = {.job = job, .limit = 1}}, MSG_JOBS_OK).jobs_ok.job[0];
}

/* Each image that crashes A is made alone on B; the third one that B made quarantines A, and everybody can see why. */
static void test_blame(void **state)
{
    struct cast *t = *state;
    struct lease l;
    uint64_t     job;

    actor_hello(&t->a, NULL, 0);
    for (int i = 0; i < 3; i++) {
        char name[8];

        snprintf(name, sizeof name, "job %d", i);
        if (i) nothing_for(&t->a);
        if (i) actor_ask(&t->b, &(struct msg){.kind = MSG_BEAT, .beat = {.seq = 1}}, MSG_BEAT_OK);
        if (i) actor_send(&t->b, &(struct msg){.kind = MSG_READY, .ready = {0}}); /* so that A gets it first */
        if (i) actor_ask(&t->b, &(struct msg){.kind = MSG_BEAT, .beat = {.seq = 2}}, MSG_BEAT_OK);
        job = submit(&t->c, name, 1);
        l = take(&t->a);
        if (i == 0)
            actor_hello(&t->b, NULL, 0);
        else
            actor_send(&t->b, &(struct msg){.kind = MSG_READY, .ready = {1}});
        actor_ask(&t->b, &(struct msg){.kind = MSG_BEAT, .beat = {.seq = 3}}, MSG_BEAT_OK); /* B is there when A crashes */
        gave_up(&t->a, &l, FAIL_CRASHED, "signal 11");
        l = take(&t->b);
        assert_int_equal(l.job, job);
        nothing_for(&t->a);
        actor_deliver(&t->b, &l, small());
        assert_int_equal(image_of(t, job, 0).state, TASK_DONE);
    }
    assert_true(str_is(worker(t, "A").state, "quarantined"));
    assert_non_null(strstr(worker(t, "A").why.at, "3 images that crashed it were made elsewhere: gets nothing for 1"));
    assert_true(str_is(worker(t, "B").state, "ready"));
    actor_send(&t->b, &(struct msg){.kind = MSG_BYE});
    is_gone(t, "B");
    job = submit(&t->c, "waits", 1);
    nothing_for(&t->a);
    assert_non_null(strstr(job_of(t, job).why.at, "quarantined"));
}

/* Who gets the next one. */
static struct actor *take_either(struct cast *t, struct lease *l)
{
    struct msg    m;
    struct actor *w = NULL;

    for (int64_t until = now_ms() + ACTOR_WAIT_MS; !w && now_ms() < until;) {
        actor_read(&t->a, 20);
        actor_read(&t->b, 20);
        w = actor_find(&t->a, MSG_LEASE, 0, &m) ? &t->a : actor_find(&t->b, MSG_LEASE, 0, &m) ? &t->b : NULL;
    }
    assert_non_null(w);
    *l = m.lease;
    return w;
}

/* Three crashes end it, on two workers; the last words stay. */
static void test_poison(void **state)
{
    struct cast *t = *state;
    struct lease l;
    uint64_t     job;

    actor_hello(&t->a, NULL, 0);
    actor_hello(&t->b, NULL, 0);
    job = submit(&t->c, "poison", 1);
    actor_read(&t->a, 200);
    actor_read(&t->b, 200);
    for (int i = 0; i < 3; i++) {
        struct actor *w = take_either(t, &l);

        gave_up(w, &l, i % 2 ? FAIL_STUCK : FAIL_CRASHED, "boom");
    }
    assert_int_equal(image_of(t, job, 0).state, TASK_FAILED);
    assert_true(str_is(image_of(t, job, 0).error, "boom"));
    assert_int_equal(image_of(t, job, 0).attempts, 3);
}

/* Image after image that ends engines on both: nobody is quarantined for it. */
static void test_poison_again(void **state)
{
    struct cast *t = *state;
    uint32_t     starts[2] = {0};
    char         name[16];

    actor_hello(&t->a, NULL, 0);
    actor_hello(&t->b, NULL, 0);
    for (int k = 0; k < 6; k++) {
        uint64_t job;

        snprintf(name, sizeof name, "poison %d", k);
        job = submit(&t->c, name, 1);
        for (int i = 0; i < 3; i++) {
            struct lease  l;
            struct actor *w = take_either(t, &l);

            gave_up(w, &l, FAIL_CRASHED, "boom");
            actor_ask(w, &(struct msg){.kind = MSG_BEAT, .beat = {.seq = 1, .engine_restarts = ++starts[w == &t->b]}}, MSG_BEAT_OK);
        }
        assert_int_equal(image_of(t, job, 0).state, TASK_FAILED);
    }
    assert_true(str_is(worker(t, "A").state, "ready"));
    assert_true(str_is(worker(t, "B").state, "ready"));
}

/* On one worker alone nobody can tell whose fault it is, also when the broker forgot its first crash: its three starts count. */
static void poison_alone(struct cast *t, bool restart)
{
    uint64_t job;

    actor_hello(&t->a, NULL, 0);
    job = submit(&t->c, "poison", 1);
    for (uint32_t i = 0; i < 3; i++) {
        struct lease l = take(&t->a);

        actor_ask(&t->a, &(struct msg){.kind = MSG_BEAT, .beat = {.seq = 1, .engine_restarts = i}}, MSG_BEAT_OK);
        gave_up(&t->a, &l, FAIL_CRASHED, "boom");
        if (i || !restart) continue;
        farm_kill(&t->f);
        farm_start(&t->f);
        actor_again(&t->a, t->f.endpoint);
        actor_again(&t->c, t->f.endpoint);
        actor_hello(&t->a, NULL, 0);
        actor_hello(&t->c, NULL, 0);
    }
    for (uint32_t n = 3; n < 5; n++) actor_ask(&t->a, &(struct msg){.kind = MSG_BEAT, .beat = {.seq = n, .engine_restarts = n}}, MSG_BEAT_OK);
    assert_int_equal(image_of(t, job, 0).state, TASK_FAILED);
    assert_true(str_is(worker(t, "A").state, "quarantined"));
}

static void test_poison_alone(void **state)
{
    poison_alone(*state, false);
}

static void test_poison_alone_restarted(void **state)
{
    poison_alone(*state, true);
}

/* Out of memory goes to another worker at once; A makes smaller ones meanwhile; when nobody has the memory, it has failed. */
static void test_memory(void **state)
{
    struct cast *t = *state;
    struct lease l;
    uint64_t     large, little;

    actor_hello(&t->a, NULL, 0);
    large = submit_class(&t->c, "big", 1, 1024, CLASS_NORMAL, 0);
    l = take(&t->a);
    actor_hello(&t->b, NULL, 0);
    gave_up(&t->a, &l, FAIL_OOM, "needed 90 GiB, have 80");
    l = take(&t->b);
    assert_int_equal(l.job, large);
    little = submit_class(&t->c, "little", 1, 512, CLASS_NORMAL, 0);
    gave_up(&t->b, &l, FAIL_OOM, "needed 90 GiB, have 24");
    assert_int_equal(image_of(t, large, 0).state, TASK_FAILED);
    assert_non_null(strstr(image_of(t, large, 0).error.at, "24"));
    l = take(&t->a);
    assert_int_equal(l.job, little);
    actor_deliver(&t->a, &l, small());
    large = submit_class(&t->c, "big2", 1, 1024, CLASS_NORMAL, 0);
    nothing_for(&t->a);
    assert_non_null(strstr(job_of(t, large).why.at, "every worker ran out of memory for 1024x1024"));
    assert_non_null(strstr(worker(t, "A").why.at, "out of memory"));
}

/* NaN: once more elsewhere, then it has failed. */
static void test_nan(void **state)
{
    struct cast *t = *state;
    struct lease l;
    uint64_t     job;

    actor_hello(&t->a, NULL, 0);
    job = submit(&t->c, "nan", 1);
    l = take(&t->a);
    actor_hello(&t->b, NULL, 0);
    gave_up(&t->a, &l, FAIL_NAN, "not finite");
    l = take(&t->b);
    gave_up(&t->b, &l, FAIL_NAN, "not finite");
    assert_int_equal(image_of(t, job, 0).state, TASK_FAILED);
    assert_int_equal(image_of(t, job, 0).attempts, 2);
}

/* Three starts of its engine: quarantined, also on a new connection and as a new process of that name, until somebody says that it is well. */
static void test_recycles(void **state)
{
    struct cast *t = *state;
    struct msg   m, well = {.kind = MSG_CONTROL, .control = {.verb = CONTROL_UNDRAIN, .worker = str_of("A")}};

    actor_hello(&t->a, NULL, 0);
    for (uint32_t n = 5; n <= 8; n++) /* five before this broker knew it: not its business */
        actor_ask(&t->a, &(struct msg){.kind = MSG_BEAT, .beat = {.seq = n, .engine_restarts = n}}, MSG_BEAT_OK);
    assert_true(str_is(worker(t, "A").state, "quarantined"));
    assert_non_null(strstr(worker(t, "A").why.at, "3 times within 10 minutes"));
    assert_non_null(strstr(worker(t, "A").why.at, "until zfarm drain --undo"));
    actor_send(&t->a, &(struct msg){.kind = MSG_BYE});
    is_gone(t, "A");
    actor_again(&t->a, t->f.endpoint);
    random_bytes(t->a.instance, sizeof t->a.instance);
    actor_hello(&t->a, NULL, 0);
    assert_true(str_is(worker(t, "A").state, "quarantined"));
    submit(&t->c, "x", 1);
    nothing_for(&t->a);
    m = actor_ask(&t->c, &well, MSG_CONTROL_OK);
    assert_true(m.control_ok.n == 1 && m.control_ok.quarantine_over);
    take(&t->a);
    assert_true(str_is(worker(t, "A").state, "busy"));
    m = actor_ask(&t->c, &well, MSG_CONTROL_OK);
    assert_false(m.control_ok.n || m.control_ok.quarantine_over);
    for (uint32_t n = 9; n <= 12; n++) { /* of a new process: the first is not this broker's business, two are no quarantine, three are */
        actor_ask(&t->a, &(struct msg){.kind = MSG_BEAT, .beat = {.seq = n, .engine_restarts = n}}, MSG_BEAT_OK);
        assert_int_equal(str_is(worker(t, "A").state, "quarantined"), n == 12);
    }
}

/* ---- second leases ---- */
/* B idles while A holds two: B gets the one that waits there; its result ends A's lease, which costs A nothing. */
static void test_hedge(void **state)
{
    struct cast *t = *state;
    struct lease run, wait, second;
    struct msg   m;
    uint64_t     job;

    t->a.capacity = 2;
    actor_hello(&t->a, NULL, 0);
    job = submit(&t->c, "slow", 2);
    run = take(&t->a);
    wait = take(&t->a);
    actor_beat(&t->a, (struct lease[]){run}, 1, STAGE_DENOISE, 1);
    actor_hello(&t->b, NULL, 0);
    second = take(&t->b);
    assert_int_equal(second.task, wait.task);
    assert_true(second.epoch != wait.epoch && second.epoch != run.epoch);
    assert_int_equal(image_of(t, job, second.index).attempts, 1);
    actor_deliver(&t->b, &second, small());
    m = actor_take(&t->a, MSG_BEAT_OK); /* stop */
    assert_int_equal(m.beat_ok.n_cancel, 1);
    assert_int_equal(m.beat_ok.cancel[0].epoch, wait.epoch);
    gave_up(&t->a, &wait, FAIL_CANCELED, "stopped");
    actor_deliver(&t->a, &run, small());
    assert_int_equal(job_of(t, job).n_done, 2);
    assert_int_equal(image_of(t, job, second.index).attempts, 1);
    assert_int_equal(worker(t, "A").n_failed, 0);
    m = actor_ask(&t->a, &(struct msg){.kind = MSG_OFFER, .offer = offer_of(&wait, small(), (struct str){0})}, MSG_OFFER_OK);
    assert_int_equal(m.offer_ok.verdict, OFFER_HAVE); /* it had made it after all */
}

/* The first one wins, the second is told; and when the first worker goes away, nothing is run a third time. */
static void test_hedge_survives(void **state)
{
    struct cast *t = *state;
    struct lease run, wait, second;
    uint64_t     job;

    t->a.capacity = 2;
    actor_hello(&t->a, NULL, 0);
    job = submit(&t->c, "slow", 2);
    run = take(&t->a);
    wait = take(&t->a);
    actor_beat(&t->a, (struct lease[]){run}, 1, STAGE_DENOISE, 1);
    actor_hello(&t->b, NULL, 0);
    second = take(&t->b);
    assert_int_equal(second.task, wait.task);
    actor_send(&t->a, &(struct msg){.kind = MSG_BYE});
    for (int64_t until = now_ms() + ACTOR_WAIT_MS; job_of(t, job).n_queued != 1 && now_ms() < until;) sleep_ms(10);
    assert_int_equal(image_of(t, job, second.index).state, TASK_RUNNING);
    assert_int_equal(image_of(t, job, run.index).state, TASK_QUEUED);
    farm_kill(&t->f); /* and through a restart, under the lease that the journal does not know best */
    farm_start(&t->f);
    actor_again(&t->c, t->f.endpoint);
    actor_hello(&t->c, NULL, 0);
    actor_again(&t->b, t->f.endpoint);
    assert_int_equal(actor_hello(&t->b, &(struct held){second.task, second.epoch}, 1).welcome.n_drop, 0);
    actor_deliver(&t->b, &second, small());
    assert_int_equal(image_of(t, job, second.index).attempts, 1);
    assert_int_equal(image_of(t, job, second.index).state, TASK_DONE);
}

/* A restart while two workers hold the same image: both go on, neither is told to drop it. */
static void test_restart_with_two(void **state)
{
    struct cast *t = *state;
    struct lease run, wait, second;
    struct held  held[2];

    t->a.capacity = 2;
    actor_hello(&t->a, NULL, 0);
    submit(&t->c, "slow", 2);
    run = take(&t->a);
    wait = take(&t->a);
    actor_beat(&t->a, (struct lease[]){run}, 1, STAGE_DENOISE, 1);
    actor_hello(&t->b, NULL, 0);
    second = take(&t->b);
    farm_kill(&t->f);
    farm_start(&t->f);
    actor_again(&t->b, t->f.endpoint);
    assert_int_equal(actor_hello(&t->b, &(struct held){second.task, second.epoch}, 1).welcome.n_drop, 0);
    actor_again(&t->a, t->f.endpoint);
    held[0] = (struct held){run.task, run.epoch};
    held[1] = (struct held){wait.task, wait.epoch};
    assert_int_equal(actor_hello(&t->a, held, 2).welcome.n_drop, 0);
    actor_deliver(&t->a, &wait, small());
    assert_int_equal(actor_take(&t->b, MSG_BEAT_OK).beat_ok.cancel[0].epoch, second.epoch);
    actor_again(&t->c, t->f.endpoint);
    actor_hello(&t->c, NULL, 0);
}

/* ---- called back ---- */
static void test_recall(void **state)
{
    struct cast *t = *state;
    struct lease run, wait, l;
    struct msg   m;
    uint64_t     bulk, urgent;

    t->a.capacity = 2;
    actor_hello(&t->a, NULL, 0);
    bulk = submit_class(&t->c, "bulk", 4, 64, CLASS_BULK, 0);
    run = take(&t->a);
    wait = take(&t->a);
    actor_beat(&t->a, (struct lease[]){run, wait}, 1, STAGE_DENOISE, 1);
    urgent = submit_class(&t->c, "urgent", 1, 64, CLASS_INTERACTIVE, 0);
    for (m.beat_ok.n_recall = 0; !m.beat_ok.n_recall;) m = actor_take(&t->a, MSG_BEAT_OK);
    assert_int_equal(m.beat_ok.n_cancel, 0);
    assert_int_equal(m.beat_ok.recall[0].task, wait.task);
    assert_int_equal(m.beat_ok.recall[0].epoch, wait.epoch);
    actor_send(&t->a, &(struct msg){.kind = MSG_RELEASE, .release = {wait.task, wait.epoch, str_of("called back")}});
    l = take(&t->a);
    assert_int_equal(l.job, urgent);
    assert_int_equal(image_of(t, bulk, wait.index).attempts, 0);
    actor_deliver(&t->a, &l, small());
    l = take(&t->a);
    assert_int_equal(l.task, wait.task); /* it is the next one of its job */
}

/* ---- batches ---- */
static void test_batch(void **state)
{
    struct cast *t = *state;
    struct lease l[6];
    uint64_t     job;

    t->a.capacity = 8;
    t->a.max_batch = 4;
    job = submit(&t->c, "many", 6);
    actor_hello(&t->a, NULL, 0);
    for (int i = 0; i < 6; i++) l[i] = take(&t->a);
    assert_true(l[0].batch && l[0].batch == l[1].batch && l[1].batch == l[2].batch && l[2].batch == l[3].batch);
    assert_true(l[4].batch && l[4].batch == l[5].batch && l[4].batch != l[0].batch);
    assert_int_equal(worker(t, "A").max_batch, 4);
    gave_up(&t->a, &l[1], FAIL_OOM, "four are too many"); /* it is tried alone before anybody is said to lack memory */
    for (int i = 0; i < 6; i++)
        if (i != 1) actor_deliver(&t->a, &l[i], small());
    l[1] = take(&t->a);
    assert_int_equal(l[1].batch, 0);
    actor_deliver(&t->a, &l[1], small());
    assert_int_equal(job_of(t, job).n_done, 6);
}

/* ---- control ---- */
static void test_cancel_is_confirmed(void **state)
{
    struct cast *t = *state;
    struct lease l;
    uint64_t     job;
    struct msg   m;

    actor_hello(&t->a, NULL, 0);
    job = submit(&t->c, "two", 2);
    l = take(&t->a);
    m = actor_ask(&t->c, &(struct msg){.kind = MSG_CANCEL, .cancel = {job}}, MSG_CANCEL_OK);
    assert_int_equal(m.cancel_ok.n_canceled, 1);
    assert_int_equal(m.cancel_ok.n_canceling, 1);
    assert_int_equal(job_of(t, job).n_canceling, 1);
    assert_int_equal(actor_take(&t->a, MSG_BEAT_OK).beat_ok.cancel[0].task, l.task);
    assert_int_equal(job_of(t, job).n_canceling, 1);
    gave_up(&t->a, &l, FAIL_CANCELED, "stopped after step 3");
    assert_int_equal(job_of(t, job).n_canceling, 0);
    assert_int_equal(job_of(t, job).n_canceled, 2);
}

/* What has not begun by its deadline expires, over a restart, too; what runs is finished. */
static void test_deadline(void **state)
{
    struct cast *t = *state;
    struct lease l;
    uint64_t     job, away;
    struct msg   m;

    actor_hello(&t->a, NULL, 0);
    job = submit_class(&t->c, "soon", 3, 64, CLASS_NORMAL, 1500);
    away = submit_class(&t->c, "away", 1, 64, CLASS_NORMAL, 2500);
    l = take(&t->a);
    for (int64_t until = now_ms() + ACTOR_WAIT_MS; job_of(t, job).n_expired < 2 && now_ms() < until;) {
        actor_beat(&t->a, &l, 1, STAGE_DENOISE, 1);
        sleep_ms(50);
    }
    assert_int_equal(job_of(t, job).n_expired, 2);
    assert_int_equal(job_of(t, job).deadline_ms, 1500);
    assert_int_equal(image_of(t, job, l.index).state, TASK_RUNNING);
    assert_int_equal(image_of(t, job, 2).state, TASK_EXPIRED);
    assert_non_null(strstr(image_of(t, job, 2).error.at, "deadline"));
    actor_send(&t->a, &(struct msg){.kind = MSG_READY, .ready = {0}});
    actor_deliver(&t->a, &l, small());
    assert_int_equal(job_of(t, job).n_done, 1);
    m = (struct msg){.kind = MSG_CONTROL, .control = {.verb = CONTROL_REQUEUE, .job = job}};
    expect_error(&t->c, &m, WIRE_CONFLICT, "deadline");
    farm_kill(&t->f);
    sleep_ms(1500);
    farm_start(&t->f);
    actor_again(&t->c, t->f.endpoint);
    actor_hello(&t->c, NULL, 0);
    for (int64_t until = now_ms() + ACTOR_WAIT_MS; job_of(t, away).n_expired < 1 && now_ms() < until;) sleep_ms(50);
    assert_int_equal(job_of(t, away).n_expired, 1); /* nobody took it: A was busy, and drained itself */
    assert_int_equal(job_of(t, job).n_expired, 2);
}

static void test_pause(void **state)
{
    struct cast *t = *state;
    struct lease l;
    struct msg   pause = {.kind = MSG_CONTROL, .control = {.verb = CONTROL_PAUSE, .client = str_of("cl")}};
    uint64_t     job;

    expect_error(&t->c, &pause, WIRE_NOT_FOUND, "cl");
    job = submit(&t->c, "one", 2);
    assert_int_equal(actor_ask(&t->c, &pause, MSG_CONTROL_OK).control_ok.n, 1);
    assert_int_equal(actor_ask(&t->c, &pause, MSG_CONTROL_OK).control_ok.n, 0);
    actor_hello(&t->a, NULL, 0);
    nothing_for(&t->a);
    assert_non_null(strstr(job_of(t, job).why.at, "this client is paused"));
    farm_kill(&t->f);
    farm_start(&t->f);
    actor_again(&t->c, t->f.endpoint);
    actor_hello(&t->c, NULL, 0);
    actor_again(&t->a, t->f.endpoint);
    actor_hello(&t->a, NULL, 0);
    nothing_for(&t->a);
    pause.control.client = str_of("");
    assert_int_equal(actor_ask(&t->c, &pause, MSG_CONTROL_OK).control_ok.n, 1);
    pause.control = (struct control_ask){.verb = CONTROL_RESUME, .client = str_of("cl")};
    assert_int_equal(actor_ask(&t->c, &pause, MSG_CONTROL_OK).control_ok.n, 1);
    nothing_for(&t->a);
    assert_non_null(strstr(job_of(t, job).why.at, "the farm is paused"));
    assert_int_equal(job_of(t, job).eta_ms, -1);
    pause.control.client = str_of("");
    assert_int_equal(actor_ask(&t->c, &pause, MSG_CONTROL_OK).control_ok.n, 1);
    l = take(&t->a);
    actor_deliver(&t->a, &l, small());
}

static void test_quota(void **state)
{
    struct cast *t = *state;
    struct item  it = {.n_images = 11};
    struct msg   m = {.kind = MSG_SUBMIT, .submit = {.key = "a", .n_tasks = 11, .item = &it, .n_items = 1}}, got;
    struct lease l;
    uint64_t     job;

    farm_end(&t->f, SIGTERM);
    setenv("ACTORS_QUOTA", "queued=10,leases=1,rate=1000", 1);
    farm_start(&t->f);
    unsetenv("ACTORS_QUOTA");
    actor_again(&t->c, t->f.endpoint);
    actor_hello(&t->c, NULL, 0);
    spec_init(&it.spec);
    got = actor_ask(&t->c, &m, MSG_ERROR);
    assert_true(got.error.code == WIRE_QUOTA && got.error.retry_after_ms == 0); /* it would never fit */
    job = submit(&t->c, "ten", 10);
    m.submit.n_tasks = it.n_images = 1;
    got = actor_ask(&t->c, &m, MSG_ERROR);
    assert_true(got.error.code == WIRE_QUOTA && got.error.retry_after_ms > 0);
    assert_int_equal(actor_submit(&t->c, "ten", 1, 10, "", MSG_SUBMIT_OK).submit_ok.duplicate, true); /* what is known is not asked for again */
    t->a.capacity = 4;
    actor_hello(&t->a, NULL, 0);
    l = take(&t->a);
    nothing_for(&t->a); /* one lease is all it may hold */
    actor_ask(&t->c, &m, MSG_SUBMIT_OK); /* nine wait: there is room again */
    assert_non_null(strstr(job_of(t, 2).why.at, "as many workers as it may"));
    actor_deliver(&t->a, &l, small());
    l = take(&t->a);
    actor_deliver(&t->a, &l, small());
    assert_int_equal(take(&t->a).job, 2); /* its jobs take turns */
    assert_int_equal(job_of(t, job).n_done, 2);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, open_cast, close_cast)
        T(test_blame), T(test_poison), T(test_poison_again), T(test_poison_alone), T(test_poison_alone_restarted), T(test_memory), T(test_nan), T(test_recycles), T(test_hedge), T(test_hedge_survives), T(test_restart_with_two),
        T(test_recall), T(test_batch), T(test_cancel_is_confirmed), T(test_deadline), T(test_pause), T(test_quota),
    };
    int code = actors_main(argc, argv);

    return code >= 0 ? code : cmocka_run_group_tests(tests, NULL, NULL);
}
