/* test_restart.c - the broker's ends and beginnings: kill -9 at every step and at any moment, two on one folder, full disk, SIGTERM. */
#include "tests/broker/actors.h"

#include "base/file.h"

/* A job in pieces: any order, each once, no overlap. */
static void test_pieces(void **state)
{
    struct farm  f;
    struct actor c;
    struct item  item = {.n_images = 5};
    struct msg   m = {.kind = MSG_SUBMIT, .submit = {.key = "pieces", .n_tasks = 12, .first_task = 5, .item = &item, .n_items = 1}};

    (void)state;
    farm_open(&f);
    farm_start(&f);
    actor_open(&c, f.endpoint, ROLE_CLIENT);
    actor_hello(&c, NULL, 0);
    spec_init(&item.spec);
    assert_int_equal(actor_ask(&c, &m, MSG_SUBMIT_OK).submit_ok.n_tasks_known, 5);
    m.submit.first_task = 0;
    assert_int_equal(actor_ask(&c, &m, MSG_SUBMIT_OK).submit_ok.n_tasks_known, 10);
    m.submit.first_task = 7;
    expect_error(&c, &m, WIRE_CONFLICT, "overlap");
    m.submit.first_task = 10;
    item.n_images = 2;
    assert_int_equal(actor_ask(&c, &m, MSG_SUBMIT_OK).submit_ok.n_tasks_known, 12);
    farm_kill(&f);
    farm_start(&f);
    actor_again(&c, f.endpoint);
    actor_hello(&c, NULL, 0);
    assert_true(actor_ask(&c, &m, MSG_SUBMIT_OK).submit_ok.duplicate);
    assert_int_equal(actor_ask(&c, &(struct msg){.kind = MSG_JOBS, .jobs.limit = 10}, MSG_JOBS_OK).jobs_ok.job[0].n_queued, 12);
    actor_close(&c);
    farm_close(&f);
}

/* ---- kill -9 between any two steps ---- */
enum step { SUBMITTED, LEASED, BEATEN, OFFERED, HALF_SENT, ALL_SENT, RESULTED, SEEN, FETCHED, COLLECTED, N_STEPS };

/* One job of one image from the first word to the last; the broker is killed right after step `at`, or not at all. */
static void walk(int at)
{
    struct farm  f;
    struct actor c, w;
    struct lease l = {0};
    struct msg   got, m;
    uint64_t     job = 0, cursor = 0;
    int          n_done = 0;
    static char  back[BIG];

    farm_open(&f);
    farm_start(&f);
    actor_open(&c, f.endpoint, ROLE_CLIENT);
    actor_open(&w, f.endpoint, ROLE_WORKER);
    actor_hello(&c, NULL, 0);
    actor_hello(&w, NULL, 0);
    for (int step = 0; step < N_STEPS; step++) {
        switch (step) {
        case SUBMITTED: job = actor_submit(&c, "walk", 1, 1, "", MSG_SUBMIT_OK).submit_ok.job; break;
        case LEASED: l = actor_take(&w, MSG_LEASE).lease; break;
        case BEATEN: assert_int_equal(actor_beat(&w, &l, 1, STAGE_DENOISE, 1).beat_ok.n_cancel, 0); break;
        case OFFERED:
        case HALF_SENT:
        case ALL_SENT:
            m = (struct msg){.kind = MSG_OFFER, .offer = offer_of(&l, image(), (struct str){0})};
            got = actor_ask(&w, &m, MSG_OFFER_OK);
            if (got.offer_ok.verdict == OFFER_HAVE) break; /* it was durable before the kill, unsaid */
            assert_int_equal(got.offer_ok.verdict, OFFER_UPLOAD);
            if (step == OFFERED) break;
            actor_upload(&w, got.offer_ok.transfer[0], got.offer_ok.credit_bytes, image(), step == HALF_SENT ? BIG / 2 : BIG);
            break;
        case RESULTED: /* said already, or lost with the broker: then the worker offers again */
            if (at == ALL_SENT) {
                m = (struct msg){.kind = MSG_OFFER, .offer = offer_of(&l, image(), (struct str){0})};
                got = actor_ask(&w, &m, MSG_OFFER_OK);
                if (got.offer_ok.verdict == OFFER_HAVE) break;
                actor_upload(&w, got.offer_ok.transfer[0], got.offer_ok.credit_bytes, image(), BIG);
            }
            actor_take(&w, MSG_RESULT_OK);
            break;
        case SEEN:
            while (n_done == 0) {
                got = actor_events(&c, job, cursor, 1000);
                cursor = got.events_ok.next_cursor;
                for (size_t i = 0; i < got.events_ok.n_events; i++) n_done += got.events_ok.event[i].state == TASK_DONE;
            }
            break;
        case FETCHED:
            assert_int_equal(actor_fetch(&c, job << 20, PART_IMAGE, 0, 1, back, BIG), BIG);
            assert_memory_equal(back, big, BIG);
            break;
        case COLLECTED: actor_ask(&c, &(struct msg){.kind = MSG_COLLECTED, .collected = {.task = (uint64_t[]){job << 20}, .n_tasks = 1}}, MSG_COLLECTED_OK); break;
        }
        if (step != at) continue;
        farm_kill(&f);
        farm_start(&f);
        actor_again(&c, f.endpoint);
        actor_again(&w, f.endpoint);
        assert_int_equal(actor_hello(&c, NULL, 0).welcome.boot_id, 2);
        got = actor_hello(&w, (struct held[]){{l.task, l.epoch}}, l.task && step < RESULTED ? 1 : 0);
        if (step < ALL_SENT) assert_int_equal(got.welcome.n_drop, 0); /* RUNNING survives: the work goes on where it was */
    }
    got = actor_events(&c, job, cursor, 0);
    assert_int_equal(got.events_ok.n_events, 0); /* DONE once, and nothing after it */
    assert_int_equal(got.events_ok.job.n_done, 1);
    assert_int_equal(got.events_ok.job.n_collected, 1);
    got = show(&c, job);
    assert_int_equal(got.show_ok.task[0].info.attempts > (at == SUBMITTED ? 2 : 1), 0); /* a kill costs no second run; a LEASE on its way is lost */
    assert_int_equal(n_blobs(&f), 1);
    assert_true(actor_submit(&c, "walk", 1, 1, "", MSG_SUBMIT_OK).submit_ok.duplicate);
    actor_close(&c);
    actor_close(&w);
    farm_close(&f);
}

static void test_kill_at_every_step(void **state)
{
    (void)state;
    for (int at = -1; at < N_STEPS; at++) walk(at);
}

/* ---- kill -9 at any moment of a crowd's work ---- */
/* A worker that finds its way back: as worker/session.c does, in short. Ends by signal. */
static void storm_worker(const char *endpoint, const char *name)
{
    struct actor a;
    struct lease held[4];
    size_t       n_held = 0;
    bool         up = false;
    int64_t      heard_ms = 0, beat_ms = 0, patience_ms = 300; /* longer each time that it was in vain: a slow disk is no silence */
    struct err   e;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    actor_open(&a, endpoint, ROLE_WORKER);
    for (;;) {
        struct msg m;
        int64_t    now = now_ms();

        if (now - heard_ms > patience_ms) { /* silence: a new connection, HELLO with what we hold */
            struct held       h[4];
            struct model_info model = {.name = str_of("turbo")};
            struct msg        hello = {.kind = MSG_HELLO, .correlation = 1, .hello = {.role = ROLE_WORKER, .major = WIRE_MAJOR, .name = str_of(name),
                                       .capacity = 4, .model = &model, .n_models = 1, .held = h, .n_held = n_held}};

            memcpy(hello.hello.instance, a.instance, KEY_BYTES);
            for (size_t i = 0; i < n_held; i++) h[i] = (struct held){held[i].task, held[i].epoch};
            actor_again(&a, endpoint);
            arena_reset(&a.arena, 0);
            up = false;
            heard_ms = now;
            patience_ms = patience_ms < 5000 ? 2 * patience_ms : patience_ms;
            for (int i = 0; i < 200 && peer_send(a.peer, NULL, &hello, &e) == ERR_BUSY; i++) sleep_ms(2);
        }
        if (up && now - beat_ms > 100) {
            struct progress p[4];
            struct msg      b = {.kind = MSG_BEAT, .beat = {.progress = p, .n_progress = n_held}};

            for (size_t i = 0; i < n_held; i++) p[i] = (struct progress){.task = held[i].task, .epoch = held[i].epoch, .stage = STAGE_UPLOAD};
            peer_send(a.peer, NULL, &b, &e);
            beat_ms = now;
        }
        if (!a.n_stash) actor_read(&a, 20);
        if (!actor_find(&a, 0, 0, &m)) continue;
        heard_ms = now_ms();
        if (m.kind == MSG_ERROR) heard_ms = 0;
        if (m.kind == MSG_WELCOME) {
            up = true;
            patience_ms = 300;
        }
        for (size_t d = 0; m.kind == MSG_WELCOME && d < m.welcome.n_drop; d++)
            for (size_t i = 0; i < n_held; i++)
                if (held[i].task == m.welcome.drop[d].task) held[i--] = held[--n_held];
        for (size_t i = 0; m.kind == MSG_WELCOME && i < n_held; i++) {
            struct msg o = {.kind = MSG_OFFER, .correlation = 2, .offer = offer_of(&held[i], (struct str){(const char *)&held[i].task, 8}, (struct str){0})};

            peer_send(a.peer, NULL, &o, &e);
        }
        if (m.kind == MSG_LEASE) {
            struct msg o = {.kind = MSG_OFFER, .correlation = 2, .offer = offer_of(&m.lease, (struct str){(const char *)&m.lease.task, 8}, (struct str){0})};

            if (n_held == 4) abort();
            held[n_held++] = m.lease;
            peer_send(a.peer, NULL, &o, &e);
        }
        if (m.kind == MSG_OFFER_OK && m.offer_ok.verdict == OFFER_UPLOAD) {
            struct msg c = {.kind = MSG_CHUNK, .chunk = {.transfer = m.offer_ok.transfer[0], .last = true, .bytes = {(const char *)&m.offer_ok.task, 8}}};

            peer_send(a.peer, NULL, &c, &e);
        }
        if (m.kind == MSG_RESULT_OK || (m.kind == MSG_OFFER_OK && m.offer_ok.verdict != OFFER_UPLOAD))
            for (size_t i = 0; i < n_held; i++)
                if (held[i].task == (m.kind == MSG_RESULT_OK ? m.result_ok.task : m.offer_ok.task)) held[i--] = held[--n_held];
    }
}

/* An answer, or false after a while: the broker may be dead. The while is longer each time that it was in vain: or its disk is slow. */
static bool try_ask(struct actor *a, struct msg *m, struct msg *got)
{
    static int64_t patience_ms = 400;
    struct err     e;
    int64_t        until = now_ms() + patience_ms;
    bool           is = false;

    patience_ms = patience_ms < 8000 ? 2 * patience_ms : patience_ms;
    m->correlation = ++a->correlation;
    for (; peer_send(a->peer, NULL, m, &e) == ERR_BUSY; sleep_ms(1))
        if (now_ms() > until) return false;
    while (!(is = actor_find(a, 0, m->correlation, got)) && (actor_read(a, 50) || now_ms() <= until)) continue;
    if (is) patience_ms = 400;
    return is && got->kind != MSG_ERROR;
}

/* Two workers, a client who submits one job after the other, and a broker killed again and again: every job that was acknowledged ends,
 * every task of it is DONE exactly once, with the right bytes, however often it was killed. */
static void test_storm(void **state)
{
    enum { JOBS = 60, TASKS = 8, KILLS = 12 };
    struct farm  f;
    struct actor c;
    pid_t        worker[2];
    int          n_acked = 0, n_kills = 0, status;
    unsigned     dice = 4711;
    int64_t      until = now_ms() + 240000;
    uint64_t     cursor = 0, last_seq = 0;
    static int   done[JOBS + 1][TASKS];
    size_t       n_done = 0;

    (void)state;
    farm_open(&f);
    farm_start(&f);
    for (int i = 0; i < 2; i++)
        if ((worker[i] = fork()) == 0) { /* a process of its own: ZeroMQ does not survive a fork */
            execl("/proc/self/exe", "storm", "--storm", f.endpoint, i ? "second" : "first", NULL);
            _exit(99);
        }
    actor_open(&c, f.endpoint, ROLE_CLIENT);
    while ((n_acked < JOBS || n_done < JOBS * TASKS) && now_ms() < until) {
        struct item item[TASKS];
        char        name[20];
        struct msg  m = {.kind = MSG_SUBMIT, .submit = {.n_tasks = TASKS, .item = item, .n_items = TASKS}}, got;
        bool        ok;

        if (n_kills < KILLS && n_acked >= (n_kills + 1) * JOBS / (KILLS + 1)) { /* by what was done, not by the clock: a fast disk is struck as often */
            dice = dice * 1103515245u + 12345u;
            sleep_ms((dice >> 16) % 30); /* the workers go on meanwhile */
            farm_kill(&f);
            farm_start(&f);
            n_kills++;
        }
        snprintf(name, sizeof name, "storm %d", n_acked);
        memcpy(m.submit.key, name, KEY_BYTES);
        for (int i = 0; i < TASKS; i++) {
            item[i] = (struct item){.n_images = 1};
            spec_init(&item[i].spec);
            item[i].spec.seed = (uint64_t)i;
        }
        if (n_acked < JOBS) {
            ok = try_ask(&c, &m, &got);
            if (ok) n_acked++;
            if (ok) assert_true(got.submit_ok.job >= 1 && got.submit_ok.job <= JOBS); /* no job twice under one key, no id without a job */
        } else {
            ok = true;
        }
        m = (struct msg){.kind = MSG_EVENTS, .events = {.cursor = cursor, .limit = EVENTS_MAX, .wait_ms = 20}};
        if (ok && (ok = try_ask(&c, &m, &got))) {
            cursor = got.events_ok.next_cursor;
            for (size_t i = 0; i < got.events_ok.n_events; i++) {
                const struct task_info *t = &got.events_ok.event[i];

                assert_true(t->seq > last_seq); /* in order, none twice */
                last_seq = t->seq;
                if (t->state != TASK_DONE) continue;
                assert_int_equal(done[t->job][t->index]++, 0); /* a result that was announced stays the only one */
                n_done++;
            }
        }
        if (ok) continue;
        actor_again(&c, f.endpoint);
        arena_reset(&c.arena, 0);
        m = (struct msg){.kind = MSG_HELLO, .hello = {.role = ROLE_CLIENT, .major = WIRE_MAJOR}};
        try_ask(&c, &m, &got);
    }
    if (n_acked < JOBS || n_done < JOBS * TASKS) print_message("acked %d, done %zu, kills %d\n", n_acked, n_done, n_kills);
    assert_int_equal(n_acked, JOBS);
    assert_int_equal(n_done, JOBS * TASKS);
    assert_int_equal(n_kills, KILLS);
    for (int i = 0; i < 2; i++) {
        kill(worker[i], SIGKILL);
        waitpid(worker[i], &status, 0);
    }
    farm_kill(&f);
    farm_start(&f);
    actor_again(&c, f.endpoint);
    actor_hello(&c, NULL, 0);
    for (uint64_t job = 1; job <= JOBS; job++) {
        struct msg got = show(&c, job);
        char       bytes[8];

        assert_int_equal(got.show_ok.job.n_done, TASKS);
        for (int i = 0; i < TASKS; i += 7) {
            uint64_t task = got.show_ok.task[i].info.task;

            assert_int_equal(actor_fetch(&c, task, PART_IMAGE, 0, 1000 + job * 8 + (uint64_t)i, bytes, 8), 8);
            assert_memory_equal(bytes, &task, 8);
        }
    }
    assert_int_equal(n_blobs(&f), JOBS * TASKS);
    actor_close(&c);
    farm_close(&f);
}

/* ---- the folder ---- */
static void test_two_brokers(void **state)
{
    struct farm f;
    char        said[400], text[1000] = "", pid[32], other[400];
    int         err[2], status;
    pid_t       second;

    (void)state;
    farm_open(&f);
    farm_start(&f);
    snprintf(other, sizeof other, "ipc://%s/other", f.tmp.dir);
    assert_int_equal(pipe(err), 0);
    second = spawn_broker(f.data, other, NULL, err[1], said, sizeof said);
    close(err[1]);
    assert_int_equal(waitpid(second, &status, 0), second);
    assert_int_equal(WEXITSTATUS(status), 1);
    assert_true(read(err[0], text, sizeof text - 1) > 0);
    close(err[0]);
    snprintf(pid, sizeof pid, "pid %d", (int)f.pid);
    assert_non_null(strstr(text, "in use by another zfarm-broker"));
    assert_non_null(strstr(text, pid));
    assert_string_equal(said, "");
    farm_close(&f);
}

/* A disk that fills while work is under way: new work is refused and says when to ask again, results wait at their worker, who waits for them
 * is told why, and what frees room - CANCEL, COLLECTED - is done. With room again everything that was accepted comes to its end. */
static void test_full_disk(void **state)
{
    struct farm  f;
    struct actor c, w;
    struct tmp   disk;
    struct lease l[2];
    struct msg   got, m;
    char         filler[512], name[32], back[100];
    int64_t      free_bytes, until;
    uint64_t     job, waits;
    void        *zeros;

    (void)state;
    if (!tmp_open_small(&disk, 64 << 20)) {
        print_message("skipped: a small disk needs the right to mount\n");
        return;
    }
    farm_open(&f);
    snprintf(f.data, sizeof f.data, "%.250s/data", disk.dir);
    f.retention = "0";
    farm_start(&f);
    actor_open(&c, f.endpoint, ROLE_CLIENT);
    actor_open(&w, f.endpoint, ROLE_WORKER);
    w.capacity = 2;
    actor_hello(&c, NULL, 0);
    actor_hello(&w, NULL, 0);
    job = actor_submit(&c, "before", 1, 2, "", MSG_SUBMIT_OK).submit_ok.job;
    for (int i = 0; i < 2; i++) l[i] = actor_take(&w, MSG_LEASE).lease;
    actor_deliver(&w, &l[0], small());
    waits = actor_submit(&c, "waits", 1, 3, "another-model", MSG_SUBMIT_OK).submit_ok.job;
    snprintf(filler, sizeof filler, "%s", tmp_path(&disk, "filler"));
    free_bytes = file_free_bytes(disk.dir);
    zeros = calloc(1, (size_t)free_bytes);
    tmp_write(&disk, "filler", zeros, (size_t)free_bytes - 4096);
    free(zeros);
    sleep_ms(100); /* what it saw of the disk before is too old by then, on any machine: broker.c's LOOK_MS is 50 */
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "refused %d", i);
        got = actor_submit(&c, name, 1, 1, "", MSG_ERROR);
        assert_int_equal(got.error.code, WIRE_BUSY);
        assert_true(got.error.retry_after_ms >= 1000);
    }
    m = (struct msg){.kind = MSG_OFFER, .offer = offer_of(&l[1], small(), (struct str){0})};
    m.offer.bytes[0] = small();
    expect_error(&w, &m, WIRE_BUSY, "disk is full");
    for (until = now_ms() + ACTOR_WAIT_MS; now_ms() < until;) {
        got = actor_events(&c, job, 0, 0);
        if (got.events_ok.job.why.len) break;
        actor_beat(&w, &l[1], 1, STAGE_UPLOAD, 8);
        sleep_ms(50);
    }
    assert_true(str_starts(got.events_ok.job.why, "the broker's disk is full"));
    assert_int_equal(actor_fetch(&c, l[0].task, PART_IMAGE, 0, 1, back, sizeof back), small().len); /* reading needs no room */
    assert_int_equal(actor_ask(&c, &(struct msg){.kind = MSG_CANCEL, .cancel.job = waits}, MSG_CANCEL_OK).cancel_ok.n_canceled, 3); /* the ballast went */
    m = (struct msg){.kind = MSG_COLLECTED, .collected = {.task = (uint64_t[]){l[0].task}, .n_tasks = 1}};
    assert_int_equal(actor_ask(&c, &m, MSG_COLLECTED_OK).collected_ok.n_known, 1);
    farm_kill(&f); /* all of that was promised */
    assert_int_equal(unlink(filler), 0);
    farm_start(&f);
    actor_again(&c, f.endpoint);
    actor_again(&w, f.endpoint);
    actor_hello(&c, NULL, 0);
    assert_int_equal(actor_hello(&w, (struct held[]){{l[1].task, l[1].epoch}}, 1).welcome.n_drop, 0);
    m = (struct msg){.kind = MSG_OFFER, .offer = offer_of(&l[1], small(), (struct str){0})};
    m.offer.bytes[0] = small();
    actor_ask(&w, &m, MSG_RESULT_OK);
    got = show(&c, job);
    assert_int_equal(got.show_ok.job.n_done, 2);
    assert_int_equal(got.show_ok.job.n_collected, 1);
    assert_int_equal(show(&c, waits).show_ok.job.n_canceled, 3);
    actor_submit(&c, "after", 1, 1, "", MSG_SUBMIT_OK);
    actor_close(&c);
    actor_close(&w);
    farm_close(&f);
    tmp_close(&disk);
}

/* The third start within minutes after ends in disorder gives nothing out, and says so, until somebody says resume; an end in order begins anew. */
static void test_crash_guard(void **state)
{
    struct farm  f;
    struct actor c, w;
    struct msg   got, resume = {.kind = MSG_CONTROL, .control = {.verb = CONTROL_RESUME}};
    uint64_t     job;

    (void)state;
    setenv("ACTORS_GUARD", "3", 1);
    farm_open(&f);
    farm_start(&f);
    for (int i = 0; i < 3; i++) {
        farm_kill(&f);
        farm_start(&f);
    }
    actor_open(&c, f.endpoint, ROLE_CLIENT);
    actor_open(&w, f.endpoint, ROLE_WORKER);
    actor_hello(&c, NULL, 0);
    actor_hello(&w, NULL, 0);
    job = actor_submit(&c, "waits", 1, 1, "", MSG_SUBMIT_OK).submit_ok.job;
    got = actor_events(&c, job, 0, 0);
    assert_true(str_starts(got.events_ok.job.why, "the broker crashed again and again"));
    assert_int_equal(actor_ask(&c, &resume, MSG_CONTROL_OK).control_ok.n, 1);
    actor_take(&w, MSG_LEASE);
    assert_int_equal(farm_end(&f, SIGTERM), 0);
    farm_start(&f);
    actor_again(&c, f.endpoint);
    actor_hello(&c, NULL, 0);
    got = actor_events(&c, job, 0, 0);
    assert_false(str_starts(got.events_ok.job.why, "the broker crashed"));
    actor_close(&c);
    actor_close(&w);
    farm_close(&f);
    unsetenv("ACTORS_GUARD");
}

/* ---- shares ---- */
/* The class a job was submitted with, and whose it is, are remembered; an interactive job passes a bulk one that came first. */
static void test_classes(void **state)
{
    struct farm  f;
    struct actor c, w;
    struct item  it = {.n_images = 3};
    struct msg   m = {.kind = MSG_SUBMIT, .submit = {.key = "bulk", .name = str_of("bulk"), .n_tasks = 3, .item = &it, .n_items = 1, .job_class = CLASS_BULK}};
    struct msg   got;
    uint64_t     bulk, fast;

    (void)state;
    farm_open(&f);
    farm_start(&f);
    actor_open(&c, f.endpoint, ROLE_CLIENT);
    actor_open(&w, f.endpoint, ROLE_WORKER);
    actor_hello(&c, NULL, 0);
    spec_init(&it.spec);
    bulk = actor_ask(&c, &m, MSG_SUBMIT_OK).submit_ok.job;
    m.submit.key[0] = 'f';
    m.submit.job_class = CLASS_INTERACTIVE;
    fast = actor_ask(&c, &m, MSG_SUBMIT_OK).submit_ok.job;
    farm_kill(&f);
    farm_start(&f);
    actor_again(&c, f.endpoint);
    actor_hello(&c, NULL, 0);
    got = actor_ask(&c, &(struct msg){.kind = MSG_JOBS, .jobs = {.limit = 9}}, MSG_JOBS_OK);
    assert_int_equal(got.jobs_ok.n_jobs, 2);
    assert_int_equal(got.jobs_ok.job[0].job_class, CLASS_INTERACTIVE);
    assert_int_equal(got.jobs_ok.job[1].job_class, CLASS_BULK);
    assert_true(str_eq(got.jobs_ok.job[1].client, str_of("cl")));
    actor_hello(&w, NULL, 0);
    assert_int_equal(actor_take(&w, MSG_LEASE).lease.job, fast);
    got = actor_ask(&c, &(struct msg){.kind = MSG_JOBS, .jobs = {.job = bulk, .limit = 1}}, MSG_JOBS_OK);
    assert_non_null(strstr(got.jobs_ok.job[0].why.at, "more urgent jobs"));
    actor_close(&c);
    actor_close(&w);
    farm_close(&f);
}

/* ---- people decide ---- */
/* A failed image is tried again when asked, with all its attempts, also after a restart; a drained worker gets nothing until it may. */
static void test_requeue_and_drain(void **state)
{
    struct farm  f;
    struct actor c, w;
    struct lease l;
    struct msg   got, requeue = {.kind = MSG_CONTROL, .control = {.verb = CONTROL_REQUEUE}};
    struct msg   drain = {.kind = MSG_CONTROL, .control = {.verb = CONTROL_DRAIN, .worker = str_of("wk")}};

    (void)state;
    farm_open(&f);
    farm_start(&f);
    actor_open(&c, f.endpoint, ROLE_CLIENT);
    actor_open(&w, f.endpoint, ROLE_WORKER);
    actor_hello(&c, NULL, 0);
    actor_hello(&w, NULL, 0);
    requeue.control.job = actor_submit(&c, "dead", 1, 2, "", MSG_SUBMIT_OK).submit_ok.job;
    l = actor_take(&w, MSG_LEASE).lease;
    actor_ask(&w, &(struct msg){.kind = MSG_FAILED, .failed = {.task = l.task, .epoch = l.epoch, .why = FAIL_INVALID, .text = str_of("no")}}, MSG_FAILED_OK);
    l = actor_take(&w, MSG_LEASE).lease;
    actor_deliver(&w, &l, small());
    drain.correlation = 0;
    assert_int_equal(actor_ask(&c, &drain, MSG_CONTROL_OK).control_ok.n, 1);
    assert_int_equal(actor_ask(&c, &drain, MSG_CONTROL_OK).control_ok.n, 0);
    assert_int_equal(actor_ask(&c, &requeue, MSG_CONTROL_OK).control_ok.n, 1);
    assert_int_equal(actor_ask(&c, &requeue, MSG_CONTROL_OK).control_ok.n, 0); /* it is not failed any more */
    got = actor_ask(&c, &(struct msg){.kind = MSG_SHOW, .show = {.job = requeue.control.job, .limit = 1}}, MSG_SHOW_OK);
    assert_int_equal(got.show_ok.task[0].info.state, TASK_QUEUED);
    assert_int_equal(got.show_ok.task[0].info.attempts, 0);
    assert_int_equal(got.show_ok.job.n_failed, 0);
    assert_non_null(strstr(got.show_ok.job.why.at, "draining"));
    actor_read(&w, 200);
    assert_false(actor_find(&w, MSG_LEASE, 0, &got));
    farm_kill(&f);
    farm_start(&f);
    actor_again(&c, f.endpoint);
    actor_again(&w, f.endpoint);
    actor_hello(&c, NULL, 0);
    got = actor_ask(&c, &(struct msg){.kind = MSG_SHOW, .show = {.job = requeue.control.job, .limit = 1}}, MSG_SHOW_OK);
    assert_int_equal(got.show_ok.task[0].info.state, TASK_QUEUED);
    actor_hello(&w, NULL, 0);
    got = actor_ask(&c, &(struct msg){.kind = MSG_WORKERS}, MSG_WORKERS_OK); /* it is drained through a restart of both */
    assert_true(str_is(got.workers_ok.worker[0].state, "drained") && strstr(got.workers_ok.worker[0].why.at, "somebody drained it"));
    actor_read(&w, 200);
    assert_false(actor_find(&w, MSG_LEASE, 0, &got));
    drain.control.verb = CONTROL_UNDRAIN;
    assert_int_equal(actor_ask(&c, &drain, MSG_CONTROL_OK).control_ok.n, 1);
    l = actor_take(&w, MSG_LEASE).lease;
    assert_int_equal(l.index, 0);
    drain.control.verb = CONTROL_DRAIN;
    assert_int_equal(actor_ask(&c, &drain, MSG_CONTROL_OK).control_ok.n, 1); /* what it holds it finishes */
    actor_deliver(&w, &l, small());
    actor_submit(&c, "next", 1, 1, "", MSG_SUBMIT_OK);
    drain.control.verb = CONTROL_UNDRAIN;
    assert_int_equal(actor_ask(&c, &drain, MSG_CONTROL_OK).control_ok.n, 1);
    actor_take(&w, MSG_LEASE);
    drain.control.worker = str_of("nobody");
    expect_error(&c, &drain, WIRE_NOT_FOUND, "no worker");
    requeue.control.job = 99;
    expect_error(&c, &requeue, WIRE_NOT_FOUND, "no job");
    actor_close(&c);
    actor_close(&w);
    farm_close(&f);
}

/* ---- the end ---- */
static void test_shutdown_and_retention(void **state)
{
    struct farm  f;
    struct actor c, w;
    struct lease l;
    bool         said = false;

    (void)state;
    farm_open(&f);
    f.retention = "0";
    farm_start(&f);
    actor_open(&c, f.endpoint, ROLE_CLIENT);
    actor_open(&w, f.endpoint, ROLE_WORKER);
    actor_hello(&c, NULL, 0);
    actor_hello(&w, NULL, 0);
    actor_submit(&c, "end", 1, 1, "", MSG_SUBMIT_OK);
    l = actor_take(&w, MSG_LEASE).lease;
    actor_deliver(&w, &l, small());
    assert_int_equal(n_blobs(&f), 1);
    actor_ask(&c, &(struct msg){.kind = MSG_COLLECTED, .collected = {.task = &l.task, .n_tasks = 1}}, MSG_COLLECTED_OK);
    for (int64_t until = now_ms() + ACTOR_WAIT_MS; n_blobs(&f) && now_ms() < until;) sleep_ms(50); /* a tick or two */
    assert_int_equal(n_blobs(&f), 0);
    expect_error(&c, &(struct msg){.kind = MSG_FETCH, .fetch = {.task = l.task, .kind = PART_IMAGE, .credit_bytes = 1, .transfer = 1}}, WIRE_NOT_FOUND, "retention");
    for (int i = 0; i < 20 && !said; i++) {
        kill(f.pid, SIGTERM);
        said = actor_sees_end(&c);
        assert_int_equal(farm_end(&f, SIGTERM), 0);
        farm_start(&f); /* a row without images is no damage */
        actor_again(&c, f.endpoint);
        actor_hello(&c, NULL, 0);
    }
    assert_true(said);
    actor_close(&c);
    actor_close(&w);
    farm_close(&f);
}

int main(int argc, char **argv)
{
    int                     code = actors_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),      cmocka_unit_test(test_kill_at_every_step), cmocka_unit_test(test_storm),
        cmocka_unit_test(test_two_brokers), cmocka_unit_test(test_full_disk), cmocka_unit_test(test_crash_guard),          cmocka_unit_test(test_shutdown_and_retention),
        cmocka_unit_test(test_classes),     cmocka_unit_test(test_requeue_and_drain),
    };

    if (code >= 0) return code;
    if (argc == 4 && strcmp(argv[1], "--storm") == 0) storm_worker(argv[2], argv[3]);
    code = cmocka_run_group_tests(tests, NULL, NULL);
    if (code == 0) peer_shutdown(); /* a test that failed left its peers open: that would wait for ever */
    return code;
}
