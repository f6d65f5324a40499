/* test_arena.c - bump memory: zeroed, aligned, refused at the ceiling, reset to a mark. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"

static void test_take(void **state)
{
    struct arena a;
    char        *p, *q;

    (void)state;
    assert_int_equal(arena_init(&a, "test", 256), 0);
    p = arena_take(&a, 5);
    q = arena_take(&a, 16);
    assert_non_null(p);
    assert_int_equal((uintptr_t)q % 16, 0);
    assert_int_equal(q - p, 16);
    memset(q, 0x55, 16);
    arena_reset(&a, 16);
    q = arena_take(&a, 16);
    for (int i = 0; i < 16; i++) assert_int_equal(q[i], 0); /* zeroed again after a reset */
    assert_false(a.full);
    assert_non_null(arena_take(&a, 256 - 32));
    assert_null(arena_take(&a, 1));
    assert_true(a.full);
    assert_int_equal(a.high, 256);
    arena_reset(&a, 0);
    assert_false(a.full);
    assert_non_null(arena_take(&a, 0));
    arena_release(&a);
    assert_null(a.base);
}

static void test_refusals(void **state)
{
    struct arena a;

    (void)state;
    assert_int_equal(arena_init(&a, "test", 100), 0);
    assert_null(arena_take(&a, SIZE_MAX));
    assert_null(arena_take(&a, SIZE_MAX - 7)); /* rounding up would wrap */
    assert_null(arena_array(&a, SIZE_MAX / 2, 3));
    assert_null(arena_text(&a, "x", SIZE_MAX));
    assert_null(arena_take(&a, 100)); /* 112 after rounding */
    assert_true(a.full);
    assert_int_equal(a.used, 0);
    assert_non_null(arena_array(&a, 8, 12));
    arena_release(&a);
    assert_int_equal(arena_init(&a, "too much", SIZE_MAX / 2), ERR_NOMEM);
}

static void test_text(void **state)
{
    struct arena a;

    (void)state;
    assert_int_equal(arena_init(&a, "test", 64), 0);
    assert_string_equal(arena_text(&a, "catalog", 3), "cat");
    assert_string_equal(arena_text(&a, NULL, 0), "");
    arena_release(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_take), cmocka_unit_test(test_refusals), cmocka_unit_test(test_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
