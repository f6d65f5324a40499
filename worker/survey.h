/* survey.h - asks the devices what they have free and the model what it needs, without loading it: --plan and --place auto.
 *
 *   if (conf.plan) return survey_print(&conf, &e);
 *   if (survey_wanted(&conf) && (rc = survey_choose(&conf, &e))) ...     from now on conf says where: conf.place, or conf.device
 *
 * Asking opens a device for a moment, which takes its driver: never in a supervisor, which must hold none. Not here: the rules (layout.h). */
#ifndef WORKER_SURVEY_H
#define WORKER_SURVEY_H

#include "worker/conf.h"

/* To standard output: the placement, then a line for each device with what it would hold; for --device without --place one line for each of them.
 * This process opens the devices, so it ends after that. ERR_NOMEM: a device cannot hold its part; the lines of the others were printed. */
int  survey_print(struct worker_conf *conf, struct err *e);
bool survey_wanted(const struct worker_conf *conf); /* --place auto was said */
/* Asks in a process of its own, which prints the plan to standard error; conf->device then points to static memory. */
int  survey_choose(struct worker_conf *conf, struct err *e);

#endif
