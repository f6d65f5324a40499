/* test_store.c - results in their two homes, through a real broker: small ones are rows and ride in messages; kill -9 after every word about them, one
 * content for many tasks, retention. */
#include "tests/broker/actors.h"

enum { TASKS = 3 };
enum step { SUBMITTED, LEASED, ONE_OFFERED, ALL_OFFERED, UNHEARD, SEEN, FETCHED, COLLECTED, N_STEPS };

static struct str bytes_of(uint64_t task) /* of the third the same as of the second: one row */
{
    static char at[TASKS][40];
    uint64_t    i = task & 3;

    snprintf(at[i], sizeof at[i], "what task %d looks like", (int)(i == 2 ? 1 : i));
    return str_of(at[i]);
}

static struct offer small_offer(const struct lease *l)
{
    struct offer o = offer_of(l, bytes_of(l->task), (struct str){0});

    o.bytes[0] = bytes_of(l->task);
    return o;
}

/* A job of three images from the first word to the last; the broker is killed right after step `at`, or not at all. */
static void walk(int at)
{
    struct farm  f;
    struct actor c, w;
    struct lease l[TASKS] = {{0}};
    struct offer o[TASKS];
    struct held  held[TASKS];
    struct msg   got, m;
    uint64_t     job = 0, cursor = 0, task[TASKS];
    size_t       n_held = 0, n_done = 0;
    char         back[100];

    farm_open(&f);
    f.retention = "0";
    farm_start(&f);
    actor_open(&c, f.endpoint, ROLE_CLIENT);
    actor_open(&w, f.endpoint, ROLE_WORKER);
    w.capacity = TASKS;
    actor_hello(&c, NULL, 0);
    actor_hello(&w, NULL, 0);
    for (int step = 0; step < N_STEPS; step++) {
        switch (step) {
        case SUBMITTED: job = actor_submit(&c, "small", 1, TASKS, "", MSG_SUBMIT_OK).submit_ok.job; break;
        case LEASED:
            for (int i = 0; i < TASKS; i++) l[i] = actor_take(&w, MSG_LEASE).lease;
            break;
        case ONE_OFFERED:
            m = (struct msg){.kind = MSG_OFFER, .offer = small_offer(&l[0])};
            actor_ask(&w, &m, MSG_RESULT_OK);
            break;
        case ALL_OFFERED:
        case UNHEARD: /* sent again, and the broker dies before it, or after it: the answer is lost */
            for (int i = 0; i < TASKS; i++) o[i] = small_offer(&l[i]);
            m = (struct msg){.kind = MSG_OFFERS, .offers = {o, TASKS}};
            if (step == UNHEARD && at == UNHEARD) {
                actor_send(&w, &m);
                break;
            }
            got = actor_ask(&w, &m, MSG_OFFERS_OK);
            for (int i = 0; i < TASKS; i++) assert_int_equal(got.offers_ok.offer[i].verdict, OFFER_HAVE);
            break;
        case SEEN:
            while (n_done < TASKS) {
                m = (struct msg){.kind = MSG_EVENTS, .events = {.job = job, .cursor = cursor, .limit = EVENTS_MAX, .wait_ms = 1000, .inline_bytes = 100}};
                got = actor_ask(&c, &m, MSG_EVENTS_OK);
                cursor = got.events_ok.next_cursor;
                for (size_t i = 0; i < got.events_ok.n_events; i++) {
                    const struct task_info *t = &got.events_ok.event[i];

                    assert_int_equal(t->state, TASK_DONE);
                    if (t->bytes[0].len) assert_true(str_eq(t->bytes[0], bytes_of(t->task)));
                    task[n_done++] = t->task;
                }
            }
            break;
        case FETCHED:
            for (size_t i = 0; i < TASKS; i++) {
                struct str want = bytes_of(task[i]);

                assert_int_equal(actor_fetch(&c, task[i], PART_IMAGE, 0, i + 1, back, sizeof back), want.len);
                assert_memory_equal(back, want.at, want.len);
            }
            assert_int_equal(n_blobs(&f), 2); /* two contents of three images */
            break;
        case COLLECTED:
            actor_ask(&c, &(struct msg){.kind = MSG_COLLECTED, .collected = {.task = task, .n_tasks = TASKS}}, MSG_COLLECTED_OK);
            break;
        }
        if (step != at) continue;
        farm_kill(&f);
        farm_start(&f);
        actor_again(&c, f.endpoint);
        actor_again(&w, f.endpoint);
        actor_hello(&c, NULL, 0);
        for (int i = 0; i < TASKS; i++)
            if (l[i].task && step <= UNHEARD) held[n_held++] = (struct held){l[i].task, l[i].epoch};
        actor_hello(&w, held, n_held);
    }
    assert_int_equal(n_done, TASKS);
    got = actor_events(&c, job, cursor, 0);
    assert_int_equal(got.events_ok.n_events, 0); /* DONE once each, and nothing after it */
    assert_int_equal(got.events_ok.job.n_done, TASKS);
    assert_int_equal(got.events_ok.job.n_collected, TASKS);
    for (int64_t until = now_ms() + ACTOR_WAIT_MS; n_blobs(&f) && now_ms() < until;) sleep_ms(50); /* retention 0: with the last that names them */
    assert_int_equal(n_blobs(&f), 0);
    farm_kill(&f);
    farm_start(&f);
    actor_close(&c);
    actor_close(&w);
    farm_close(&f);
}

static void test_kill_at_every_step(void **state)
{
    (void)state;
    for (int at = -1; at < N_STEPS; at++) walk(at);
}

int main(int argc, char **argv)
{
    int                     code = actors_main(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill_at_every_step)};

    if (code >= 0) return code;
    code = cmocka_run_group_tests(tests, NULL, NULL);
    if (code == 0) peer_shutdown(); /* a test that failed left its peers open: that would wait for ever */
    return code;
}
