/* test_log.c - a line is one line: what the farm is told cannot forge another; levels; the cut. Clock words, too. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "tests/tmp.h"

static struct tmp tmp;
static int        real_stderr;
static char       got[1 << 20];

static void catch_start(void)
{
    int fd;

    tmp_open(&tmp);
    fd = open(tmp_path(&tmp, "log"), O_CREAT | O_WRONLY | O_APPEND, 0600);
    real_stderr = dup(2);
    dup2(fd, 2);
    close(fd);
}

static void catch_end(void)
{
    FILE  *f = fopen(tmp_path(&tmp, "log"), "rb");
    size_t n;

    dup2(real_stderr, 2);
    close(real_stderr);
    assert_non_null(f);
    n = fread(got, 1, sizeof got - 1, f);
    got[n] = 0;
    fclose(f);
    tmp_close(&tmp);
}

static void test_line(void **state)
{
    int y, mo, d, h, mi, s, ms;

    (void)state;
    catch_start();
    log_name_set("broker");
    errno = 77;
    log_info("task_done", "task=%d took_ms=%d", 3, 250);
    assert_int_equal(errno, 77);
    log_name_set(NULL);
    catch_end();
    assert_int_equal(sscanf(got, "time=%d-%d-%dT%d:%d:%d.%3dZ ", &y, &mo, &d, &h, &mi, &s, &ms), 7);
    assert_in_range(y, 2024, 2200);
    assert_string_equal(got + 30, "level=info from=broker event=task_done task=3 took_ms=250\n");
}

static void test_escapes(void **state)
{
    (void)state;
    catch_start();
    log_error("bad", "text=%s", "a\nb\r\tc\x1b[31m\x7f z\xC3\xA9");
    catch_end();
    assert_string_equal(strstr(got, "level="), "level=error event=bad text=a\\nb\\r\\tc\\x1b[31m\\x7f z\xC3\xA9\n");
}

static void test_levels(void **state)
{
    enum log_level level = LOG_NONE;

    (void)state;
    catch_start();
    log_debug("hidden", "x=%d", 1);
    log_level_set(LOG_ERROR);
    log_warn("hidden", "x=%d", 1);
    log_level_set(LOG_NONE);
    log_error("hidden", "x=%d", 1);
    log_level_set(LOG_DEBUG);
    log_debug("shown", "x=%d", 1);
    log_level_set(LOG_INFO);
    catch_end();
    assert_null(strstr(got, "hidden"));
    assert_non_null(strstr(got, "level=debug event=shown x=1\n"));
    assert_true(log_level_parse("debug", &level) && level == LOG_DEBUG);
    assert_true(log_level_parse("none", &level) && level == LOG_NONE);
    assert_false(log_level_parse("loud", &level) || log_level_parse("", &level) || log_level_parse(NULL, &level));
}

static void test_cut(void **state)
{
    static char longer[20000];

    (void)state;
    memset(longer, '\n', sizeof longer - 1);
    catch_start();
    log_info("long", "x=%s", longer);
    memset(longer, 'y', 4050);
    longer[4050] = 0;
    log_info("long", "x=%s", longer);
    catch_end();
    for (char *line = got, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        assert_non_null(end);
        assert_in_range(end - line, 4000, 4095);
        assert_memory_equal(end - 9, " cut=true", 9);
    }
}

static void *shout(void *arg)
{
    for (int i = 0; i < 500; i++) log_info("shout", "who=%s i=%d", (const char *)arg, i);
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t t[2];
    int       lines = 0;

    (void)state;
    catch_start();
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&t[i], NULL, shout, i ? "one" : "two"), 0);
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
    catch_end();
    for (char *line = got; *line; line = strchr(line, '\n') + 1, lines++) assert_memory_equal(line, "time=2", 6);
    assert_int_equal(lines, 1000);
}

static void test_clock(void **state)
{
    char    text[CLOCK_ISO_BYTES];
    int64_t before = now_ms(), us = now_us(), ms;

    (void)state;
    clock_iso(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
    clock_iso(1709210096789, text);
    assert_string_equal(text, "2024-02-29T12:34:56.789Z");
    clock_iso(-1, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
    clock_iso(INT64_MAX, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
    sleep_ms(15);
    ms = now_ms() - before;
    us = now_us() - us;
    assert_true(ms >= 14 && us >= 14000);
    assert_true(us / 1000 >= ms - 2 && us / 1000 <= now_ms() - before + 2); /* both tell the same time, however long it was */
    assert_true(wall_ms() > 1700000000000);
}

static pthread_mutex_t mtx = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t  cond;
static int             rung;

static void *ring(void *arg)
{
    (void)arg;
    sleep_ms(10);
    pthread_mutex_lock(&mtx);
    rung = 1;
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&mtx);
    return NULL;
}

static void test_cond(void **state)
{
    int64_t   start = now_ms();
    pthread_t t;
    bool      in_time = true;

    (void)state;
    assert_int_equal(clock_cond_init(&cond), 0);
    pthread_mutex_lock(&mtx);
    while (clock_cond_wait(&cond, &mtx, start + 20)) {}
    assert_true(now_ms() - start >= 19);
    assert_int_equal(pthread_create(&t, NULL, ring, NULL), 0);
    while (!rung && in_time) in_time = clock_cond_wait(&cond, &mtx, start + 60000);
    pthread_mutex_unlock(&mtx);
    assert_true(in_time && rung);
    pthread_join(t, NULL);
    pthread_cond_destroy(&cond);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line), cmocka_unit_test(test_escapes), cmocka_unit_test(test_levels),
        cmocka_unit_test(test_cut),  cmocka_unit_test(test_threads), cmocka_unit_test(test_clock), cmocka_unit_test(test_cond),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
