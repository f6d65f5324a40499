/* test_spool.c - bytes in, hashed, durable, counted; wrong, short, misplaced and unwritable ones refused, and nothing left behind. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"
#include "broker/spool.h"
#include "tests/tmp.h"

static struct part part_of(struct str bytes)
{
    struct part p = {.kind = PART_IMAGE, .size_bytes = bytes.len};

    sha256_of(bytes.at, bytes.len, p.sha256);
    return p;
}

static int count_files(const char *dir)
{
    char  cmd[400], line[32] = "";
    FILE *f;

    snprintf(cmd, sizeof cmd, "find %s -type f | wc -l", dir);
    f = popen(cmd, "r");
    if (!f || !fgets(line, sizeof line, f)) abort();
    pclose(f);
    return (int)strtol(line, NULL, 10);
}

/* Receives bytes in chunks of n; returns the first error, or commits. */
static int receive(struct spool *s, const struct part *p, struct str bytes, size_t n, struct err *e)
{
    struct spool_put *put;
    int               rc = spool_begin(s, p, &put, e);

    if (rc) return rc;
    for (size_t at = 0; at < bytes.len && rc == 0; at += n) rc = spool_write(put, at, str_sub(bytes, at, n), e);
    if (rc == 0) rc = spool_check(put, e);
    if (rc == 0) rc = spool_commit(put, e);
    if (rc == 0) spool_ref(s, p->sha256); /* a row counts on it now */
    spool_end(put);
    return rc;
}

static void test_there_and_back(void **state)
{
    struct tmp   t;
    struct spool s;
    struct err   e = {0};
    struct str   bytes = str_of("some bytes of a picture");
    struct part  p = part_of(bytes);
    char         back[64];
    int          fd;

    (void)state;
    tmp_open(&t);
    assert_int_equal(spool_open(&s, t.dir, &e), 0);
    assert_int_equal(rmdir(s.dir), 0); /* empty: folders come with their first file */
    assert_int_equal(spool_open(&s, t.dir, &e), 0);
    assert_int_equal(receive(&s, &p, bytes, 7, &e), 0);
    assert_int_equal(receive(&s, &p, bytes, 100, &e), 0); /* the same again: counted twice, there once */
    assert_int_equal(count_files(s.dir), 1);
    assert_int_equal(spool_get(&s, &p, true, &fd, &e), 0);
    assert_int_equal(read(fd, back, sizeof back), bytes.len);
    assert_memory_equal(back, bytes.at, bytes.len);
    close(fd);
    spool_unref(&s, p.sha256);
    assert_int_equal(count_files(s.dir), 1);
    spool_unref(&s, p.sha256);
    assert_int_equal(count_files(s.dir), 0);
    assert_int_equal(spool_get(&s, &p, true, &fd, &e), ERR_NOTFOUND);
    spool_release(&s);
    tmp_close(&t);
}

static void test_refused(void **state)
{
    struct tmp        t;
    struct spool      s;
    struct spool_put *put;
    struct err        e = {0};
    struct str        bytes = str_of("some bytes of a picture");
    struct part       p = part_of(bytes);

    (void)state;
    tmp_open(&t);
    assert_int_equal(spool_open(&s, t.dir, &e), 0);
    p.sha256[0] ^= 1;
    assert_int_equal(receive(&s, &p, bytes, 7, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "SHA-256"));
    p = part_of(bytes);
    assert_int_equal(receive(&s, &p, str_sub(bytes, 0, bytes.len - 1), 7, &e), ERR_FORMAT); /* short */
    assert_int_equal(spool_begin(&s, &p, &put, &e), 0);
    assert_int_equal(spool_write(put, 1, bytes, &e), ERR_PROTO); /* a gap */
    assert_int_equal(spool_write(put, 0, bytes, &e), 0);
    assert_int_equal(spool_write(put, 0, bytes, &e), ERR_PROTO); /* twice */
    assert_int_equal(spool_write(put, bytes.len, str_of("x"), &e), ERR_PROTO); /* past the end */
    spool_end(put);
    assert_int_equal(count_files(s.dir), 0);
    spool_release(&s);
    tmp_close(&t);
}

static void test_damage_is_seen(void **state)
{
    struct tmp   t;
    struct spool s;
    struct err   e = {0};
    struct str   bytes = str_of("some bytes of a picture");
    struct part  p = part_of(bytes);
    char         cmd[4200];
    int          fd;

    (void)state;
    tmp_open(&t);
    assert_int_equal(spool_open(&s, t.dir, &e), 0);
    assert_int_equal(receive(&s, &p, bytes, 7, &e), 0);
    snprintf(cmd, sizeof cmd, "for f in $(find %s -type f); do printf X | dd of=$f bs=1 seek=3 conv=notrunc 2>/dev/null; done", s.dir);
    assert_int_equal(system(cmd), 0);
    assert_int_equal(spool_get(&s, &p, true, &fd, &e), ERR_FORMAT);
    assert_int_equal(count_files(s.dir), 0); /* never served again */
    assert_int_equal(receive(&s, &p, bytes, 7, &e), 0);
    snprintf(cmd, sizeof cmd, "for f in $(find %s -type f); do truncate -s 5 $f; done", s.dir);
    assert_int_equal(system(cmd), 0);
    assert_int_equal(spool_get(&s, &p, false, &fd, &e), ERR_FORMAT); /* the size is looked at in any case */
    spool_unref(&s, p.sha256);
    spool_unref(&s, p.sha256);
    spool_release(&s);
    tmp_close(&t);
}

/* What a crash leaves - temporaries, blobs no row knows - goes at the next start; what is known, and what is not ours, stays. */
static void test_sweep(void **state)
{
    struct tmp   t;
    struct spool s;
    struct err   e = {0};
    struct str   known = str_of("known"), orphan = str_of("orphan");
    struct part  a = part_of(known), b = part_of(orphan);
    char         path[4300];
    int          fd;

    (void)state;
    tmp_open(&t);
    assert_int_equal(spool_open(&s, t.dir, &e), 0);
    assert_int_equal(receive(&s, &a, known, 9, &e), 0);
    assert_int_equal(receive(&s, &b, orphan, 9, &e), 0);
    spool_release(&s);
    assert_int_equal(spool_open(&s, t.dir, &e), 0);
    spool_ref(&s, a.sha256); /* as the journal's row says */
    snprintf(path, sizeof path, "%s/7.tmp", s.dir);
    assert_int_equal(file_write(path, "x", 1, FILE_NEW, &e), 0);
    snprintf(path, sizeof path, "%s/ab", s.dir);
    assert_int_equal(file_make_folder(path, &e), 0);
    snprintf(path, sizeof path, "%s/ab/notes.txt", s.dir);
    assert_int_equal(file_write(path, "x", 1, FILE_NEW, &e), 0);
    assert_int_equal(spool_sweep(&s), 2);
    assert_int_equal(count_files(s.dir), 2);
    assert_int_equal(spool_get(&s, &a, true, &fd, &e), 0);
    close(fd);
    spool_release(&s);
    tmp_close(&t);
}

/* ---- the n-th call to the operating system fails, for every n ---- */
static int fail_at, fail_errno, n_calls;

static bool due(void)
{
    if (++n_calls != fail_at) return false;
    errno = fail_errno;
    return true;
}

static ssize_t bad_write(int fd, const void *at, size_t len)
{
    return due() ? -1 : write(fd, at, len > 100 ? len / 2 : len > 5 ? 5 : len); /* and short, always */
}

static int bad_fsync(int fd)
{
    return due() ? -1 : fsync(fd);
}

static int bad_rename(const char *from, const char *to)
{
    return due() ? -1 : rename(from, to);
}

static void test_every_call_fails_once(void **state)
{
    static const int codes[][2] = {{EIO, ERR_IO}, {ENOSPC, ERR_LIMIT}};
    static char      many[SPOOL_MEM_BYTES + 1];

    (void)state;
    for (size_t c = 0; c < 4; c++) /* through memory, and written as it comes */
        for (fail_at = 1;; fail_at++) {
            struct tmp   t;
            struct spool s;
            struct err   e = {0};
            struct str   bytes = c < 2 ? str_of("some bytes of a picture") : (struct str){many, sizeof many};
            struct part  p = part_of(bytes);
            int          rc, fd;

            tmp_open(&t);
            assert_int_equal(spool_open(&s, t.dir, &e), 0);
            s.os = (struct spool_os){bad_write, bad_fsync, bad_rename};
            fail_errno = codes[c % 2][0];
            n_calls = 0;
            rc = receive(&s, &p, bytes, c < 2 ? 7000 : sizeof many / 5, &e);
            if (n_calls < fail_at) { /* all calls passed */
                assert_int_equal(rc, 0);
                assert_true(fail_at > 8);
                spool_release(&s);
                tmp_close(&t);
                break;
            }
            assert_int_equal(rc, codes[c % 2][1]);
            assert_int_equal(count_files(s.dir), 0);
            assert_int_equal(spool_get(&s, &p, true, &fd, &e), ERR_NOTFOUND);
            spool_release(&s);
            tmp_close(&t);
        }
}

/* P4: a folder whose sync failed once is trusted no more, for the next sync would say that all is well; the other folders are. */
static void test_a_lost_sync(void **state)
{
    struct tmp   t;
    struct spool s;
    struct err   e = {0};
    struct str   one = str_of("some bytes of a picture"), other = str_of("of another picture");
    struct part  p = part_of(one), q = part_of(other);

    (void)state;
    assert_int_not_equal(p.sha256[0], q.sha256[0]);
    tmp_open(&t);
    assert_int_equal(spool_open(&s, t.dir, &e), 0);
    s.os = (struct spool_os){bad_write, bad_fsync, bad_rename};
    fail_errno = EIO;
    n_calls = 0;
    fail_at = 1000;
    assert_int_equal(receive(&s, &p, one, 7000, &e), 0); /* its last call is the folder's sync */
    spool_unref(&s, p.sha256);
    fail_at = n_calls - 1; /* the folder above is known already: one call less */
    n_calls = 0;
    assert_int_equal(receive(&s, &p, one, 7000, &e), ERR_IO);
    fail_at = 1000;
    assert_int_equal(receive(&s, &p, one, 7000, &e), ERR_IO);
    assert_non_null(strstr(e.text, "failed before"));
    assert_int_equal(receive(&s, &q, other, 7000, &e), 0);
    spool_release(&s);
    tmp_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_refused), cmocka_unit_test(test_damage_is_seen),
        cmocka_unit_test(test_sweep),          cmocka_unit_test(test_every_call_fails_once), cmocka_unit_test(test_a_lost_sync),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
