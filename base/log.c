/* log.c - one event, one line, one write(2).
 * Believes: a line of at most LINE_BYTES (= PIPE_BUF) is not torn by another writer on the same pipe; what came from outside cannot
 * make a line of its own: control bytes of the text are escaped. A line too long is cut and says so. errno survives.
 * Not here: quoting values with blanks (the caller knows its values), files and rotation (the service manager's work). */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define LINE_BYTES 4096
#define CUT_MARK   " cut=true"

static const char *const  level_word[] = {"debug", "info", "warn", "error", "none"};
static _Atomic int         level_min = LOG_INFO;
static const char *_Atomic process_name;

void log_level_set(enum log_level level)
{
    atomic_store(&level_min, (int)level);
}

bool log_level_parse(const char *word, enum log_level *out)
{
    for (int i = LOG_DEBUG; word && i <= LOG_NONE; i++)
        if (strcmp(word, level_word[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    return false;
}

void log_name_set(const char *process)
{
    atomic_store(&process_name, process);
}

/* Copies text behind line[used], escaping control bytes; returns the new length, <= cap; *cut when something was left out. */
static size_t put_escaped(char *line, size_t used, size_t cap, const char *text, bool *cut)
{
    static const char hex[] = "0123456789abcdef";

    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        char          out[4] = {(char)c};
        size_t        n = 1;

        if (c == '\n' || c == '\r' || c == '\t') {
            out[0] = '\\';
            out[1] = c == '\n' ? 'n' : c == '\r' ? 'r' : 't';
            n = 2;
        } else if (c < 0x20 || c == 0x7F) {
            out[0] = '\\';
            out[1] = 'x';
            out[2] = hex[c >> 4];
            out[3] = hex[c & 15];
            n = 4;
        }
        if (n > cap - used) {
            *cut = true;
            break;
        }
        memcpy(line + used, out, n);
        used += n;
    }
    return used;
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
    const size_t cap = LINE_BYTES - sizeof CUT_MARK - 1; /* room for the mark and the newline */
    int          saved = errno, n;
    char         line[LINE_BYTES], text[LINE_BYTES], when[CLOCK_ISO_BYTES];
    const char  *name = atomic_load(&process_name);
    size_t       used;
    bool         cut;
    va_list      ap;

    if ((int)level < atomic_load(&level_min) || level >= LOG_NONE) return;
    clock_iso(wall_ms(), when);
    n = snprintf(line, cap, "time=%s level=%s %s%.32s%sevent=%.64s ", when, level_word[level], name ? "from=" : "", name ? name : "",
                 name ? " " : "", event);
    used = (size_t)n;
    va_start(ap, fmt);
    n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    cut = n >= (int)sizeof text;
    used = n < 0 ? used : put_escaped(line, used, cap, text, &cut);
    if (cut) {
        memcpy(line + used, CUT_MARK, sizeof CUT_MARK - 1);
        used += sizeof CUT_MARK - 1;
    }
    while (used && line[used - 1] == ' ') used--;
    line[used++] = '\n';
    while (write(STDERR_FILENO, line, used) < 0 && errno == EINTR) {}
    errno = saved;
}
