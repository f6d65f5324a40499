/* test_cache.c - bounded, least recently used leaves first, references keep what was evicted alive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/cache.h"

static struct embed *make(uint8_t name)
{
    struct embed *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->n_refs = 1;
    memset(p->key, name, sizeof p->key);
    return p;
}

static void put(struct cache *c, uint8_t name)
{
    struct embed *p = make(name);
    cache_put(c, p);
    embed_free(p); /* the cache's reference is left */
}

static bool has(struct cache *c, uint8_t name)
{
    uint8_t       key[SHA256_BYTES];
    struct embed *p;
    memset(key, name, sizeof key);
    p = cache_take(c, key);
    if (p)
        assert_int_equal(p->key[0], name);
    embed_free(p);
    return p != NULL;
}

static void the_oldest_leaves(void **state)
{
    struct cache c;
    (void)state;
    cache_init(&c, 3);
    assert_false(has(&c, 1));
    put(&c, 1), put(&c, 2), put(&c, 3);
    assert_true(has(&c, 1)); /* now 2 is the oldest */
    put(&c, 4);
    assert_false(has(&c, 2));
    assert_true(has(&c, 1) && has(&c, 3) && has(&c, 4));
    put(&c, 4); /* again: nothing leaves */
    assert_true(has(&c, 1) && has(&c, 3) && has(&c, 4));
    cache_release(&c);
    assert_false(has(&c, 1));
    cache_release(&c);
}

static void references_outlive_the_cache(void **state)
{
    struct cache  c;
    struct embed *p = make(9);
    (void)state;
    cache_init(&c, 1);
    cache_put(&c, p);
    assert_int_equal(p->n_refs, 2);
    put(&c, 8); /* evicts it */
    assert_int_equal(p->n_refs, 1);
    cache_release(&c);
    assert_int_equal(p->key[0], 9);
    embed_free(p);
    embed_free(NULL);
}

static void zero_means_the_default(void **state)
{
    struct cache c;
    (void)state;
    cache_init(&c, 0);
    for (int i = 0; i < CACHE_EMBEDS_DEFAULT; i++)
        put(&c, (uint8_t)i);
    assert_true(has(&c, 0));
    put(&c, 200); /* 0 was just used: 1 leaves */
    assert_true(has(&c, 0));
    assert_false(has(&c, 1));
    cache_release(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_oldest_leaves),
        cmocka_unit_test(references_outlive_the_cache),
        cmocka_unit_test(zero_means_the_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
