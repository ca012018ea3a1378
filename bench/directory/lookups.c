// Looks names up through libc for some seconds and prints: kind, threads, look-ups a second, median and
// 99th percentile in nanoseconds, wrong answers. Any libc and any source of names: it knows of neither.
//
//   lookups KIND THREADS SECONDS USERS     KIND: name, uid, absent, initgroups, group, everybody; of the first USERS users
//   lookups KIND 1 FIRST-LAST              each of these users once
#define _GNU_SOURCE
#include <grp.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SAMPLES = 1 << 16, EVERY = 16, GROUPS = 4096, ROOM = 1 << 20 };

static const char *kind;
static double seconds;
static unsigned first, users; // `first` counts where each is asked for once.
static int once;

struct work {
    pthread_t thread;
    unsigned long count, wrong, sampled;
    unsigned seed;
    unsigned samples[SAMPLES];
};

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// One look-up; true if the answer is right.
static int look_up(unsigned n, char *room) {
    char name[32];
    struct passwd user, *found_user = NULL;
    struct group group, *found_group = NULL;
    if (!strcmp(kind, "name")) {
        snprintf(name, sizeof name, "u%05u", n);
        getpwnam_r(name, &user, room, ROOM, &found_user);
        return found_user && found_user->pw_uid == 10000 + n;
    }
    if (!strcmp(kind, "uid")) {
        getpwuid_r(10000 + n, &user, room, ROOM, &found_user);
        return found_user && atoi(found_user->pw_name + 1) == (int)n;
    }
    if (!strcmp(kind, "absent")) {
        snprintf(name, sizeof name, "x%05u", n);
        getpwnam_r(name, &user, room, ROOM, &found_user);
        return !found_user;
    }
    if (!strcmp(kind, "initgroups")) {
        gid_t groups[GROUPS];
        int count = GROUPS;
        snprintf(name, sizeof name, "u%05u", n);
        return getgrouplist(name, 1500, groups, &count) > 2;
    }
    if (!strcmp(kind, "group")) {
        snprintf(name, sizeof name, "p%05u", n);
        getgrnam_r(name, &group, room, ROOM, &found_group);
        return found_group && found_group->gr_gid == 30000 + n;
    }
    getgrnam_r("everybody", &group, room, ROOM, &found_group);
    return found_group && found_group->gr_gid == 29999;
}

static void *run(void *argument) {
    struct work *work = argument;
    char *room = malloc(ROOM);
    for (unsigned n = first; once && n < users; n++) {
        long long start = now();
        work->wrong += !look_up(n, room);
        work->samples[work->sampled++ % SAMPLES] = (unsigned)(now() - start);
        work->count++;
    }
    long long end = now() + (long long)(seconds * 1e9);
    for (long long start = 0; !once && start < end;) {
        for (int i = 0; i < EVERY - 1; i++) {
            work->wrong += !look_up(rand_r(&work->seed) % users, room);
        }
        start = now();
        work->wrong += !look_up(rand_r(&work->seed) % users, room);
        work->samples[work->sampled++ % SAMPLES] = (unsigned)(now() - start);
        work->count += EVERY;
    }
    free(room);
    return NULL;
}

static int compare(const void *a, const void *b) {
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    once = argc == 4 && sscanf(argv[3], "%u-%u", &first, &users) == 2;
    if (argc != 5 && !once) {
        fprintf(stderr, "usage: lookups KIND THREADS SECONDS USERS | lookups KIND 1 FIRST-LAST\n");
        return 64;
    }
    kind = argv[1];
    int threads = once ? 1 : atoi(argv[2]);
    if (!once) {
        seconds = atof(argv[3]);
        users = (unsigned)atoi(argv[4]);
    }
    struct work *work = calloc((size_t)threads, sizeof *work);
    long long start = now();
    for (int i = 0; i < threads; i++) {
        work[i].seed = (unsigned)i + 1;
        pthread_create(&work[i].thread, NULL, run, &work[i]);
    }
    unsigned long count = 0, wrong = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(work[i].thread, NULL);
        count += work[i].count;
        wrong += work[i].wrong;
    }
    double passed = (double)(now() - start) / 1e9;
    unsigned long sampled = work[0].sampled < SAMPLES ? work[0].sampled : SAMPLES;
    qsort(work[0].samples, sampled, sizeof(unsigned), compare);
    printf("%s,%d,%.0f,%u,%u,%lu\n", kind, threads, (double)count / passed,
           work[0].samples[sampled / 2], work[0].samples[sampled * 99 / 100], wrong);
    return 0;
}
