/* test_place.c - what a placement says, and what is no placement. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "proto/msg.h"
#include "worker/place.h"

static void lines(void **state)
{
    static const struct { const char *text, *line; int n_image, n_ranks, n_tasks; } good[] = {
        {"", "", 0, 1, 1},
        {"text=cuda:0 image=cuda:1", "text=cuda:0 image=cuda:1", 1, 2, 2},
        {"vae=cuda:0 image=cuda:1,cuda:2 text=cuda:0", "text=cuda:0 image=cuda:1,cuda:2 vae=cuda:0", 2, 3, 4},
        {"text=cpu image=cpu,cpu vae=cpu", "text=cpu image=cpu,cpu vae=cpu", 2, 3, 4},
        {"text=cpu image=cuda:0", "text=cpu image=cuda:0", 1, 2, 2},
        {"text=cuda:10 image=cuda:1 vae=cuda:999", "text=cuda:10 image=cuda:1 vae=cuda:999", 1, 3, 3},
        {"text=cuda:998 image=cuda:101,cuda:102,cuda:103,cuda:104,cuda:105,cuda:106,cuda:107,cuda:108 vae=cuda:999",
         "text=cuda:998 image=cuda:101,cuda:102,cuda:103,cuda:104,cuda:105,cuda:106,cuda:107,cuda:108 vae=cuda:999", 8, 10, 10}};

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char         line[PLACE_LINE_BYTES];
        struct place p, again;
        struct err   e = {0};

        if (place_parse(&p, good[i].text, &e)) fail_msg("%s: %s", good[i].text, e.text);
        assert_string_equal(place_line(&p, line), good[i].line);
        assert_int_equal(p.n_image, good[i].n_image);
        assert_int_equal(place_ranks(&p), good[i].n_ranks);
        assert_int_equal(place_tasks(&p), good[i].n_tasks);
        assert_int_equal(place_parse(&again, line, &e), 0);
        assert_memory_equal(&p, &again, sizeof p);
    }
}

static void refused(void **state)
{
    static const struct { const char *text, *says; } bad[] = {
        {"text=cuda:0", "needs a device for the transformer"}, {"image=cuda:0", "needs a device for the text encoder"}, {"vae=cpu", "text encoder"},
        {"unet=cuda:0", "\"unet=cuda:0\" places no part"}, {"text", "places no part"}, {"=cpu", "places no part"}, {"text=cpu  image=cpu", "places no part"},
        {" text=cpu image=cpu", "places no part"}, {"text=cpu image=cpu ", "places no part"}, {"text= image=cpu", "is no device"}, {"text=gpu image=cpu", "\"gpu\" is no device"},
        {"text=cpu image=", "is no device"}, {"text=cpu image=cpu,", "is no device"}, {"text=cpu image=,cpu", "is no device"},
        {"text=cpu,cpu image=cpu", "only image may"}, {"text=cpu image=cpu vae=cpu,cuda:1", "only image may"}, {"text=cpu text=cuda:1 image=cpu", "has a device already, cpu"},
        {"text=cpu image=cpu image=cpu", "said twice"}, {"text=cuda:0 image=cuda:1,cuda:1", "cuda:1 is named twice"},
        {"text=cuda:0 image=cuda:1,cuda:0", "cuda:0 is named for text and for image"}, {"text=cuda:0 image=cuda:1 vae=cuda:1", "cuda:1 is named for image and for vae"},
        {"text=cpu image=cpu,cpu,cpu,cpu,cpu,cpu,cpu,cpu,cpu", "more than 8"}, {"text=cuda:00 image=cpu", "is no device"}, {"text=cuda:01 image=cuda:1", "is no device"},
        {"text=cuda:1234 image=cpu", "is no device"}, {"text=cuda: image=cpu", "is no device"}, {"text=cuda:x image=cpu", "is no device"}, {"text=CPU image=cpu", "is no device"},
        {"text=cuda:all image=cpu", "is no device"}, {"text=auto image=cpu", "is no device"}, {"auto", "places no part"}};
    char long_one[1000];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct place p;
        struct err   e = {0};

        if (place_parse(&p, bad[i].text, &e) != ERR_ARG) fail_msg("\"%s\" was taken", bad[i].text);
        if (!strstr(e.text, bad[i].says)) fail_msg("\"%s\": %s", bad[i].text, e.text);
    }
    memset(long_one, 'x', sizeof long_one - 1);
    long_one[sizeof long_one - 1] = 0;
    {
        struct place p;
        struct err   e = {0};

        assert_int_equal(place_parse(&p, long_one, &e), ERR_ARG);
        assert_non_null(strstr(e.text, "999 bytes"));
    }
}

/* Who has which part, and who decodes. */
static void parts(void **state)
{
    static const struct { const char *line; const char *device[5]; uint32_t parts[5]; int decoder_of_1; } want[] = {
        {"text=cuda:0 image=cuda:1,cuda:2", {"cuda:0", "cuda:1", "cuda:2"}, {RANK_TEXT, RANK_IMAGE | RANK_VAE, RANK_IMAGE | RANK_VAE}, 1},
        {"text=cuda:0 image=cuda:1,cuda:2 vae=cuda:0", {"cuda:0", "cuda:1", "cuda:2"}, {RANK_TEXT | RANK_VAE, RANK_IMAGE, RANK_IMAGE}, 0},
        {"text=cuda:0 image=cuda:1,cuda:2 vae=cpu", {"cuda:0", "cuda:1", "cuda:2", "cpu"}, {RANK_TEXT, RANK_IMAGE, RANK_IMAGE, RANK_VAE}, 3},
        {"text=cpu image=cpu vae=cpu", {"cpu", "cpu"}, {RANK_TEXT | RANK_VAE, RANK_IMAGE}, 0}};
    struct place none = {0};

    (void)state;
    assert_int_equal(place_parts(&none, 0), RANK_TEXT | RANK_IMAGE | RANK_VAE);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct place p;
        struct err   e = {0};
        uint32_t     all = 0;

        if (place_parse(&p, want[i].line, &e)) fail_msg("%s", e.text);
        for (int r = 0; r < place_ranks(&p); r++) {
            assert_string_equal(place_device(&p, r), want[i].device[r]);
            assert_int_equal(place_parts(&p, r), want[i].parts[r]);
            all |= place_parts(&p, r);
        }
        assert_null(want[i].device[place_ranks(&p)]);
        assert_int_equal(all, RANK_TEXT | RANK_IMAGE | RANK_VAE);
        assert_int_equal(place_decoder(&p, 1), want[i].decoder_of_1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lines), cmocka_unit_test(refused), cmocka_unit_test(parts)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
