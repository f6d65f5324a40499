/* test_peer.c - messages over real sockets: whole or not at all, hostile ones answered, files of others left alone. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include <zmq.h>

#include "base/clock.h"
#include "proto/peer.h"

#define PATIENCE_MS 30000 /* for what must come; what comes sooner is not waited for */
#define AGAIN_MS    500   /* what may have been lost is said again */

static char         folder[32], endpoint[64];
static struct arena arena;

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/zfarm-peer-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(endpoint, sizeof endpoint, "ipc://%s/s", folder);
    return arena_init(&arena, "test", MSG_ARENA_BYTES);
}

static int teardown(void **state)
{
    (void)state;
    arena_release(&arena);
    peer_shutdown();
    return rmdir(folder);
}

static int recv_within(struct peer *p, int64_t ms, struct route *from, struct msg *m, struct err *e)
{
    for (int64_t until = now_ms() + ms;;) {
        bool late = now_ms() >= until;
        int  rc = peer_recv(p, &arena, from, m, e);

        if (rc != ERR_BUSY) return rc;
        if (late) return ERR_TIMEOUT;
        peer_wait(p, 10);
    }
}

static int recv_soon(struct peer *p, struct route *from, struct msg *m, struct err *e)
{
    return recv_within(p, PATIENCE_MS, from, m, e);
}

static int send_soon(struct peer *p, const struct route *to, const struct msg *m, struct err *e)
{
    int rc = ERR_BUSY;

    for (int64_t until = now_ms() + PATIENCE_MS; rc == ERR_BUSY && now_ms() < until;) {
        rc = peer_send(p, to, m, e);
        if (rc == ERR_BUSY) sleep_ms(10);
    }
    return rc;
}

static void there_and_back(void **state)
{
    struct peer *broker = NULL, *worker = NULL;
    struct route from;
    struct msg   m = {.kind = MSG_READY, .correlation = 5, .ready = {2}}, got;
    struct err   e = {0};
    static char  bytes[CHUNK_MAX_BYTES];
    struct stat  st;

    (void)state;
    memset(bytes, 7, sizeof bytes);
    assert_int_equal(peer_connect(&worker, endpoint, &e), 0);
    assert_int_equal(peer_send(worker, NULL, &m, &e), ERR_BUSY); /* nobody there: nothing queues */
    assert_int_equal(peer_bind(&broker, endpoint, NULL, &e), 0);
    assert_string_equal(peer_endpoint(broker), endpoint);
    assert_int_equal(lstat(endpoint + 6, &st), 0);
    assert_int_equal(st.st_mode & 077, 0);
    assert_int_equal(send_soon(worker, NULL, &m, &e), 0);
    assert_int_equal(recv_soon(broker, &from, &got, &e), 0);
    assert_int_equal(got.kind, MSG_READY);
    assert_int_equal(got.correlation, 5);
    assert_true(from.len > 0);
    m = (struct msg){.kind = MSG_CHUNK, .chunk = {.transfer = 9, .offset = 1, .last = true, .bytes = {bytes, sizeof bytes}}};
    assert_int_equal(peer_send(broker, &from, &m, &e), 0);
    assert_int_equal(recv_soon(worker, NULL, &got, &e), 0);
    assert_int_equal(got.chunk.bytes.len, sizeof bytes);
    assert_memory_equal(got.chunk.bytes.at, bytes, sizeof bytes);
    m = (struct msg){.kind = MSG_READY, .ready = {99}};
    assert_int_equal(peer_send(worker, NULL, &m, &e), ERR_ARG); /* refused before it left */
    peer_close(worker);
    m = (struct msg){.kind = MSG_GOAWAY, .error = {WIRE_BUSY, 100, {"bye", 3}}};
    for (int64_t until = now_ms() + PATIENCE_MS; peer_send(broker, &from, &m, &e) != ERR_NOTFOUND && now_ms() < until;) sleep_ms(10);
    assert_int_equal(peer_send(broker, &from, &m, &e), ERR_NOTFOUND);
    peer_close(broker);
}

/* Nobody reads: the queue fills, the send says so, and what was taken arrives whole. */
static void full_queue(void **state)
{
    struct peer *broker = NULL, *worker = NULL;
    struct route from;
    struct err   e = {0};
    static char  bytes[CHUNK_MAX_BYTES];
    struct msg   m = {.kind = MSG_CHUNK, .chunk = {.transfer = 1, .bytes = {bytes, 4096}}}, got;
    int          n_sent = 0, n_got = 0;

    (void)state;
    assert_int_equal(peer_bind(&broker, endpoint, NULL, &e), 0);
    assert_int_equal(peer_connect(&worker, endpoint, &e), 0);
    assert_int_equal(send_soon(worker, NULL, &m, &e), 0);
    for (n_sent = 1; n_sent < 100000; n_sent++) {
        m.chunk.offset = (uint64_t)n_sent;
        if (peer_send(worker, NULL, &m, &e)) break;
    }
    assert_true(n_sent > 100 && n_sent < 100000);
    while (recv_soon(broker, &from, &got, &e) == 0) {
        assert_int_equal(got.chunk.offset, n_got);
        assert_int_equal(got.chunk.bytes.len, 4096);
        arena_reset(&arena, 0);
        if (++n_got == n_sent) break;
    }
    assert_int_equal(n_got, n_sent);
    peer_close(worker);
    peer_close(broker);
}

static void raw_send(void *socket, int n_frames, size_t bytes, char fill)
{
    static char frame[BODY_BIG_MAX_BYTES];

    memset(frame, fill, bytes);
    for (int i = 0; i < n_frames; i++) zmq_send(socket, frame, bytes, i + 1 < n_frames ? ZMQ_SNDMORE : 0);
}

static void hostile(void **state)
{
    struct peer *broker = NULL, *good = NULL;
    void        *context = zmq_ctx_new(), *bad = zmq_socket(context, ZMQ_DEALER), *worse = zmq_socket(context, ZMQ_DEALER);
    struct route from;
    struct msg   m = {.kind = MSG_READY, .ready = {1}}, got;
    struct err   e = {0};
    int          zero = 0;

    (void)state;
    zmq_setsockopt(bad, ZMQ_LINGER, &zero, sizeof zero);
    zmq_setsockopt(worse, ZMQ_LINGER, &zero, sizeof zero);
    zmq_setsockopt(worse, ZMQ_ROUTING_ID, "a routing id of thirty-two bytes", 32);
    assert_int_equal(peer_bind(&broker, "tcp://127.0.0.1:*", NULL, &e), 0);
    assert_int_equal(zmq_connect(bad, peer_endpoint(broker)), 0);
    assert_int_equal(zmq_connect(worse, peer_endpoint(broker)), 0);
    raw_send(bad, 1, 24, 'x');
    raw_send(bad, 2, 24, 'x');
    raw_send(bad, 300, 10, 'x'); /* drained, not kept */
    raw_send(bad, 1, 0, 'x');
    for (int i = 0; i < 4; i++) {
        assert_int_equal(recv_soon(broker, &from, &got, &e), ERR_PROTO);
        assert_true(from.len == 5);
    }
    raw_send(worse, 2, 24, 'x');
    assert_int_equal(recv_soon(broker, &from, &got, &e), ERR_PROTO);
    assert_int_equal(from.len, 0);
    assert_int_equal(peer_send(broker, &from, &m, &e), ERR_NOTFOUND);
    assert_int_equal(peer_connect(&good, peer_endpoint(broker), &e), 0);
    assert_int_equal(send_soon(good, NULL, &m, &e), 0);
    assert_int_equal(recv_soon(broker, &from, &got, &e), 0); /* and the next message is read from its start */
    assert_int_equal(got.ready.capacity, 1);
    peer_close(good);
    peer_close(broker);
    zmq_close(bad);
    zmq_close(worse);
    zmq_ctx_term(context);
}

static void endpoints(void **state)
{
    static const char *const bad[] = {"", "tcp://", "udp://1.2.3.4:5", "127.0.0.1:7777", "ipc://", "tcp://0.0.0.0:7777", "tcp://*:7777",
                                      "tcp://192.168.1.1:7777", "tcp://127.evil.example:7777", "tcp://[::]:7777",
                                      "tcp://127.0.0.1:70000", "tcp://127.0.0.1:", "tcp://127.0.0.1:0", "tcp://127.0.0.1:x", "tcp://:7777"};
    struct peer     *p = NULL;
    struct err       e = {0};
    char             path[200] = "ipc:///tmp/";

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(peer_bind(&p, bad[i], NULL, &e), ERR_ARG);
        assert_non_null(e.text);
    }
    memset(path + 11, 'a', 150);
    assert_int_equal(peer_bind(&p, path, NULL, &e), ERR_ARG);
    assert_non_null(strstr(e.text, "at most 107"));
    assert_int_equal(peer_connect(&p, path, &e), ERR_ARG);
    assert_int_equal(peer_connect(&p, "tcp://127.0.0.1", &e), ERR_ARG);
    assert_int_equal(peer_connect(&p, "tcp://127.0.0.1:70000", &e), ERR_ARG);
    assert_int_equal(peer_connect(&p, "tcp://127.0.0.1:*", &e), ERR_ARG);
    assert_int_equal(peer_bind(&p, "tcp://0.0.0.0:*", NULL, &e), ERR_ARG);
    assert_non_null(strstr(e.text, "zfarm-keys init"));
}

/* A killed broker's socket is replaced; a living one's is not; a file is never removed. */
static void stale_files(void **state)
{
    struct peer       *a = NULL, *b = NULL;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct err         e = {0};
    FILE              *f;
    int                fd = socket(AF_UNIX, SOCK_STREAM, 0);

    (void)state;
    snprintf(at.sun_path, sizeof at.sun_path, "%s", endpoint + 6);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    listen(fd, 1);
    close(fd); /* the name stays, nobody listens */
    assert_int_equal(peer_bind(&a, endpoint, NULL, &e), 0);
    assert_int_equal(peer_bind(&b, endpoint, NULL, &e), ERR_CONFLICT);
    assert_non_null(strstr(e.text, "listens"));
    peer_close(a);
    peer_shutdown();
    assert_int_equal(access(endpoint + 6, F_OK), -1);
    f = fopen(endpoint + 6, "w");
    fclose(f);
    assert_int_equal(peer_bind(&b, endpoint, NULL, &e), ERR_CONFLICT);
    assert_int_equal(unlink(endpoint + 6), 0);
}

/* In a process of its own: a limit once lowered stays. 0: it listens, and 100 peers find room; else the code of the refusal. */
static int listen_with_files(rlim_t soft, rlim_t hard)
{
    pid_t pid = fork();
    int   status = 0;

    if (pid == 0) {
        struct rlimit files = {soft, hard};
        struct peer  *broker = NULL, *peer[100] = {NULL};
        struct msg    m = {.kind = MSG_BYE};
        struct err    e = {0};
        int           rc = setrlimit(RLIMIT_NOFILE, &files) ? 1 : -peer_bind(&broker, endpoint, NULL, &e);

        for (int i = 0; i < 100 && !rc; i++) rc = -peer_connect(&peer[i], endpoint, &e);
        for (int i = 0; i < 100 && !rc; i++) rc = -send_soon(peer[i], NULL, &m, &e);
        for (int i = 0; i < 100 && !rc; i++) {
            struct route from;
            rc = -recv_soon(broker, &from, &m, &e);
        }
        if (rc && !strstr(e.text, "ulimit -n")) rc = 1;
        unlink(endpoint + strlen("ipc://"));
        _exit(rc);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? -WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void open_files(void **state)
{
    (void)state;
    assert_int_equal(listen_with_files(64, 4096), 0); /* as many as the system lets us */
    assert_int_equal(listen_with_files(20, 20), ERR_LIMIT);
}

/* A port of this test alone: bound, and nobody listens there; ZeroMQ may bind it once more (both say SO_REUSEADDR), no other process is given it. */
static int hold_port(char *where, size_t max)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t          len = sizeof at;
    int                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    snprintf(where, max, "tcp://127.0.0.1:%u", (unsigned)ntohs(at.sin_port));
    return fd;
}

/* ZeroMQ closes a listener some time after peer_close(). */
static int bind_soon(struct peer **p, const char *where, struct err *e)
{
    int rc = ERR_CONFLICT;

    for (int64_t until = now_ms() + PATIENCE_MS; rc == ERR_CONFLICT && now_ms() < until;)
        if ((rc = peer_bind(p, where, NULL, e)) == ERR_CONFLICT) sleep_ms(10);
    return rc;
}

/* A listener that is closing may still take a connection, and what is sent there is lost: said again, as who waits for an answer does. */
static bool reaches(struct peer *from, struct peer *to)
{
    struct msg   m = {.kind = MSG_READY, .correlation = 5, .ready = {2}}, got;
    struct route route;
    struct err   e = {0};

    for (int64_t until = now_ms() + 2 * PATIENCE_MS; now_ms() < until;)
        if (!send_soon(from, NULL, &m, &e) && !recv_within(to, AGAIN_MS, &route, &got, &e)) return got.kind == MSG_READY;
    return false;
}

/* A connection that stood and ended is known without waiting for an answer; one that never stood is none. */
static void cut_off_at(const char *here, const char *there)
{
    struct peer *broker = NULL, *second = NULL, *worker = NULL, *other = NULL;
    struct route from;
    struct msg   m = {.kind = MSG_READY, .correlation = 5, .ready = {2}}, got;
    struct err   e = {0};
    bool         gone = false;

    assert_int_equal(peer_bind(&broker, here, NULL, &e), 0);
    assert_int_equal(peer_connect(&worker, here, &e), 0);
    assert_int_equal(peer_connect(&other, there, &e), 0); /* nobody is there yet: no connection that could end */
    assert_int_equal(send_soon(worker, NULL, &m, &e), 0);
    assert_int_equal(recv_soon(broker, &from, &got, &e), 0);
    assert_false(peer_cut_off(worker));
    peer_close(broker);
    for (int64_t until = now_ms() + PATIENCE_MS; !gone && now_ms() < until;) {
        gone = peer_cut_off(worker);
        if (!gone) sleep_ms(10);
    }
    assert_true(gone);
    assert_false(peer_cut_off(other));
    assert_int_equal(bind_soon(&broker, here, &e), 0);
    assert_int_equal(bind_soon(&second, there, &e), 0);
    assert_true(reaches(worker, broker));
    assert_true(reaches(other, second));
    assert_false(peer_cut_off(other));
    assert_true(peer_cut_off(worker)); /* though connected again: what was asked on it is gone */
    peer_close(other);
    peer_close(worker);
    peer_close(broker);
    peer_close(second);
}

static void cut_off(void **state)
{
    char there[sizeof endpoint + 1], ports[2][32];
    int  held[2];

    (void)state;
    snprintf(there, sizeof there, "%s2", endpoint);
    cut_off_at(endpoint, there);
    for (int k = 0; k < 2; k++) held[k] = hold_port(ports[k], sizeof ports[k]);
    cut_off_at(ports[0], ports[1]);
    for (int k = 0; k < 2; k++) close(held[k]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(there_and_back), T(full_queue), T(hostile), T(endpoints), T(stale_files), T(open_files), T(cut_off)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
