/* test_progress.c - the lines of a bar, of plain output and of JSON, with made-up times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/progress.h"

static void line_is(const struct bar *p, int64_t now, size_t cols, const char *want)
{
    struct buf b;

    buf_init(&b, 4096);
    bar_line(p, now, cols, &b);
    assert_string_equal(b.at, want);
    buf_release(&b);
}

static void text_is(FILE *f, const char *want)
{
    char   text[8192];
    size_t n;

    fflush(f);
    rewind(f);
    n = fread(text, 1, sizeof text - 1, f);
    text[n] = '\0';
    assert_string_equal(text, want);
}

static const struct progress two[] = {
    {.job = 3, .index = 2, .stage = STAGE_DENOISE, .step = 4, .steps = 8, .worker = {"w1", 2}},
    {.job = 3, .index = 3, .stage = STAGE_TEXT, .worker = {"w2", 2}},
};

static void bar_counts_rates_and_cuts(void **state)
{
    struct bar p;
    FILE      *null = fopen("/dev/null", "w");

    (void)state;
    bar_init(&p, BAR_SILENT, null, null);
    bar_begin(&p, 3, 10, 0, 1000);
    line_is(&p, 1000, 100, "job 3 [........................] 0/10");
    bar_running(&p, two, 2, 1000);
    bar_image(&p, 0, "a.png", 1, 1000, str_of("w"), "", 2000);
    bar_image(&p, 1, "b.png", 2, 1000, str_of("w"), "", 3000);
    bar_running(&p, two, 2, 3000);
    /* 2 images and 0.475 of a third since 1000, where 0.475 of it stood: 2.0 in 2 s */
    line_is(&p, 3000, 120, "job 3 [#####...................] 2/10  1.2 images/s, ETA 7 s  #2 step 4/8, #3 text");
    line_is(&p, 3000, 40, "job 3 2/10  1.2 images/s, ETA 7 s  #2...");
    bar_note(&p, str_of("the broker is away, waiting"), 3000);
    line_is(&p, 3000, 100, "job 3 [#####...................] 2/10  the broker is away, waiting  #2 step 4/8, #3 text");
    bar_note(&p, str_of(""), 3000);
    bar_failed(&p, 2, str_of("not finite"), 3500);
    bar_canceled(&p, 7, 4000);
    bar_running(&p, NULL, 0, 4000);
    line_is(&p, 4000, 100, "job 3 [########################] 2/10 (1 failed) (7 canceled)  in 3.0 s");
    assert_string_equal(p.first_failure, "not finite");
    fclose(null);
}

static void slow_jobs_say_seconds_per_image(void **state)
{
    struct bar p;
    FILE      *null = fopen("/dev/null", "w");

    (void)state;
    bar_init(&p, BAR_SILENT, null, null);
    bar_begin(&p, 0, 4, 1, 0);
    bar_image(&p, 1, "a.png", 1, 0, str_of("w"), "", 1000);
    bar_image(&p, 2, "b.png", 1, 0, str_of("w"), "", 21000);
    line_is(&p, 21000, 100, "[##################......] 3/4  10.0 s/image, ETA 10 s");
    fclose(null);
}

static void plain_lines(void **state)
{
    struct bar p;
    FILE      *f = tmpfile();

    (void)state;
    bar_init(&p, BAR_PLAIN, f, f);
    bar_begin(&p, 3, 2, 0, 1000);
    bar_image(&p, 0, "out/a.png", 42, 1500, str_of("w"), "", 2500);
    bar_failed(&p, 1, str_of("bad\nnews"), 2600);
    bar_end(&p, 2600);
    bar_end(&p, 2600);
    text_is(f, "job 3: 2 images\n1/2  out/a.png  seed 42, 1.5 s\nimage 1 failed: bad?news\n1/2 images in 1.6 s, 1 failed\n");
    fclose(f);
}

static void plain_large_job_is_quiet(void **state)
{
    struct bar p;
    FILE      *f = tmpfile();

    (void)state;
    bar_init(&p, BAR_PLAIN, f, f);
    bar_begin(&p, 3, 100, 20, 0);
    for (int k = 0; k < 12; k++) bar_image(&p, (uint32_t)k, "x.png", 1, 0, str_of("w"), "", 1000 * (k + 1));
    bar_note(&p, str_of("no worker has model base"), 12000);
    bar_note(&p, str_of("no worker has model base"), 12500);
    text_is(f, "job 3: 100 images, 20 there already\n"
               "25/100 images, 1.2 images/s, ETA 1 min 00 s\n"
               "30/100 images, 1.1 images/s, ETA 1 min 03 s\n"
               "no worker has model base\n");
    fclose(f);
}

static void failures_are_not_endless(void **state)
{
    struct bar p;
    FILE      *f = tmpfile();
    char       text[8192];
    size_t     n, lines = 0;

    (void)state;
    bar_init(&p, BAR_PLAIN, f, f);
    bar_begin(&p, 3, 100, 0, 0);
    for (uint32_t k = 0; k < 50; k++) bar_failed(&p, k, str_of("x"), 10);
    fflush(f);
    rewind(f);
    n = fread(text, 1, sizeof text - 1, f);
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    assert_int_equal(lines, 1 + 10);
    fclose(f);
}

static void json_lines(void **state)
{
    struct bar p;
    FILE      *f = tmpfile();

    (void)state;
    bar_init(&p, BAR_JSON, stderr, f);
    bar_begin(&p, 3, 2, 0, 0);
    bar_running(&p, two, 1, 10);
    bar_running(&p, two, 1, 20); /* nothing new */
    bar_image(&p, 0, "a \"b\".png", 42, 15, str_of("w"), "ab", 30);
    bar_failed(&p, 1, str_of("x\ty\\"), 40);
    bar_end(&p, 50);
    text_is(f, "{\"event\":\"begin\",\"job\":3,\"images\":2,\"there\":0}\n"
               "{\"event\":\"progress\",\"index\":2,\"stage\":\"denoise\",\"step\":4,\"steps\":8,\"worker\":\"w1\"}\n"
               "{\"event\":\"image\",\"index\":0,\"seed\":42,\"file\":\"a \\\"b\\\".png\",\"sha256\":\"ab\",\"took_ms\":15,\"worker\":\"w\"}\n"
               "{\"event\":\"failed\",\"index\":1,\"error\":\"x\\u0009y\\\\\"}\n"
               "{\"event\":\"end\",\"job\":3,\"images\":2,\"done\":1,\"failed\":1,\"canceled\":0,\"took_ms\":50}\n");
    fclose(f);
}

static void waiting_is_said(void **state)
{
    struct bar p;
    FILE      *f = tmpfile();

    (void)state;
    bar_init(&p, BAR_TTY, f, f);
    p.cols = 50;
    bar_wait(&p, "loading m", 800);
    bar_wait(&p, "loading m", 1600);
    bar_begin(&p, 3, 2, 0, 2000);
    text_is(f, "\rloading m 800 ms\033[K\rloading m 1.6 s\033[K\rjob 3 0/2\033[K");
    fclose(f);
    f = tmpfile();
    bar_init(&p, BAR_PLAIN, f, f);
    bar_wait(&p, "loading m", 800);
    bar_wait(&p, "loading m", 1600);
    bar_begin(&p, 3, 2, 0, 2000);
    text_is(f, "loading m\njob 3: 2 images\n");
    fclose(f);
}

static void rates_begin_where_history_ends(void **state)
{
    struct bar p;
    FILE      *null = fopen("/dev/null", "w");

    (void)state;
    bar_init(&p, BAR_SILENT, null, null);
    bar_begin(&p, 3, 100, 0, 0);
    for (uint32_t k = 0; k < 50; k++) bar_image(&p, k, "a.png", 1, 100, str_of("w"), "", 500); /* made yesterday */
    bar_caught_up(&p, 1000);
    bar_image(&p, 50, "b.png", 1, 2000, str_of("w"), "", 3000);
    line_is(&p, 3000, 40, "job 3 51/100  0.5 images/s, ETA 1 min...");
    fclose(null);
}

static void notes_before_the_bar(void **state)
{
    struct bar p;
    FILE      *f = tmpfile();

    (void)state;
    bar_init(&p, BAR_TTY, f, f);
    p.cols = 50;
    bar_note(&p, str_of("the disk is full"), 100);
    bar_note(&p, str_of("the disk is full"), 200);
    bar_note(&p, str_of(""), 300);
    text_is(f, "the disk is full\n");
    fclose(f);
}

static void terminal_redraws_in_place(void **state)
{
    struct bar p;
    FILE      *f = tmpfile();

    (void)state;
    bar_init(&p, BAR_TTY, f, f);
    p.cols = 50;
    bar_begin(&p, 3, 2, 0, 1000);
    bar_image(&p, 0, "a.png", 1, 100, str_of("w"), "", 1050); /* within 100 ms of the last drawing: not drawn */
    bar_failed(&p, 1, str_of("oh"), 1200);
    bar_end(&p, 1300);
    text_is(f, "\rjob 3 0/2\033[K"
               "\r\033[Kimage 1 failed: oh\n"
               "\rjob 3 1/2 (1 failed)  in 200 ms\033[K"
               "\rjob 3 1/2 (1 failed)  in 300 ms\033[K"
               "\n");
    fclose(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_begin_where_history_ends), cmocka_unit_test(notes_before_the_bar),
        cmocka_unit_test(bar_counts_rates_and_cuts), cmocka_unit_test(slow_jobs_say_seconds_per_image), cmocka_unit_test(plain_lines),
        cmocka_unit_test(plain_large_job_is_quiet),  cmocka_unit_test(failures_are_not_endless),        cmocka_unit_test(json_lines),
        cmocka_unit_test(terminal_redraws_in_place), cmocka_unit_test(waiting_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
