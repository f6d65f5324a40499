/* test_layout.c - which placement is proposed, on made-up cards and a made-up model: transformer 12, text encoder 8, autoencoder 0.2 GiB. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "proto/msg.h"
#include "worker/layout.h"

#define GIB(x) ((size_t)((x) * (double)((size_t)1 << 30)))

static struct engine_sizes card(int number, double free_gib)
{
    struct engine_sizes s = {.text = {{GIB(8), GIB(8)}, {GIB(0.5), GIB(0.5)}}, .dit = {{GIB(12), GIB(12)}, {GIB(1), GIB(1)}}, .vae = {{GIB(0.2), GIB(0.2)}, {GIB(1.5), GIB(1.5)}},
                             .width_px = 1024, .height_px = 1024, .on_gpu = true, .free_bytes = GIB(free_gib), .total_bytes = GIB(free_gib + 0.5)};

    snprintf(s.device, sizeof s.device, "cuda:%u", (unsigned)number % 100);
    return s;
}

/* Cards of these GiB free; what is proposed: a placement's line, or "each" with the cards' numbers. */
static void expect(const double *free_gib, int n, const char *want)
{
    struct engine_sizes c[LAYOUT_CARDS_MAX];
    struct layout       l;
    struct err          e = {0};
    char                got[PLACE_LINE_BYTES] = "each";

    for (int i = 0; i < n; i++) c[i] = card(i, free_gib[i]);
    if (layout_choose(c, n, 0, &l, &e)) fail_msg("%s: %s", want, e.text);
    if (l.place.n_image) place_line(&l.place, got);
    for (int i = 0; i < l.n_each && !l.place.n_image; i++) snprintf(got + strlen(got), sizeof got - strlen(got), " %d", l.each[i]);
    assert_string_equal(got, want);
    assert_true(l.why[0]);
    if (l.place.n_image) assert_int_equal(l.n_each, 0);
}

#define CARDS(want, ...) expect((const double[]){__VA_ARGS__}, (int)(sizeof(double[]){__VA_ARGS__} / sizeof(double)), want)

static void proposals(void **state)
{
    (void)state;
    expect(NULL, 0, "each");                                  /* no GPU */
    CARDS("each 0", 80);                                      /* one that holds it all */
    CARDS("each 0 1", 24, 24);                                /* two: two workers make twice as much as a group of one and one */
    CARDS("text=cuda:1 image=cuda:0 vae=cuda:1", 24, 11);     /* the small one would stand idle: it takes prompts and decodes */
    CARDS("text=cuda:0 image=cuda:1 vae=cuda:0", 11, 24);
    CARDS("text=cuda:1 image=cuda:0", 24, 9.5);               /* no room to decode there */
    CARDS("text=cuda:1 image=cuda:0 vae=cuda:1", 15, 12);     /* neither holds it all */
    CARDS("each 0 1", 23, 22);                                /* 1 cannot keep its text encoder, yet fetching that costs less than a card */
    CARDS("text=cuda:2 image=cuda:0,cuda:1 vae=cuda:2", 24, 15, 11);
    CARDS("text=cuda:2 image=cuda:0,cuda:1 vae=cuda:2", 15, 14.8, 11);
    CARDS("each 0", 24, 4);                                   /* 4 holds nothing */
    CARDS("each 0", 22);                                      /* its encoder does not stay, but there is no other */
    CARDS("each 0 1 2", 22, 22, 22);                          /* 9/4 against 2 */
    CARDS("text=cuda:3 image=cuda:0,cuda:1,cuda:2 vae=cuda:3", 22.3, 22.2, 22.1, 22); /* 3 against 3: the group, whose encoder stays */
    CARDS("text=cuda:0 image=cuda:4,cuda:3,cuda:2,cuda:1 vae=cuda:0", 15, 15.1, 15.2, 15.3, 15.4);
    CARDS("text=cuda:0 image=cuda:2,cuda:3,cuda:4,cuda:5,cuda:6,cuda:7,cuda:8,cuda:9 vae=cuda:0", 15, 15.1, 15.3, 15.3, 15.3, 15.3, 15.3, 15.3, 15.3, 15.3); /* at most 8 */
}

static void none_fits(void **state)
{
    struct engine_sizes c[2] = {card(0, 4), card(1, 9)};
    struct layout       l;
    struct err          e = {0};

    (void)state;
    assert_int_equal(layout_choose(c, 2, 0, &l, &e), ERR_NOMEM);
    assert_non_null(strstr(e.text, "cuda:1")); /* the sentence is about the largest */
    assert_non_null(strstr(e.text, "needs at least"));
    c[0] = card(0, 80); /* a budget bounds a card that has more */
    assert_int_equal(layout_choose(c, 1, GIB(24), &l, &e), 0);
    assert_int_equal(l.n_each, 1);
    assert_int_equal(layout_choose(c, 1, GIB(5), &l, &e), ERR_NOMEM);
}

/* The text encoder alone does not fit any GPU: it is the CPU's. */
static void text_on_the_cpu(void **state)
{
    struct engine_sizes c[2] = {card(0, 16), card(1, 16)};
    struct layout       l;
    struct err          e = {0};
    char                line[PLACE_LINE_BYTES];

    (void)state;
    for (int i = 0; i < 2; i++) c[i].text = (struct engine_need){{GIB(30), GIB(30)}, {GIB(20), GIB(20)}};
    if (layout_choose(c, 2, 0, &l, &e)) fail_msg("%s", e.text);
    assert_string_equal(place_line(&l.place, line), "text=cpu image=cuda:0,cuda:1");
    assert_non_null(strstr(l.why, "no GPU has room for the text encoder"));
}

/* What one device would hold, added up and said. */
static void rows(void **state)
{
    struct engine_sizes s = card(3, 24);
    struct layout_row   r;
    struct err          e = {0};
    char                text[512];

    (void)state;
    assert_int_equal(layout_row(&s, RANK_TEXT | RANK_VAE, 0, &r, &e), 0);
    assert_int_equal(r.plan.weights_bytes, GIB(8) + GIB(0.2));
    assert_int_equal(r.plan.work_bytes, GIB(1.5)); /* the larger stage's */
    assert_int_equal(r.plan.total_bytes, r.plan.weights_bytes + r.plan.work_bytes + r.plan.kernels_bytes);
    assert_non_null(strstr(layout_about(&r, &s, text, sizeof text), "cuda:3   text+vae"));
    assert_non_null(strstr(text, "of 24.00 free (24.50 in all): weights 8.20, work space 1.50 for 1024 x 1024, kernels"));
    assert_int_equal(layout_row(&s, RANK_IMAGE, 0, &r, &e), 0);
    assert_int_equal(r.plan.weights_bytes, GIB(12));
    s.free_bytes = GIB(12);
    assert_int_equal(layout_row(&s, RANK_IMAGE, 0, &r, &e), ERR_NOMEM);
    s.on_gpu = false;
    assert_int_equal(layout_row(&s, RANK_IMAGE, 0, &r, &e), 0); /* host memory is the machine's */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(proposals), cmocka_unit_test(none_fits), cmocka_unit_test(text_on_the_cpu), cmocka_unit_test(rows)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
