/* zap.c - one question, one answer, about keys.
 * Believes: ZeroMQ asks with 7 frames when CURVE is spoken; whatever else is asked is refused.
 * Invariants: Z1 only a key of the list is let in, only by CURVE, only in our domain.  Z2 refusals are logged a few times a second at most:
 * a flood of strangers fills no disk. */
#include "proto/zap.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/log.h"
#include "proto/curve.h"
#include "proto/peer.h"

#define ENDPOINT     "inproc://zeromq.zap.01"
#define FRAMES       7 /* version, request id, domain, address, routing id, mechanism, key */
#define FRAME_BYTES  255
#define LOGS_A_SECOND 5

struct zap {
    void           *socket; /* its thread's */
    pthread_t       thread;
    int             stop_fd;
    int64_t         second; /* of the last line logged; its thread's */
    int             n_logged;
    pthread_mutex_t mtx;
    uint8_t       (*key)[CURVE_BYTES]; /* under mtx, sorted */
    size_t          n_keys;
    uint64_t        n_let_in, n_refused; /* under mtx */
};

struct question {
    char   frame[FRAMES][FRAME_BYTES + 1];
    size_t len[FRAMES];
    size_t n;
};

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, CURVE_BYTES);
}

/* A whole request: false when there is none. Longer frames are cut, and then equal nothing. */
static bool take(void *socket, struct question *q)
{
    int    more = 1;
    size_t size = sizeof more;

    q->n = 0;
    while (more) {
        char spare[FRAME_BYTES + 1], *at = q->n < FRAMES ? q->frame[q->n] : spare;
        int  n = zmq_recv(socket, at, FRAME_BYTES, ZMQ_DONTWAIT);

        if (n < 0) return false;
        if (n > FRAME_BYTES) n = FRAME_BYTES;
        at[n] = 0;
        if (q->n < FRAMES) q->len[q->n] = (size_t)n;
        q->n++;
        if (zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size)) return false;
    }
    return true;
}

static bool judge(struct zap *z, const struct question *q)
{
    bool in = q->n == FRAMES && !strcmp(q->frame[0], "1.0") && !strcmp(q->frame[2], CURVE_DOMAIN) && !strcmp(q->frame[5], "CURVE") &&
              q->len[6] == CURVE_BYTES;

    pthread_mutex_lock(&z->mtx);
    in = in && z->n_keys && bsearch(q->frame[6], z->key, z->n_keys, CURVE_BYTES, by_bytes);
    *(in ? &z->n_let_in : &z->n_refused) += 1;
    pthread_mutex_unlock(&z->mtx);
    return in;
}

static void tell(struct zap *z, const struct question *q)
{
    int64_t second = now_ms() / 1000;
    char    hex[CURVE_HEX] = "";

    if (second != z->second) z->n_logged = 0;
    z->second = second;
    if (z->n_logged++ >= LOGS_A_SECOND) return;
    if (q->n == FRAMES && q->len[6] == CURVE_BYTES) hex_of((const uint8_t *)q->frame[6], CURVE_BYTES, hex);
    log_warn("key_refused", "address=%s key=%s", q->n > 3 ? q->frame[3] : "", hex);
}

static void answer(struct zap *z, const struct question *q, bool in)
{
    char        user[CURVE_HEX] = "";
    const char *frame[] = {"1.0", q->frame[1], in ? "200" : "400", in ? "OK" : "this key is not known here", user, ""};

    if (in) hex_of((const uint8_t *)q->frame[6], CURVE_BYTES, user);
    for (size_t i = 0; i < 6; i++)
        zmq_send(z->socket, frame[i], i == 1 && q->n > 1 ? q->len[1] : strlen(frame[i]), i < 5 ? ZMQ_SNDMORE : 0);
}

static void *serve(void *ctx)
{
    struct zap *z = ctx;

    for (;;) {
        zmq_pollitem_t  item[2] = {{.socket = z->socket, .events = ZMQ_POLLIN}, {.fd = z->stop_fd, .events = ZMQ_POLLIN}};
        struct question q = {0};

        if (zmq_poll(item, 2, -1) < 0 && zmq_errno() != EINTR) break;
        if (item[1].revents) break;
        if (!item[0].revents || !take(z->socket, &q)) continue;
        bool in = judge(z, &q);

        if (!in) tell(z, &q);
        answer(z, &q, in);
    }
    zmq_close(z->socket);
    return NULL;
}

int zap_open(struct zap **out, struct err *e)
{
    struct zap *z = calloc(1, sizeof *z);
    void       *context = peer_context(e);
    const int   zero = 0;
    sigset_t    all, old;
    int         rc;

    if (!z || !context) {
        free(z);
        return context ? err_set(e, ERR_NOMEM, "no memory for a key handler") : ERR_STATE;
    }
    pthread_mutex_init(&z->mtx, NULL);
    z->stop_fd = eventfd(0, EFD_CLOEXEC);
    z->socket = zmq_socket(context, ZMQ_REP);
    if (z->stop_fd < 0 || !z->socket || zmq_setsockopt(z->socket, ZMQ_LINGER, &zero, sizeof zero) || zmq_bind(z->socket, ENDPOINT)) {
        rc = err_set(e, z->socket && zmq_errno() == EADDRINUSE ? ERR_CONFLICT : ERR_STATE, "the key handler does not start: %s", zmq_strerror(zmq_errno()));
        goto failed;
    }
    sigfillset(&all); /* signals are the loop's */
    pthread_sigmask(SIG_BLOCK, &all, &old);
    rc = pthread_create(&z->thread, NULL, serve, z);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0) {
        *out = z;
        return 0;
    }
    rc = err_set(e, ERR_STATE, "the key handler's thread does not start: %s", strerror(rc));
failed:
    if (z->socket) zmq_close(z->socket);
    if (z->stop_fd >= 0) close(z->stop_fd);
    pthread_mutex_destroy(&z->mtx);
    free(z);
    return rc;
}

void zap_allow(struct zap *z, const uint8_t (*key)[CURVE_BYTES], size_t n)
{
    uint8_t(*mine)[CURVE_BYTES] = calloc(n ? n : 1, CURVE_BYTES), (*old)[CURVE_BYTES];

    if (!mine) abort();
    if (n) {
        memcpy(mine, key, n * CURVE_BYTES);
        qsort(mine, n, CURVE_BYTES, by_bytes);
    }
    pthread_mutex_lock(&z->mtx);
    old = z->key;
    z->key = mine;
    z->n_keys = n;
    pthread_mutex_unlock(&z->mtx);
    free(old);
}

void zap_count(struct zap *z, uint64_t *n_let_in, uint64_t *n_refused)
{
    pthread_mutex_lock(&z->mtx);
    *n_let_in = z->n_let_in;
    *n_refused = z->n_refused;
    pthread_mutex_unlock(&z->mtx);
}

void zap_close(struct zap *z)
{
    uint64_t one = 1;

    if (!z) return;
    while (write(z->stop_fd, &one, sizeof one) < 0 && errno == EINTR) continue;
    pthread_join(z->thread, NULL);
    close(z->stop_fd);
    pthread_mutex_destroy(&z->mtx);
    free(z->key);
    free(z);
}
