/* test_tenants.c - a broker with keys: roles, accounts that do not see each other (X10), revocation on open connections (X1). */
#include "tests/broker/actors.h"

#include <sys/stat.h>

#include "proto/keyring.h"

static struct farm    farm;
static struct key     server, alice, bob, boss, gpu, gpu2;
static struct keyring ring;
static char           keys_dir[300], accounts[320];

static void account(struct key *k, const char *name, enum key_role role)
{
    struct err e = {0};

    key_make(k, name, role, server.public_key);
    if (keyring_add(&ring, name, role, k->public_key, &e)) fail_msg("%s", e.text);
}

static void save_accounts(void)
{
    struct err e = {0};

    if (keyring_write(&ring, accounts, &e)) fail_msg("%s", e.text);
}

static int setup(void **state)
{
    char       path[320];
    struct err e = {0};

    (void)state;
    farm_open(&farm);
    snprintf(farm.endpoint, sizeof farm.endpoint, "tcp://127.0.0.1:*");
    snprintf(keys_dir, sizeof keys_dir, "%s/keys", farm.tmp.dir);
    snprintf(accounts, sizeof accounts, "%s/accounts", keys_dir);
    snprintf(path, sizeof path, "%s/server.key", keys_dir);
    mkdir(keys_dir, 0700);
    key_make(&server, "server", KEY_BROKER, NULL);
    if (key_write(&server, path, &e)) fail_msg("%s", e.text);
    account(&alice, "alice", KEY_CLIENT);
    account(&bob, "bob", KEY_CLIENT);
    account(&boss, "boss", KEY_ADMIN);
    account(&gpu, "gpu", KEY_WORKER);
    account(&gpu2, "gpu2", KEY_WORKER);
    save_accounts();
    setenv("ZFARM_KEYS", keys_dir, 1);
    farm_start(&farm);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    farm_close(&farm);
    keyring_release(&ring);
    unsetenv("ZFARM_KEYS");
    return 0;
}

static void open_as(struct actor *a, enum role role, const struct key *k)
{
    struct err e = {0};

    actor_open(a, farm.endpoint, role);
    peer_close(a->peer);
    if (peer_connect_as(&a->peer, farm.endpoint, k, &e)) fail_msg("%s", e.text);
}

static struct msg hello_of(struct actor *a, enum role role)
{
    struct msg m = {.kind = MSG_HELLO, .hello = {.role = role, .major = WIRE_MAJOR, .minor = WIRE_MINOR, .name = str_of("root@everywhere:1"), .version = str_of("1")}};

    memcpy(m.hello.instance, a->instance, KEY_BYTES);
    return m;
}

static void refused_hello(const struct key *k, enum role role, const char *word)
{
    struct actor a;
    struct msg   m;

    open_as(&a, role, k);
    m = hello_of(&a, role);
    expect_error(&a, &m, WIRE_DENIED, word);
    m = (struct msg){.kind = MSG_WORKERS}; /* and it is nobody still */
    expect_error(&a, &m, WIRE_UNKNOWN_SESSION, "HELLO");
    actor_close(&a);
}

static void roles(void **state)
{
    struct actor c, w;
    struct msg   m;

    (void)state;
    refused_hello(&alice, ROLE_WORKER, "not for a worker");
    refused_hello(&boss, ROLE_WORKER, "not for a worker");
    refused_hello(&gpu, ROLE_CLIENT, "not for a client");
    open_as(&w, ROLE_WORKER, &gpu);
    actor_hello(&w, NULL, 0);
    open_as(&c, ROLE_CLIENT, &alice);
    actor_hello(&c, NULL, 0);
    m = (struct msg){.kind = MSG_CONTROL, .control = {.verb = CONTROL_DRAIN, .worker = str_of("wk")}};
    expect_error(&c, &m, WIRE_DENIED, "for admins");
    m = (struct msg){.kind = MSG_READY, .ready = {1}};
    expect_error(&c, &m, WIRE_PROTOCOL, "worker's message");
    m = (struct msg){.kind = MSG_JOBS, .jobs = {.limit = 1}};
    expect_error(&w, &m, WIRE_PROTOCOL, "client's message");
    actor_close(&c);
    open_as(&c, ROLE_CLIENT, &boss);
    actor_hello(&c, NULL, 0);
    m = actor_ask(&c, &(struct msg){.kind = MSG_CONTROL, .control = {.verb = CONTROL_DRAIN, .worker = str_of("wk")}}, MSG_CONTROL_OK);
    assert_int_equal(m.control_ok.n, 1);
    actor_close(&c);
    actor_close(&w);
}

static void not_found(struct actor *a, struct msg m)
{
    expect_error(a, &m, WIRE_NOT_FOUND, "there is no ");
}

/* Every way to name something of somebody else's answers as if it were not there. */
static void tenants(void **state)
{
    static struct actor a, b, w;
    uint64_t            job, task;
    struct lease        lease;
    struct msg          m;
    char                page[100];

    (void)state;
    open_as(&a, ROLE_CLIENT, &alice);
    open_as(&b, ROLE_CLIENT, &bob);
    open_as(&w, ROLE_WORKER, &gpu);
    actor_hello(&a, NULL, 0);
    actor_hello(&b, NULL, 0); /* of the same name as alice's: it is the key that counts */
    actor_hello(&w, NULL, 0);
    job = actor_submit(&a, "mine", 2, 1, "", MSG_SUBMIT_OK).submit_ok.job;
    lease = actor_take(&w, MSG_LEASE).lease;
    task = lease.task;

    m = actor_ask(&b, &(struct msg){.kind = MSG_WORKERS}, MSG_WORKERS_OK); /* at work, but on what is not bob's to know */
    assert_int_equal(m.workers_ok.n_workers, 1);
    assert_int_equal(m.workers_ok.worker[0].n_held, 1);
    assert_int_equal(m.workers_ok.worker[0].n_progress, 0);
    m = actor_ask(&a, &(struct msg){.kind = MSG_WORKERS}, MSG_WORKERS_OK);
    assert_int_equal(m.workers_ok.worker[0].n_progress, 1);
    actor_deliver(&w, &lease, small());

    not_found(&b, (struct msg){.kind = MSG_JOBS, .jobs = {.job = job, .limit = 1}});
    not_found(&b, (struct msg){.kind = MSG_SHOW, .show = {.job = job, .limit = 1}});
    not_found(&b, (struct msg){.kind = MSG_EVENTS, .events = {.job = job, .limit = 1}});
    not_found(&b, (struct msg){.kind = MSG_CANCEL, .cancel = {job}});
    not_found(&b, (struct msg){.kind = MSG_FETCH, .fetch = {.task = task, .kind = PART_IMAGE, .credit_bytes = 1000, .transfer = 1}});
    not_found(&b, (struct msg){.kind = MSG_CONTROL, .control = {.verb = CONTROL_REQUEUE, .job = job}});
    m = actor_ask(&b, &(struct msg){.kind = MSG_COLLECTED, .collected = {.task = &task, .n_tasks = 1}}, MSG_COLLECTED_OK);
    assert_int_equal(m.collected_ok.n_known, 0);
    m = actor_ask(&b, &(struct msg){.kind = MSG_JOBS, .jobs = {.limit = 10}}, MSG_JOBS_OK);
    assert_int_equal(m.jobs_ok.n_jobs, 0);
    m = actor_ask(&b, &(struct msg){.kind = MSG_EVENTS, .events = {.limit = EVENTS_MAX, .wait_ms = 300}}, MSG_EVENTS_OK);
    assert_int_equal(m.events_ok.n_events, 0);
    assert_int_equal(m.events_ok.n_progress, 0);
    m = actor_submit(&b, "mine", 2, 1, "", MSG_ERROR); /* the very same key and content: not answered as a duplicate */
    assert_int_equal(m.error.code, WIRE_CONFLICT);

    /* bob's own events are found behind alice's */
    job = actor_submit(&b, "his", 1, 1, "", MSG_SUBMIT_OK).submit_ok.job;
    actor_ask(&b, &(struct msg){.kind = MSG_CANCEL, .cancel = {job}}, MSG_CANCEL_OK);
    m = actor_ask(&b, &(struct msg){.kind = MSG_EVENTS, .events = {.limit = EVENTS_MAX, .wait_ms = 10000}}, MSG_EVENTS_OK);
    assert_int_equal(m.events_ok.n_events, 1);
    assert_int_equal(m.events_ok.event[0].job, job);
    not_found(&a, (struct msg){.kind = MSG_SHOW, .show = {.job = job, .limit = 1}});

    /* alice's things are untouched, and hers */
    m = actor_ask(&a, &(struct msg){.kind = MSG_JOBS, .jobs = {.limit = 10}}, MSG_JOBS_OK);
    assert_int_equal(m.jobs_ok.n_jobs, 1);
    assert_int_equal(m.jobs_ok.job[0].n_done, 1);
    assert_int_equal(m.jobs_ok.job[0].n_canceled, 0);
    assert_int_equal(m.jobs_ok.job[0].n_collected, 0);
    assert_true(str_is(m.jobs_ok.job[0].client, "alice"));
    assert_int_equal(actor_fetch(&a, task, PART_IMAGE, 0, 9, page, sizeof page), small().len);
    actor_close(&a);

    open_as(&a, ROLE_CLIENT, &boss); /* an admin sees all */
    actor_hello(&a, NULL, 0);
    m = actor_ask(&a, &(struct msg){.kind = MSG_JOBS, .jobs = {.limit = 10}}, MSG_JOBS_OK);
    assert_int_equal(m.jobs_ok.n_jobs, 2);
    assert_int_equal(actor_fetch(&a, task, PART_IMAGE, 0, 9, page, sizeof page), small().len);
    actor_close(&a);
    actor_close(&b);
    actor_close(&w);
}

/* A worker is its key and its instance: knowing the latter is not enough to take over what it holds. */
static void stolen_instance(void **state)
{
    static struct actor a, w, thief;
    struct lease        lease;
    struct msg          m;

    (void)state;
    open_as(&a, ROLE_CLIENT, &alice);
    open_as(&w, ROLE_WORKER, &gpu);
    open_as(&thief, ROLE_WORKER, &gpu2);
    memcpy(thief.instance, w.instance, KEY_BYTES);
    actor_hello(&a, NULL, 0);
    actor_hello(&w, NULL, 0);
    actor_submit(&a, "x", 1, 1, "", MSG_SUBMIT_OK);
    lease = actor_take(&w, MSG_LEASE).lease;
    m = hello_of(&thief, ROLE_WORKER);
    expect_error(&thief, &m, WIRE_DENIED, "another key");
    actor_deliver(&w, &lease, small());
    actor_close(&a);
    actor_close(&w);
    actor_close(&thief);
}

/* Its next message is refused, its session is over, what it held goes to others, and the door stays shut. */
static void revoked(void **state)
{
    static struct actor a, b, w, w2;
    struct err          e = {0};
    struct msg          m;
    uint64_t            task;

    (void)state;
    open_as(&a, ROLE_CLIENT, &alice);
    open_as(&b, ROLE_CLIENT, &bob);
    open_as(&w, ROLE_WORKER, &gpu);
    actor_hello(&a, NULL, 0);
    actor_hello(&b, NULL, 0);
    actor_hello(&w, NULL, 0);
    actor_submit(&b, "his", 1, 1, "", MSG_SUBMIT_OK);
    task = actor_take(&w, MSG_LEASE).lease.task;

    assert_int_equal(keyring_revoke(&ring, "alice", NULL), 1);
    assert_int_equal(keyring_revoke(&ring, "gpu", NULL), 1);
    save_accounts();
    m = actor_take(&a, MSG_ERROR); /* told unasked, on its tick */
    assert_int_equal(m.error.code, WIRE_DENIED);
    m = actor_take(&w, MSG_ERROR);
    assert_int_equal(m.error.code, WIRE_DENIED);
    m = (struct msg){.kind = MSG_JOBS, .jobs = {.limit = 1}};
    expect_error(&a, &m, WIRE_DENIED, "revoked");
    m = hello_of(&a, ROLE_CLIENT);
    expect_error(&a, &m, WIRE_DENIED, "revoked");
    m = (struct msg){.kind = MSG_OFFER, .offer = offer_of(&(struct lease){.task = task, .epoch = 1, .spec = {.width_px = 64, .height_px = 64}}, small(), (struct str){0})};
    expect_error(&w, &m, WIRE_DENIED, "revoked");

    open_as(&w2, ROLE_WORKER, &gpu2);
    actor_hello(&w2, NULL, 0);
    assert_int_equal(actor_take(&w2, MSG_LEASE).lease.task, task);
    actor_ask(&b, &(struct msg){.kind = MSG_JOBS, .jobs = {.limit = 1}}, MSG_JOBS_OK); /* others notice nothing */

    peer_close(a.peer);
    assert_int_equal(peer_connect_as(&a.peer, farm.endpoint, &alice, &e), 0);
    for (int64_t until = now_ms() + ACTOR_WAIT_MS; !peer_refused(a.peer, &e) && now_ms() < until;) sleep_ms(10);
    assert_int_equal(peer_refused(a.peer, &e), ERR_STATE);
    actor_close(&a);
    actor_close(&b);
    actor_close(&w);
    actor_close(&w2);
}

/* Accounts that cannot be trusted or read change nothing; SIGHUP reads them like any change does. */
static void bad_accounts(void **state)
{
    struct actor a;
    struct msg   m = {.kind = MSG_JOBS, .jobs = {.limit = 1}};

    (void)state;
    open_as(&a, ROLE_CLIENT, &alice);
    actor_hello(&a, NULL, 0);
    tmp_write(&farm.tmp, "keys/accounts", "nonsense\n", 9);
    kill(farm.pid, SIGHUP);
    sleep_ms(1200); /* two ticks: nothing must come of it */
    m.correlation = 0;
    actor_ask(&a, &m, MSG_JOBS_OK);
    keyring_revoke(&ring, "alice", NULL);
    save_accounts();
    chmod(accounts, 0666); /* right content, wrong hands */
    kill(farm.pid, SIGHUP);
    sleep_ms(1200);
    chmod(accounts, 0600);
    kill(farm.pid, SIGHUP);
    assert_int_equal(actor_take(&a, MSG_ERROR).error.code, WIRE_DENIED);
    actor_close(&a);
}

static void too_many_connections(void **state)
{
    static struct actor a[65];
    struct msg          m;
    int                 n = 0;

    (void)state;
    for (; n < 64; n++) {
        open_as(&a[n], ROLE_CLIENT, &alice);
        a[n].capacity = 0;
        m = hello_of(&a[n], ROLE_CLIENT);
        actor_ask(&a[n], &m, MSG_WELCOME);
    }
    open_as(&a[n], ROLE_CLIENT, &alice);
    m = hello_of(&a[n], ROLE_CLIENT);
    expect_error(&a[n], &m, WIRE_BUSY, "64 connections");
    actor_send(&a[0], &(struct msg){.kind = MSG_BYE});
    for (int64_t until = now_ms() + ACTOR_WAIT_MS; m.kind != MSG_WELCOME && now_ms() < until;) { /* BYE and HELLO come by different connections */
        m = hello_of(&a[n], ROLE_CLIENT);
        actor_send(&a[n], &m);
        while (!actor_find(&a[n], 0, m.correlation, &m) && now_ms() < until) actor_read(&a[n], 100);
    }
    assert_int_equal(m.kind, MSG_WELCOME);
    for (int i = 0; i <= n; i++) actor_close(&a[i]);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    int                     code = actors_main(argc, argv);
    const struct CMUnitTest tests[] = {T(roles), T(tenants), T(stolen_instance), T(revoked), T(bad_accounts), T(too_many_connections)};

    return code >= 0 ? code : cmocka_run_group_tests(tests, NULL, NULL);
}
