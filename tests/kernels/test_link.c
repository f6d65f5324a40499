/* test_link.c - parcels between devices: bytes, who waits for what, deadlines, a room that hangs or fails, many threads at once. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "kernels/link.h"

#define LONG_MS 60000 /* what must come comes long before */
#define RANKS   4

static struct dev *dev[RANKS];

static int open_devs(void **state)
{
    const struct dev_opts o = {PRECISION_F32, 1};

    (void)state;
    for (int i = 0; i < RANKS; i++)
        if (dev_open(&dev[i], "cpu", &o, NULL)) return -1;
    return 0;
}

static int close_devs(void **state)
{
    (void)state;
    for (int i = 0; i < RANKS; i++) dev_close(dev[i]);
    return 0;
}

static struct link *opened(int n, int64_t deadline_ms)
{
    struct link *l = NULL;
    struct err   e = {0};

    if (link_open(&l, dev, n, deadline_ms, &e)) fail_msg("%s", e.text);
    return l;
}

/* A tensor of n floats over memory of the caller. */
static struct tensor floats(int rank, float *at, int64_t n)
{
    return (struct tensor){.type = DTYPE_F32, .rank = 1, .dim = {n}, .pitch = 1, .data = at, .dev = dev[rank]};
}

static float value_of(uint64_t ticket, int64_t i)
{
    return (float)((ticket * 2654435761u + (uint64_t)i * 40503u) % 100003);
}

static int put(struct link *l, int rank, uint64_t ticket, uint32_t what, int64_t n, struct err *e)
{
    struct link_note note = {.ticket = ticket, .what = what, .mark = {7, 8, 9}};
    float           *at = malloc((size_t)n * sizeof *at);
    struct tensor    t = floats(rank, at, n);
    int              rc;

    for (int64_t i = 0; i < n; i++) at[i] = value_of(ticket + what, i);
    rc = link_put(l, rank, &note, &t, e);
    memset(at, 0xff, (size_t)n * sizeof *at); /* it is the caller's again */
    free(at);
    return rc;
}

/* 0 when all is as put() made it, else what the link says. */
static int take(struct link *l, int rank, uint64_t ticket, uint32_t what, int64_t n, struct err *e)
{
    struct link_note note;
    struct tensor    t;
    float           *at;
    int              rc = link_peek(l, ticket, what, &note, e);

    if (rc) return rc;
    assert_int_equal(note.type, DTYPE_F32);
    assert_int_equal(note.rank, 1);
    assert_int_equal(note.dim[0], n);
    assert_int_equal(note.mark[2], 9);
    at = malloc((size_t)n * sizeof *at);
    t = floats(rank, at, n);
    rc = link_take(l, rank, ticket, what, &t, e);
    for (int64_t i = 0; i < n && !rc; i++) assert_true(at[i] == value_of(ticket + what, i));
    free(at);
    return rc;
}

static void bytes_and_orders(void **state)
{
    struct link *l = opened(RANKS, LONG_MS);
    struct err   e = {0};

    (void)state;
    assert_string_equal(link_about(l), "memory");
    for (uint64_t k = 1; k <= 6; k++) assert_int_equal(put(l, 0, k, 0, (int64_t)(1 + k * 137 % 5000), &e), 0);
    assert_int_equal(put(l, 0, 3, 1, 99, &e), 0); /* a second of ticket 3 */
    for (uint64_t k = 6; k >= 1; k--) assert_int_equal(take(l, (int)(k % RANKS), k, 0, (int64_t)(1 + k * 137 % 5000), &e), 0); /* also by rank 0 itself */
    assert_int_equal(take(l, 2, 3, 1, 99, &e), 0);
    assert_int_equal(take(l, 1, 3, 1, 99, &e), 0); /* it stays until it is dropped */
    for (uint64_t k = 1; k <= 6; k++) link_drop(l, k);
    link_drop(l, 77); /* of nobody */
    for (uint64_t round = 0; round < 5; round++) { /* slots are used again, larger and smaller */
        for (uint64_t k = 0; k < LINK_SLOTS; k++) assert_int_equal(put(l, 1, 100 + k, 0, (int64_t)(1 + (k * 911 + round * 77) % 3000), &e), 0);
        for (uint64_t k = 0; k < LINK_SLOTS; k++) {
            assert_int_equal(take(l, 3, 100 + k, 0, (int64_t)(1 + (k * 911 + round * 77) % 3000), &e), 0);
            link_drop(l, 100 + k);
        }
    }
    assert_false(link_failed(l));
    link_free(l);
}

struct later {
    struct link *l;
    uint64_t     ticket;
    atomic_int   done, rc;
};

static void *take_later(void *arg)
{
    struct later *a = arg;

    a->rc = take(a->l, 1, a->ticket, 0, 10, NULL);
    a->done = 1;
    return NULL;
}

static void *put_later(void *arg)
{
    struct later *a = arg;

    a->rc = put(a->l, 0, a->ticket, 0, 10, NULL);
    a->done = 1;
    return NULL;
}

/* Who takes waits for what is not there yet; who puts waits for a slot. */
static void waiting(void **state)
{
    struct later a = {.l = opened(2, LONG_MS), .ticket = 5}, b = {.l = a.l, .ticket = 999};
    struct err   e = {0};
    pthread_t    thread;

    (void)state;
    pthread_create(&thread, NULL, take_later, &a);
    sleep_ms(30);
    assert_int_equal(a.done, 0);
    assert_int_equal(put(a.l, 0, 5, 0, 10, &e), 0);
    pthread_join(thread, NULL);
    assert_int_equal(a.rc, 0);
    for (uint64_t k = 1; k < LINK_SLOTS; k++) assert_int_equal(put(a.l, 0, 100 + k, 0, 10, &e), 0);
    pthread_create(&thread, NULL, put_later, &b);
    sleep_ms(30);
    assert_int_equal(b.done, 0);
    assert_int_equal(put(a.l, 1, 500, 0, 10, &e), 0); /* another rank has slots of its own */
    link_drop(a.l, 105);
    pthread_join(thread, NULL);
    assert_int_equal(b.rc, 0);
    link_free(a.l);
}

static void deadlines(void **state)
{
    struct link *l = opened(2, 50);
    struct err   e = {0};

    (void)state;
    assert_int_equal(take(l, 1, 1, 0, 10, &e), ERR_DEVICE);
    assert_non_null(strstr(e.text, "did not come"));
    assert_true(link_failed(l));
    memset(&e, 0, sizeof e);
    assert_int_equal(put(l, 0, 2, 0, 10, &e), ERR_DEVICE); /* the same words for all from then on */
    assert_non_null(strstr(e.text, "parcel 0 of ticket 1 did not come"));
    link_free(l);
    l = opened(2, 50);
    for (uint64_t k = 0; k < LINK_SLOTS; k++) assert_int_equal(put(l, 0, k, 0, 10, &e), 0);
    assert_int_equal(put(l, 0, 99, 0, 10, &e), ERR_DEVICE);
    assert_non_null(strstr(e.text, "were not fetched"));
    assert_int_equal(take(l, 1, 0, 0, 10, NULL), ERR_DEVICE);
    link_free(l);
}

static void limits(void **state)
{
    struct link     *l = opened(2, LONG_MS);
    struct link_note note = {.ticket = 1};
    struct tensor    t = floats(0, NULL, (int64_t)(LINK_BYTES_MAX / 4 + 1)), none = floats(0, NULL, 0);
    struct err       e = {0};

    (void)state;
    assert_int_equal(link_put(l, 0, &note, &t, &e), ERR_LIMIT); /* refused before it is read */
    assert_int_equal(link_put(l, 0, &note, &none, &e), ERR_LIMIT);
    assert_false(link_failed(l)); /* nobody else is touched by that */
    link_free(l);
}

/* ---- rooms that misbehave ---- */

static atomic_int how, ended, in_carry; /* how: 1 carry() hangs until its deadline or end(), 2 it fails, 3 no memory */

static int open_bad(void **priv, struct dev *const *d, int n, int64_t until_ms, char about[64], struct err *e)
{
    ended = 0;
    return link_room_cpu()->open(priv, d, n, until_ms, about, e);
}

static int grow_bad(void *priv, int rank, struct link_slot *s, size_t bytes, struct err *e)
{
    return how == 3 ? err_set(e, ERR_NOMEM, "no memory for a slot") : link_room_cpu()->grow(priv, rank, s, bytes, e);
}

static int carry_bad(void *priv, int from, const struct link_slot *s, int at, struct tensor *t, size_t bytes, int64_t until_ms, struct err *e)
{
    in_carry = 1;
    if (how == 2) return err_set(e, ERR_DEVICE, "an asynchronous error");
    while (how == 1) {
        if (ended) return err_set(e, ERR_DEVICE, "broken off");
        if (now_ms() >= until_ms) return err_set(e, ERR_DEVICE, "a transfer did not end in time");
        sleep_ms(1);
    }
    return link_room_cpu()->carry(priv, from, s, at, t, bytes, until_ms, e);
}

static void end_bad(void *priv)
{
    (void)priv;
    ended++;
}

static struct link *opened_bad(int64_t deadline_ms)
{
    static struct link_room room;
    struct link            *l = NULL;

    room = *link_room_cpu();
    room.open = open_bad;
    room.grow = grow_bad;
    room.carry = carry_bad;
    room.end = end_bad;
    in_carry = 0;
    assert_int_equal(link_open_in(&l, &room, dev, 3, deadline_ms, NULL), 0);
    return l;
}

static void a_transfer_that_hangs(void **state)
{
    struct link *l = opened_bad(60);
    struct err   e = {0};

    (void)state;
    how = 1;
    assert_int_equal(put(l, 0, 1, 0, 10, &e), 0);
    assert_int_equal(take(l, 1, 1, 0, 10, &e), ERR_DEVICE);
    assert_non_null(strstr(e.text, "did not end in time"));
    assert_int_equal(ended, 1); /* the room was told, once */
    link_fail(l, "again");
    assert_int_equal(ended, 1);
    link_free(l);
}

static void broken_off_by_another(void **state)
{
    struct later a = {.l = opened_bad(LONG_MS), .ticket = 1};
    struct err   e = {0};
    pthread_t    thread;

    (void)state;
    how = 1;
    assert_int_equal(put(a.l, 0, 1, 0, 10, &e), 0);
    pthread_create(&thread, NULL, take_later, &a);
    while (!in_carry) sleep_ms(1);
    link_fail(a.l, "rank 2 saw smoke");
    pthread_join(thread, NULL);
    assert_int_equal(a.rc, ERR_DEVICE);
    assert_int_equal(put(a.l, 0, 2, 0, 10, &e), ERR_DEVICE);
    assert_string_equal(e.text, "rank 2 saw smoke");
    link_free(a.l);
}

static void a_transfer_that_fails(void **state)
{
    struct link *l = opened_bad(LONG_MS);
    struct err   e = {0};

    (void)state;
    how = 3;
    assert_int_equal(put(l, 0, 1, 0, 10, &e), ERR_NOMEM);
    assert_false(link_failed(l)); /* that heals */
    how = 0;
    assert_int_equal(put(l, 0, 1, 0, 10, &e), 0);
    how = 2;
    assert_int_equal(take(l, 1, 1, 0, 10, &e), ERR_DEVICE);
    assert_string_equal(e.text, "an asynchronous error");
    assert_true(link_failed(l));
    link_free(l);
}

/* ---- many threads ---- */

#define PARCELS 200

static struct {
    struct link *l;
    atomic_uint  next;   /* ticket that the next receiver takes */
    atomic_int   wrong;
} busy;

static void *sender(void *arg)
{
    int rank = (int)(intptr_t)arg;

    for (uint64_t k = (uint64_t)rank; k < PARCELS; k += 2) busy.wrong += put(busy.l, rank, k, 0, (int64_t)(1 + k * 31 % 700), NULL) != 0;
    return NULL;
}

static void *receiver(void *arg)
{
    int      rank = (int)(intptr_t)arg;
    uint64_t k;

    while ((k = busy.next++) < PARCELS) {
        busy.wrong += take(busy.l, rank, k, 0, (int64_t)(1 + k * 31 % 700), NULL) != 0;
        link_drop(busy.l, k);
    }
    return NULL;
}

static void many_threads(void **state)
{
    pthread_t thread[4];

    (void)state;
    busy.l = opened(4, LONG_MS);
    for (intptr_t i = 0; i < 4; i++) pthread_create(&thread[i], NULL, i < 2 ? sender : receiver, (void *)i);
    for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
    assert_int_equal(busy.wrong, 0);
    assert_false(link_failed(busy.l));
    link_free(busy.l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_and_orders),      cmocka_unit_test(waiting),
        cmocka_unit_test(deadlines),             cmocka_unit_test(limits),
        cmocka_unit_test(a_transfer_that_hangs), cmocka_unit_test(broken_off_by_another),
        cmocka_unit_test(a_transfer_that_fails), cmocka_unit_test(many_threads),
    };

    return cmocka_run_group_tests(tests, open_devs, close_devs);
}
