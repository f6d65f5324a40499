/* storm.c - storm [--keys] [--deaf] BROKER CLIENTS WORKERS [ROUNDS [DOWN_MS [LIMIT_MS]]]: a reconnect storm. The broker's real process, killed with -9 and started again
 * DOWN_MS (1000) later, ROUNDS times (1), and in this process as many sessions as wanted; how long until every one of them is WELCOME again.
 *
 * A session behaves as the product's own: it begins anew, on a new socket, when its connection ends (not with --deaf); a worker says BEAT every BEAT_MS and begins
 * anew after three unanswered ones (worker/session.c); a client asks EVENTS for a second at a time and gives its socket up 3 s after that (client/client.c);
 * ERROR{UNKNOWN_SESSION} makes both begin anew at once. --keys: with CURVE. Fails when a session is not back LIMIT_MS (60000) after the broker listens. RELIABILITY.md s.6.3 N3. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/hash.h"
#include "proto/keyring.h"
#include "proto/peer.h"
#include "tests/tmp.h"

#define EVENTS_WAIT_MS 1000
#define ANSWER_MS      3000
#define BEATS_MISSED   3
#define TURN_MS        10 /* between two looks at all sockets */

struct session {
    struct peer *peer;
    bool         worker, said, up; /* HELLO is said; WELCOME is heard */
    uint8_t      instance[KEY_BYTES];
    int64_t      heard_ms, said_ms;
    int64_t      back_ms; /* after the broker's start */
};

static char         endpoint[300] = "tcp://127.0.0.1:*", data[300];
static struct arena in;
static int64_t      start_ms; /* when the broker was listening */
static uint64_t     n_unknown, n_silent, n_cut_off;
static bool         deaf;
static char         keys[300]; /* "": none */
static struct key   client_key, worker_key;
static struct err   last; /* why a socket could not be opened */

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "storm: %s: %s\n", what, why);
    exit(1);
}

static pid_t broker_start(const char *program)
{
    char    fd[16], line[300];
    int     ready[2];
    ssize_t n;
    pid_t   pid;

    if (pipe(ready)) abort();
    snprintf(fd, sizeof fd, "%d", ready[1]);
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ready[0]);
        if (*keys) setenv("ZFARM_KEYS", keys, 1);
        execl(program, program, "--listen", endpoint, "--data", data, "--ready-fd", fd, "--log-level", "error", "--crash-guard", "0", NULL);
        _exit(127);
    }
    close(ready[1]);
    n = read(ready[0], line, sizeof line - 1);
    close(ready[0]);
    if (pid < 0 || n <= 0) fail(program, "it did not start");
    line[n] = 0;
    snprintf(endpoint, sizeof endpoint, "%.*s", (int)strcspn(line, "\n"), line); /* the port it was given */
    start_ms = now_ms();
    return pid;
}

/* Sockets of one process are limited, and closed ones linger for a moment: without a peer, turn() tries again. */
static void begin(struct session *s, int64_t now)
{
    peer_close(s->peer);
    s->peer = NULL;
    peer_connect_as(&s->peer, endpoint, !*keys ? NULL : s->worker ? &worker_key : &client_key, &last);
    s->said = s->up = false;
    s->heard_ms = s->said_ms = now;
}

static bool say(struct session *s, const struct msg *m, int64_t now)
{
    struct err e = {0};
    int        rc = peer_send(s->peer, NULL, m, &e);

    if (rc && rc != ERR_BUSY && rc != ERR_NOTFOUND) fail("sending", e.text);
    if (rc == 0) s->said_ms = now;
    return rc == 0;
}

static void say_hello(struct session *s, int64_t now)
{
    struct msg        m = {.kind = MSG_HELLO, .correlation = 1, .hello = {.role = s->worker ? ROLE_WORKER : ROLE_CLIENT, .major = WIRE_MAJOR, .minor = WIRE_MINOR, .version = str_of("storm"), .name = str_of("storm")}};
    struct model_info model = {.name = str_of("turbo"), .profile = str_of("turbo"), .steps = 8};

    memcpy(m.hello.instance, s->instance, KEY_BYTES);
    if (s->worker) {
        m.hello.capacity = 1;
        m.hello.model = &model;
        m.hello.n_models = 1;
    }
    s->said = say(s, &m, now);
    if (s->said) s->heard_ms = now;
}

static void say_more(struct session *s, int64_t now)
{
    struct msg beat = {.kind = MSG_BEAT, .correlation = 2}, events = {.kind = MSG_EVENTS, .correlation = 2, .events = {.limit = 1, .wait_ms = EVENTS_WAIT_MS}};

    say(s, s->worker ? &beat : &events, now);
}

static void hear(struct session *s, int64_t now)
{
    struct err e = {0};
    struct msg m;

    for (;;) {
        arena_reset(&in, 0);
        if (peer_recv(s->peer, &in, NULL, &m, &e)) return;
        s->heard_ms = now;
        if (m.kind == MSG_WELCOME) {
            s->up = true;
            s->back_ms = now - start_ms;
            say_more(s, now);
        } else if (m.kind == MSG_ERROR && m.error.code == WIRE_UNKNOWN_SESSION) {
            n_unknown++;
            begin(s, now);
            return;
        } else if (m.kind == MSG_ERROR) {
            fail("the broker says", m.error.text.at);
        } else if (m.kind == MSG_EVENTS_OK) {
            say_more(s, now);
        }
    }
}

static void turn(struct session *s, int64_t now)
{
    int64_t patience = s->worker ? BEATS_MISSED * BEAT_MS : s->up ? EVENTS_WAIT_MS + ANSWER_MS : ANSWER_MS;

    if (!s->peer && now - s->said_ms > 100) begin(s, now);
    if (!s->peer) return;
    hear(s, now);
    if (s->peer && !deaf && peer_cut_off(s->peer)) {
        n_cut_off++;
        begin(s, now);
    }
    if (!s->peer) return;
    if (!s->said) say_hello(s, now);
    if (s->up && s->worker && now - s->said_ms >= BEAT_MS) say_more(s, now);
    if (s->said && now - (s->worker || !s->up ? s->heard_ms : s->said_ms) > patience) {
        n_silent++;
        begin(s, now);
    }
}

/* Turns until all have been welcomed by the broker that started last, or limit_ms have passed. False: not all. */
static bool all_back(struct session *s, size_t n, int64_t limit_ms)
{
    for (size_t n_back = 0; n_back < n;) {
        n_back = 0;
        for (size_t i = 0; i < n; i++) {
            turn(&s[i], now_ms());
            n_back += s[i].up && s[i].back_ms >= 0;
        }
        if (now_ms() - start_ms > limit_ms) return false;
        sleep_ms(TURN_MS);
    }
    return true;
}

static int by_value(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static void print_back(int round, const struct session *s, size_t n)
{
    int64_t *ms = calloc(n, sizeof *ms);

    if (!ms) abort();
    for (size_t i = 0; i < n; i++) ms[i] = s[i].back_ms;
    qsort(ms, n, sizeof *ms, by_value);
    printf("  round %d: %zu sessions back, p50 %.2f s, p99 %.2f s, the last %.2f s after the broker listens; told that they are unknown %" PRIu64 ", gave up a silent socket %" PRIu64 ", saw their connection end %" PRIu64 "\n",
           round, n, (double)ms[n / 2] / 1000, (double)ms[n * 99 / 100] / 1000, (double)ms[n - 1] / 1000, n_unknown, n_silent, n_cut_off);
    free(ms);
}

static void keys_make(const char *dir)
{
    struct keyring r = {0};
    struct key     server;
    struct err     e = {0};
    char           path[400];

    snprintf(keys, sizeof keys, "%s", dir);
    key_make(&server, "server", KEY_BROKER, NULL);
    key_make(&client_key, "clients", KEY_ADMIN, server.public_key); /* an admin may have any number of connections */
    key_make(&worker_key, "workers", KEY_WORKER, server.public_key);
    snprintf(path, sizeof path, "%s/server.key", keys);
    if (key_write(&server, path, &e) || keyring_add(&r, "clients", KEY_ADMIN, client_key.public_key, &e) ||
        keyring_add(&r, "workers", KEY_WORKER, worker_key.public_key, &e))
        fail("keys", e.text);
    snprintf(path, sizeof path, "%s/accounts", keys);
    if (keyring_write(&r, path, &e)) fail(path, e.text);
    keyring_release(&r);
}

/* Argument i, or what it is when it is not said; -1: not a number up to a million. */
static int number(int argc, char **argv, int i, int unsaid)
{
    char *end;
    long  n;

    if (i >= argc) return unsaid;
    n = strtol(argv[i], &end, 10);
    return *argv[i] && !*end && n >= 0 && n <= 1000000 ? (int)n : -1;
}

int main(int argc, char **argv)
{
    static struct session *s;
    bool       keyed = false, odd = false;
    int        clients, workers, rounds, down_ms, limit_ms;
    size_t     n;
    struct tmp tmp;
    pid_t      pid;
    char       cmd[400];

    for (; argc > 1 && argv[1][0] == '-'; argc--, argv++) {
        if (!strcmp(argv[1], "--keys")) keyed = true;
        else if (!strcmp(argv[1], "--deaf")) deaf = true;
        else odd = true;
    }
    clients = number(argc, argv, 2, -1), workers = number(argc, argv, 3, -1), rounds = number(argc, argv, 4, 1);
    down_ms = number(argc, argv, 5, 1000), limit_ms = number(argc, argv, 6, 60000);
    n = (size_t)(clients + workers);
    if (odd || argc > 7 || clients < 0 || workers < 0 || n == 0 || rounds < 1 || down_ms < 0 || limit_ms < 1) {
        fprintf(stderr, "usage: storm [--keys] [--deaf] BROKER CLIENTS WORKERS [ROUNDS [DOWN_MS [LIMIT_MS]]]\n");
        return 2;
    }
    s = calloc(n, sizeof *s);
    setvbuf(stdout, NULL, _IOLBF, 0);
    tmp_open(&tmp);
    snprintf(data, sizeof data, "%s/data", tmp.dir);
    if (keyed) keys_make(tmp.dir);
    if (!s || arena_init(&in, "storm", MSG_ARENA_BYTES)) abort();
    pid = broker_start(argv[1]);
    for (size_t i = 0; i < n; i++) {
        s[i].worker = i >= (size_t)clients;
        random_bytes(s[i].instance, KEY_BYTES);
        begin(&s[i], now_ms());
    }
    if (!all_back(s, n, limit_ms)) fail("not all sessions were welcomed in time", last.text);
    for (int r = 1; r <= rounds; r++) {
        int64_t until = now_ms() + 2500; /* some beats, so that all are anywhere in their rhythm */

        while (now_ms() < until) {
            for (size_t i = 0; i < n; i++) turn(&s[i], now_ms());
            sleep_ms(TURN_MS);
        }
        kill(pid, SIGKILL);
        if (waitpid(pid, NULL, 0) != pid) abort();
        n_unknown = n_silent = n_cut_off = 0;
        for (size_t i = 0; i < n; i++) s[i].back_ms = -1;
        start_ms = INT64_MAX / 2;
        for (until = now_ms() + down_ms; now_ms() < until; sleep_ms(TURN_MS))
            for (size_t i = 0; i < n; i++) turn(&s[i], now_ms());
        pid = broker_start(argv[1]);
        if (!all_back(s, n, limit_ms)) fail("not all sessions are back in time", last.text);
        print_back(r, s, n);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    snprintf(cmd, sizeof cmd, "rm -rf %s", tmp.dir); /* sockets die with the process */
    return system(cmd) != 0;
}
