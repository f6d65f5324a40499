/* pool.h - the CPU's threads: a loop over chunks, taken one by one.
 *
 *   pool_for(p, n_chunks, fn, ctx);      fn(ctx, chunk, thread) for each chunk exactly once; the caller works too; returns when all are done
 *
 * Which thread takes which chunk is chance, so a chunk's arithmetic must depend on its index alone: then results do not depend on the
 * number of threads. Inside fn, OpenMP (oneDNN's) is held to one thread. One pool_for() at a time per pool; fn must not call it.
 * Not here: what a chunk is. */
#ifndef KERNELS_CPU_POOL_H
#define KERNELS_CPU_POOL_H

#include <stddef.h>
#include <stdint.h>

struct pool;

typedef void pool_fn(void *ctx, int64_t chunk, int thread);

/* n_threads: 0 = as many as this process may run on. NULL when memory or threads are refused. */
struct pool *pool_open(int n_threads);
void         pool_free(struct pool *p);
int          pool_threads(const struct pool *p);
void         pool_for(struct pool *p, int64_t n_chunks, pool_fn *fn, void *ctx);
/* Scratch of each thread, 64-byte aligned, kept and grown: pool_scratch(p, thread) after pool_reserve() said 0. ERR_NOMEM when refused. */
int          pool_reserve(struct pool *p, size_t bytes_per_thread);
void        *pool_scratch(struct pool *p, int thread);
/* Holds OpenMP of the calling thread to one thread (making a primitive outside pool_for); pool_unquiet() puts back what pool_quiet() said. */
int          pool_quiet(void);
void         pool_unquiet(int n_before);

#endif
