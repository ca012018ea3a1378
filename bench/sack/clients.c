// SACK clients in parallel: each process asks over and over, one connection for each request, as Slurm's
// commands do. Prints one line of numbers; every latency is kept, so the percentiles are exact.
//
//   clients SOCKET create|verify CLIENTS SECONDS
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>

#define MOST 2000000

static struct shared {
    volatile int go, stop;
    uint64_t answered, failed;
    uint32_t latency[MOST]; // nanoseconds
} *all;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static unsigned char request[8192], token[8192];
static size_t request_length, token_length;

// Version 24.11, length, opcode, body.
static void frame(uint32_t opcode, const void *body, size_t n) {
    uint16_t version = htons(0x2a00);
    uint32_t length = htonl(8 + n), code = htonl(opcode);
    memcpy(request, &version, 2);
    memcpy(request + 2, &length, 4);
    memcpy(request + 6, &code, 4);
    memcpy(request + 10, body, n);
    request_length = 10 + n;
}

static void create(void) {
    unsigned char body[4 + 4 + 33] = {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 33, 2};
    frame(64001, body, sizeof body);
}

// One request; the answer's bytes, or -1.
static ssize_t ask(const struct sockaddr_un *to, unsigned char *answer, size_t room) {
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ssize_t got = -1;
    size_t n = 0;
    if (connect(fd, (const struct sockaddr *)to, sizeof *to) == 0 &&
        write(fd, request, request_length) == (ssize_t)request_length)
        while ((got = read(fd, answer + n, room - n)) > 0) n += got;
    close(fd);
    return got == 0 && n > 0 ? (ssize_t)n : -1;
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    if (argc != 5) return 64;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path, argv[1], sizeof to.sun_path - 1);
    int verify = strcmp(argv[2], "verify") == 0, clients = atoi(argv[3]);
    double seconds = atof(argv[4]);
    all = mmap(0, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    create();
    ssize_t n = ask(&to, token, sizeof token);
    if (n <= 4) return fprintf(stderr, "clients: no token at '%s'\n", argv[1]), 1;
    token_length = n;
    if (verify) frame(64002, token, token_length); // the reply is the string that verify takes
    for (int i = 0; i < clients; i++) {
        if (fork()) continue;
        unsigned char answer[8192];
        while (!all->go) usleep(100);
        while (!all->stop) {
            uint64_t began = now();
            ssize_t got = ask(&to, answer, sizeof answer);
            int good = verify ? got == 4 && !memcmp(answer, "\0\0\0\0", 4) : got > 4;
            if (!good) { __sync_fetch_and_add(&all->failed, 1); continue; }
            uint64_t at = __sync_fetch_and_add(&all->answered, 1);
            if (at < MOST) all->latency[at] = now() - began;
        }
        _exit(0);
    }
    usleep(100000);
    uint64_t began = now();
    all->go = 1;
    usleep(seconds * 1e6);
    all->stop = 1;
    double took = (now() - began) / 1e9;
    while (wait(0) > 0) {}
    uint64_t count = all->answered < MOST ? all->answered : MOST;
    qsort(all->latency, count, sizeof all->latency[0], by_size);
    if (!count) return fprintf(stderr, "clients: no answer\n"), 1;
    printf("%.0f,%.1f,%.1f,%lu\n", all->answered / took, all->latency[count / 2] / 1e3,
           all->latency[count * 99 / 100] / 1e3, (unsigned long)all->failed);
    return 0;
}
