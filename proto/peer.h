/* peer.h - a ZeroMQ socket that sends and receives struct msg. peer.c and loop.c are the only rooms that say zmq_*.
 *
 *   struct peer *p; peer_bind(&p, "tcp://127.0.0.1:7777", &e);      broker: ROUTER, many routes
 *   struct peer *p; peer_connect(&p, "ipc:///tmp/x/sock", &e);      client, worker: DEALER, route NULL
 *
 * Never blocks. Options as RELIABILITY.md s.2.2: ROUTER_MANDATORY, no HANDOVER, LINGER 0, MAXMSGSIZE, heartbeats, HWM.
 * TCP listens on loopback only until CURVE comes (ERR_ARG with a sentence otherwise, unless peer_opts.insecure).
 * One thread owns a peer. The zmq context is one per process, made at the first peer after any fork. */
#ifndef PROTO_PEER_H
#define PROTO_PEER_H

#include "base/arena.h"
#include "base/err.h"
#include "proto/msg.h"

struct peer;

struct route { /* whom a ROUTER speaks to; dies with the connection */
    uint8_t id[16];
    uint8_t len;
};

struct peer_opts {
    bool insecure; /* allow a TCP listener beyond loopback without CURVE: the user said so */
};

bool route_eq(const struct route *a, const struct route *b);
int  peer_bind(struct peer **out, const char *endpoint, const struct peer_opts *o, struct err *e); /* "tcp://127.0.0.1:*" is fine */
int  peer_connect(struct peer **out, const char *endpoint, struct err *e); /* returns at once; the peer may be absent */
const char *peer_endpoint(const struct peer *p); /* resolved: the port really bound */
void peer_close(struct peer *p);
/* 0; ERR_BUSY: the queue to this peer is full, try later; ERR_NOTFOUND: this route is gone. to NULL on a DEALER.
 * A DEALER whose broker is absent is ERR_BUSY too: nothing queues for nobody. ERR_ARG, ERR_LIMIT: the message breaks docs/PROTOCOL.md. */
int  peer_send(struct peer *p, const struct route *to, const struct msg *m, struct err *e);
/* 0 with *m in a; ERR_BUSY: nothing there; ERR_PROTO: a malformed message (from, and m->kind/correlation if readable, are set). */
int  peer_recv(struct peer *p, struct arena *a, struct route *from, struct msg *m, struct err *e);
/* Waits up to timeout_ms for input (a client without a loop). 1: readable, 0: time-out, <0: ERR_*. Interrupted by a signal: 0. */
int  peer_wait(struct peer *p, int64_t timeout_ms);
/* How long peer_close() + peer_shutdown() may take to deliver what was sent; 0 is the default. For a last BYE. */
void peer_linger(struct peer *p, int ms);
/* The ZeroMQ socket, for loop.c alone. */
void *peer_socket(const struct peer *p);
/* Ends the process's context at exit, after all peers are closed. */
void peer_shutdown(void);

#endif
