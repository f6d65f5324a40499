/* test_broker.c - the whole broker as a process, with clients and workers told what to say. Its ends and beginnings: test_restart.c. */
#include "tests/broker/actors.h"

/* ---- one image's way through the house, with both parts and every count ---- */
/* Part k does not have the SHA-256 of its offer: refused when all is there, whether it is a file or a row. */
static void wrong_hash(struct actor *w, const struct lease *l, struct str latents, int k)
{
    struct msg m = {.kind = MSG_OFFER, .offer = offer_of(l, image(), latents)}, got;

    m.offer.part[k].sha256[7] ^= 1;
    got = actor_ask(w, &m, MSG_OFFER_OK);
    actor_upload(w, got.offer_ok.transfer[0], got.offer_ok.credit_bytes, image(), BIG);
    actor_upload(w, got.offer_ok.transfer[1], 0, latents, latents.len);
    got = actor_take(w, MSG_ERROR);
    assert_int_equal(got.error.code, WIRE_INVALID);
    assert_non_null(strstr(got.error.text.at, "SHA-256"));
}

static void test_whole_way(void **state)
{
    struct farm  f;
    struct actor c, w;
    struct item  item = {.n_images = 2, .label = str_of("cat")};
    struct msg   m = {.kind = MSG_SUBMIT, .submit = {.key = "0123456789abcde", .name = str_of("demo"), .n_tasks = 2, .item = &item, .n_items = 1}}, got;
    struct lease l[2];
    uint64_t     job, cursor;
    static char  back[BIG];
    struct str   latents = str_of("0123456789");

    (void)state;
    farm_open(&f);
    farm_start(&f);
    actor_open(&c, f.endpoint, ROLE_CLIENT);
    actor_open(&w, f.endpoint, ROLE_WORKER);
    got = actor_hello(&c, NULL, 0);
    assert_int_equal(got.welcome.boot_id, 1);
    spec_init(&item.spec);
    item.spec.prompt = str_of("a cat");
    item.spec.seed = 41;
    item.spec.want_latents = true;
    got = actor_ask(&c, &m, MSG_SUBMIT_OK);
    job = got.submit_ok.job;
    assert_false(got.submit_ok.duplicate);
    assert_int_equal(got.submit_ok.n_tasks_known, 2);
    got = actor_events(&c, job, 0, 0);
    assert_int_equal(got.events_ok.n_events, 0);
    assert_int_equal(got.events_ok.job.n_queued, 2);
    assert_true(str_is(got.events_ok.job.why, "no worker is connected"));

    w.capacity = 2;
    actor_hello(&w, NULL, 0);
    for (int i = 0; i < 2; i++) l[i] = actor_take(&w, MSG_LEASE).lease;
    assert_int_equal(l[0].spec.seed, 41);
    assert_int_equal(l[1].spec.seed, 42);
    assert_true(str_is(l[0].spec.prompt, "a cat"));
    assert_true(str_is(l[0].spec.model, "turbo")); /* the farm's default: the first name announced */
    actor_beat(&w, l, 2, STAGE_DENOISE, 3);
    got = actor_events(&c, job, 0, 1000);
    assert_int_equal(got.events_ok.job.n_running, 2);
    assert_int_equal(got.events_ok.n_progress, 2);
    assert_int_equal(got.events_ok.progress[0].step, 3);

    for (int k = 0; k < 2; k++) wrong_hash(&w, &l[0], latents, k);
    for (int i = 0; i < 2; i++) {
        struct msg ok;

        m = (struct msg){.kind = MSG_OFFER, .offer = offer_of(&l[i], image(), latents)};
        ok = actor_ask(&w, &m, MSG_OFFER_OK);
        assert_int_equal(ok.offer_ok.verdict, OFFER_UPLOAD);
        actor_upload(&w, ok.offer_ok.transfer[0], ok.offer_ok.credit_bytes, image(), BIG);
        actor_upload(&w, ok.offer_ok.transfer[1], 0, latents, latents.len);
        assert_int_equal(actor_take(&w, MSG_RESULT_OK).result_ok.task, l[i].task);
    }
    for (got.events_ok.next_cursor = 0, cursor = 0; cursor < 2;) { /* two events, whichever answers they come in */
        got = actor_events(&c, job, got.events_ok.next_cursor, 1000);
        for (size_t i = 0; i < got.events_ok.n_events; i++, cursor++) {
            assert_int_equal(got.events_ok.event[i].state, TASK_DONE);
            assert_int_equal(got.events_ok.event[i].n_parts, 2);
            assert_int_equal(got.events_ok.event[i].attempts, 1);
            assert_true(str_is(got.events_ok.event[i].label, "cat"));
            assert_true(str_is(got.events_ok.event[i].worker, "wk"));
        }
    }
    assert_int_equal(got.events_ok.job.n_done, 2);
    assert_int_equal(got.events_ok.job.eta_ms, 0);
    assert_int_equal(actor_fetch(&c, l[0].task, PART_IMAGE, 0, 1, back, BIG), BIG);
    assert_memory_equal(back, big, BIG);
    assert_int_equal(actor_fetch(&c, l[1].task, PART_IMAGE, BIG - 1000, 2, back, BIG), 1000); /* resumed */
    assert_memory_equal(back, big + BIG - 1000, 1000);
    assert_int_equal(actor_fetch(&c, l[1].task, PART_LATENTS, 0, 3, back, BIG), 10);
    assert_memory_equal(back, latents.at, 10);
    assert_int_equal(n_blobs(&f), 2); /* two tasks, the same bytes: one file each for image and latents */

    m = (struct msg){.kind = MSG_COLLECTED, .collected = {.task = (uint64_t[]){l[0].task, l[1].task, 999}, .n_tasks = 3}};
    assert_int_equal(actor_ask(&c, &m, MSG_COLLECTED_OK).collected_ok.n_known, 2);
    got = show(&c, job);
    assert_int_equal(got.show_ok.job.n_collected, 2);
    assert_int_equal(got.show_ok.n_tasks, 2);
    assert_int_equal(got.show_ok.task[1].spec.seed, 42);
    assert_true(got.show_ok.task[1].info.collected);
    got = actor_ask(&c, &(struct msg){.kind = MSG_WORKERS}, MSG_WORKERS_OK);
    assert_int_equal(got.workers_ok.n_workers, 1);
    assert_int_equal(got.workers_ok.worker[0].n_done, 2);
    assert_int_equal(got.workers_ok.worker[0].n_held, 0);
    actor_close(&c);
    actor_close(&w);
    farm_close(&f);
}

/* ---- what is refused ---- */
static void test_refusals(void **state)
{
    struct farm  f;
    struct actor c, w;
    struct msg   got, m;
    uint64_t     job;

    (void)state;
    farm_open(&f);
    farm_start(&f);
    actor_open(&c, f.endpoint, ROLE_CLIENT);
    actor_open(&w, f.endpoint, ROLE_WORKER);
    expect_error(&c, &(struct msg){.kind = MSG_JOBS, .jobs.limit = 1}, WIRE_UNKNOWN_SESSION, "HELLO");
    m = (struct msg){.kind = MSG_HELLO, .hello = {.role = ROLE_CLIENT, .major = 9}};
    expect_error(&c, &m, WIRE_VERSION, "9");
    actor_hello(&c, NULL, 0);
    w.model = "base";
    w.capacity = 0;
    actor_hello(&w, NULL, 0);
    expect_error(&c, &(struct msg){.kind = MSG_READY}, WIRE_PROTOCOL, "worker");
    expect_error(&w, &(struct msg){.kind = MSG_JOBS, .jobs.limit = 1}, WIRE_PROTOCOL, "client");
    expect_error(&c, &(struct msg){.kind = MSG_SHOW, .show = {.job = 7, .limit = 1}}, WIRE_NOT_FOUND, "7");
    expect_error(&c, &(struct msg){.kind = MSG_CANCEL, .cancel.job = 7}, WIRE_NOT_FOUND, "7");
    expect_error(&c, &(struct msg){.kind = MSG_FETCH, .fetch = {.task = 7, .kind = PART_IMAGE, .credit_bytes = 1, .transfer = 1}}, WIRE_NOT_FOUND, "no task");

    job = actor_submit(&c, "a", 3, 2, "turbo", MSG_SUBMIT_OK).submit_ok.job;
    got = actor_submit(&c, "a", 3, 2, "turbo", MSG_SUBMIT_OK);
    assert_true(got.submit_ok.duplicate);
    assert_int_equal(got.submit_ok.job, job);
    got = actor_submit(&c, "a", 3, 2, "base", MSG_ERROR); /* the same key, other content */
    assert_int_equal(got.error.code, WIRE_CONFLICT);
    got = actor_submit(&c, "a", 2, 2, "turbo", MSG_ERROR);
    assert_int_equal(got.error.code, WIRE_CONFLICT);
    got = actor_ask(&c, &(struct msg){.kind = MSG_JOBS, .jobs.limit = 10}, MSG_JOBS_OK);
    assert_int_equal(got.jobs_ok.n_jobs, 1);
    assert_int_equal(got.jobs_ok.job[0].n_queued, 6);
    assert_true(str_is(got.jobs_ok.job[0].why, "no worker has model 'turbo' (workers have: base)"));
    expect_error(&c, &(struct msg){.kind = MSG_FETCH, .fetch = {.task = job << 20, .kind = PART_IMAGE, .credit_bytes = 1, .transfer = 1}}, WIRE_NOT_FOUND, "queued");
    actor_close(&c);
    actor_close(&w);
    farm_close(&f);
}

/* ---- leases that move, and results that come late ---- */
static void test_late_result(void **state)
{
    struct farm  f;
    struct actor c, a, b;
    struct msg   got, m;
    struct lease first, second;
    uint64_t     job;

    (void)state;
    farm_open(&f);
    farm_start(&f);
    actor_open(&c, f.endpoint, ROLE_CLIENT);
    actor_open(&a, f.endpoint, ROLE_WORKER);
    actor_open(&b, f.endpoint, ROLE_WORKER);
    actor_hello(&c, NULL, 0);
    actor_hello(&a, NULL, 0);
    job = actor_submit(&c, "late", 1, 1, "", MSG_SUBMIT_OK).submit_ok.job;
    first = actor_take(&a, MSG_LEASE).lease;
    a.capacity = 0;
    actor_again(&a, f.endpoint);
    actor_hello(&a, NULL, 0); /* back, and it knows nothing of its lease */
    actor_hello(&b, NULL, 0);
    second = actor_take(&b, MSG_LEASE).lease;
    assert_int_equal(second.task, first.task);
    assert_true(second.epoch > first.epoch);

    actor_deliver(&a, &first, small()); /* the first durable result wins, whoever's lease it was */
    got = actor_take(&b, MSG_BEAT_OK);  /* and the other is told to stop */
    assert_int_equal(got.beat_ok.seq, 0);
    assert_int_equal(got.beat_ok.cancel[0].epoch, second.epoch);
    m = (struct msg){.kind = MSG_OFFER, .offer = offer_of(&second, small(), (struct str){0})};
    assert_int_equal(actor_ask(&b, &m, MSG_OFFER_OK).offer_ok.verdict, OFFER_HAVE);
    for (int64_t until = now_ms() + ACTOR_WAIT_MS; (got = actor_events(&c, job, 0, 1000)).events_ok.job.n_done == 0;) assert_true(now_ms() < until);
    assert_int_equal(got.events_ok.n_events, 1); /* one task: its newest state once */
    assert_int_equal(got.events_ok.event[0].state, TASK_DONE);
    assert_int_equal(got.events_ok.event[0].attempts, 2);
    assert_int_equal(n_blobs(&f), 1);
    actor_close(&c);
    actor_close(&a);
    actor_close(&b);
    farm_close(&f);
}

/* A worker that gives up a task its beats still name is told to stop; BYE and RELEASE give it back at once. */
static void test_given_back(void **state)
{
    struct farm  f;
    struct actor c, a;
    struct lease l, last;
    struct msg   got;

    (void)state;
    farm_open(&f);
    farm_start(&f);
    actor_open(&c, f.endpoint, ROLE_CLIENT);
    actor_open(&a, f.endpoint, ROLE_WORKER);
    actor_hello(&c, NULL, 0);
    actor_hello(&a, NULL, 0);
    actor_submit(&c, "back", 1, 1, "", MSG_SUBMIT_OK);
    last = actor_take(&a, MSG_LEASE).lease;
    actor_send(&a, &(struct msg){.kind = MSG_RELEASE, .release = {.task = last.task, .epoch = last.epoch}});
    l = actor_take(&a, MSG_LEASE).lease;
    assert_true(l.task == last.task && l.epoch > last.epoch);
    got = actor_beat(&a, &last, 1, STAGE_TEXT, 0); /* of the old lease */
    assert_int_equal(got.beat_ok.n_cancel, 1);
    assert_int_equal(got.beat_ok.cancel[0].epoch, last.epoch);
    got = actor_beat(&a, &l, 1, STAGE_TEXT, 0);
    assert_int_equal(got.beat_ok.n_cancel, 0);
    actor_send(&a, &(struct msg){.kind = MSG_BYE});
    expect_error(&a, &(struct msg){.kind = MSG_BEAT, .beat.seq = 9}, WIRE_UNKNOWN_SESSION, "HELLO");
    got = actor_hello(&a, (struct held[]){{l.task, l.epoch}}, 1); /* it held on to it: it may go on */
    assert_int_equal(got.welcome.n_drop, 0);
    actor_deliver(&a, &l, small());
    got = actor_hello(&a, (struct held[]){{l.task, l.epoch}}, 1);
    assert_int_equal(got.welcome.n_drop, 1);
    actor_close(&c);
    actor_close(&a);
    farm_close(&f);
}

/* ---- failures ---- */
static void fail_it(struct actor *w, const struct lease *l, enum fail_class why, const char *text)
{
    struct msg m = {.kind = MSG_FAILED, .failed = {.task = l->task, .epoch = l->epoch, .why = why, .text = str_of(text)}};

    actor_ask(w, &m, MSG_FAILED_OK);
}

static struct task_info ending(struct actor *c, uint64_t job)
{
    struct msg got = actor_events(c, job, 0, 1000);
    int64_t    until = now_ms() + ACTOR_WAIT_MS;

    while (got.events_ok.n_events == 0 || !task_state_final(got.events_ok.event[0].state)) {
        assert_true(now_ms() < until);
        got = actor_events(c, job, got.events_ok.next_cursor, 1000);
    }
    return got.events_ok.event[0];
}

/* Who gets the next lease. */
static struct actor *either(struct actor *a, struct actor *b, struct lease *l)
{
    int64_t    until = now_ms() + ACTOR_WAIT_MS;
    struct msg m;

    for (;;) {
        struct actor *w = actor_find(a, MSG_LEASE, 0, &m) ? a : actor_find(b, MSG_LEASE, 0, &m) ? b : NULL;

        *l = m.lease;
        if (w) return w;
        assert_true(now_ms() < until);
        actor_read(a, 20);
        actor_read(b, 20);
    }
}

static void test_failures(void **state)
{
    struct farm      f;
    struct actor     c, a, b;
    struct lease     l;
    struct task_info end;
    struct msg       got;
    uint64_t         job;
    bool             waited = false;

    (void)state;
    farm_open(&f);
    farm_start(&f);
    actor_open(&c, f.endpoint, ROLE_CLIENT);
    actor_open(&a, f.endpoint, ROLE_WORKER);
    actor_open(&b, f.endpoint, ROLE_WORKER);
    actor_hello(&c, NULL, 0);
    actor_hello(&a, NULL, 0);
    job = actor_submit(&c, "invalid", 1, 1, "", MSG_SUBMIT_OK).submit_ok.job;
    l = actor_take(&a, MSG_LEASE).lease;
    fail_it(&a, &l, FAIL_INVALID, "the model has no such size");
    end = ending(&c, job);
    assert_int_equal(end.state, TASK_FAILED);
    assert_true(str_is(end.error, "the model has no such size"));

    job = actor_submit(&c, "crash", 1, 1, "", MSG_SUBMIT_OK).submit_ok.job;
    l = actor_take(&a, MSG_LEASE).lease;
    actor_hello(&b, NULL, 0);
    fail_it(&a, &l, FAIL_CRASHED, "signal 11 in decode");
    l = actor_take(&b, MSG_LEASE).lease; /* the other one, though a is free, too */
    fail_it(&b, &l, FAIL_STUCK, "no step for 60 s");
    l = actor_take(&a, MSG_LEASE).lease;
    fail_it(&a, &l, FAIL_CRASHED, "signal 11 again");
    end = ending(&c, job);
    assert_int_equal(end.state, TASK_FAILED);
    assert_int_equal(end.attempts, 3);
    assert_true(str_is(end.error, "signal 11 again"));

    job = actor_submit(&c, "nan", 1, 1, "", MSG_SUBMIT_OK).submit_ok.job;
    l = actor_take(&a, MSG_LEASE).lease;
    fail_it(&a, &l, FAIL_NAN, "latents are not finite");
    l = actor_take(&b, MSG_LEASE).lease;
    fail_it(&b, &l, FAIL_NAN, "latents are not finite");
    assert_int_equal(ending(&c, job).state, TASK_FAILED);

    job = actor_submit(&c, "transient", 1, 1, "", MSG_SUBMIT_OK).submit_ok.job;
    for (int i = 0; i < 4 && !waited; i++) { /* for 1 s, 2 s, ...: who asks later than that asks again */
        struct actor *w = either(&a, &b, &l);

        assert_int_equal(l.job, job);
        fail_it(w, &l, FAIL_TRANSIENT, "the disk was full");
        got = actor_events(&c, job, 0, 0);
        waited = got.events_ok.job.n_queued == 1;
        if (waited) assert_true(str_starts(got.events_ok.job.why, "waiting before the next attempt: the disk was full"));
    }
    assert_true(waited);
    either(&a, &b, &l);
    assert_int_equal(l.job, job);
    actor_close(&c);
    actor_close(&a);
    actor_close(&b);
    farm_close(&f);
}

/* ---- cancel ---- */
static void test_cancel(void **state)
{
    struct farm  f;
    struct actor c, w;
    struct lease l;
    struct msg   got, m;
    uint64_t     job;

    (void)state;
    farm_open(&f);
    farm_start(&f);
    actor_open(&c, f.endpoint, ROLE_CLIENT);
    actor_open(&w, f.endpoint, ROLE_WORKER);
    actor_hello(&c, NULL, 0);
    actor_hello(&w, NULL, 0);
    job = actor_submit(&c, "cancel", 2, 2, "", MSG_SUBMIT_OK).submit_ok.job;
    l = actor_take(&w, MSG_LEASE).lease;
    actor_deliver(&w, &l, small());
    l = actor_take(&w, MSG_LEASE).lease;
    got = actor_ask(&c, &(struct msg){.kind = MSG_CANCEL, .cancel.job = job}, MSG_CANCEL_OK);
    assert_int_equal(got.cancel_ok.n_canceled, 2);
    assert_int_equal(got.cancel_ok.n_canceling, 1);
    assert_int_equal(got.cancel_ok.n_finished, 1);
    got = actor_take(&w, MSG_BEAT_OK);
    assert_int_equal(got.beat_ok.cancel[0].task, l.task);
    farm_kill(&f); /* at once: CANCEL_OK was a promise */
    farm_start(&f);
    actor_again(&c, f.endpoint);
    actor_again(&w, f.endpoint);
    actor_hello(&c, NULL, 0);
    got = actor_hello(&w, (struct held[]){{l.task, l.epoch}}, 1);
    assert_int_equal(got.welcome.n_drop, 1);
    m = (struct msg){.kind = MSG_OFFER, .offer = offer_of(&l, small(), (struct str){0})};
    assert_int_equal(actor_ask(&w, &m, MSG_OFFER_OK).offer_ok.verdict, OFFER_DROP);
    got = show(&c, job);
    assert_int_equal(got.show_ok.job.n_canceled, 3);
    assert_int_equal(got.show_ok.job.n_done, 1);
    got = actor_ask(&c, &(struct msg){.kind = MSG_CANCEL, .cancel.job = job}, MSG_CANCEL_OK); /* again: nothing more */
    assert_int_equal(got.cancel_ok.n_finished, 4);
    actor_close(&c);
    actor_close(&w);
    farm_close(&f);
}

/* ---- bytes that are wrong ---- */
/* A bit falls over in a file, or in a row: it is not served, and the image is made again. A file that this broker hashed when it came is served once
 * all the same: who fetches it sees that, and asks again. */
static void damaged(bool row, bool restart)
{
    struct farm  f;
    struct actor c, w;
    struct lease l;
    struct msg   got;
    struct str   bytes = row ? small() : image();
    char         cmd[600];
    static char  back[BIG];

    farm_open(&f);
    farm_start(&f);
    actor_open(&c, f.endpoint, ROLE_CLIENT);
    actor_open(&w, f.endpoint, ROLE_WORKER);
    actor_hello(&c, NULL, 0);
    actor_hello(&w, NULL, 0);
    actor_submit(&c, "blob", 1, 1, "", MSG_SUBMIT_OK);
    l = actor_take(&w, MSG_LEASE).lease;
    actor_deliver(&w, &l, bytes);
    snprintf(cmd, sizeof cmd, "for f in $(find %s/blobs -type f); do printf X | dd of=$f bs=1 seek=3 conv=notrunc 2>/dev/null; done", f.data);
    if (restart) farm_kill(&f); /* what is in memory is served from there */
    if (row) journal_sql(&f, false, "UPDATE result SET bytes = zeroblob(length(bytes))");
    else assert_int_equal(system(cmd), 0);
    if (restart) {
        farm_start(&f);
        actor_again(&c, f.endpoint);
        actor_again(&w, f.endpoint);
        actor_hello(&c, NULL, 0);
        actor_hello(&w, NULL, 0);
    }
    for (int64_t until = now_ms() + ACTOR_WAIT_MS; (got = actor_events(&c, 0, 0, 1000)).events_ok.n_events == 0;) assert_true(now_ms() < until);
    if (!restart) {
        assert_int_equal(actor_fetch(&c, l.task, PART_IMAGE, 0, 4, back, sizeof back), bytes.len);
        assert_memory_not_equal(back, bytes.at, bytes.len);
    }
    expect_error(&c, &(struct msg){.kind = MSG_FETCH, .fetch = {.task = l.task, .kind = PART_IMAGE, .credit_bytes = 1000, .transfer = 5}}, WIRE_NOT_FOUND, "made again");
    l = actor_take(&w, MSG_LEASE).lease;
    actor_deliver(&w, &l, bytes);
    assert_int_equal(actor_fetch(&c, l.task, PART_IMAGE, 0, 6, back, sizeof back), bytes.len);
    assert_memory_equal(back, bytes.at, bytes.len);
    assert_int_equal(n_blobs(&f), 1);
    actor_close(&c);
    actor_close(&w);
    farm_close(&f);
}

static void test_damaged_blob(void **state)
{
    (void)state;
    damaged(false, false);
    damaged(false, true);
    damaged(true, true);
}

/* Small results ride: in OFFER, in OFFERS, in an event, in FETCH_OK; from memory, and from the disk after a restart. A bad one is refused. */
static void test_small_results_ride(void **state)
{
    struct farm  f;
    struct actor c, w;
    struct lease l[4];
    struct offer o[4];
    struct msg   got, m;
    uint64_t     job;
    char         back[100];

    (void)state;
    farm_open(&f);
    farm_start(&f);
    actor_open(&c, f.endpoint, ROLE_CLIENT);
    actor_open(&w, f.endpoint, ROLE_WORKER);
    w.capacity = 4;
    actor_hello(&c, NULL, 0);
    actor_hello(&w, NULL, 0);
    job = actor_submit(&c, "ride", 1, 4, "", MSG_SUBMIT_OK).submit_ok.job;
    for (int i = 0; i < 4; i++) {
        l[i] = actor_take(&w, MSG_LEASE).lease;
        o[i] = offer_of(&l[i], small(), (struct str){0});
        o[i].bytes[0] = small();
    }
    m = (struct msg){.kind = MSG_OFFER, .offer = o[0]};
    m.offer.bytes[0] = str_of("Not a picture, but the broker does not look");
    expect_error(&w, &m, WIRE_INVALID, "SHA-256");
    m.offer = o[0];
    assert_int_equal(actor_ask(&w, &m, MSG_RESULT_OK).result_ok.task, l[0].task);
    o[3].bytes[0] = str_of("Not a picture, but the broker does not look");
    m = (struct msg){.kind = MSG_OFFERS, .offers = {o, 4}};
    got = actor_ask(&w, &m, MSG_OFFERS_OK);
    assert_int_equal(got.offers_ok.n_offers, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(got.offers_ok.offer[i].task, l[i].task);
        assert_int_equal(got.offers_ok.offer[i].verdict, i < 3 ? OFFER_HAVE : OFFER_UPLOAD);
    }
    assert_int_equal(n_blobs(&f), 1); /* one content, one row */
    m = (struct msg){.kind = MSG_EVENTS, .events = {.job = job, .limit = 10, .inline_bytes = 100}};
    got = actor_ask(&c, &m, MSG_EVENTS_OK);
    assert_int_equal(got.events_ok.n_events, 3);
    for (size_t i = 0; i < 3; i++) assert_true(str_eq(got.events_ok.event[i].bytes[0], small()));
    m.events.inline_bytes = 5;
    got = actor_ask(&c, &m, MSG_EVENTS_OK);
    for (size_t i = 0; i < 3; i++) assert_int_equal(got.events_ok.event[i].bytes[0].len, 0);
    for (uint64_t round = 0; round < 2; round++) {
        m = (struct msg){.kind = MSG_FETCH, .fetch = {.task = l[1].task, .kind = PART_IMAGE, .credit_bytes = 1000, .transfer = 10 * round + 1}};
        assert_true(str_eq(actor_ask(&c, &m, MSG_FETCH_OK).fetch_ok.bytes, small()));
        m.fetch.credit_bytes = 5; /* not enough for all of it: chunks */
        m.fetch.transfer++;
        assert_int_equal(actor_ask(&c, &m, MSG_FETCH_OK).fetch_ok.bytes.len, 0);
        got = actor_take(&c, MSG_CHUNK);
        assert_true(str_eq(got.chunk.bytes, str_sub(small(), 0, 5)));
        assert_int_equal(actor_fetch(&c, l[2].task, PART_IMAGE, 10, 10 * round + 4, back, sizeof back), small().len - 10);
        assert_memory_equal(back, small().at + 10, small().len - 10);
        if (round) break;
        farm_kill(&f);
        farm_start(&f);
        actor_again(&c, f.endpoint);
        actor_again(&w, f.endpoint);
        actor_hello(&c, NULL, 0);
        actor_hello(&w, (struct held[]){{l[3].task, l[3].epoch}}, 1);
        m = (struct msg){.kind = MSG_EVENTS, .events = {.job = job, .limit = 10, .inline_bytes = 100}};
        got = actor_ask(&c, &m, MSG_EVENTS_OK);
        assert_int_equal(got.events_ok.n_events, 3);
        assert_int_equal(got.events_ok.event[0].bytes[0].len, 0); /* not in memory: it is fetched */
    }
    actor_close(&c);
    actor_close(&w);
    farm_close(&f);
}

/* Wrong bytes, wrong order, too much: each ends the upload with a sentence, and the next offer is as good as the first. */
static void test_bad_uploads(void **state)
{
    struct farm  f;
    struct actor c, w;
    struct lease l;
    struct msg   offer, ok, chunk;

    (void)state;
    farm_open(&f);
    farm_start(&f);
    actor_open(&c, f.endpoint, ROLE_CLIENT);
    actor_open(&w, f.endpoint, ROLE_WORKER);
    actor_hello(&c, NULL, 0);
    actor_hello(&w, NULL, 0);
    actor_submit(&c, "bad", 1, 1, "", MSG_SUBMIT_OK);
    l = actor_take(&w, MSG_LEASE).lease;
    for (int i = 0; i < 5; i++) {
        struct str bytes = small();

        offer = (struct msg){.kind = MSG_OFFER, .offer = offer_of(&l, bytes, (struct str){0})};
        ok = actor_ask(&w, &offer, MSG_OFFER_OK);
        chunk = (struct msg){.kind = MSG_CHUNK, .chunk = {.transfer = ok.offer_ok.transfer[0], .bytes = bytes, .last = true}};
        if (i == 0) chunk.chunk.bytes = str_of("Not a picture, but the broker does not look"); /* another sha */
        if (i == 1) chunk.chunk.offset = 1;
        if (i == 2) chunk.chunk.last = false;
        if (i == 3) chunk.chunk.bytes.len--;
        actor_send(&w, &chunk);
        if (i < 4) assert_int_equal(actor_take(&w, MSG_ERROR).error.code, i == 0 ? WIRE_INVALID : WIRE_PROTOCOL);
    }
    actor_take(&w, MSG_RESULT_OK);
    l.spec.width_px = 128;
    offer = (struct msg){.kind = MSG_OFFER, .offer = offer_of(&l, small(), (struct str){0})};
    assert_int_equal(actor_ask(&w, &offer, MSG_OFFER_OK).offer_ok.verdict, OFFER_HAVE); /* known: its size is no matter */
    offer.offer.epoch = 77;
    expect_error(&w, &offer, WIRE_INVALID, "77");
    assert_int_equal(n_blobs(&f), 1);
    actor_close(&c);
    actor_close(&w);
    farm_close(&f);
}

/* A broker that stood still forgives its workers that time, and goes on answering: a worker that spoke meanwhile was not heard in the future. */
static void test_stood_still(void **state)
{
    struct farm  f;
    struct actor c, w;
    struct msg   got;

    (void)state;
    farm_open(&f);
    farm_start(&f);
    actor_open(&c, f.endpoint, ROLE_CLIENT);
    actor_open(&w, f.endpoint, ROLE_WORKER);
    actor_hello(&c, NULL, 0);
    actor_hello(&w, NULL, 0);
    kill(f.pid, SIGSTOP);
    actor_send(&w, &(struct msg){.kind = MSG_BEAT, .beat = {.seq = 1}});
    sleep_ms(WORKER_SUSPECT_MS + 500);
    kill(f.pid, SIGCONT);
    actor_take(&w, MSG_BEAT_OK);
    for (int i = 0; i < 4; i++) {
        got = actor_ask(&c, &(struct msg){.kind = MSG_WORKERS}, MSG_WORKERS_OK);
        assert_int_equal(got.workers_ok.n_workers, 1);
        assert_true(got.workers_ok.worker[0].silent_ms >= 0);
        sleep_ms(200); /* its tick comes between */
    }
    actor_close(&c);
    actor_close(&w);
    farm_close(&f);
}

int main(int argc, char **argv)
{
    int                     code = actors_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_way), cmocka_unit_test(test_refusals), cmocka_unit_test(test_late_result),   cmocka_unit_test(test_given_back),
        cmocka_unit_test(test_failures),  cmocka_unit_test(test_cancel),   cmocka_unit_test(test_damaged_blob), cmocka_unit_test(test_small_results_ride), cmocka_unit_test(test_bad_uploads), cmocka_unit_test(test_stood_still),
    };

    if (code >= 0) return code;
    code = cmocka_run_group_tests(tests, NULL, NULL);
    if (code == 0) peer_shutdown(); /* a test that failed left its peers open: that would wait for ever */
    return code;
}
