/* test_gather.c - files that are there, that are foreign, that cannot be; and a whole job followed into a folder, twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "client/follow.h"
#include "tests/client/fake.h"

struct rig {
    char           dir[256], out[300];
    struct fake    f;
    struct client *c;
    struct bar     bar;
};

static int set_up(void **state)
{
    struct rig        *s = calloc(1, sizeof *s);
    struct client_opts o = {.timeout_ms = 60000};

    if (!s || file_temp_folder("zfarm-test", s->dir, sizeof s->dir, NULL) || fake_open(&s->f, s->dir)) return -1;
    s->f.n_tasks = 5;
    snprintf(s->out, sizeof s->out, "%s/out/deep", s->dir);
    bar_init(&s->bar, BAR_SILENT, stderr, stdout);
    o.endpoint = s->f.endpoint;
    *state = s;
    return client_open(&s->c, &o, NULL);
}

static int tear_down(void **state)
{
    struct rig *s = *state;

    client_close(s->c);
    fake_close(&s->f);
    file_remove_tree(s->dir, NULL);
    free(s);
    return 0;
}

static int follow(struct rig *s, struct follow *f, struct gather *g, struct err *e)
{
    *f = (struct follow){.client = s->c, .job = 7, .bar = &s->bar, .gather = g};
    return follow_run(f, e);
}

static void whole_job_twice(void **state)
{
    struct rig   *s = *state;
    struct gather g;
    struct follow f;
    struct err    e = {0};
    struct part   p = fake_part(3);
    char          path[GATHER_PATH_BYTES];

    if (gather_open(&g, s->out, false, &e)) fail_msg("%s", e.text);
    if (follow(s, &f, &g, &e)) fail_msg("%s", e.text);
    assert_true(f.n_done == 5 && f.n_failed == 0 && f.n_skipped == 0);
    assert_int_equal(s->f.n_collected, 5);
    gather_path(&g, "00003-103.png", path, &e);
    assert_string_equal(f.file[3], path);
    assert_true(gather_same(path, p.size_bytes, p.sha256));
    gather_path(&g, "00004-104.png", path, &e); /* its label "../../x" is no name */
    assert_string_equal(f.file[4], path);
    gather_path(&g, "00003-103.png", path, &e);
    follow_release(&f);

    unlink(path); /* one is lost: only it is fetched again */
    atomic_store(&s->f.n_fetch, 0);
    if (follow(s, &f, &g, &e)) fail_msg("%s", e.text);
    assert_true(f.n_done == 5 && f.n_skipped == 4);
    assert_int_equal(s->f.n_fetch, 1);
    follow_release(&f);
    gather_release(&g);
}

static void foreign_file_stays(void **state)
{
    struct rig   *s = *state;
    struct gather g;
    struct follow f;
    struct err    e = {0};
    struct buf    b;
    char          path[GATHER_PATH_BYTES];

    buf_init(&b, 100);
    assert_int_equal(gather_open(&g, s->out, false, &e), 0);
    gather_path(&g, "00001-101.png", path, &e);
    assert_int_equal(file_write(path, "mine", 4, FILE_NEW, &e), 0);
    if (follow(s, &f, &g, &e)) fail_msg("%s", e.text);
    assert_true(f.n_done == 4 && f.n_failed == 1);
    assert_null(f.file[1]);
    assert_int_equal(s->f.n_collected, 4); /* the broker keeps what could not be gathered */
    assert_int_equal(file_read(path, &b, &e), 0);
    assert_true(str_is(buf_str(&b), "mine"));
    assert_non_null(strstr(s->bar.first_failure, "other content"));
    follow_release(&f);
    g.replace = true;
    if (follow(s, &f, &g, &e)) fail_msg("%s", e.text);
    assert_int_equal(f.n_done, 5);
    follow_release(&f);
    gather_release(&g);
    buf_release(&b);
}

static void failures_and_broken_bytes(void **state)
{
    struct rig   *s = *state;
    struct gather g;
    struct follow f;
    struct err    e = {0};

    assert_int_equal(gather_open(&g, s->out, false, &e), 0);
    atomic_store(&s->f.fail_task, 2);
    atomic_store(&s->f.corrupt, 1); /* fetched once more */
    if (follow(s, &f, &g, &e)) fail_msg("%s", e.text);
    assert_true(f.n_done == 4 && f.n_failed == 1);
    assert_string_equal(s->bar.first_failure, "not finite");
    assert_int_equal(s->f.n_fetch, 5);
    follow_release(&f);
    gather_release(&g);
}

static void keep_and_watch(void **state)
{
    struct rig   *s = *state;
    struct gather g;
    struct follow f = {.client = s->c, .job = 7, .bar = &s->bar};
    struct err    e = {0};

    if (follow_run(&f, &e)) fail_msg("%s", e.text);
    assert_int_equal(f.n_done, 5);
    assert_int_equal(s->f.n_fetch, 0);
    follow_release(&f);
    assert_int_equal(gather_open(&g, s->out, false, &e), 0);
    f = (struct follow){.client = s->c, .job = 7, .bar = &s->bar, .gather = &g, .keep = true};
    if (follow_run(&f, &e)) fail_msg("%s", e.text);
    assert_int_equal(s->f.n_fetch, 5);
    assert_int_equal(s->f.n_collected, 0);
    follow_release(&f);
    gather_release(&g);
}

static void places(void **state)
{
    struct rig   *s = *state;
    struct gather g;
    struct err    e = {0};
    char          path[GATHER_PATH_BYTES];

    snprintf(path, sizeof path, "%s/file", s->dir);
    assert_int_equal(file_write(path, "x", 1, FILE_NEW, &e), 0);
    assert_int_equal(gather_target_check(path, &e), 0);
    assert_int_equal(gather_open(&g, path, false, &e), ERR_ARG);
    assert_non_null(strstr(e.text, "is a file"));
    snprintf(path, sizeof path, "%s/file/below", s->dir);
    assert_int_not_equal(gather_open(&g, path, false, &e), 0);
    snprintf(path, sizeof path, "%s/none/x.png", s->dir);
    assert_int_equal(gather_target_check(path, &e), ERR_NOTFOUND);
    assert_int_equal(gather_target_check(s->dir, &e), ERR_ARG);
    assert_int_equal(gather_target_check("/dev/null", &e), ERR_ARG);
    assert_int_equal(gather_open(&g, "", false, &e), ERR_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whole_job_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(foreign_file_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failures_and_broken_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keep_and_watch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(places, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
