/* suggest.c - the nearest known word by edit distance (insert, delete, replace, swap of neighbours).
 * Believes: a suggestion that is far off is worse than none. */
#include "client/suggest.h"

#include <string.h>

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;

    return m < c ? m : c;
}

static size_t distance(struct str a, struct str b)
{
    size_t row[3][SUGGEST_WORD_MAX_BYTES + 1]; /* two rows back, one row back, now */

    for (size_t j = 0; j <= b.len; j++) row[1][j] = j;
    memcpy(row[0], row[1], sizeof row[0]);
    for (size_t i = 1; i <= a.len; i++) {
        row[2][0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t change = row[1][j - 1] + (a.at[i - 1] != b.at[j - 1]);

            row[2][j] = min3(row[1][j] + 1, row[2][j - 1] + 1, change);
            if (i > 1 && j > 1 && a.at[i - 1] == b.at[j - 2] && a.at[i - 2] == b.at[j - 1] && row[0][j - 2] + 1 < row[2][j])
                row[2][j] = row[0][j - 2] + 1;
        }
        memmove(row[0], row[1], sizeof row[0]);
        memmove(row[1], row[2], sizeof row[1]);
    }
    return row[1][b.len];
}

const char *suggest(struct str said, const char *const *word, size_t n)
{
    const char *best = NULL;
    size_t      best_d = SUGGEST_WORD_MAX_BYTES;

    if (said.len == 0 || said.len > SUGGEST_WORD_MAX_BYTES) return NULL;
    for (size_t i = 0; i < n; i++) {
        struct str w = str_of(word[i]);
        size_t     d;

        if (w.len > SUGGEST_WORD_MAX_BYTES) continue;
        d = distance(said, w);
        if (said.len >= 3 && w.len > said.len && memcmp(w.at, said.at, said.len) == 0) d = 1; /* a beginning */
        if (d < best_d) {
            best_d = d;
            best = word[i];
        }
    }
    return best && best_d <= (strlen(best) + 2) / 3 ? best : NULL;
}
