/* comm.h - inside the CUDA backend: a communicator of several GPUs of this process (link.c), for ports.c.
 *
 *   comm_open(&c, ordinals, n, until_ms, about, &e);
 *   comm_send(c, 0, from, stream_0, 2, to, stream_2, bytes, until_ms, &e);    both halves at once, so no order of calls can cross another
 *   comm_check(c, &e);                                                        while one waits for the streams: has anything failed meanwhile?
 *
 * Nothing here waits past until_ms: calls do not block, their state is asked for. comm_abort() from any thread. */
#ifndef KERNELS_CUDA_COMM_H
#define KERNELS_CUDA_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct comm;
struct CUstream_st;

/* Ranks 0..n-1 are these GPUs, all different, n >= 2. ERR_NOTFOUND: the library is not on this machine, or too old: about says so. */
int  comm_open(struct comm **out, const int *ordinal, int n, int64_t until_ms, char about[64], struct err *e);
void comm_close(struct comm *c); /* NULL is fine; nobody is inside */
/* bytes from rank a's memory at `from` to rank b's at `to`, each in the order of its stream. Returns when both halves stand in their streams: what is
 * recorded there afterwards comes after the bytes. One thread at a time. ERR_DEVICE. */
int  comm_send(struct comm *c, int a, const void *from, struct CUstream_st *a_stream, int b, void *to, struct CUstream_st *b_stream, size_t bytes,
               int64_t until_ms, struct err *e);
int  comm_check(struct comm *c, struct err *e);
void comm_abort(struct comm *c);

#endif
