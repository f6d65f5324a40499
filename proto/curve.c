/* curve.c - CURVE options, the monitor of handshakes, the self-test.
 * Believes: a security option that cannot be set is a reason not to start. Invariants: C1 a random key that was not refused by name is a failure,
 * whatever else happened.  C2 the monitor's queue has no bound: a full one would stop ZeroMQ's own thread. The loop
 * drains a listener's whenever there is something (peer_tend); who connects does it in peer_refused(). */
#include "proto/curve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "base/clock.h"

#define ENFORCE_DOMAIN 93 /* ZMQ_ZAP_ENFORCE_DOMAIN: in every library since 4.3.0, in the header of draft builds only */
#define TRY_MS         15000

static int set(void *socket, int option, const void *at, size_t len, const char *what, struct err *e)
{
    if (!zmq_setsockopt(socket, option, at, len)) return 0;
    return err_set(e, ERR_STATE, "this ZeroMQ does not do %s (%s): no endpoint with keys can be offered", what, zmq_strerror(zmq_errno()));
}

int curve_serve(void *socket, const struct key *server, struct err *e)
{
    const int one = 1;
    int       rc = set(socket, ZMQ_CURVE_SERVER, &one, sizeof one, "CURVE", e);

    if (!rc) rc = set(socket, ZMQ_CURVE_SECRETKEY, server->secret, CURVE_BYTES, "CURVE keys", e);
    if (!rc) rc = set(socket, ZMQ_ZAP_DOMAIN, CURVE_DOMAIN, strlen(CURVE_DOMAIN), "ZAP", e);
    if (!rc) rc = set(socket, ENFORCE_DOMAIN, &one, sizeof one, "ZAP that is enforced", e);
    return rc;
}

int curve_join(void *socket, const struct key *mine, struct err *e)
{
    int rc = set(socket, ZMQ_CURVE_SERVERKEY, mine->server, CURVE_BYTES, "CURVE", e);

    if (!rc) rc = set(socket, ZMQ_CURVE_PUBLICKEY, mine->public_key, CURVE_BYTES, "CURVE keys", e);
    if (!rc) rc = set(socket, ZMQ_CURVE_SECRETKEY, mine->secret, CURVE_BYTES, "CURVE keys", e);
    return rc;
}

/* ---- the monitor ---- */
struct watch {
    void         *watched, *events;
    struct crowd *crowd;
};

int watch_open(struct watch **out, void *context, void *socket, struct crowd *crowd, struct err *e)
{
    static _Atomic unsigned n_made; /* names are the context's */
    const int     kinds = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                      ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_DISCONNECTED | (crowd ? ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_CLOSED : 0);
    struct watch *w = calloc(1, sizeof *w);
    char          name[64];
    const int     zero = 0;

    if (!w) return err_set(e, ERR_NOMEM, "no memory to watch a socket");
    snprintf(name, sizeof name, "inproc://watch-%u", ++n_made);
    w->watched = socket;
    w->crowd = crowd;
    if (zmq_socket_monitor(socket, name, kinds) == 0) {
        w->events = zmq_socket(context, ZMQ_PAIR);
        if (w->events && !zmq_setsockopt(w->events, ZMQ_RCVHWM, &zero, sizeof zero) &&
            !zmq_setsockopt(w->events, ZMQ_LINGER, &zero, sizeof zero) && !zmq_connect(w->events, name)) {
            *out = w;
            return 0;
        }
    }
    err_set(e, ERR_STATE, "ZeroMQ cannot watch a socket: %s", zmq_strerror(zmq_errno()));
    watch_close(w);
    return ERR_STATE;
}

enum handshake watch_next(struct watch *w)
{
    for (;;) {
        unsigned char event[6];
        char          address[256];
        uint16_t      kind;
        uint32_t      value;

        if (zmq_recv(w->events, event, sizeof event, ZMQ_DONTWAIT) != (int)sizeof event) return HANDSHAKE_NONE;
        zmq_recv(w->events, address, sizeof address, ZMQ_DONTWAIT);
        memcpy(&kind, event, 2);
        memcpy(&value, event + 2, 4);
        if (kind == ZMQ_EVENT_ACCEPTED && w->crowd) crowd_came(w->crowd, (int)value, now_ms());
        if ((kind == ZMQ_EVENT_CLOSED || kind == ZMQ_EVENT_DISCONNECTED) && w->crowd) crowd_left(w->crowd, (int)value);
        if (kind == ZMQ_EVENT_DISCONNECTED && !w->crowd) return HANDSHAKE_OVER;
        if (kind == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) return HANDSHAKE_DONE;
        if (kind == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) return HANDSHAKE_DENIED;
        if (kind == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL)
            return value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH ? HANDSHAKE_OTHER : HANDSHAKE_BROKEN;
        if (kind == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL) return HANDSHAKE_BROKEN;
    }
}

void *watch_socket(const struct watch *w)
{
    return w->events;
}

void watch_close(struct watch *w)
{
    if (!w) return;
    zmq_socket_monitor(w->watched, NULL, 0);
    if (w->events) zmq_close(w->events);
    free(w);
}

/* ---- the self-test ---- */
static enum handshake knock(struct watch *w)
{
    int64_t        until = now_ms() + TRY_MS;
    enum handshake h;

    while (((h = watch_next(w)) == HANDSHAKE_NONE || h == HANDSHAKE_OVER) && now_ms() < until) {
        zmq_pollitem_t item = {.socket = w->events, .events = ZMQ_POLLIN};

        zmq_poll(&item, 1, 100);
    }
    return h;
}

int curve_try(void *context, const char *endpoint, const uint8_t server_public[CURVE_BYTES], struct err *e)
{
    struct key     stranger;
    struct watch  *w = NULL;
    void          *socket = zmq_socket(context, ZMQ_DEALER);
    const int      zero = 0, one = 1;
    enum handshake h;
    int            rc;

    if (!socket) return err_set(e, ERR_STATE, "a socket to try the door of %s: %s", endpoint, zmq_strerror(zmq_errno()));
    key_make(&stranger, "stranger", KEY_CLIENT, server_public);
    zmq_setsockopt(socket, ZMQ_LINGER, &zero, sizeof zero);
    if (strchr(endpoint, '[')) zmq_setsockopt(socket, ZMQ_IPV6, &one, sizeof one);
    rc = curve_join(socket, &stranger, e);
    key_wipe(&stranger);
    if (!rc) rc = watch_open(&w, context, socket, NULL, e);
    if (!rc && zmq_connect(socket, endpoint)) rc = err_set(e, ERR_STATE, "trying the door of %s: %s", endpoint, zmq_strerror(zmq_errno()));
    if (!rc && (h = knock(w)) != HANDSHAKE_DENIED)
        rc = err_set(e, ERR_STATE, h == HANDSHAKE_DONE ? "%s let in a key drawn at random: it is not offered"
                                                       : "nobody at %s judged a key drawn at random (no ZAP handler?): it is not offered", endpoint);
    watch_close(w);
    zmq_close(socket);
    return rc;
}
