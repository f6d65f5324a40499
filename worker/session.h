/* session.h - the conversation with the broker (docs/PROTOCOL.md): hello, beats, leases in, results out until RESULT_OK.
 *
 *   session_open(w, &e); session_opened(w, now) whenever the model is open; session_tick(w, now) often; session_say(w, now) when something is new
 *
 * Believes: the broker may be absent, restart, forget us, or answer late; every message may be said twice.
 * Invariants: S1 a result is kept until RESULT_OK, HAVE or DROP.  S2 no chunk is sent beyond the credit.  S3 nothing blocks. */
#ifndef WORKER_SESSION_H
#define WORKER_SESSION_H

#include "worker/worker.h"

int  session_open(struct worker *w, struct err *e);     /* a socket; ERR_ARG when the endpoint is not one */
void session_opened(struct worker *w, int64_t now_ms);  /* HELLO, from now on; anew, when the model is no longer what was said */
void session_tick(struct worker *w, int64_t now_ms);
void session_say(struct worker *w, int64_t now_ms);     /* READY, OFFERs, FAILEDs, chunks, a beat when progress moved */
void session_release(struct worker *w, struct work *k, const char *why); /* said if it can be, forgotten in any case */
void session_close(struct worker *w, bool bye);
bool session_is_up(const struct worker *w);

#endif
