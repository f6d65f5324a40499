/* test_link_cuda.c - parcels with GPUs among the ranks: bytes between CPU and GPU with one, between GPUs with two (NCCL), while both compute; a
 * transfer that passes its deadline; a link that is broken off, and the next one. Prints how long a parcel takes. Skips, and says why, without devices. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "kernels/cuda/cuda.h"
#include "kernels/link.h"
#include "kernels/ops.h"

#define LONG_MS 60000
#define SIDE    8192 /* of the products that keep a device busy: 1.1 TFLOP each */

#define OK(call)                    \
    do {                            \
        struct err e = {0};         \
        if (call) fail_msg("%s", e.text); \
    } while (0)

static struct dev *opened(const char *name)
{
    const struct dev_opts o = {PRECISION_BF16, 1};
    struct dev           *d = NULL;
    struct err            e = {0};

    if (dev_open(&d, name, &o, &e) == 0) return d;
    assert_int_equal(e.code, ERR_DEVICE);
    return NULL;
}

/* The devices of these names; skips when one is not there. */
static void open_all(struct dev **dev, const char *const *name, int n)
{
    for (int i = 0; i < n; i++)
        if (!(dev[i] = opened(name[i]))) {
            print_message("skipped: there is no %s\n", name[i]);
            while (i > 0) dev_close(dev[--i]);
            skip();
        }
    for (int i = 0; i < n; i++) OK(dev_scratch_reserve(dev[i], (size_t)(strcmp(name[i], "cpu") ? 640 : 64) << 20, &e));
}

static void close_all(struct dev **dev, int n)
{
    for (int i = 0; i < n; i++) dev_close(dev[i]);
}

static struct link *linked(struct dev **dev, int n, int64_t deadline_ms)
{
    struct link *l = NULL;

    OK(link_open(&l, dev, n, deadline_ms, &e));
    return l;
}

static float value_of(uint64_t ticket, int64_t i)
{
    return (float)((ticket * 2654435761u + (uint64_t)i * 40503u) % 100003);
}

static int put(struct link *l, struct dev *d, int rank, uint64_t ticket, int64_t n, struct err *e)
{
    const struct link_note note = {.ticket = ticket};
    float                 *host = malloc((size_t)n * sizeof *host);
    struct tensor          t = dev_new1(d, DTYPE_F32, n);
    int                    rc;

    for (int64_t i = 0; i < n; i++) host[i] = value_of(ticket, i);
    if (!(rc = dev_put(d, &t, host, (size_t)n * sizeof *host, e))) rc = link_put(l, rank, &note, &t, e);
    memset(host, 0xff, (size_t)n * sizeof *host);
    if (!rc) rc = dev_put(d, &t, host, (size_t)n * sizeof *host, e); /* it is ours again */
    dev_reset(d, 0);
    free(host);
    return rc;
}

/* 0 when all is as put() made it; ERR_CONFLICT when not. */
static int take(struct link *l, struct dev *d, int rank, uint64_t ticket, int64_t n, struct err *e)
{
    struct tensor t = dev_new1(d, DTYPE_F32, n);
    float        *host = malloc((size_t)n * sizeof *host);
    int           rc = link_take(l, rank, ticket, 0, &t, e);

    if (!rc) rc = dev_get(d, &t, host, (size_t)n * sizeof *host, e);
    for (int64_t i = 0; i < n && !rc; i++)
        if (host[i] != value_of(ticket, i)) rc = err_set(e, ERR_CONFLICT, "value %lld of parcel %llu is another", (long long)i, (unsigned long long)ticket);
    dev_reset(d, 0);
    free(host);
    return rc;
}

/* Every pair of ranks, sizes from one float to 16 MiB, slots used again. */
static void every_pair(struct dev **dev, int n, const char *about)
{
    static const int64_t sizes[] = {1, 33, 130000, 1 << 18, 4 << 20};
    struct link         *l = linked(dev, n, LONG_MS);
    uint64_t             ticket = 1;

    assert_non_null(strstr(link_about(l), about));
    print_message("over %s\n", link_about(l));
    for (int round = 0; round < 3; round++)
        for (int a = 0; a < n; a++)
            for (int b = 0; b < n; b++)
                for (int k = 0; k < 5; k++, ticket++) {
                    OK(put(l, dev[a], a, ticket, sizes[k], &e));
                    OK(take(l, dev[b], b, ticket, sizes[k], &e));
                    link_drop(l, ticket);
                }
    assert_false(link_failed(l));
    link_free(l);
}

static void cpu_and_gpu(void **state)
{
    static const char *const name[] = {"cpu", "cuda:0", "cpu"};
    struct dev              *dev[3];

    (void)state;
    open_all(dev, name, 3);
    every_pair(dev, 3, "host copies");
    close_all(dev, 3);
}

static void gpu_and_gpu(void **state)
{
    static const char *const name[] = {"cuda:0", "cuda:1", "cpu"};
    struct dev              *dev[3];

    (void)state;
    open_all(dev, name, 3);
    every_pair(dev, 3, "NCCL");
    close_all(dev, 3);
}

static void one_gpu_twice(void **state)
{
    static const char *const name[] = {"cuda:0", "cuda:0"};
    struct dev              *dev[2];
    struct link             *l;
    struct err               e = {0};

    (void)state;
    open_all(dev, name, 2);
    assert_int_equal(link_open(&l, dev, 2, LONG_MS, &e), ERR_ARG);
    close_all(dev, 2);
}

/* ---- two GPUs that compute meanwhile ---- */

#define PARCELS 400
#define FLOATS  (int64_t)(300 * 2560) /* an embedding of 300 tokens */

static struct {
    struct dev  *dev[2];
    struct link *l;
    atomic_uint  n_put, n_taken;
    atomic_bool  over;
    atomic_int   wrong, products;
    double       worst_ms, sum_ms; /* the taker's */
} busy;

/* Products of SIDE x SIDE on the device's own stream, n at once. Their operands are in the upper part of the scratch. */
static void compute(struct dev *d, int n)
{
    size_t        mark = dev_mark(d);
    struct tensor x = dev_new2(d, DTYPE_BF16, SIDE, SIDE), w = dev_new2(d, DTYPE_BF16, SIDE, SIDE), y = dev_new2(d, DTYPE_BF16, SIDE, SIDE);

    for (int i = 0; i < n; i++) op_linear(d, &y, &x, &w, NULL);
    dev_reset(d, mark);
}

/* Puts parcels, computes and allocates between them: cudaMalloc and cudaFree meet transfers. */
static void *putter(void *arg)
{
    struct dev *d = busy.dev[0];

    (void)arg;
    for (uint64_t k = 1; k <= PARCELS && !busy.wrong; k++) {
        struct tensor more;
        struct err    e = {0};

        compute(d, 2);
        busy.products += 2;
        if (put(busy.l, d, 0, k, FLOATS, &e)) {
            print_message("put: %s\n", e.text);
            busy.wrong++;
        }
        busy.n_put = (unsigned)k;
        if (k % 5 == 0 && dev_alloc(d, DTYPE_F32, 1, (int64_t[]){1 << 20}, &more, NULL) == 0) dev_free(d, &more);
    }
    return NULL;
}

static void *taker(void *arg)
{
    struct dev *d = busy.dev[1];

    (void)arg;
    for (uint64_t k = 1; k <= PARCELS && !busy.wrong; k++) {
        struct link_note note;
        struct tensor    more;
        struct err       e = {0};
        int64_t          from;

        if (link_peek(busy.l, k, 0, &note, &e)) busy.wrong++;
        from = now_us();
        if (take(busy.l, d, 1, k, FLOATS, &e)) {
            print_message("take: %s\n", e.text);
            busy.wrong++;
        }
        double ms = (double)(now_us() - from) / 1e3;
        if (k > 5) {
            busy.sum_ms += ms;
            if (ms > busy.worst_ms) busy.worst_ms = ms;
        }
        link_drop(busy.l, k);
        compute(d, 1);
        if (k % 3 == 0 && dev_alloc(d, DTYPE_F32, 1, (int64_t[]){1 << 20}, &more, NULL) == 0) dev_free(d, &more);
    }
    return NULL;
}

static void while_both_compute(void **state)
{
    static const char *const name[] = {"cuda:0", "cuda:1"};
    pthread_t                thread[2];
    int64_t                  from;

    (void)state;
    open_all(busy.dev, name, 2);
    busy.l = linked(busy.dev, 2, LONG_MS);
    from = now_ms();
    pthread_create(&thread[0], NULL, putter, NULL);
    pthread_create(&thread[1], NULL, taker, NULL);
    pthread_join(thread[0], NULL);
    pthread_join(thread[1], NULL);
    print_message("%d parcels of %.1f MB and %d products in %.1f s; a parcel to the host's memory of the other rank: mean %.2f ms, worst %.2f\n", PARCELS,
                  (double)FLOATS * 4 / 1e6, (int)busy.products, (double)(now_ms() - from) / 1e3, busy.sum_ms / (PARCELS - 5), busy.worst_ms);
    assert_int_equal(busy.wrong, 0);
    assert_false(link_failed(busy.l));
    link_free(busy.l);
    for (int i = 0; i < 2; i++) OK(dev_sync(busy.dev[i], &e));
    close_all(busy.dev, 2);
}

/* ---- ends ---- */

/* Work for some ms on the device, told to it at once: by the slowest products there are, for a queue takes a thousand of them only. */
static void keep_busy(struct dev *d, int64_t ms)
{
    int64_t from, one_us, n;

    cuda_only(d, CUDA_ONLY_PLAIN, true);
    compute(d, 1);
    OK(dev_sync(d, &e));
    from = now_us();
    compute(d, 1);
    OK(dev_sync(d, &e));
    one_us = now_us() - from;
    n = ms * 1000 / (one_us + 1) + 1;
    if (n > 900) fail_msg("a product takes %lld us: too fast to keep the device busy", (long long)one_us);
    compute(d, (int)n);
}

/* The taker's device is busy for longer than the deadline, so the parcel cannot come in: the link ends in time, and the devices live. */
static void past_its_deadline(void **state)
{
    static const char *const name[] = {"cuda:0", "cuda:1"};
    struct dev              *dev[2];
    struct link             *l;
    struct err               why = {0};
    int64_t                  from;

    (void)state;
    open_all(dev, name, 2);
    l = linked(dev, 2, LONG_MS); /* the first meeting takes longest */
    OK(put(l, dev[0], 0, 1, 1000, &e));
    OK(take(l, dev[1], 1, 1, 1000, &e));
    link_free(l);
    l = linked(dev, 2, 5000);
    OK(put(l, dev[0], 0, 1, 1000, &e));
    keep_busy(dev[1], 12000);
    from = now_ms();
    assert_int_equal(take(l, dev[1], 1, 1, 1000, &why), ERR_DEVICE);
    print_message("after %.1f s: %s\n", (double)(now_ms() - from) / 1e3, why.text);
    assert_true(link_failed(l));
    assert_int_equal(put(l, dev[0], 0, 2, 1000, &why), ERR_DEVICE);
    link_free(l);
    OK(dev_sync(dev[1], &e));
    every_pair(dev, 2, "NCCL"); /* a new link between the same devices */
    close_all(dev, 2);
}

static void *break_off(void *l)
{
    sleep_ms(300);
    link_fail(l, "rank 0 saw smoke");
    return NULL;
}

static void broken_off(void **state)
{
    static const char *const name[] = {"cuda:0", "cuda:1"};
    struct dev              *dev[2];
    struct link             *l;
    struct err               why = {0};
    pthread_t                thread;

    (void)state;
    open_all(dev, name, 2);
    l = linked(dev, 2, LONG_MS);
    OK(put(l, dev[0], 0, 1, 1000, &e));
    keep_busy(dev[1], 4000);
    pthread_create(&thread, NULL, break_off, l);
    assert_int_equal(take(l, dev[1], 1, 1, 1000, &why), ERR_DEVICE);
    assert_string_equal(why.text, "rank 0 saw smoke");
    pthread_join(thread, NULL);
    link_free(l);
    OK(dev_sync(dev[1], &e));
    close_all(dev, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpu_and_gpu),        cmocka_unit_test(one_gpu_twice),     cmocka_unit_test(gpu_and_gpu),
        cmocka_unit_test(while_both_compute), cmocka_unit_test(past_its_deadline), cmocka_unit_test(broken_off),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
