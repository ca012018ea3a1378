/* Asks libc, as any program does.
 *
 *   names show USER GROUP     prints what it knows of both
 *   names storm USER ROUNDS   ROUNDS times sixteen children of four threads each, which ask for USER in all ways;
 *                             fails if one of them does not get everything
 */
#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *user;
static uid_t uid;
static gid_t gid;
static int least;

static int groups_of(const char *name, gid_t primary, gid_t *list, int room)
{
    int count = room;
    return getgrouplist(name, primary, list, &count) < 0 ? -1 : count;
}

static int show(const char *group)
{
    struct passwd *entry = getpwnam(user);
    if (!entry)
        return 1;
    gid_t list[64];
    gid_t primary = entry->pw_gid;
    printf("%s:%u:%u:%s:%s", entry->pw_name, entry->pw_uid, entry->pw_gid, entry->pw_dir, entry->pw_shell);
    int count = groups_of(user, primary, list, 64);
    for (int at = 0; at < count; at++)
        printf(" %u", list[at]);
    struct group *found = getgrnam(group);
    if (!found)
        return 1;
    printf(" %s:%u:", found->gr_name, found->gr_gid);
    for (char **member = found->gr_mem; *member; member++)
        printf("%s%s", member == found->gr_mem ? "" : ",", *member);
    printf("\n");
    return getpwnam("nobody-of-that-name") != NULL;
}

static void *ask(void *unused)
{
    char room[4096];
    struct passwd entry, *found;
    gid_t list[64];
    for (int round = 0; round < 25; round++) {
        if (getpwnam_r(user, &entry, room, sizeof room, &found) || !found || found->pw_uid != uid)
            return "by name";
        if (getpwuid_r(uid, &entry, room, sizeof room, &found) || !found || strcmp(found->pw_name, user))
            return "by number";
        if (groups_of(user, gid, list, 64) < least)
            return "groups";
    }
    return unused;
}

static int child(void)
{
    pthread_t threads[4];
    for (int at = 0; at < 4; at++)
        if (pthread_create(&threads[at], NULL, ask, NULL))
            return 2;
    for (int at = 0; at < 4; at++) {
        void *missed = NULL;
        pthread_join(threads[at], &missed);
        if (missed) {
            fprintf(stderr, "%s\n", (char *)missed);
            return 1;
        }
    }
    return 0;
}

static int storm(int rounds)
{
    struct passwd *entry = getpwnam(user);
    if (!entry)
        return 1;
    gid_t list[64];
    uid = entry->pw_uid;
    gid = entry->pw_gid;
    least = groups_of(user, gid, list, 64);
    for (int round = 0; round < rounds; round++) {
        for (int at = 0; at < 16; at++) {
            pid_t pid = fork();
            if (pid == 0)
                _exit(child());
            if (pid < 0)
                return 3;
        }
        int status;
        while (wait(&status) > 0)
            if (status)
                return 1;
    }
    return errno == ECHILD ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 64;
    user = argv[2];
    return strcmp(argv[1], "storm") ? show(argv[3]) : storm(atoi(argv[3]));
}
