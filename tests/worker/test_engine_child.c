/* test_engine_child.c - the real engine in its own process, by the link: the pictures and latents of diffusers, twice the same bytes. */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/png.h"
#include "engine/safetensors.h"
#include "proto/wire.h"
#include "tests/golden.h"
#include "worker/engine_child.h"
#include "worker/link.h"

#define GOLDEN TESTS_DIR "/golden/tiny-a/"

extern char **environ;

static int   fd;
static pid_t pid;
static char  payload[LINK_PAYLOAD_MAX];

static void start(const char *model, const char *precision)
{
    char *argv[] = {(char *)(uintptr_t)"test", (char *)(uintptr_t)ENGINE_CHILD_ARG, (char *)(uintptr_t)model, (char *)(uintptr_t)"cpu",
                    (char *)(uintptr_t)precision, (char *)(uintptr_t)"2", (char *)(uintptr_t)"warn", "", "", "", "", "", "", "", NULL};
    posix_spawn_file_actions_t a;
    int                        pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    posix_spawn_file_actions_init(&a);
    posix_spawn_file_actions_adddup2(&a, pair[1], ENGINE_CHILD_FD);
    assert_int_equal(posix_spawn(&pid, "/proc/self/exe", &a, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&a);
    close(pair[1]);
    fd = pair[0];
}

static int finish(void)
{
    int status;

    close(fd);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static struct link_head next(int *bytes_fd)
{
    struct link_head h;
    struct err       e = {0};

    if (link_recv(fd, &h, payload, bytes_fd, false, &e) != 1) fail_msg("%s", e.text);
    return h;
}

/* The next message that is neither LOADING, STEP, PIXELS nor RANKS. */
static struct link_head hear(int *bytes_fd)
{
    struct link_head h;

    do h = next(bytes_fd);
    while (h.kind == LINK_LOADING || h.kind == LINK_STEP || h.kind == LINK_PIXELS || h.kind == LINK_RANKS);
    return h;
}

static void say_task_as(const struct spec *s, uint64_t task)
{
    struct item      it = {.spec = *s, .n_images = 1};
    struct link_head h = {.kind = LINK_TASK, .task = task, .epoch = 1};
    struct buf       b;
    struct err       e = {0};

    buf_init(&b, LINK_PAYLOAD_MAX);
    if (wire_item_pack(&it, &b, &e)) fail_msg("%s", e.text);
    assert_int_equal(link_send(fd, &h, buf_str(&b), -1, false, &e), 0);
    buf_release(&b);
}

static void say_task(const struct spec *s)
{
    say_task_as(s, 1);
}

static struct spec spec_of(json_t *c)
{
    struct spec s;
    struct err  e = {0};
    json_t     *cfgt = json_object_get(c, "cfgt"), *neg = json_object_get(c, "neg");

    spec_init(&s);
    s.prompt = str_of(json_string_value(json_object_get(c, "prompt")));
    if (neg) s.negative = str_of(json_string_value(neg));
    s.width_px = (int32_t)json_integer_value(json_object_get(c, "w"));
    s.height_px = (int32_t)json_integer_value(json_object_get(c, "h"));
    s.steps = (int32_t)json_integer_value(json_object_get(c, "steps"));
    s.guidance = (float)json_number_value(json_object_get(c, "g"));
    s.cfg_norm = json_is_true(json_object_get(c, "cfgn")) ? 1.0f : 0.0f;
    s.cfg_trunc = cfgt ? (float)json_number_value(cfgt) : 1.0f;
    s.seed = (uint64_t)json_integer_value(json_object_get(c, "seed"));
    assert_int_equal(rng_parse(str_of(!strcmp(json_string_value(json_object_get(c, "dev")), "cpu") ? "torch-cpu" : "torch-cuda"), &s.rng, &e), 0);
    s.want_latents = true;
    return s;
}

static void same_picture(struct str png, int k)
{
    struct image  img = {0}, want = {0};
    struct err    e = {0};
    char          path[300], *bytes;
    size_t        len;
    int           worst = 0;

    snprintf(path, sizeof path, GOLDEN "case%d.png", k);
    bytes = golden_file(path, &len);
    if (png_read(png, &img, NULL, NULL, &e) || png_read((struct str){bytes, len}, &want, NULL, NULL, &e)) fail_msg("%s", e.text);
    assert_int_equal(img.width_px, want.width_px);
    assert_int_equal(img.height_px, want.height_px);
    for (size_t i = 0; i < (size_t)img.width_px * (size_t)img.height_px * 3; i++) {
        int d = abs(img.rgb[i] - want.rgb[i]);
        if (d > worst) worst = d;
    }
    if (worst > 1) fail_msg("case %d: a byte is off by %d", k, worst);
    image_free(&img);
    image_free(&want);
    free(bytes);
}

static void same_latents(struct str file, int k)
{
    struct safetensors st = {0};
    struct err         e = {0};
    char               name[16];
    double             diff = 0, norm = 0;
    size_t             n;
    float             *want, *got;

    snprintf(name, sizeof name, "latents%d", k);
    want = golden_read(GOLDEN "golden.safetensors", name, &n);
    if (safetensors_parse(&st, file, "latents", &e)) fail_msg("%s", e.text);
    assert_int_equal(st.n, 1);
    assert_string_equal(st.entry[0].name, "latents");
    assert_int_equal(st.entry[0].rank, 4);
    assert_int_equal(st.entry[0].bytes, n * 4);
    got = malloc(n * 4);
    memcpy(got, st.data + st.entry[0].begin, n * 4);
    for (size_t i = 0; i < n; i++) {
        diff += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        norm += (double)want[i] * (double)want[i];
    }
    if (!(sqrt(diff / norm) <= 5e-5)) fail_msg("case %d: latents differ by %g", k, sqrt(diff / norm));
    safetensors_close(&st);
    free(got);
    free(want);
}

static void cases(void **state)
{
    json_t *all = json_load_file(GOLDEN "cases.json", 0, NULL);

    (void)state;
    assert_int_equal(json_array_size(all), 8);
    start(GOLDEN "model", "f32");
    {
        int              bytes_fd;
        struct link_head h = hear(&bytes_fd);

        if (h.kind != LINK_OPENED) fail_msg("%.*s", (int)h.payload_bytes, payload);
        assert_string_equal(((struct link_model *)(void *)payload)->profile, "turbo");
    }
    for (int k = 0; k < 8; k++) {
        struct spec    s = spec_of(json_array_get(all, (size_t)k));
        const uint8_t *at[2];
        size_t         len[2];

        for (int twice = 0; twice < 2; twice++) {
            struct link_head h;
            struct err       e = {0};
            int              bytes_fd;

            say_task(&s);
            h = hear(&bytes_fd);
            if (h.kind != LINK_RESULT) fail_msg("case %d: %.*s", k, (int)h.payload_bytes, payload);
            assert_int_equal(h.n_parts, 2);
            assert_int_equal(link_bytes_map(bytes_fd, &h, &at[twice], &len[twice], &e), 0);
            close(bytes_fd);
            if (twice) continue;
            same_picture((struct str){(const char *)at[0], h.part_bytes[0]}, k);
            same_latents((struct str){(const char *)at[0] + h.part_bytes[0], h.part_bytes[1]}, k);
        }
        assert_int_equal(len[0], len[1]);
        assert_memory_equal(at[0], at[1], len[0]);
        munmap((void *)(uintptr_t)at[0], len[0]);
        munmap((void *)(uintptr_t)at[1], len[1]);
    }
    assert_int_equal(finish(), 0);
    json_decref(all);
}

/* Two tasks in one engine: while the first is written the second is made; each is answered once, with the bytes it has alone. */
static void two_at_once(void **state)
{
    struct spec      large, small;
    uint8_t          sha[2][3][32];
    struct link_head h;
    int              bytes_fd;

    (void)state;
    spec_init(&large);
    large.prompt = str_of("a large one");
    large.width_px = large.height_px = 512;
    large.steps = 1;
    small = large;
    small.prompt = str_of("a small one");
    small.width_px = small.height_px = 32;
    start(GOLDEN "model", "f32");
    assert_int_equal(hear(&bytes_fd).kind, LINK_OPENED);
    for (int round = 0; round < 2; round++) { /* each after the result of the one before, then each as soon as the device is free */
        int n_results = 0;

        for (uint64_t task = 0; task < 3 || n_results < 3;) {
            if (task < 3 && (round || n_results == (int)task)) {
                say_task_as(task == 1 ? &small : &large, task + 1);
                task++;
            }
            do {
                h = next(&bytes_fd);
                if (h.kind != LINK_RESULT) continue;
                assert_int_equal(h.task, ++n_results);
                memcpy(sha[round][h.task - 1], h.part_sha256[0], 32);
                close(bytes_fd);
            } while (!(round ? h.kind == LINK_PIXELS && h.task == task : n_results == (int)task) && n_results < 3);
        }
    }
    assert_memory_equal(sha[0], sha[1], sizeof sha[0]);
    assert_int_equal(finish(), 0);
}

static void refusals(void **state)
{
    struct link_head h;
    struct spec      s;
    int              bytes_fd;

    (void)state;
    start("/nowhere", "auto");
    h = hear(&bytes_fd);
    assert_int_equal(h.kind, LINK_OPEN_FAILED);
    assert_true(h.payload_bytes > 10);
    assert_int_equal(finish(), ENGINE_EXIT_OPEN);
    start(GOLDEN "model", "auto");
    assert_int_equal(hear(&bytes_fd).kind, LINK_OPENED);
    assert_int_equal(send(fd, "junk", 4, 0), 4); /* heard, not believed */
    h = (struct link_head){.kind = LINK_TASK, .task = 1, .epoch = 1};
    assert_int_equal(link_send(fd, &h, str_of("not a spec"), -1, false, NULL), 0);
    h = hear(&bytes_fd);
    assert_int_equal(h.kind, LINK_FAILED);
    assert_int_equal(h.code, ERR_PROTO);
    spec_init(&s);
    s.width_px = s.height_px = 32;
    s.steps = 1;
    say_task(&s); /* and it still works */
    h = hear(&bytes_fd);
    assert_int_equal(h.kind, LINK_RESULT);
    assert_int_equal(h.n_parts, 1);
    close(bytes_fd);
    assert_int_equal(finish(), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cases), cmocka_unit_test(two_at_once), cmocka_unit_test(refusals)};

    if (engine_child_is(argc, argv)) return engine_child_main(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
