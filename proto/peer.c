/* peer.c - a ZeroMQ socket that sends and receives struct msg; with loop.c the only room that says zmq_*.
 * Believes: everything is non-blocking; a message goes whole or not at all; a peer can be gone, full, slow or hostile at any call.
 * Invariants: P1 a refused send leaves nothing on the wire.  P2 after peer_recv() the socket stands at the start of a message.
 *             P3 a live listener's ipc file is never taken away from it.  P4 a message of a keyed listener has a user, or is not one.
 * Not here: what messages mean, when to reconnect (the rooms above). */
#include "proto/peer.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#include "proto/curve.h"
#include "proto/wire.h"

#define ENDPOINT_MAX_BYTES 255
#define HWM_MESSAGES       1000
#define SOCKETS_MAX        16384 /* three of who connects: itself, and two that watch it */
#define BACKLOG            4096 /* a farm that comes back all at once; the system may allow less (net.core.somaxconn) */
#define FILES_WISHED       65536
#define FILES_MIN          64
#define BROKEN_MAX         40 /* handshakes that break off, one after the other, some 5 s: it will not get better. Fewer may be a crowd at the door (crowd.h) */
#define FULL_PIPE_BYTES    (64 << 10) /* of an ipc connection, not yet read at the other end */
#define ROUTE_BYTES        5 /* what ROUTER gives: a zero and a counter */

static void *context; /* one per process, made by the first peer */

struct peer {
    void      *socket;
    bool       router, owns_file; /* the file of an ipc listener: ZeroMQ leaves it behind */
    bool       keyed;
    struct watch  *watch;     /* of a tcp listener, and of who connects */
    enum handshake handshake; /* the last that was heard of */
    bool       met, cut_off;  /* of who connects: a connection stood, and ended */
    uint64_t   n_refused;
    unsigned   n_broken; /* handshakes in a row */
    struct crowd crowd; /* of a listener */
    uint8_t    user[CURVE_BYTES]; /* of the message last received */
    char       endpoint[ENDPOINT_MAX_BYTES + 1];
    struct buf head, body;
    size_t     sent_bytes;
};

static bool starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool route_eq(const struct route *a, const struct route *b)
{
    return a->len == b->len && memcmp(a->id, b->id, a->len) == 0;
}

/* ZeroMQ's own numbers are past errno's; its sentences cover both. */
static int zmq_err(struct err *e, int code, const char *what, const char *endpoint)
{
    return err_set(e, code, "%s %s: %s", what, endpoint, zmq_strerror(zmq_errno()));
}

/* ZeroMQ aborts when it cannot open a file, and a listener opens one for every peer that connects: so as many as the system lets us. */
static int allow_files(struct err *e)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files)) return err_errno(e, ERR_STATE, "asking how many files may be open");
    if (files.rlim_cur < FILES_WISHED && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max < FILES_WISHED ? files.rlim_max : FILES_WISHED;
        if (setrlimit(RLIMIT_NOFILE, &files)) return err_errno(e, ERR_STATE, "allowing more open files");
    }
    if (files.rlim_cur >= FILES_MIN) return 0;
    return err_set(e, ERR_LIMIT, "this process may open %llu files, at least %d are needed: ulimit -n", (unsigned long long)files.rlim_cur, FILES_MIN);
}

static int context_open(struct err *e)
{
    int rc;

    if (context) return 0;
    if ((rc = allow_files(e))) return rc;
    context = zmq_ctx_new();
    if (!context) return err_set(e, ERR_NOMEM, "ZeroMQ does not start: %s", zmq_strerror(zmq_errno()));
    zmq_ctx_set(context, ZMQ_BLOCKY, 0);
    zmq_ctx_set(context, ZMQ_MAX_SOCKETS, SOCKETS_MAX);
    return 0;
}

void peer_shutdown(void)
{
    if (!context) return;
    while (zmq_ctx_term(context) && zmq_errno() == EINTR) continue;
    context = NULL;
}

void *peer_context(struct err *e)
{
    return context_open(e) ? NULL : context;
}

static int set_int(struct peer *p, int option, int value, struct err *e)
{
    if (!zmq_setsockopt(p->socket, option, &value, sizeof value)) return 0;
    return err_set(e, ERR_STATE, "ZeroMQ refuses option %d = %d: %s", option, value, zmq_strerror(zmq_errno()));
}

static int set_options(struct peer *p, struct err *e)
{
    static const int both[][2] = {
        {ZMQ_LINGER, 0},
        {ZMQ_SNDHWM, HWM_MESSAGES},
        {ZMQ_RCVHWM, HWM_MESSAGES},
        {ZMQ_RECONNECT_IVL, 100},
        {ZMQ_RECONNECT_IVL_MAX, 1000}, /* a farm of a thousand knocks a thousand times a second: that is little, and all are back soon */
        {ZMQ_HANDSHAKE_IVL, 5000},
        {ZMQ_TCP_KEEPALIVE, 1},
        {ZMQ_TCP_KEEPALIVE_IDLE, 60},
        {ZMQ_TCP_KEEPALIVE_INTVL, 10},
        {ZMQ_TCP_KEEPALIVE_CNT, 3},
        {ZMQ_TCP_MAXRT, 15000},
        {ZMQ_CONNECT_TIMEOUT, 5000},
        {ZMQ_BACKLOG, BACKLOG},
    };
    static const int pings[][2] = {{ZMQ_HEARTBEAT_IVL, 5000}, {ZMQ_HEARTBEAT_TIMEOUT, 15000}}; /* only who connects asks: see docs/PROTOCOL.md s.7 */
    const int64_t max_bytes = BODY_BIG_MAX_BYTES; /* a larger frame ends the connection before it is read */
    int           rc = 0;

    for (size_t i = 0; !rc && i < sizeof both / sizeof both[0]; i++) rc = set_int(p, both[i][0], both[i][1], e);
    for (size_t i = 0; !rc && !p->router && i < sizeof pings / sizeof pings[0]; i++) rc = set_int(p, pings[i][0], pings[i][1], e);
    if (!rc && zmq_setsockopt(p->socket, ZMQ_MAXMSGSIZE, &max_bytes, sizeof max_bytes))
        rc = err_set(e, ERR_STATE, "ZeroMQ refuses a largest message: %s", zmq_strerror(zmq_errno()));
    if (!rc && p->router) rc = set_int(p, ZMQ_ROUTER_MANDATORY, 1, e); /* full or gone is an error, not a drop */
    if (!rc && !p->router) rc = set_int(p, ZMQ_IMMEDIATE, 1, e);       /* nothing queues for an absent peer */
    if (!rc && strchr(p->endpoint, '[')) rc = set_int(p, ZMQ_IPV6, 1, e);
    return rc;
}

/* ZeroMQ takes port 70000 for 4464. A listener may leave the choice to the system: "*". */
static int check_tcp(const char *endpoint, bool listen, struct err *e)
{
    const char *host = endpoint + strlen("tcp://"), *colon = strrchr(host, ':');
    uint64_t    port = 0;

    if (!colon || colon == host) return err_set(e, ERR_ARG, "endpoint %s is not tcp://HOST:PORT", endpoint);
    if (listen && !strcmp(colon + 1, "*")) return 0;
    if (str_to_u64(str_of(colon + 1), &port) || port < 1 || port > 65535)
        return err_set(e, ERR_ARG, "the port of %s is not a number from 1 to 65535", endpoint);
    return 0;
}

static int check_endpoint(const char *endpoint, bool listen, struct err *e)
{
    const char *path;

    if (!endpoint || !*endpoint) return err_set(e, ERR_ARG, "an endpoint is missing: tcp://HOST:PORT or ipc://PATH");
    if (strlen(endpoint) > ENDPOINT_MAX_BYTES)
        return err_set(e, ERR_ARG, "the endpoint has %zu bytes; at most %d are taken", strlen(endpoint), ENDPOINT_MAX_BYTES);
    if (starts(endpoint, "tcp://")) return check_tcp(endpoint, listen, e);
    if (!starts(endpoint, "ipc://"))
        return err_set(e, ERR_ARG, "endpoint \"%.100s\" is not known: tcp://HOST:PORT or ipc://PATH", endpoint);
    path = endpoint + 6;
    if (!*path) return err_set(e, ERR_ARG, "endpoint %s has no path", endpoint);
    if (strlen(path) >= sizeof ((struct sockaddr_un *)0)->sun_path)
        return err_set(e, ERR_ARG, "the path of %s has %zu bytes; a socket's name has at most %zu: use a shorter folder", endpoint,
                       strlen(path), sizeof ((struct sockaddr_un *)0)->sun_path - 1);
    return 0;
}

/* 127.*, localhost, [::1]: no other machine can speak there. */
static bool is_loopback(const char *endpoint)
{
    const char    *host = endpoint + 6, *colon = strrchr(host, ':');
    char           name[64];
    struct in_addr addr;
    size_t         len = colon ? (size_t)(colon - host) : strlen(host);

    if (len >= sizeof name) return false;
    memcpy(name, host, len);
    name[len] = 0;
    if (!strcmp(name, "localhost") || !strcmp(name, "[::1]") || !strcmp(name, "lo")) return true;
    return inet_pton(AF_INET, name, &addr) == 1 && (ntohl(addr.s_addr) >> 24) == 127;
}

/* What a killed process left behind is removed; a living listener, or a file that is no socket, is not ours to touch. */
static int clear_stale(const char *endpoint, struct err *e)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    const char        *path = endpoint + 6;
    struct stat        st;
    int                fd, rc, saved;

    if (*path == '@' || lstat(path, &st)) return 0; /* abstract, or nothing there */
    if (!S_ISSOCK(st.st_mode)) return err_set(e, ERR_CONFLICT, "%s exists and is not a socket", path);
    memcpy(at.sun_path, path, strlen(path) + 1); /* length checked by check_endpoint() */
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return err_errno(e, ERR_IO, "a socket to look at %s", path);
    rc = connect(fd, (struct sockaddr *)&at, sizeof at);
    saved = errno;
    close(fd);
    if (rc == 0 || saved == EAGAIN) return err_set(e, ERR_CONFLICT, "somebody listens on %s already", endpoint);
    if (saved != ECONNREFUSED) {
        errno = saved;
        return err_errno(e, ERR_IO, "looking at %s", path);
    }
    if (unlink(path) && errno != ENOENT) return err_errno(e, ERR_IO, "removing the stale socket %s", path);
    return 0;
}

static int open_socket(struct peer **out, const char *endpoint, bool router, const struct key *key, struct err *e)
{
    struct peer *p;
    int          rc = check_endpoint(endpoint, router, e);

    if (rc || (rc = context_open(e))) return rc;
    p = calloc(1, sizeof *p);
    if (!p) return err_set(e, ERR_NOMEM, "no memory for a socket");
    p->router = router;
    snprintf(p->endpoint, sizeof p->endpoint, "%s", endpoint);
    buf_init(&p->head, FRAME_HEADER_BYTES);
    buf_init(&p->body, BODY_BIG_MAX_BYTES);
    p->socket = zmq_socket(context, router ? ZMQ_ROUTER : ZMQ_DEALER);
    p->keyed = key && starts(endpoint, "tcp://");
    rc = p->socket ? set_options(p, e) : zmq_err(e, ERR_STATE, "a socket for", endpoint);
    if (!rc && p->keyed) rc = router ? curve_serve(p->socket, key, e) : curve_join(p->socket, key, e);
    p->crowd.keyed = p->keyed;
    if (!rc && (!router || starts(endpoint, "tcp://"))) rc = watch_open(&p->watch, context, p->socket, router ? &p->crowd : NULL, e);
    if (rc) peer_close(p);
    else *out = p;
    return rc;
}

int peer_bind(struct peer **out, const char *endpoint, const struct peer_opts *o, struct err *e)
{
    struct peer *p = NULL;
    mode_t       mask;
    size_t       len = sizeof p->endpoint;
    int          rc = check_endpoint(endpoint, true, e), bound;

    if (rc) return rc;
    if (starts(endpoint, "tcp://") && !is_loopback(endpoint) && !(o && o->key))
        return err_set(e, ERR_ARG, "%s can be reached from other machines, so it needs keys: make them with `zfarm-keys init DIR` and say "
                                   "--keys DIR, or listen on 127.0.0.1", endpoint);
    if (starts(endpoint, "ipc://") && (rc = clear_stale(endpoint, e))) return rc;
    if ((rc = open_socket(&p, endpoint, true, o ? o->key : NULL, e))) return rc;
    mask = umask(077); /* an ipc socket is its user's alone */
    bound = zmq_bind(p->socket, endpoint);
    umask(mask);
    if (bound) {
        rc = zmq_err(e, zmq_errno() == EADDRINUSE ? ERR_CONFLICT : ERR_IO, "listening on", endpoint);
        peer_close(p);
        return rc;
    }
    zmq_getsockopt(p->socket, ZMQ_LAST_ENDPOINT, p->endpoint, &len);
    p->owns_file = starts(p->endpoint, "ipc://") && p->endpoint[6] != '@';
    if (p->keyed && (rc = curve_try(context, p->endpoint, o->key->public_key, e))) {
        peer_close(p);
        return rc;
    }
    *out = p;
    return 0;
}

int peer_connect(struct peer **out, const char *endpoint, struct err *e)
{
    return peer_connect_as(out, endpoint, NULL, e);
}

int peer_connect_as(struct peer **out, const char *endpoint, const struct key *me, struct err *e)
{
    struct peer *p = NULL;
    int          rc;

    if (me && !me->has_server)
        return err_set(e, ERR_ARG, "the key of %s does not say whose farm it is for: --server-key HEX, the broker's public key (zfarm-keys list)", me->name);
    rc = open_socket(&p, endpoint, false, me, e);
    if (rc) return rc;
    if (zmq_connect(p->socket, endpoint)) {
        rc = zmq_err(e, ERR_ARG, "connecting to", endpoint);
        peer_close(p);
        return rc;
    }
    *out = p;
    return 0;
}

const char *peer_endpoint(const struct peer *p)
{
    return p->endpoint;
}

bool peer_keyed(const struct peer *p)
{
    return p->keyed;
}

const uint8_t *peer_user(const struct peer *p)
{
    return p->keyed && p->router ? p->user : NULL;
}

void *peer_watch_socket(const struct peer *p)
{
    return p->router && p->watch ? watch_socket(p->watch) : NULL;
}

void peer_tend(struct peer *p)
{
    enum handshake h;

    while (p->watch && (h = watch_next(p->watch)) != HANDSHAKE_NONE) {
        p->cut_off |= p->met && h == HANDSHAKE_OVER; /* a handshake that came to nothing ends so, too */
        p->met |= h == HANDSHAKE_DONE;
        if (h == HANDSHAKE_OVER) continue;
        p->handshake = h;
        p->n_refused += h != HANDSHAKE_DONE;
        p->n_broken = h == HANDSHAKE_BROKEN ? p->n_broken + 1 : 0;
    }
}

bool peer_cut_off(struct peer *p)
{
    peer_tend(p);
    return p->cut_off;
}

int peer_refused(struct peer *p, struct err *e)
{
    peer_tend(p);
    switch (p->handshake) {
    case HANDSHAKE_DENIED:
        return err_set(e, ERR_STATE, "the broker at %s does not know this key: ask its owner to run `zfarm-keys add NAME --role client` (or worker), "
                                     "and use the file that it makes", p->endpoint);
    case HANDSHAKE_OTHER:
        return p->keyed ? err_set(e, ERR_STATE, "the broker at %s has no keys: leave --key (ZFARM_KEY) out, or ask its owner to start it with --keys", p->endpoint)
                        : err_set(e, ERR_STATE, "the broker at %s asks for a key: --key FILE (or ZFARM_KEY); its owner makes one with "
                                                "`zfarm-keys add NAME --role client` (or worker)", p->endpoint);
    case HANDSHAKE_BROKEN:
        return err_set(e, p->n_broken < BROKEN_MAX ? ERR_BUSY : ERR_STATE, "the handshake with %s broke off: %s", p->endpoint,
                       p->keyed ? "its key is not the one of --key or --server-key, it has none, or it is no zfarm-broker"
                                : "it asks for a key (--key FILE or ZFARM_KEY; its owner makes one with `zfarm-keys add`), or it is no zfarm-broker");
    default: return 0;
    }
}

uint64_t peer_n_refused(struct peer *p)
{
    peer_tend(p);
    return p->n_refused;
}

void *peer_socket(const struct peer *p)
{
    return p->socket;
}

void peer_linger(struct peer *p, int ms)
{
    zmq_setsockopt(p->socket, ZMQ_LINGER, &ms, sizeof ms);
}

void peer_close(struct peer *p)
{
    if (!p) return;
    if (p->owns_file) unlink(p->endpoint + strlen("ipc://"));
    watch_close(p->watch);
    if (p->socket) zmq_close(p->socket);
    buf_release(&p->head);
    buf_release(&p->body);
    free(p);
}

struct frame {
    const void *at;
    size_t      len;
};

static int send_one(void *socket, const struct frame *f, int flags)
{
    int rc;

    do rc = zmq_send(socket, f->at, f->len, flags | ZMQ_DONTWAIT);
    while (rc < 0 && zmq_errno() == EINTR);
    return rc < 0 ? zmq_errno() : 0;
}

/* The first frame says whether the queue takes the message. A DEALER whose pipe dies between two frames rolls the message back and
 * swallows what follows: the rest is still handed over, so that the next message starts clean. */
static int send_frames(void *socket, const struct frame *f, size_t n)
{
    int error = 0;

    for (size_t i = 0; i < n; i++) {
        int rc = send_one(socket, &f[i], i + 1 < n ? ZMQ_SNDMORE : 0);
        if (rc && i == 0) return rc;
        if (rc && !error) error = rc;
    }
    return error;
}

int peer_send(struct peer *p, const struct route *to, const struct msg *m, struct err *e)
{
    struct frame f[4];
    size_t       n = 0;
    int          rc;

    assert(p->router == (to != NULL));
    buf_clear(&p->head);
    buf_clear(&p->body);
    if ((rc = wire_pack(m, &p->head, &p->body, e))) return rc;
    if (to) {
        if (to->len == 0) return err_set(e, ERR_NOTFOUND, "this peer cannot be answered");
        f[n++] = (struct frame){to->id, to->len};
    }
    f[n++] = (struct frame){p->head.at, p->head.len};
    f[n++] = (struct frame){buf_str(&p->body).at, p->body.len};
    if (m->kind == MSG_CHUNK) f[n++] = (struct frame){m->chunk.bytes.at, m->chunk.bytes.len};
    rc = send_frames(p->socket, f, n);
    p->sent_bytes = 0;
    for (size_t i = to ? 1 : 0; i < n; i++) p->sent_bytes += f[i].len;
    if (rc == 0) return 0;
    if (rc == EAGAIN) return err_set(e, ERR_BUSY, "%s: the queue to %s is full, or nobody is there", msg_kind_name(m->kind), p->endpoint);
    if (rc == EHOSTUNREACH) return err_set(e, ERR_NOTFOUND, "%s: its peer is gone", msg_kind_name(m->kind));
    return err_set(e, ERR_IO, "sending %s by %s: %s", msg_kind_name(m->kind), p->endpoint, zmq_strerror(rc));
}

size_t peer_sent_bytes(const struct peer *p)
{
    return p->sent_bytes;
}

uint64_t peer_arrived(const struct route *to, uint64_t *mark)
{
    struct tcp_info info = {0};
    socklen_t       len = sizeof info;
    int             waiting = 0;
    uint64_t        before = *mark;

    if (to->fd < 0) return UINT64_MAX;
    if (getsockopt(to->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && len >= offsetof(struct tcp_info, tcpi_bytes_acked) + sizeof info.tcpi_bytes_acked) {
        *mark = info.tcpi_bytes_acked;
        return *mark > before ? *mark - before : 0;
    }
    return ioctl(to->fd, SIOCOUTQ, &waiting) == 0 && waiting > FULL_PIPE_BYTES ? 0 : UINT64_MAX;
}

/* One frame, not waiting. 0, EAGAIN, or another error; *more tells whether the message goes on. */
static int recv_one(void *socket, zmq_msg_t *f, bool *more)
{
    int rc;

    do rc = zmq_msg_recv(f, socket, ZMQ_DONTWAIT);
    while (rc < 0 && zmq_errno() == EINTR);
    if (rc < 0) return zmq_errno();
    *more = zmq_msg_more(f) != 0;
    return 0;
}

static struct str frame_str(zmq_msg_t *f)
{
    return (struct str){zmq_msg_data(f), zmq_msg_size(f)};
}

/* Reads a whole message: up to n frames are kept, the rest is drained. *n_got counts all. */
static int recv_frames(void *socket, zmq_msg_t *frame, size_t n, size_t *n_got)
{
    bool      more = true;
    zmq_msg_t rest;
    int       rc = 0;

    *n_got = 0;
    zmq_msg_init(&rest);
    while (more && !rc) {
        rc = recv_one(socket, *n_got < n ? &frame[*n_got] : &rest, &more);
        if (!rc) ++*n_got;
    }
    zmq_msg_close(&rest);
    return rc;
}

/* Whose key: ZeroMQ's word, from the ZAP handler's answer. Not on the id's frame, where 4.3.4 has forgotten it. */
static int take_user(zmq_msg_t *f, uint8_t user[CURVE_BYTES])
{
    const char *hex = zmq_msg_gets(f, "User-Id");

    return hex ? hex_to(hex, user, CURVE_BYTES) : ERR_PROTO;
}

static int take_message(struct peer *p, zmq_msg_t *f, size_t n_got, struct arena *a, struct route *from, struct msg *m, struct err *e)
{
    size_t     skip = p->router ? 1 : 0;
    struct str chunk = {0}, head;
    int        rc;

    if (p->router) {
        struct str id = frame_str(&f[0]);

        if (id.len != ROUTE_BYTES || id.at[0] != 0) return err_set(e, ERR_PROTO, "a peer that chose its routing id, of %zu bytes", id.len);
        if (p->keyed && (n_got < 2 || take_user(&f[1], p->user))) return err_set(e, ERR_PROTO, "a message without a key");
        memcpy(from->id, id.at, id.len);
        from->len = (uint8_t)id.len;
        from->fd = n_got > 1 ? zmq_msg_get(&f[1], ZMQ_SRCFD) : -1;
    }
    head = n_got > skip ? frame_str(&f[skip]) : (struct str){0};
    wire_peek(head, &m->kind, &m->correlation);
    if (n_got < skip + 2 || n_got > skip + 3) return err_set(e, ERR_PROTO, "a message of %zu frames; it has 2 or 3", n_got - skip);
    if (n_got == skip + 3) {
        chunk = frame_str(&f[skip + 2]);
        if (chunk.len > CHUNK_MAX_BYTES) return err_set(e, ERR_PROTO, "a chunk of %zu bytes; at most %d are taken", chunk.len, CHUNK_MAX_BYTES);
        chunk.at = arena_text(a, chunk.at, chunk.len);
        if (!chunk.at) return err_set(e, ERR_PROTO, "no room for a chunk of %zu bytes", chunk.len);
    }
    rc = wire_unpack(head, frame_str(&f[skip + 1]), chunk, a, m, e);
    if (rc) { /* whatever was half read is forgotten, but whom to answer and what was asked */
        memset(m, 0, sizeof *m);
        wire_peek(head, &m->kind, &m->correlation);
    }
    return rc;
}

int peer_recv(struct peer *p, struct arena *a, struct route *from, struct msg *m, struct err *e)
{
    zmq_msg_t    f[4];
    struct route nobody;
    size_t       n_got;
    int          rc;

    if (!from) from = &nobody;
    memset(from, 0, sizeof *from);
    memset(m, 0, sizeof *m);
    for (size_t i = 0; i < 4; i++) zmq_msg_init(&f[i]);
    rc = recv_frames(p->socket, f, 4, &n_got);
    if (rc == EAGAIN && n_got == 0) rc = err_set(e, ERR_BUSY, "nothing there");
    else if (rc == EAGAIN) rc = err_set(e, ERR_PROTO, "a message that breaks off");
    else if (rc) rc = err_set(e, ERR_IO, "receiving from %s: %s", p->endpoint, zmq_strerror(rc));
    else rc = take_message(p, f, n_got, a, from, m, e);
    for (size_t i = 0; i < 4; i++) zmq_msg_close(&f[i]);
    return rc;
}

int peer_wait(struct peer *p, int64_t timeout_ms)
{
    zmq_pollitem_t item = {.socket = p->socket, .events = ZMQ_POLLIN};
    int            rc = zmq_poll(&item, 1, (long)timeout_ms);

    if (rc < 0) return zmq_errno() == EINTR ? 0 : ERR_IO;
    return rc > 0;
}
