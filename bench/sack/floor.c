// Answers every SACK request with the same bytes: no key, no file, no record. What clients get of it is the most
// that any signer could give them on this machine.
//
//   floor SOCKET PROCESSES
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 3) return 64;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    strncpy(at.sun_path, argv[1], sizeof at.sun_path - 1);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(listener, (const struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) return 1;
    for (int i = atoi(argv[2]); i > 1 && fork(); i--) {}
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    for (;;) {
        char request[4096], token[270] = {0, 0, 1, 10}, verdict[4] = {0};
        int client = accept(listener, 0, 0);
        ssize_t n = read(client, request, sizeof request);
        int verify = n > 9 && request[9] == 2;
        n = write(client, verify ? verdict : token, verify ? sizeof verdict : sizeof token);
        close(client);
    }
}
