/* linear.h - the two ways of cpu_linear(): linear.c chooses. */
#ifndef KERNELS_CPU_LINEAR_H
#define KERNELS_CPU_LINEAR_H

#include "kernels/ops.h"

enum { LINEAR16_ROWS_LEAST = 12 }; /* below, rounding the weights costs more than it saves */

/* Only with cpu.tile16; any number of rows. */
extern op_linear_f cpu_linear16;

#endif
