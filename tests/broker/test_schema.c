/* test_schema.c - a journal that a broker of schema version 2 left (journal-v2.sql, committed as it was) is brought to the present one and loses nothing. */
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/log.h"
#include "broker/journal.h"
#include "broker/schema.h"
#include "tests/tmp.h"

static int n_rows;

static int one_job(void *ctx, const struct job_row *r, struct err *e)
{
    (void)ctx, (void)e;
    assert_int_equal(r->job, 1);
    assert_true(str_is(r->name, "old") && str_is(r->model, "turbo") && str_is(r->client, "me@there"));
    assert_int_equal(r->key[15], 0x5a);
    assert_int_equal(r->job_class, CLASS_BULK);
    assert_int_equal(r->changed_wall_ms, 6);
    n_rows++;
    return 0;
}

static int one_batch(void *ctx, const struct batch_row *r, struct err *e)
{
    (void)ctx, (void)e;
    assert_int_equal(r->n_tasks, 1);
    assert_int_equal(r->sha256[31], 0x11);
    n_rows++;
    return 0;
}

static int one_item(void *ctx, const struct item_row *r, struct err *e)
{
    (void)ctx, (void)e;
    assert_true(str_is(r->bytes, "the item\n"));
    n_rows++;
    return 0;
}

static int one_task(void *ctx, const struct task_row *r, struct err *e)
{
    (void)ctx, (void)e;
    assert_int_equal(r->state, TASK_DONE);
    assert_int_equal(r->seq, 7);
    assert_int_equal(r->took_ms, 77);
    assert_int_equal(r->n_parts, 2);
    assert_int_equal(r->part[1].size_bytes, 1234567890123);
    assert_int_equal(r->part[1].sha256[31], 0xab);
    assert_int_equal(r->home[0] | r->home[1], 0); /* files, as they were */
    n_rows++;
    return 0;
}

static void test_version_2(void **state)
{
    const struct journal_reader r = {NULL, one_job, one_batch, one_item, one_task, NULL};
    struct tmp      t;
    struct journal *j = NULL;
    struct err      e = {0};
    struct buf      sql;
    sqlite3        *db;
    char            path[300];

    (void)state;
    log_level_set(LOG_NONE);
    tmp_open(&t);
    buf_init(&sql, 1 << 20);
    assert_int_equal(file_read(TESTS_DIR "/broker/journal-v2.sql", &sql, &e), 0);
    snprintf(path, sizeof path, "%s/journal.db", t.dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql.at, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    buf_release(&sql);
    for (uint64_t start = 5; start < 7; start++) { /* migrated, and again as its own */
        if (journal_open(&j, t.dir, &e) || journal_load(j, &r, &e)) fail_msg("%s", e.text);
        assert_int_equal(journal_boot_id(j), start);
        assert_int_equal(journal_store(j)[15], 0xff);
        assert_int_equal(journal_seq(j), 7);
        assert_int_equal(journal_next_job(j), 2);
        journal_close(j);
    }
    assert_int_equal(n_rows, 2 * 4);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    snprintf(path, sizeof path, "PRAGMA user_version=%d", SCHEMA_VERSION + 1); /* of a broker to come */
    assert_int_equal(sqlite3_exec(db, path, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(journal_open(&j, t.dir, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "newer"));
    tmp_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_version_2)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
