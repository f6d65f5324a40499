/* peer.h - a ZeroMQ socket that sends and receives struct msg. peer.c and loop.c are the only rooms that say zmq_*.
 *
 *   struct peer *p; peer_bind(&p, "tcp://127.0.0.1:7777", &e);      broker: ROUTER, many routes
 *   struct peer *p; peer_connect(&p, "ipc:///tmp/x/sock", &e);      client, worker: DEALER, route NULL
 *   peer_bind(&p, "tcp://0.0.0.0:7777", &(struct peer_opts){.key = &server}, &e);      the same with keys (CURVE): zap_open() comes first
 *   peer_connect_as(&p, "tcp://farm:7777", &mine, &e);
 *
 * Never blocks, but for a keyed peer_bind(), which tries its own door. Options as RELIABILITY.md s.2.2: ROUTER_MANDATORY, no HANDOVER,
 * LINGER 0, MAXMSGSIZE, heartbeats, HWM. TCP beyond loopback listens with a key or not at all. ipc has no keys: its file is its user's.
 * Nobody chooses a routing id: a peer that does is not heard, so that no session of somebody gone can be continued by another.
 * One thread owns a peer. The zmq context is one per process, made at the first peer after any fork. */
#ifndef PROTO_PEER_H
#define PROTO_PEER_H

#include "base/arena.h"
#include "base/err.h"
#include "proto/key.h"
#include "proto/msg.h"

struct peer;

struct route { /* whom a ROUTER speaks to; dies with the connection */
    uint8_t id[16];
    uint8_t len;
    int     fd; /* for peer_arrived() alone; -1: not known */
};

struct peer_opts {
    const struct key *key; /* tcp://: only who shows a key that the ZAP handler knows is heard; NULL: everybody on this machine */
};

bool route_eq(const struct route *a, const struct route *b);
int  peer_bind(struct peer **out, const char *endpoint, const struct peer_opts *o, struct err *e); /* "tcp://127.0.0.1:*" is fine */
int  peer_connect(struct peer **out, const char *endpoint, struct err *e); /* returns at once; the peer may be absent */
int  peer_connect_as(struct peer **out, const char *endpoint, const struct key *me, struct err *e); /* me NULL, or ipc://: as peer_connect() */
const char *peer_endpoint(const struct peer *p); /* resolved: the port really bound */
void peer_close(struct peer *p);
/* 0; ERR_BUSY: the queue to this peer is full, try later; ERR_NOTFOUND: this route is gone. to NULL on a DEALER.
 * A DEALER whose broker is absent is ERR_BUSY too: nothing queues for nobody. ERR_ARG, ERR_LIMIT: the message breaks docs/PROTOCOL.md. */
int  peer_send(struct peer *p, const struct route *to, const struct msg *m, struct err *e);
/* 0 with *m in a; ERR_BUSY: nothing there; ERR_PROTO: a malformed message (from, and m->kind/correlation if readable, are set). */
int  peer_recv(struct peer *p, struct arena *a, struct route *from, struct msg *m, struct err *e);
size_t peer_sent_bytes(const struct peer *p); /* of the last message that peer_send() sent */
/* How many bytes more than at *mark have arrived at the other end's machine, whatever they were; *mark, 0 at first, follows. By TCP's own count; on ipc, which has
 * none, all (UINT64_MAX) as soon as little waits there, and till then nothing. UINT64_MAX, too, when nothing can be known. */
uint64_t peer_arrived(const struct route *to, uint64_t *mark);
/* Of a listener: has it keys? And whose key the message last received came with (CURVE_BYTES; NULL on a listener without keys). */
bool           peer_keyed(const struct peer *p);
const uint8_t *peer_user(const struct peer *p);
/* Of who connected: the connection that stood is gone, and with it all that was asked on it. ZeroMQ connects again by itself, but to the listener that is
 * somebody new: better begin anew, on a new peer. */
bool     peer_cut_off(struct peer *p);
/* Of who connected by tcp://, and hears nothing. 0: nothing is known against it. ERR_STATE: it was turned away, and this socket will not come
 * in any more: the sentence says what to do about keys. ERR_BUSY: the last handshake broke off; it goes on trying.
 * (A listener that wants keys may hang up on who has none before it says why: then it is ERR_BUSY for some seconds, and ERR_STATE.) */
int      peer_refused(struct peer *p, struct err *e);
uint64_t peer_n_refused(struct peer *p); /* of a tcp listener: handshakes that came to nothing, since it listens */
/* Waits up to timeout_ms for input (a client without a loop). 1: readable, 0: time-out, <0: ERR_*. Interrupted by a signal: 0. */
int  peer_wait(struct peer *p, int64_t timeout_ms);
/* How long peer_close() + peer_shutdown() may take to deliver what was sent; 0 is the default. For a last BYE. */
void peer_linger(struct peer *p, int ms);
/* Looks at the handshakes of a listener: counts failures, cuts silent strangers when there are too many (crowd.h). loop.c calls it when there is
 * something to see; whoever has no loop may, from time to time. */
void peer_tend(struct peer *p);
void *peer_watch_socket(const struct peer *p); /* readable: peer_tend(); NULL: nothing to tend. For loop.c alone */
/* The ZeroMQ socket, for loop.c alone; the context, made when there is none, for zap.c alone (NULL: error). */
void *peer_socket(const struct peer *p);
void *peer_context(struct err *e);
/* Ends the process's context at exit, after all peers are closed. */
void peer_shutdown(void);

#endif
