/* The floor of a hand-over: two processes that throw a request and an answer over a socket pair,
   with nothing else to do. usage: pp REQUEST_BYTES ANSWER_BYTES ROUNDS [CPU]; prints the median
   and the 99th percentile in nanoseconds. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void give(int fd, const char *from, size_t size) {
    while (size) {
        ssize_t some = write(fd, from, size);
        if (some <= 0) exit(2);
        from += some, size -= some;
    }
}

static int take(int fd, char *into, size_t size) {
    while (size) {
        ssize_t some = read(fd, into, size);
        if (some <= 0) return 0;
        into += some, size -= some;
    }
    return 1;
}

static int rising(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc < 4) return 64;
    size_t request = atol(argv[1]), answer = atol(argv[2]);
    int rounds = atoi(argv[3]), ends[2], warm = rounds / 10;
    if (argc > 4) {
        cpu_set_t only;
        CPU_ZERO(&only);
        CPU_SET(atoi(argv[4]), &only);
        if (sched_setaffinity(0, sizeof only, &only)) return 2;
    }
    char *buffer = calloc(1, request + answer);
    int64_t *times = malloc(rounds * sizeof *times);
    if (!buffer || !times || socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) return 2;
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        while (take(ends[1], buffer, request)) give(ends[1], buffer, answer);
        _exit(0);
    }
    close(ends[1]);
    for (int i = -warm; i < rounds; i++) {
        int64_t before = now();
        give(ends[0], buffer, request);
        if (!take(ends[0], buffer, answer)) return 2;
        if (i >= 0) times[i] = now() - before;
    }
    close(ends[0]);
    waitpid(child, NULL, 0);
    qsort(times, rounds, sizeof *times, rising);
    printf("%lld %lld\n", (long long)times[rounds / 2], (long long)times[(int)(rounds * 0.99)]);
    return 0;
}
