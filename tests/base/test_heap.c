/* test_heap.c - order, seats and removal from the middle, against a naive list. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/err.h"
#include "base/heap.h"
#include "tests/near.h"

struct thing {
    int    rank, id;
    size_t at;
};

static bool before(const void *a, const void *b)
{
    const struct thing *x = a, *y = b;

    return x->rank != y->rank ? x->rank < y->rank : x->id < y->id;
}

static void seat(void *item, size_t at)
{
    ((struct thing *)item)->at = at;
}

static void check(const struct heap *h, const struct thing *t, int n)
{
    const struct thing *least = NULL;
    size_t              in = 0;

    for (size_t i = 0; i < h->n; i++) {
        assert_int_equal(((struct thing *)h->item[i])->at, i);
        if (i) assert_false(before(h->item[i], h->item[(i - 1) / 2]));
    }
    for (int i = 0; i < n; i++) {
        if (t[i].at == HEAP_NONE) continue;
        in++;
        if (!least || before(&t[i], least)) least = &t[i];
    }
    assert_int_equal(in, h->n);
    assert_ptr_equal(heap_first(h), least);
}

static void test_by_chance(void **state)
{
    struct dice  r = {.state = 11};
    struct thing t[60];
    struct heap  h;

    (void)state;
    heap_init(&h, before, seat, 60);
    for (int i = 0; i < 60; i++) t[i] = (struct thing){.id = i, .at = HEAP_NONE};
    for (int turn = 0; turn < 6000; turn++) {
        struct thing *x = &t[dice_range(&r, 0, 59)];
        int           rank = (int)dice_range(&r, 0, 20);

        if (x->at == HEAP_NONE) {
            x->rank = rank;
            assert_int_equal(heap_push(&h, x), 0);
        } else if (rank < 8) {
            assert_ptr_equal(heap_remove(&h, x->at), x);
            assert_true(x->at == HEAP_NONE);
        } else if (rank < 11) {
            struct thing *first = heap_first(&h);
            assert_ptr_equal(heap_pop(&h), first);
        } else {
            x->rank = (int)dice_range(&r, 0, 20);
            heap_moved(&h, x->at);
        }
        check(&h, t, 60);
    }
    heap_release(&h);
    for (int i = 0; i < 60; i++) assert_true(t[i].at == HEAP_NONE);
}

static void test_edges(void **state)
{
    struct thing a = {.rank = 2}, b = {.rank = 1};
    struct heap  h;

    (void)state;
    heap_init(&h, before, seat, 1);
    assert_null(heap_first(&h));
    assert_null(heap_pop(&h));
    b.at = 99;
    assert_int_equal(heap_push(&h, &a), 0);
    assert_int_equal(heap_push(&h, &b), ERR_LIMIT);
    assert_int_equal(b.at, 99); /* a refused item hears nothing */
    assert_ptr_equal(heap_pop(&h), &a);
    heap_release(&h);
    heap_init(&h, before, NULL, 2); /* without seats */
    assert_int_equal(heap_push(&h, &a) | heap_push(&h, &b), 0);
    assert_ptr_equal(heap_pop(&h), &b);
    heap_release(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_by_chance), cmocka_unit_test(test_edges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
