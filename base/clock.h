/* clock.h - the only room that reads a clock. Called by main loops and handlers; everybody else is given now_ms. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

int64_t now_ms(void);   /* monotonic: leases, timers, durations */
int64_t now_us(void);   /* monotonic, for measuring */
int64_t wall_ms(void);  /* since 1970, for people to read; never for a decision */
void    sleep_ms(int64_t ms);

#define CLOCK_ISO_BYTES 25 /* "2026-01-31T23:59:59.123Z" and the NUL */
void    clock_iso(int64_t ms, char out[CLOCK_ISO_BYTES]); /* a wall_ms() for people, in UTC */

#endif
