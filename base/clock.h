/* clock.h - the only room that reads a clock. Called by main loops and handlers; everybody else is given now_ms. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

int64_t now_ms(void);   /* monotonic: leases, timers, durations */
int64_t now_us(void);   /* monotonic, for measuring */
int64_t wall_ms(void);  /* since 1970, for people to read; never for a decision */
void    sleep_ms(int64_t ms);

/* Waiting for a condition until now_ms() reaches until_ms: steps of the wall clock change nothing. */
int     clock_cond_init(pthread_cond_t *c); /* 0 or ERR_NOMEM; pthread_cond_destroy() ends it */
bool    clock_cond_wait(pthread_cond_t *c, pthread_mutex_t *held, int64_t until_ms); /* false: the time has come */

#define CLOCK_ISO_BYTES 25 /* "2026-01-31T23:59:59.123Z" and the NUL */
void    clock_iso(int64_t ms, char out[CLOCK_ISO_BYTES]); /* a wall_ms() for people, in UTC */

#endif
