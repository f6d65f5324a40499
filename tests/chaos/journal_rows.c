/* journal_rows.c - journal_rows JOURNAL: the finished tasks of a journal, one line each: id, state, seq, epoch, leases, crashes. The broker must not be
 * running on it. For the oracle of run.sh: a row that is final stays as it is for ever, whatever is killed. */
#include <sqlite3.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    static const char sql[] = "SELECT id, state, seq, epoch, leases, crashes FROM task WHERE state = ?1 ORDER BY id";
    sqlite3          *db = NULL;
    sqlite3_stmt     *rows = NULL;
    int               rc;

    if (argc != 3) {
        fprintf(stderr, "usage: journal_rows JOURNAL STATE\n");
        return 2;
    }
    rc = sqlite3_open_v2(argv[1], &db, SQLITE_OPEN_READWRITE, NULL);
    if (!rc) rc = sqlite3_prepare_v2(db, sql, -1, &rows, NULL);
    if (!rc) rc = sqlite3_bind_text(rows, 1, argv[2], -1, SQLITE_STATIC);
    while (!rc && (rc = sqlite3_step(rows)) == SQLITE_ROW) {
        for (int i = 0; i < 6; i++) printf("%lld%c", (long long)sqlite3_column_int64(rows, i), i < 5 ? ' ' : '\n');
        rc = 0;
    }
    if (rc != SQLITE_DONE) fprintf(stderr, "%s: %s\n", argv[1], db ? sqlite3_errmsg(db) : "no memory");
    sqlite3_finalize(rows);
    sqlite3_close(db);
    return rc != SQLITE_DONE;
}
