/* clock.c - time, asked for in one room. */
#include "base/clock.h"

#include <errno.h>
#include <time.h>

#include "base/err.h"

static int64_t read_us(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t now_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

int64_t now_ms(void)
{
    return read_us(CLOCK_MONOTONIC) / 1000;
}

int64_t wall_ms(void)
{
    return read_us(CLOCK_REALTIME) / 1000;
}

void sleep_ms(int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000};

    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &t, &t) == EINTR) {}
}

int clock_cond_init(pthread_cond_t *c)
{
    pthread_condattr_t a;
    int                rc;

    if (pthread_condattr_init(&a)) return ERR_NOMEM;
    rc = pthread_condattr_setclock(&a, CLOCK_MONOTONIC) || pthread_cond_init(c, &a) ? ERR_NOMEM : 0;
    pthread_condattr_destroy(&a);
    return rc;
}

bool clock_cond_wait(pthread_cond_t *c, pthread_mutex_t *held, int64_t until_ms)
{
    struct timespec t = {.tv_sec = until_ms / 1000, .tv_nsec = (until_ms % 1000) * 1000000};

    return pthread_cond_timedwait(c, held, &t) != ETIMEDOUT;
}

void clock_iso(int64_t ms, char out[CLOCK_ISO_BYTES])
{
    time_t    s = (time_t)(ms / 1000);
    struct tm t;

    if (ms < 0 || !gmtime_r(&s, &t) || t.tm_year > 9999 - 1900) { /* four digits of year, or the start of time */
        s = 0;
        ms = 0;
        gmtime_r(&s, &t);
    }
    strftime(out, CLOCK_ISO_BYTES, "%Y-%m-%dT%H:%M:%S", &t);
    out[19] = '.';
    out[20] = (char)('0' + ms / 100 % 10);
    out[21] = (char)('0' + ms / 10 % 10);
    out[22] = (char)('0' + ms % 10);
    out[23] = 'Z';
    out[24] = 0;
}
