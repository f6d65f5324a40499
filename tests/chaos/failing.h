/* failing.h - what the layer says about itself, in a file that it maps. */
#ifndef TESTS_CHAOS_FAILING_H
#define TESTS_CHAOS_FAILING_H

struct failing_said {
    unsigned n_calls, n_failed;
    char     what[120]; /* the first that failed */
};

#endif
