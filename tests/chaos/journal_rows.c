/* journal_rows.c - journal_rows JOURNAL STATE: the tasks of a journal in that state, one line each: id, state, seq, epoch, leases, crashes; or, for
 * STATE "jobs", its jobs: id, number of tasks. The broker must not be running on it. For the oracle of run.sh: what is final stays as it is for ever. */
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    static const char tasks[] = "SELECT id, state, seq, epoch, leases, crashes FROM task WHERE state = ?1 ORDER BY id";
    static const char jobs[] = "SELECT id, n_tasks FROM job WHERE ?1 = 'jobs' ORDER BY id";
    sqlite3          *db = NULL;
    sqlite3_stmt     *rows = NULL;
    int               rc;

    if (argc != 3) {
        fprintf(stderr, "usage: journal_rows JOURNAL STATE\n");
        return 2;
    }
    rc = sqlite3_open_v2(argv[1], &db, SQLITE_OPEN_READWRITE, NULL);
    if (!rc) rc = sqlite3_prepare_v2(db, strcmp(argv[2], "jobs") ? tasks : jobs, -1, &rows, NULL);
    if (!rc) rc = sqlite3_bind_text(rows, 1, argv[2], -1, SQLITE_STATIC);
    while (!rc && (rc = sqlite3_step(rows)) == SQLITE_ROW) {
        for (int i = 0, n = sqlite3_column_count(rows); i < n; i++) printf("%lld%c", (long long)sqlite3_column_int64(rows, i), i < n - 1 ? ' ' : '\n');
        rc = 0;
    }
    if (rc != SQLITE_DONE) fprintf(stderr, "%s: %s\n", argv[1], db ? sqlite3_errmsg(db) : "no memory");
    sqlite3_finalize(rows);
    sqlite3_close(db);
    return rc != SQLITE_DONE;
}
