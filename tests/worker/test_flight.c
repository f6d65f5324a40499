/* test_flight.c - several tasks in one engine: who has which in hand, who is stuck, who is blamed. All time is made up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "worker/flight.h"

#define PX (64 * 64)

static const struct watch watch = {.first_ms = 1000, .floor_ms = 100};

static void opened(struct flights *fs, int n_image, const char *device)
{
    struct link_model m = {.n_ranks = (uint32_t)(1 + n_image)};

    memset(fs, 0, sizeof *fs);
    for (uint32_t i = 0; i < m.n_ranks; i++) snprintf(m.rank[i].device, sizeof m.rank[i].device, "%s", device);
    flights_opened(fs, &m);
}

static void step(struct flights *fs, uint64_t task, enum stage stage, uint32_t rank, uint32_t n, int64_t now_ms)
{
    struct link_head h = {.kind = LINK_STEP, .task = task, .epoch = 1, .stage = stage, .rank = rank, .step = n, .steps = 8};
    struct flight   *f = flights_find(fs, task, 1);

    assert_non_null(f);
    assert_true(flights_step(fs, f, &h, now_ms));
}

static uint64_t stuck(const struct flights *fs, int64_t now_ms, const char *says)
{
    char                 words[ERR_TEXT_BYTES] = "";
    const struct flight *f = flights_stuck(fs, &watch, now_ms, words);

    if (f && !strstr(words, says)) fail_msg("%s", words);
    return f ? f->task : 0;
}

/* One device: the task is in hand from the start, then written. */
static void one_device(void **state)
{
    struct link_model m = {.device = "cpu"};
    struct flights    fs = {0};
    struct flight    *f;
    uint64_t          blamed[FLIGHTS_MAX];
    char              where[80];

    (void)state;
    flights_opened(&fs, &m);
    f = flights_put(&fs, 7, 1, 2 * 256 * 256, true, 0);
    assert_int_equal(flights_making(&fs), 1);
    assert_null(flights_find(&fs, 7, 2));
    assert_int_equal(stuck(&fs, 100, ""), 0);
    assert_int_equal(stuck(&fs, 101, "did not begin its task within 0 s"), 7);
    step(&fs, 7, STAGE_TEXT, 0, 0, 0);
    assert_int_equal(stuck(&fs, 2000, ""), 0); /* a CPU has first_ms for each 256x256 */
    assert_int_equal(stuck(&fs, 2001, "did not move for 2 s in stage text step 0 of 8"), 7);
    step(&fs, 7, STAGE_DENOISE, 0, 3, 100);
    assert_string_equal(flights_where(&fs, f, where), "in stage denoise step 3");
    flights_pixels(&fs, f, 300);
    assert_string_equal(flights_where(&fs, f, where), "writing a picture");
    assert_int_equal(flights_making(&fs), 0);
    assert_int_equal(flights_writing(&fs), 1);
    assert_int_equal(stuck(&fs, 2300, ""), 0);
    assert_int_equal(stuck(&fs, 2301, "did not write a picture within 2 s"), 7);
    assert_int_equal(flights_blame(&fs, blamed), 1); /* nobody is on the device: who is written is to blame */
    flights_put(&fs, 8, 1, PX, true, 300);
    assert_int_equal(flights_blame(&fs, blamed), 1);
    assert_int_equal(blamed[0], 8);
    flights_drop(&fs, flights_find(&fs, 7, 1));
    assert_int_equal(fs.n, 1);
    assert_int_equal(fs.row[0].task, 8);
}

/* A mean of steps is a rank's own: what is slow for one is usual for another. */
static void paces(void **state)
{
    struct flights fs;

    (void)state;
    opened(&fs, 2, "cuda:0");
    flights_put(&fs, 1, 1, PX, false, 0);
    flights_put(&fs, 2, 1, PX, false, 0);
    assert_int_equal(flights_left_ms(&fs, 1), -1);
    for (uint32_t i = 0; i <= 4; i++) {
        step(&fs, 1, STAGE_DENOISE, 1, i, 40 * (int64_t)i);
        step(&fs, 2, STAGE_DENOISE, 2, i, 400 * (int64_t)i);
    }
    assert_true(fs.rank[1].step_ms_per_px > 0 && fs.rank[2].step_ms_per_px > 9 * fs.rank[1].step_ms_per_px);
    assert_int_equal(flights_left_ms(&fs, 1), 200);
    assert_int_equal(flights_left_ms(&fs, 2), 2000);
    assert_int_equal(flights_left_ms(&fs, 3), -1);
    flights_drop(&fs, flights_find(&fs, 1, 1));
    assert_int_equal(stuck(&fs, 1600 + 2000, ""), 0);
    assert_int_equal(stuck(&fs, 1600 + 2001, "on cuda:0 in stage denoise step 4 of 8"), 2);
    flights_stalled(&fs, 3000, 4000); /* we slept, not it */
    assert_int_equal(stuck(&fs, 5000, ""), 0);
}

/* What was measured once has the short patience; a text never has. */
static void measured(void **state)
{
    struct link_model m = {.device = "cuda:0"};
    struct flights    fs = {0};
    struct flight    *f;

    (void)state;
    for (int gpu = 1; gpu >= 0; gpu--) {
        snprintf(m.device, sizeof m.device, "%s", gpu ? "cuda:0" : "cpu");
        flights_opened(&fs, &m);
        fs.write_ms_per_px = 0;
        f = flights_put(&fs, 1, 1, PX, true, 0);
        step(&fs, 1, STAGE_TEXT, 0, 0, 0);
        assert_int_equal(stuck(&fs, 1000, ""), 0);
        step(&fs, 1, STAGE_DENOISE, 0, 0, 10);
        assert_int_equal(stuck(&fs, 1010, ""), 0); /* the first step */
        step(&fs, 1, STAGE_DENOISE, 0, 1, 20);
        assert_int_equal(stuck(&fs, 121, "step 1"), 1);
        step(&fs, 1, STAGE_DECODE, 0, 8, 30);
        assert_int_equal(stuck(&fs, 1030, ""), 0);
        flights_pixels(&fs, f, 70);
        assert_int_equal(stuck(&fs, 1070, ""), 0);
        flights_written(&fs, f, 70); /* within a millisecond */
        flights_drop(&fs, f);

        f = flights_put(&fs, 2, 1, 2 * PX, true, 1000);
        step(&fs, 2, STAGE_TEXT, 0, 0, 1000);
        assert_int_equal(stuck(&fs, 2000, ""), 0);
        step(&fs, 2, STAGE_DENOISE, 0, 0, 1000);
        assert_int_equal(stuck(&fs, 1101, "step 0"), 2);
        step(&fs, 2, STAGE_DECODE, 0, 8, 1000);
        assert_int_equal(stuck(&fs, 1400, ""), 0); /* 5 x 40 ms, twice the pixels */
        assert_int_equal(stuck(&fs, 1401, "decode"), 2);
        flights_pixels(&fs, f, 1040);
        assert_int_equal(stuck(&fs, 1140, ""), 0);
        assert_int_equal(stuck(&fs, 1141, "did not write"), 2);
    }
}

/* Who waits between two devices is watched only when nothing else is in anybody's hands. */
static void waiting(void **state)
{
    struct flights fs;

    (void)state;
    opened(&fs, 1, "cuda:0");
    flights_put(&fs, 1, 1, PX, false, 0);
    flights_put(&fs, 2, 1, PX, false, 0);
    step(&fs, 1, STAGE_TEXT, 0, 0, 0);
    step(&fs, 1, STAGE_WAITING, 0, 0, 10);
    step(&fs, 1, STAGE_DENOISE, 1, 0, 20);
    step(&fs, 2, STAGE_TEXT, 0, 0, 30);
    step(&fs, 2, STAGE_WAITING, 0, 0, 40);
    for (uint32_t i = 1; i <= 8; i++) step(&fs, 1, STAGE_DENOISE, 1, i, 20 + 900 * (int64_t)i);
    assert_int_equal(stuck(&fs, 7500, ""), 0); /* 2 waits for 7 s: for 1 */
    flights_pixels(&fs, flights_find(&fs, 1, 1), 7500);
    flights_drop(&fs, flights_find(&fs, 1, 1));
    assert_int_equal(stuck(&fs, 7500, "did nothing for 7 s with 1 tasks"), 2); /* nobody takes it */
    step(&fs, 2, STAGE_DENOISE, 1, 0, 7600);
    assert_int_equal(stuck(&fs, 7700, ""), 0);
}

/* A rank has one in hand: the one before has left it, whether that was said or not. */
static void handed_on(void **state)
{
    struct flights fs;
    uint64_t       blamed[FLIGHTS_MAX];

    (void)state;
    opened(&fs, 2, "cpu");
    for (uint64_t t = 1; t <= 3; t++) flights_put(&fs, t, 1, PX, false, 0);
    assert_int_equal(flights_blame(&fs, blamed), 3); /* nothing is in hand: all may be it */
    step(&fs, 1, STAGE_TEXT, 0, 0, 1);
    step(&fs, 2, STAGE_TEXT, 0, 0, 2);
    assert_int_equal(flights_find(&fs, 1, 1)->stage, STAGE_WAITING);
    assert_int_equal(flights_blame(&fs, blamed), 1);
    assert_int_equal(blamed[0], 2);
    step(&fs, 1, STAGE_DENOISE, 2, 0, 3);
    assert_int_equal(flights_blame(&fs, blamed), 2);
    step(&fs, 2, STAGE_WAITING, 0, 0, 4); /* and waiting takes nobody's place */
    assert_int_equal(flights_find(&fs, 1, 1)->stage, STAGE_DENOISE);
    assert_int_equal(flights_blame(&fs, blamed), 1);
    assert_int_equal(blamed[0], 1);
}

static void bounds(void **state)
{
    struct link_head h = {.kind = LINK_STEP, .stage = STAGE_TEXT, .rank = 2};
    struct flights   fs;
    uint64_t         t = 1;

    (void)state;
    opened(&fs, 1, "cpu");
    while (flights_put(&fs, t, 1, PX, false, 0)) t++;
    assert_int_equal(fs.n, FLIGHTS_MAX);
    assert_false(flights_step(&fs, &fs.row[0], &h, 1)); /* a rank that nobody named */
    assert_int_equal(fs.row[0].stage, STAGE_WAITING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_device), cmocka_unit_test(paces), cmocka_unit_test(measured), cmocka_unit_test(waiting), cmocka_unit_test(handed_on),
                                       cmocka_unit_test(bounds)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
