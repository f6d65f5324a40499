/* pool.c - threads that sleep between loops.
 * Invariants: P1 a thread works on loop g only between seeing `loop == g` and lowering n_busy, both under mtx; pool_for() returns after
 * n_busy is 0, so ctx outlives every use.  P2 a chunk index is given out once (atomic counter).  P3 scratch changes only between loops.
 * Not here: arithmetic. */
#include "kernels/cpu/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/err.h"

/* libgomp's, which oneDNN runs on; declared here because clang brings no omp.h for it. */
extern void omp_set_num_threads(int n);
extern int  omp_get_max_threads(void);

struct worker {
    struct pool *pool;
    pthread_t    thread;
    int          index;
};

struct pool {
    int            n_threads; /* with the caller, who is thread 0 */
    struct worker *worker;    /* [n_threads]; [0] unused */
    void         **scratch;   /* [n_threads] */
    size_t         scratch_bytes;

    pthread_mutex_t mtx;
    pthread_cond_t  go, done;
    uint64_t        loop; /* under mtx: number of the current loop */
    int             n_busy;
    bool            ending;
    pool_fn        *fn; /* written before `loop` is raised */
    void           *ctx;
    int64_t         n_chunks;
    _Atomic int64_t next;
};

int pool_quiet(void)
{
    int before = omp_get_max_threads();

    omp_set_num_threads(1);
    return before;
}

void pool_unquiet(int n_before)
{
    omp_set_num_threads(n_before);
}

static void take_chunks(struct pool *p, int thread)
{
    int64_t i;

    while ((i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < p->n_chunks) p->fn(p->ctx, i, thread);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct pool   *p = w->pool;
    uint64_t       seen = 0;

    omp_set_num_threads(1);
    pthread_mutex_lock(&p->mtx);
    for (;;) {
        while (p->loop == seen && !p->ending) pthread_cond_wait(&p->go, &p->mtx);
        if (p->ending) break;
        seen = p->loop;
        pthread_mutex_unlock(&p->mtx);
        take_chunks(p, w->index);
        pthread_mutex_lock(&p->mtx);
        if (--p->n_busy == 0) pthread_cond_signal(&p->done);
    }
    pthread_mutex_unlock(&p->mtx);
    return NULL;
}

/* Ends the first n_started threads and frees all. */
static void stop(struct pool *p, int n_started)
{
    pthread_mutex_lock(&p->mtx);
    p->ending = true;
    pthread_cond_broadcast(&p->go);
    pthread_mutex_unlock(&p->mtx);
    for (int i = 1; i < n_started; i++) pthread_join(p->worker[i].thread, NULL);
    for (int i = 0; i < p->n_threads; i++) free(p->scratch[i]);
    pthread_mutex_destroy(&p->mtx);
    pthread_cond_destroy(&p->go);
    pthread_cond_destroy(&p->done);
    free(p->worker);
    free(p->scratch);
    free(p);
}

static int n_allowed(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
}

struct pool *pool_open(int n_threads)
{
    struct pool *p = calloc(1, sizeof *p);

    if (!p) return NULL;
    p->n_threads = n_threads > 0 ? n_threads : n_allowed();
    p->worker = calloc((size_t)p->n_threads, sizeof *p->worker);
    p->scratch = calloc((size_t)p->n_threads, sizeof *p->scratch);
    if (!p->worker || !p->scratch) {
        free(p->worker);
        free(p->scratch);
        free(p);
        return NULL;
    }
    pthread_mutex_init(&p->mtx, NULL);
    pthread_cond_init(&p->go, NULL);
    pthread_cond_init(&p->done, NULL);
    for (int i = 1; i < p->n_threads; i++) {
        p->worker[i] = (struct worker){.pool = p, .index = i};
        if (pthread_create(&p->worker[i].thread, NULL, work, &p->worker[i]) != 0) {
            stop(p, i);
            return NULL;
        }
    }
    return p;
}

void pool_free(struct pool *p)
{
    if (p) stop(p, p->n_threads);
}

int pool_threads(const struct pool *p)
{
    return p->n_threads;
}

void pool_for(struct pool *p, int64_t n_chunks, pool_fn *fn, void *ctx)
{
    int omp_before = pool_quiet();

    p->fn = fn;
    p->ctx = ctx;
    p->n_chunks = n_chunks;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    if (p->n_threads == 1 || n_chunks <= 1) {
        take_chunks(p, 0);
    } else {
        pthread_mutex_lock(&p->mtx); /* orders the writes above before any worker's reads */
        p->n_busy = p->n_threads - 1;
        p->loop++;
        pthread_cond_broadcast(&p->go);
        pthread_mutex_unlock(&p->mtx);
        take_chunks(p, 0);
        pthread_mutex_lock(&p->mtx);
        while (p->n_busy > 0) pthread_cond_wait(&p->done, &p->mtx);
        pthread_mutex_unlock(&p->mtx);
    }
    pool_unquiet(omp_before);
}

int pool_reserve(struct pool *p, size_t bytes_per_thread)
{
    size_t bytes = (bytes_per_thread + 4095) / 4096 * 4096;

    if (bytes_per_thread > PTRDIFF_MAX - 4096) return ERR_NOMEM;
    if (bytes <= p->scratch_bytes) return 0;
    p->scratch_bytes = 0;
    for (int i = 0; i < p->n_threads; i++) {
        free(p->scratch[i]);
        p->scratch[i] = aligned_alloc(64, bytes); /* touched, and so paid for, only by a thread that works */
        if (!p->scratch[i]) return ERR_NOMEM;
    }
    p->scratch_bytes = bytes;
    return 0;
}

void *pool_scratch(struct pool *p, int thread)
{
    return p->scratch[thread];
}
