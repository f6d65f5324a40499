/* loop.h - one poll over peers, file descriptors, timers, and SIGTERM/SIGINT/SIGHUP as callbacks.
 *
 *   struct loop *l; loop_open(&l, &e); loop_peer(l, p, on_message, ctx); loop_timer(l, 2000, on_beat, ctx);
 *   loop_signal(l, on_signal, ctx); loop_run(l, &e);   ... until loop_stop(l)
 *
 * Callbacks run on the loop's thread, and receive now_ms read once per turn. loop_wake() is the only call other threads may make.
 * A turn reads at most a bounded number of messages per peer so that timers stay punctual. */
#ifndef PROTO_LOOP_H
#define PROTO_LOOP_H

#include <stdint.h>

#include "base/err.h"
#include "proto/peer.h"

struct loop;

typedef void loop_peer_f(void *ctx, struct peer *p, int64_t now_ms);  /* readable: call peer_recv until ERR_BUSY or a budget of ~64 */
typedef void loop_fd_f(void *ctx, int fd, int64_t now_ms);
typedef void loop_timer_f(void *ctx, int64_t now_ms);
typedef void loop_signal_f(void *ctx, int signo, int64_t now_ms);

int  loop_open(struct loop **out, struct err *e);
void loop_free(struct loop *l);
int  loop_peer(struct loop *l, struct peer *p, loop_peer_f *f, void *ctx);
void loop_peer_gone(struct loop *l, struct peer *p);
int  loop_fd(struct loop *l, int fd, loop_fd_f *f, void *ctx);          /* readable or hung up */
void loop_fd_gone(struct loop *l, int fd);
int  loop_timer(struct loop *l, int64_t period_ms, loop_timer_f *f, void *ctx); /* returns a timer id >= 0; first fires after one period */
void loop_timer_set(struct loop *l, int id, int64_t at_ms);              /* next firing at (monotonic); then every period again */
void loop_timer_gone(struct loop *l, int id);
int  loop_on_wake(struct loop *l, loop_timer_f *f, void *ctx);           /* what loop_wake() runs on the loop's thread */
void loop_wake(struct loop *l);                                          /* any thread */
/* Blocks SIGTERM, SIGINT, SIGHUP, SIGCHLD in this thread (call before making threads) and delivers them here. */
int  loop_signal(struct loop *l, loop_signal_f *f, void *ctx, struct err *e);
void loop_stop(struct loop *l);
int  loop_run(struct loop *l, struct err *e);

#endif
