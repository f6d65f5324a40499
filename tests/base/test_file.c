/* test_file.c - atomic writes (nothing under the final name and no temporary after a failure, on a full disk, too), maps, trees, names. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "tests/tmp.h"

static struct tmp tmp;
static struct err e;

static int setup(void **state)
{
    (void)state;
    e = (struct err){0};
    tmp_open(&tmp);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tmp_close(&tmp);
    return 0;
}

static void expect_content(const char *name, const char *want)
{
    struct buf b;

    buf_init(&b, 1 << 20);
    assert_int_equal(file_read(tmp_path(&tmp, name), &b, &e), 0);
    assert_true(str_is(buf_str(&b), want));
    buf_release(&b);
}

static void test_write(void **state)
{
    const char *path = tmp_path(&tmp, "a.txt");
    struct stat st;

    (void)state;
    umask(022);
    assert_int_equal(file_write(path, "one", 3, FILE_NEW, &e), 0);
    assert_int_equal(file_write(path, "two", 3, FILE_NEW, &e), ERR_CONFLICT);
    assert_non_null(strstr(e.text, path));
    expect_content("a.txt", "one");
    assert_int_equal(file_write(path, "three", 5, FILE_REPLACE, &e), 0);
    expect_content("a.txt", "three");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0644);
    assert_int_equal(file_write(tmp_path(&tmp, "empty"), NULL, 0, FILE_REPLACE, &e), 0);
    expect_content("empty", "");
    assert_int_equal(tmp_n_files(&tmp), 2);
}

static void test_write_refused(void **state)
{
    char longer[300];

    (void)state;
    memset(longer, 'n', 255); /* the longest name there is: the temporary's name must still fit */
    longer[255] = 0;
    assert_int_equal(file_write(tmp_path(&tmp, longer), "x", 1, FILE_NEW, &e), 0);
    assert_int_equal(unlink(tmp_path(&tmp, longer)), 0);
    memcpy(longer + 255, "n", 2);
    assert_int_equal(file_write(tmp_path(&tmp, longer), "x", 1, FILE_NEW, &e), ERR_IO);
    assert_int_equal(file_write(tmp_path(&tmp, "no/such/a.txt"), "x", 1, FILE_REPLACE, &e), ERR_IO);
    assert_non_null(strstr(e.text, "no/such/a.txt"));
    assert_int_equal(file_write("", "x", 1, FILE_REPLACE, &e), ERR_ARG);
    assert_int_equal(file_write("/tmp/", "x", 1, FILE_REPLACE, &e), ERR_ARG);
    assert_int_equal(mkfifo(tmp_path(&tmp, "fifo"), 0600), 0); /* stands for /dev/null: never knock at the real one, we may be root */
    assert_int_equal(file_write(tmp_path(&tmp, "fifo"), "x", 1, FILE_REPLACE, &e), ERR_IO);
    assert_int_equal(unlink(tmp_path(&tmp, "fifo")), 0);
    assert_int_equal(mkdir(tmp_path(&tmp, "dir"), 0700), 0);
    assert_int_equal(file_write(tmp_path(&tmp, "dir"), "x", 1, FILE_REPLACE, &e), ERR_IO);
    assert_int_equal(tmp_n_files(&tmp), 1);
}

/* A folder one may not write: tried as another user when we are root. */
static void test_write_denied(void **state)
{
    int   status;
    pid_t child;

    (void)state;
    assert_int_equal(chmod(tmp.dir, 0555), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (geteuid() == 0 && setuid(65534)) _exit(9);
        _exit(file_write(tmp_path(&tmp, "a"), "x", 1, FILE_REPLACE, &e) == ERR_IO && strstr(e.text, "Permission denied") ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(chmod(tmp.dir, 0700), 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 9) skip();
    assert_int_equal(status, 0);
    assert_int_equal(tmp_n_files(&tmp), 0);
}

static void test_full_disk(void **state)
{
    struct tmp small;
    size_t     len = 1 << 20;
    char      *bytes = malloc(len);
    struct buf b;

    (void)state;
    assert_non_null(bytes);
    memset(bytes, 'x', len);
    if (!tmp_open_small(&small, 256 * 1024)) {
        free(bytes);
        skip(); /* needs the right to mount */
    }
    assert_in_range(file_free_bytes(small.dir), 100 * 1024, 256 * 1024);
    assert_int_equal(file_write(tmp_path(&small, "kept"), "old", 3, FILE_REPLACE, &e), 0);
    assert_int_equal(file_write(tmp_path(&small, "big"), bytes, len, FILE_REPLACE, &e), ERR_IO);
    assert_non_null(strstr(e.text, "No space left"));
    assert_int_equal(file_write(tmp_path(&small, "big"), bytes, len, FILE_NEW, &e), ERR_IO);
    assert_int_equal(file_write(tmp_path(&small, "kept"), bytes, len, FILE_REPLACE, &e), ERR_IO);
    assert_int_equal(tmp_n_files(&small), 1); /* no final name, no temporary */
    buf_init(&b, 10);
    assert_int_equal(file_read(tmp_path(&small, "kept"), &b, &e), 0);
    assert_true(str_is(buf_str(&b), "old"));
    buf_release(&b);
    tmp_close(&small);
    free(bytes);
}

/* A reader beside a writer sees the old file or the new one, whole. */
static void test_atomic(void **state)
{
    static char one[50000], two[70000];
    char       *path = tmp_path(&tmp, "f");
    struct buf  b;
    int         status, n_one = 0, n_two = 0, enough[2];
    int64_t     until = now_ms() + 60000;
    pid_t       child;

    (void)state;
    memset(one, '1', sizeof one);
    memset(two, '2', sizeof two);
    assert_int_equal(file_write(path, one, sizeof one, FILE_NEW, &e), 0);
    assert_int_equal(pipe(enough), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) { /* until the reader has seen enough, or is gone */
        struct pollfd p = {.fd = enough[0], .events = POLLIN};
        int           rc = 0;

        close(enough[1]);
        for (int i = 0; poll(&p, 1, 0) == 0; i++) rc |= i % 2 ? file_write(path, one, sizeof one, FILE_REPLACE, NULL) : file_write(path, two, sizeof two, FILE_REPLACE, NULL);
        _exit(rc != 0);
    }
    buf_init(&b, 1 << 20);
    while ((n_one < 20 || n_two < 20) && now_ms() < until) {
        assert_int_equal(file_read(path, &b, &e), 0);
        assert_true(b.at[0] == b.at[b.len - 1]);
        assert_int_equal(b.len, b.at[0] == '1' ? sizeof one : sizeof two);
        n_one += b.at[0] == '1';
        n_two += b.at[0] == '2';
    }
    buf_release(&b);
    close(enough[0]);
    close(enough[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(n_one >= 20 && n_two >= 20);
    assert_int_equal(tmp_n_files(&tmp), 1);
}

static void test_read(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 4);
    tmp_write(&tmp, "four", "1234", 4);
    tmp_write(&tmp, "five", "12345", 5);
    assert_int_equal(file_read(tmp_path(&tmp, "four"), &b, &e), 0);
    assert_int_equal(file_read(tmp_path(&tmp, "four"), &b, &e), 0); /* cleared first */
    assert_string_equal(b.at, "1234");
    assert_int_equal(file_read(tmp_path(&tmp, "five"), &b, &e), ERR_LIMIT);
    assert_non_null(strstr(e.text, "4 bytes"));
    assert_int_equal(b.len, 0);
    assert_int_equal(file_read(tmp_path(&tmp, "none"), &b, &e), ERR_NOTFOUND);
    assert_int_equal(file_read(tmp.dir, &b, &e), ERR_IO);
    assert_int_equal(mkfifo(tmp_path(&tmp, "fifo"), 0600), 0);
    assert_int_equal(file_read(tmp_path(&tmp, "fifo"), &b, &e), ERR_IO); /* and does not wait for a writer */
    buf_release(&b);
}

static void test_map(void **state)
{
    struct file_map m;
    char            longer[600];

    (void)state;
    tmp_write(&tmp, "f", "0123456789", 10);
    tmp_write(&tmp, "empty", "", 0);
    assert_int_equal(file_map_open(&m, tmp_path(&tmp, "f"), &e), 0);
    assert_int_equal(m.len, 10);
    assert_memory_equal(m.at, "0123456789", 10);
    file_map_drop(&m); /* and read again */
    assert_memory_equal(m.at, "0123456789", 10);
    assert_int_equal(file_map_check(&m, &e), 0);
    assert_int_equal(truncate(tmp_path(&tmp, "f"), 4), 0); /* cut under us: told before a SIGBUS */
    assert_int_equal(file_map_check(&m, &e), ERR_IO);
    assert_non_null(strstr(e.text, "from 10 to 4"));
    file_map_close(&m);
    file_map_close(&m); /* twice is fine */
    assert_int_equal(file_map_open(&m, tmp_path(&tmp, "empty"), &e), 0);
    assert_null(m.at);
    file_map_drop(&m);
    assert_int_equal(file_map_check(&m, &e), 0);
    file_map_close(&m);
    assert_int_equal(file_map_open(&m, tmp_path(&tmp, "none"), &e), ERR_NOTFOUND);
    assert_int_equal(file_map_open(&m, tmp.dir, &e), ERR_IO);
    memset(longer, 'a', 599);
    longer[599] = 0;
    assert_int_equal(file_map_open(&m, longer, &e), ERR_LIMIT);
    file_map_close(&m);
    memset(&m, 0, sizeof m);
    file_map_close(&m); /* zeroed: closes nothing (descriptor 0 stays) */
    assert_int_not_equal(dup2(0, 0), -1);
}

static void test_trees(void **state)
{
    char deep[512] = "";

    (void)state;
    assert_int_equal(file_make_folder(tmp_path(&tmp, "a/b//c/"), &e), 0);
    assert_int_equal(file_make_folder(tmp_path(&tmp, "a/b/c"), &e), 0); /* already there */
    assert_true(file_is_folder(tmp_path(&tmp, "a/b/c")));
    tmp_write(&tmp, "a/file", "x", 1);
    assert_false(file_is_folder(tmp_path(&tmp, "a/file")));
    assert_int_equal(file_make_folder(tmp_path(&tmp, "a/file/d"), &e), ERR_IO);
    assert_int_equal(file_make_folder("", &e), ERR_ARG);
    tmp_write(&tmp, "outside", "x", 1);
    assert_int_equal(symlink(tmp_path(&tmp, "outside"), tmp_path(&tmp, "a/link")), 0);
    assert_int_equal(symlink(tmp.dir, tmp_path(&tmp, "a/b/up")), 0);
    assert_int_equal(file_remove_tree(tmp_path(&tmp, "a"), &e), 0);
    assert_false(file_exists(tmp_path(&tmp, "a")));
    assert_true(file_exists(tmp_path(&tmp, "outside")));
    assert_int_equal(file_remove_tree(tmp_path(&tmp, "a"), &e), 0); /* missing is fine */
    assert_int_equal(file_remove_tree(tmp_path(&tmp, "outside"), &e), ERR_ARG);
    for (int i = 0; i < 40; i++) memcpy(deep + 2 * i, "d/", 3);
    assert_int_equal(file_make_folder(tmp_path(&tmp, deep), &e), 0);
    assert_int_equal(file_remove_tree(tmp_path(&tmp, "d"), &e), ERR_LIMIT);
    assert_int_equal(file_remove_tree(tmp_path(&tmp, "d/d/d/d/d/d/d/d/d/d/d/d"), &e), 0);
}

static void test_names(void **state)
{
    static const char *const good[] = {"a", "cat 01.png", "\xE7\x8C\xAB.png", "a.b", "~x", "a-"};
    static const char *const bad[] = {"", ".", "..", ".hidden", "-o", "a/b", "a\\b", "a\nb", "a\x7f", "\xff", "a\xC2\x9B"};
    char                     longer[202], path[20];

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_true(file_name_ok(str_of(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(file_name_ok(str_of(bad[i])));
    memset(longer, 'a', 201);
    assert_true(file_name_ok((struct str){longer, 200}));
    assert_false(file_name_ok((struct str){longer, 201}));
    assert_false(file_name_ok((struct str){"a\0b", 3}));
    assert_int_equal(file_join(path, sizeof path, "dir", "name", &e), 0);
    assert_string_equal(path, "dir/name");
    assert_int_equal(file_join(path, sizeof path, "/", "name", &e), 0);
    assert_string_equal(path, "/name");
    assert_int_equal(file_join(path, sizeof path, "0123456789", "0123456789", &e), ERR_LIMIT);
    assert_int_equal(file_join(path, sizeof path, "012345678", "0123456789", &e), ERR_LIMIT);
    assert_int_equal(file_join(path, sizeof path, "01234567", "0123456789", &e), 0);
    assert_int_equal(file_free_bytes(tmp_path(&tmp, "none")), -1);
    assert_true(file_free_bytes(tmp.dir) >= 0);
}

static void test_temp_folder(void **state)
{
    char        path[512];
    struct stat st;

    (void)state;
    setenv("TMPDIR", tmp.dir, 1);
    assert_int_equal(file_temp_folder("zf", path, sizeof path, &e), 0);
    assert_memory_equal(path, tmp.dir, strlen(tmp.dir));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(file_temp_folder("zf", path, 12, &e), ERR_LIMIT);
    setenv("TMPDIR", "/no/such/folder", 1);
    assert_int_equal(file_temp_folder("zf", path, sizeof path, &e), ERR_IO);
    unsetenv("TMPDIR");
}

/* What a dead writer left goes; what a living one is writing, and what only looks alike, stays. */
static void test_drop_temps(void **state)
{
    char        dead[64], alive[64];
    const char *others[] = {".a.png.tmp", ".a.png.12-0123abc.tmp", ".a.png.12x-0123abcd.tmp", "a.png.1-0123abcd.tmp", ".a.png.0-0123abcd.tmp"};
    pid_t       pid = fork();

    (void)state;
    if (pid == 0) _exit(0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    snprintf(dead, sizeof dead, ".a.b-c.png.%d-0123abcd.tmp", (int)pid);
    snprintf(alive, sizeof alive, ".a.png.%d-0123abcd.tmp", (int)getpid());
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) assert_int_equal(file_write(tmp_path(&tmp, others[i]), "x", 1, FILE_NEW, &e), 0);
    assert_int_equal(file_write(tmp_path(&tmp, dead), "x", 1, FILE_NEW, &e), 0);
    assert_int_equal(file_write(tmp_path(&tmp, alive), "x", 1, FILE_NEW, &e), 0);
    file_drop_temps(tmp_path(&tmp, "."));
    file_drop_temps(tmp_path(&tmp, "nowhere"));
    assert_false(file_exists(tmp_path(&tmp, dead)));
    assert_true(file_exists(tmp_path(&tmp, alive)));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) assert_true(file_exists(tmp_path(&tmp, others[i])));
}

#define ONE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        ONE(test_write), ONE(test_write_refused), ONE(test_write_denied), ONE(test_full_disk), ONE(test_atomic), ONE(test_read),
        ONE(test_map),   ONE(test_trees),         ONE(test_names),        ONE(test_temp_folder), ONE(test_drop_temps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
