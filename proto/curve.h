/* curve.h - keys on a ZeroMQ socket, its handshakes watched, its door tried. For peer.c alone.
 *
 *   curve_serve(socket, &server, &e); ... zmq_bind ...; curve_try(context, endpoint, server.public_key, &e)      a listener
 *   curve_join(socket, &mine, &e); ... zmq_connect ...                                                            who connects
 *
 * Believes: CURVE alone lets every key in; who is known is the ZAP handler's to say (zap.h), and a listener without one must let nobody in. */
#ifndef PROTO_CURVE_H
#define PROTO_CURVE_H

#include "proto/crowd.h"
#include "proto/key.h"

#define CURVE_DOMAIN "zfarm" /* not empty: without a domain ZeroMQ asks no ZAP handler */

/* A listener that asks the ZAP handler about every key, and lets nobody in when there is none. ERR_STATE when this ZeroMQ cannot. */
int curve_serve(void *socket, const struct key *server, struct err *e);
int curve_join(void *socket, const struct key *mine, struct err *e);
/* Knocks with a key drawn at random. 0: it was refused by the ZAP handler, as it must. ERR_STATE: it was let in, or nobody judged it. */
int curve_try(void *context, const char *endpoint, const uint8_t server_public[CURVE_BYTES], struct err *e);

/* What became of a socket's handshakes, told by its monitor. */
enum handshake {
    HANDSHAKE_NONE,   /* nothing more is known now */
    HANDSHAKE_DONE,
    HANDSHAKE_DENIED, /* the ZAP handler said no */
    HANDSHAKE_OTHER,  /* one side has keys, the other none: mechanisms differ */
    HANDSHAKE_BROKEN, /* ended without a reason: another server's key, no ZeroMQ, a peer that died */
    HANDSHAKE_OVER    /* no handshake: the connection is gone; told to who connected only */
};
struct watch;
/* Before bind or connect. crowd: of a listener, kept; NULL of who connects. */
int            watch_open(struct watch **out, void *context, void *socket, struct crowd *crowd, struct err *e);
enum handshake watch_next(struct watch *w); /* tells the crowd meanwhile who comes and goes */
void          *watch_socket(const struct watch *w); /* readable when there is more */
void           watch_close(struct watch *w); /* before its socket; NULL is fine */

#endif
