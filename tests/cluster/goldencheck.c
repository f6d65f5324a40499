/* goldencheck.c - goldencheck FILE GOLDEN TENSOR WIDTH HEIGHT MAX: the relative RMS error of FILE's `latents` against GOLDEN's TENSOR;
 * exit 1 when it passes MAX, or when the file is not a safetensors with F32 `latents` [1,16,H/8,W/8]. */
#include <stddef.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "tests/golden.h"

static char **word;

/* The header says dtype and shape as they must be, blanks aside. */
static void header_is(const char *path, long w, long h)
{
    size_t   len, n = 0;
    char    *file = golden_file(path, &len), text[4096], want[128];
    uint64_t head;

    memcpy(&head, file, 8);
    assert_true(len > 8 && head < sizeof text && head <= len - 8);
    for (size_t i = 0; i < head; i++)
        if (file[8 + i] != ' ' && file[8 + i] != '\n') text[n++] = file[8 + i];
    text[n] = '\0';
    snprintf(want, sizeof want, "\"shape\":[1,16,%ld,%ld]", h / 8, w / 8);
    if (!strstr(text, "\"latents\"") || !strstr(text, "\"dtype\":\"F32\"") || !strstr(text, want))
        fail_msg("%s: header %s, wanted %s", path, text, want);
    free(file);
}

static void check(void **state)
{
    int64_t w, h;
    double  max, diff = 0, all = 0;
    size_t  n, m;
    float  *got, *want;

    (void)state;
    assert_int_equal(str_to_i64(str_of(word[4]), &w) | str_to_i64(str_of(word[5]), &h) | str_to_f64(str_of(word[6]), &max), 0);
    header_is(word[1], (long)w, (long)h);
    got = golden_read(word[1], "latents", &n);
    want = golden_read(word[2], word[3], &m);
    assert_int_equal(n, m);
    for (size_t i = 0; i < n; i++) {
        diff += pow((double)got[i] - (double)want[i], 2);
        all += pow((double)want[i], 2);
    }
    printf("%.3g\n", sqrt(diff / all));
    if (!(sqrt(diff / all) <= max)) fail_msg("%s: relative RMS error %.3g passes %g", word[3], sqrt(diff / all), max);
    free(got);
    free(want);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(check)};

    if (argc != 7) return 2;
    word = argv;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
