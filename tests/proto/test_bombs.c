/* test_bombs.c - messages made to cost more than they weigh (X5): each is refused, or taken in, within 8 MiB and a few milliseconds.
 * Prints what each took: the least CPU time of several tries, for this machine may be busy. The bar is 5 ms; the assertion is 20 times that,
 * so that it holds under sanitizers, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "base/hash.h"
#include "proto/wire.h"

#define TRIES      7
#define US_ALLOWED 100000

static struct arena arena;

static int64_t cpu_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* A frame of this kind around the body; how long wire_unpack() takes, and its answer. */
static int drop(const char *name, enum msg_kind kind, const uint8_t *body, size_t len)
{
    uint8_t    head[FRAME_HEADER_BYTES] = {'Z', 'F', WIRE_MAJOR, WIRE_MINOR, (uint8_t)kind, (uint8_t)(kind >> 8)};
    uint32_t   crc = crc32c(0, body, len);
    int64_t    best_us = INT64_MAX;
    size_t     used = 0;
    struct msg m;
    struct err e = {0};
    int        rc = 0;

    for (int i = 0; i < 4; i++) {
        head[16 + i] = (uint8_t)(len >> (8 * i));
        head[20 + i] = (uint8_t)(crc >> (8 * i));
    }
    for (int i = 0; i < TRIES; i++) {
        int64_t began_us, us;

        arena_reset(&arena, 0);
        memset(&e, 0, sizeof e);
        began_us = cpu_us();
        rc = wire_unpack((struct str){(const char *)head, sizeof head}, (struct str){(const char *)body, len}, (struct str){0}, &arena, &m, &e);
        us = cpu_us() - began_us;
        if (us < best_us) best_us = us;
        if (arena.used > used) used = arena.used;
    }
    print_message("%-44s %8zu bytes in: %6.2f ms, %7zu bytes of memory: %s\n", name, len, (double)best_us / 1000, used, rc ? e.text : "taken in");
    assert_true(used <= MSG_ARENA_BYTES);
    assert_true(best_us < US_ALLOWED);
    return rc;
}

/* n times the same few bytes. */
static size_t repeat(uint8_t *at, size_t cap, const void *unit, size_t unit_len)
{
    size_t n = 0;

    for (; n + unit_len <= cap; n += unit_len) memcpy(at + n, unit, unit_len);
    return n;
}

static void bombs(void **state)
{
    static const struct {
        const char   *name, *unit;
        size_t        unit_len;
        enum msg_kind kind;
    } bomb[] = {
        {"unknown fields, one byte each", "\xf8\x06\x01", 3, MSG_HELLO},
        {"unknown fields, empty", "\xfa\x06\x00", 3, MSG_HELLO},
        {"the same field again and again", "\x08\x01", 2, MSG_HELLO},
        {"empty models", "\x52\x00", 2, MSG_HELLO},
        {"empty leases", "\x5a\x00", 2, MSG_HELLO},
        {"empty items", "\x2a\x00", 2, MSG_SUBMIT},
        {"items with an empty spec", "\x2a\x02\x0a\x00", 4, MSG_SUBMIT},
        {"unknown fields", "\xf8\x06\x01", 3, MSG_SUBMIT},
        {"unknown fields in items", "\x2a\x06\xf8\x06\x01\xf8\x06\x01", 8, MSG_SUBMIT},
        {"empty progress", "\x1a\x00", 2, MSG_BEAT},
        {"tasks, not packed", "\x08\x01", 2, MSG_COLLECTED},
        {"empty parts", "\x4a\x00", 2, MSG_OFFER},
        {"empty events", "\x1a\x00", 2, MSG_EVENTS_OK},
        {"empty workers", "\x0a\x00", 2, MSG_WORKERS_OK},
        {"groups, which are not taken", "\x0b\x0c", 2, MSG_HELLO},
        {"varints that do not end", "\xff", 1, MSG_HELLO},
        {"texts that are not UTF-8", "\x12\x04\xff\xfe\xfd\xfc", 6, MSG_SUBMIT},
        {"unknown fields", "\xf8\x06\x01", 3, MSG_CHUNK},
    };
    static uint8_t body[BODY_BIG_MAX_BYTES + 16];

    (void)state;
    for (size_t i = 0; i < sizeof bomb / sizeof *bomb; i++) {
        for (size_t cap = BODY_MAX_BYTES; cap <= BODY_BIG_MAX_BYTES; cap = cap == BODY_MAX_BYTES ? BODY_BIG_MAX_BYTES : cap + 1)
            assert_int_equal(drop(bomb[i].name, bomb[i].kind, body, repeat(body, cap, bomb[i].unit, bomb[i].unit_len)), ERR_PROTO);
    }
}

/* One packed array with as many numbers as fit; one with a length that lies. */
static void packed(void **state)
{
    static uint8_t body[BODY_MAX_BYTES];
    size_t         n = sizeof body - 4;

    (void)state;
    body[0] = 0x0a; /* tasks(1), packed */
    body[1] = (uint8_t)(0x80 | (n & 127));
    body[2] = (uint8_t)(0x80 | (n >> 7 & 127));
    body[3] = (uint8_t)(n >> 14);
    memset(body + 4, 1, n);
    assert_int_equal(drop("packed tasks, 65,532 of them", MSG_COLLECTED, body, sizeof body), ERR_PROTO);
    memcpy(body, "\x0a\xff\xff\xff\xff\x0f\x01", 7);
    assert_int_equal(drop("packed tasks, 4 GiB announced", MSG_COLLECTED, body, 7), ERR_PROTO);
    memcpy(body, "\x52\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11);
    assert_int_equal(drop("a model of 2^64-1 bytes announced", MSG_HELLO, body, 11), ERR_PROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bombs), cmocka_unit_test(packed)};

    if (arena_init(&arena, "message", MSG_ARENA_BYTES)) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
