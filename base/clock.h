/* clock.h - the only room that reads a clock. Called by main loops and handlers; everybody else is given now_ms. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

int64_t now_ms(void);   /* monotonic: leases, timers, durations */
int64_t now_us(void);   /* monotonic, for measuring */
int64_t wall_ms(void);  /* since 1970, for people to read; never for a decision */
void    sleep_ms(int64_t ms);

#endif
