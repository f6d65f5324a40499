/* test_writer.c - the thread that writes pictures: order, its ceiling, cancelling, ending. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "base/clock.h"
#include "proto/wire.h"
#include "worker/writer.h"

#define WAIT_MS 20000

static struct { /* what done() saw; shared: under mtx */
    pthread_mutex_t mtx;
    int             n, rc[16];
    uint64_t        task[16];
    size_t          bytes[16];
    bool            hold; /* done() waits */
} seen = {.mtx = PTHREAD_MUTEX_INITIALIZER};

static int n_done(void)
{
    pthread_mutex_lock(&seen.mtx);
    int n = seen.n;
    pthread_mutex_unlock(&seen.mtx);
    return n;
}

static void on_done(void *ctx, struct picture *p, int rc, const struct err *e)
{
    uint64_t epoch;

    (void)ctx, (void)e;
    assert_int_equal(writer_task(&epoch), 0); /* it is written, whoever dies from here on */
    for (bool hold = true; hold;) {
        pthread_mutex_lock(&seen.mtx);
        hold = seen.hold;
        pthread_mutex_unlock(&seen.mtx);
        if (hold) sleep_ms(1);
    }
    pthread_mutex_lock(&seen.mtx);
    seen.task[seen.n] = p->task;
    seen.bytes[seen.n] = p->h.part_bytes[0];
    seen.rc[seen.n++] = rc;
    pthread_mutex_unlock(&seen.mtx);
    picture_free(p);
}

static void hold(bool on)
{
    pthread_mutex_lock(&seen.mtx);
    seen.hold = on;
    pthread_mutex_unlock(&seen.mtx);
}

static struct picture *picture(uint64_t task, int side_px)
{
    struct item     it = {.n_images = 1};
    struct picture *p = NULL;
    struct buf      b;
    struct err      e = {0};

    spec_init(&it.spec);
    it.spec.width_px = it.spec.height_px = side_px;
    it.spec.steps = 1;
    buf_init(&b, LINK_PAYLOAD_MAX);
    if (wire_item_pack(&it, &b, &e) || picture_open(&p, task, task + 100, buf_str(&b), &e)) fail_msg("%s", e.text);
    buf_release(&b);
    p->image = (struct image){.width_px = side_px, .height_px = side_px, .rgb = calloc(3, (size_t)side_px * (size_t)side_px)};
    assert_non_null(p->image.rgb);
    return p;
}

static struct writer *opened(void)
{
    struct writer *w = NULL;
    struct err     e = {0};

    seen.n = 0;
    if (writer_open(&w, on_done, NULL, &e)) fail_msg("%s", e.text);
    return w;
}

static void in_order(void **state)
{
    struct writer *w = opened();

    (void)state;
    for (uint64_t i = 1; i <= 10; i++) writer_put(w, picture(i, 16 * (int)(11 - i)));
    writer_free(w); /* all of them are written first */
    assert_int_equal(n_done(), 10);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(seen.task[i], i + 1);
        assert_int_equal(seen.rc[i], 0);
        assert_true(seen.bytes[i] > 100);
    }
}

static void *put_one_more(void *arg)
{
    writer_put(arg, picture(99, 16));
    return NULL;
}

/* While one waits for done() and WRITER_MAX are queued, the next put() waits, too. */
static void at_most_so_many(void **state)
{
    struct writer *w = opened();
    pthread_t      thread;

    (void)state;
    hold(true);
    for (uint64_t i = 0; i < WRITER_MAX + 1; i++) writer_put(w, picture(i + 1, 16));
    assert_int_equal(pthread_create(&thread, NULL, put_one_more, w), 0);
    sleep_ms(50);
    assert_int_equal(n_done(), 0);
    hold(false);
    pthread_join(thread, NULL);
    writer_free(w);
    assert_int_equal(n_done(), WRITER_MAX + 2);
    assert_int_equal(seen.task[WRITER_MAX + 1], 99);
}

static void canceled(void **state)
{
    struct writer *w = opened();

    (void)state;
    hold(true);
    writer_put(w, picture(1, 16)); /* its done() holds the thread */
    writer_put(w, picture(2, 16));
    writer_put(w, picture(3, 16));
    writer_cancel(w, 3, 103);
    writer_cancel(w, 2, 999); /* of another lease: not this one */
    writer_cancel(w, 7, 107);
    hold(false);
    writer_free(w);
    assert_int_equal(n_done(), 3);
    assert_int_equal(seen.rc[1], 0);
    assert_int_equal(seen.rc[2], ERR_CANCELED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_order), cmocka_unit_test(at_most_so_many), cmocka_unit_test(canceled)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
