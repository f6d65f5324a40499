/* test_pool.c - every chunk once, on any number of threads, loop after loop. Run it under TSan too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/cpu/pool.h"

extern int omp_get_max_threads(void);

enum { CHUNKS_MAX = 1000 };

struct job {
    struct pool *pool;
    int          times[CHUNKS_MAX]; /* not atomic: a chunk has one owner, and pool_for() orders it before the caller's reads */
    _Atomic int  n_wrong;
    int64_t      plain; /* written by the caller between loops, read by chunks */
};

static void once(void *ctx, int64_t chunk, int thread)
{
    struct job *j = ctx;
    int        *own = pool_scratch(j->pool, thread);

    own[0] = (int)chunk;
    j->times[chunk]++;
    if (own[0] != chunk || omp_get_max_threads() != 1 || thread < 0 || thread >= pool_threads(j->pool) || j->plain != 42) j->n_wrong++;
}

static void test_once(void **state)
{
    static struct job j;
    int               omp = omp_get_max_threads();

    (void)state;
    for (int n = 0; n <= 7; n++) {
        struct pool *p = pool_open(n);

        assert_non_null(p);
        assert_true(n == 0 ? pool_threads(p) >= 1 : pool_threads(p) == n);
        for (int round = 0; round < 200; round++) {
            int64_t n_chunks = round * 7 % 41 + (round == 100 ? CHUNKS_MAX - 41 : 0);

            memset(&j, 0, sizeof j);
            j.pool = p;
            j.plain = 42;
            assert_int_equal(pool_reserve(p, 64 + (size_t)round * 100), 0);
            pool_for(p, n_chunks, once, &j);
            for (int64_t i = 0; i < CHUNKS_MAX; i++) assert_int_equal(j.times[i], i < n_chunks);
            assert_int_equal(j.n_wrong, 0);
            assert_int_equal(omp_get_max_threads(), omp); /* the caller's own setting is back */
        }
        pool_free(p);
    }
}

static void test_scratch(void **state)
{
    struct pool *p = pool_open(3);

    (void)state;
    assert_non_null(p);
    assert_int_equal(pool_reserve(p, 100), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal((uintptr_t)pool_scratch(p, i) % 64, 0);
        memset(pool_scratch(p, i), i, 100);
    }
    assert_int_equal(pool_reserve(p, 50), 0); /* never shrinks */
    assert_int_equal(((char *)pool_scratch(p, 2))[99], 2);
    assert_true(pool_reserve(p, SIZE_MAX - 8192) < 0);
    assert_int_equal(pool_reserve(p, 100), 0); /* and recovers */
    memset(pool_scratch(p, 0), 1, 100);
    pool_free(p);
    pool_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_once), cmocka_unit_test(test_scratch)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
