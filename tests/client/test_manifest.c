/* test_manifest.c - a batch's memory: begun, continued, cut short by a crash, damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "client/manifest.h"
#include "tests/tmp.h"

static struct manifest head(void)
{
    struct manifest m = {.key = "0123456789abcde", .seed = UINT64_MAX, .n_images = 3, .source = "p.txt", .broker = "ipc:///x", .fd = -1};

    memset(m.spec, 0xab, sizeof m.spec);
    return m;
}

static void continues(void **state)
{
    struct tmp      t;
    struct manifest m = head(), again;
    struct part     p = {.kind = PART_IMAGE, .size_bytes = 77};
    struct err      e = {0};

    (void)state;
    tmp_open(&t);
    memset(p.sha256, 0xcd, sizeof p.sha256);
    assert_int_equal(manifest_resume(&again, t.dir, &e), ERR_NOTFOUND);
    if (manifest_begin(&m, t.dir, &e)) fail_msg("%s", e.text);
    assert_int_equal(manifest_resume(&again, t.dir, &e), ERR_BUSY); /* one process at a time */
    assert_int_equal(manifest_done(&m, 1, &p, &e), 0);
    assert_int_equal(write(m.fd, "done 2 7", 8), 8); /* killed in the middle of a line */
    manifest_release(&m);
    if (manifest_resume(&again, t.dir, &e)) fail_msg("%s", e.text);
    m = head();
    assert_memory_equal(again.key, m.key, sizeof m.key);
    assert_memory_equal(again.spec, m.spec, sizeof m.spec);
    assert_true(again.seed == UINT64_MAX && again.n_images == 3);
    assert_string_equal(again.broker, "ipc:///x");
    assert_true(again.done[0].size_bytes == 0 && again.done[1].size_bytes == 77 && again.done[2].size_bytes == 0);
    assert_memory_equal(again.done[1].sha256, p.sha256, 32);
    assert_int_equal(manifest_done(&again, 2, &p, &e), 0);
    manifest_release(&again);
    if (manifest_resume(&again, t.dir, &e)) fail_msg("%s", e.text);
    assert_int_equal(again.done[2].size_bytes, 77);
    manifest_release(&again);
    m = head();
    assert_int_equal(manifest_begin(&m, t.dir, &e), ERR_CONFLICT);
    assert_non_null(strstr(e.text, "--resume"));
    manifest_release(&m);
    tmp_close(&t);
}

static void damaged(void **state)
{
#define KEY  "key 30313233343536373839616263646500\n"
#define SPEC "spec abababababababababababababababababababababababababababababababab\n"
    static const char *const text[] = {
        "", "zfarm-batch 2\n" KEY SPEC "seed 1\nimages 3\n", "zfarm-batch 1\n" SPEC "seed 1\nimages 3\n", "zfarm-batch 1\n" KEY SPEC "seed x\nimages 3\n",
        "zfarm-batch 1\n" KEY SPEC "seed 1\nimages 0\n", "zfarm-batch 1\n" KEY SPEC "seed 1\nimages 100001\n",
        "zfarm-batch 1\n" KEY SPEC "seed 1\nimages 3\nimages 3\n", "zfarm-batch 1\nkey 30\n" SPEC "seed 1\nimages 3\n",
        "zfarm-batch 1\n" KEY SPEC "seed 1\ndone 0 1 ab\nimages 3\n", "zfarm-batch 1\n" KEY SPEC "seed 1\nimages 3\ndone 3 1 ab\n",
    };
    struct tmp      t;
    struct manifest m;
    struct err      e = {0};

    (void)state;
    tmp_open(&t);
    for (size_t k = 0; k < sizeof text / sizeof text[0]; k++) {
        tmp_write(&t, MANIFEST_NAME, text[k], strlen(text[k]));
        if (manifest_resume(&m, t.dir, &e) != ERR_FORMAT) fail_msg("row %zu: %s", k, e.text);
    }
    tmp_write(&t, MANIFEST_NAME, "zfarm-batch 1\n" KEY SPEC "seed 1\nimages 3\nnews of a later version\n", strlen("zfarm-batch 1\n" KEY SPEC "seed 1\nimages 3\nnews of a later version\n"));
    if (manifest_resume(&m, t.dir, &e)) fail_msg("%s", e.text);
    manifest_release(&m);
    tmp_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(continues), cmocka_unit_test(damaged)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
